"""Every message as an attribute of this module, built when it is first asked for; messages.pyi has the types.

A class is published once: whoever asks, from whichever thread, gets the same one.
"""

from cluster.protocol.message import Message, build_message
from cluster.protocol.tables import message_names


def __getattr__(name: str) -> type[Message]:
    if name[0] == "_":
        raise AttributeError(name)
    try:
        return message_class(name)
    except KeyError:
        raise AttributeError(f"there is no message {name}") from None


def message_class(name: str) -> type[Message]:
    """The class by its name; the types of its fields are then unknown to a checker. Raises KeyError."""
    known = globals().get(name)
    if isinstance(known, type) and issubclass(known, Message) and known is not Message:
        return known
    made: type[Message] = globals().setdefault(name, build_message(name))
    return made


def names() -> list[str]:
    """Every message there is, sorted. Reads all tables: for tools and tests."""
    return message_names()

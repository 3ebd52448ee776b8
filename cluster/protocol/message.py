"""What every message class is: slots, defaults, equality, and the way to bytes and back.

Classes are built from a table at first use; the constructor, and each version's encoder and decoder, when first called.
Building twice from two threads is harmless: the pieces are equal, and the class itself is published once (messages.py).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import error as StructError

from cluster.protocol.decoder import make_decoder
from cluster.protocol.encoder import make_encoder
from cluster.protocol.errors import DecodeError, EncodeError
from cluster.protocol.source import Source
from cluster.protocol.tables import Field, MessageTable, read_table
from cluster.protocol.tables import Struct as StructTable
from pylog.typed import ClassVar, Self, cast

_NEVER_FLEXIBLE = 32768
_UNSET: list[object] = []


class Struct:
    """A set of fields. Mutable, compared by value, not hashable."""

    __slots__ = ()
    _fields: ClassVar[list[Field]] = []
    _classes: ClassVar[dict[str, type[Struct]]] = {}
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, **values: object) -> None:
        # The first instance of a class pays for its constructor, which then takes this one's place.
        init = _make_init(type(self)._fields, type(self)._classes)
        setattr(type(self), "__init__", init)  # noqa: B010
        init(self, **values)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, field.name) == getattr(other, field.name) for field in self._fields)

    def __repr__(self) -> str:
        values = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in self._fields)
        return f"{type(self).__qualname__}({values})"


class Message(Struct):
    """A request, response, header, or a coordinator record's key or value."""

    __slots__ = ()
    api_key: ClassVar[int] = -1
    """The API's key; of a coordinator record its type; -1 where there is none."""
    valid_versions: ClassVar[tuple[int, int]] = (0, -1)
    """The lowest and the highest version that Kafka 3.9 or 4.x knows."""
    flexible_versions: ClassVar[int] = _NEVER_FLEXIBLE
    """The lowest version with compact lengths and tagged fields; above all versions where there is none."""
    latest_version_unstable: ClassVar[bool] = False
    """Whether Kafka does not advertise the highest version by default."""

    _table: ClassVar[MessageTable]
    _encoders: ClassVar[dict[int, Callable[[Message], bytes]]] = {}
    _decoders: ClassVar[dict[int, Callable[[bytes, int], tuple[Message, int]]]] = {}

    def encode(self, version: int) -> bytes:
        """The body, without any header. Raises EncodeError."""
        encoder = self._encoders.get(version)
        if encoder is None:
            encoder = self._make_encoder(version)
        try:
            return encoder(self)
        except EncodeError:
            raise
        except (StructError, TypeError, AttributeError) as error:
            raise EncodeError(f"{type(self).__name__} version {version}: {error}") from error

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview, version: int, offset: int = 0, exact: bool = True) -> Self:
        """The message that starts at `offset`. Raises DecodeError, also for bytes left over when `exact`."""
        decoder = cls._decoders.get(version)
        if decoder is None:
            decoder = cls._make_decoder(version)
        if type(data) is not bytes:
            data = bytes(data)
        if offset < 0:
            raise DecodeError(f"{cls.__name__}: offset {offset}")
        try:
            message, end = decoder(data, offset)
        except DecodeError as error:
            raise DecodeError(f"{cls.__name__} version {version}: {error}") from None
        except (StructError, IndexError):
            raise DecodeError(f"{cls.__name__} version {version}: {len(data) - offset} bytes are too few") from None
        if exact and end != len(data):
            raise DecodeError(f"{cls.__name__} version {version}: {len(data) - end} bytes left over")
        return cast(Self, message)

    @classmethod
    def _make_encoder(cls, version: int) -> Callable[[Message], bytes]:
        if version not in cls._table.valid:
            raise EncodeError(f"{cls.__name__} has no version {version}")
        made = cast(Callable[["Message"], bytes], make_encoder(cls._table, version, cls._classes))
        return cls._encoders.setdefault(version, made)

    @classmethod
    def _make_decoder(cls, version: int) -> Callable[[bytes, int], tuple[Message, int]]:
        if version not in cls._table.valid:
            raise DecodeError(f"{cls.__name__} has no version {version}")
        made = cast(Callable[[bytes, int], tuple["Message", int]], make_decoder(cls._table, version, cls._classes))
        return cls._decoders.setdefault(version, made)


def build_message(name: str) -> type[Message]:
    """The class of a message and, as its attributes, those of its structs. Raises KeyError when there is none."""
    table = read_table(name)
    classes: dict[str, type[Struct]] = {}
    namespace: dict[str, object] = {
        "api_key": table.api_key,
        "valid_versions": (table.valid[0], table.valid[-1]),
        "flexible_versions": table.flexible[0] if table.flexible else _NEVER_FLEXIBLE,
        "latest_version_unstable": table.latest_version_unstable,
        "_table": table,
        "_encoders": {},
        "_decoders": {},
    }
    for struct in table.structs.values():
        made = type(struct.name, (Struct,), _struct_namespace(struct, f"{name}.{struct.name}", classes))
        namespace[struct.name] = classes[struct.name] = made
    message = type(name, (Message,), namespace | _struct_namespace(table.struct, name, classes))
    classes[name] = message
    return message


def _struct_namespace(struct: StructTable, qualname: str, classes: dict[str, type[Struct]]) -> dict[str, object]:
    return {
        "__slots__": tuple(field.name for field in struct.fields),
        "__module__": "cluster.protocol.messages",
        "__qualname__": qualname,
        "_fields": struct.fields,
        "_classes": classes,
    }


def _make_init(fields: list[Field], classes: dict[str, type[Struct]]) -> Callable[..., None]:
    """A keyword-only constructor. An omitted array or struct is a new one each time; None stays null."""
    source = Source()
    source.constant("unset", _UNSET)
    parameters = []
    for field in fields:
        name = field.name
        fresh = ""
        if not field.default_is_null and field.is_array:
            fresh = "[]"
        elif not field.default_is_null and field.struct is not None:
            fresh = source.constant(f"class_{field.struct.name}", classes[field.struct.name]) + "()"
        parameters.append(f"{name}={'unset' if fresh else repr(field.default)}")
        source.line(f"self.{name} = {fresh} if {name} is unset else {name}" if fresh else f"self.{name} = {name}")
    if not fields:
        source.line("pass")
    header = f"def __init__(self{', *, ' if fields else ''}{', '.join(parameters)}):"
    return cast(Callable[..., None], source.compile(header, "constructor"))

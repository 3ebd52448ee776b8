"""The words of `typing` for modules that a broker imports when it starts.

Keeps true: a type checker sees the real words; at run time they mean nothing, and `typing` (with `enum`, `re` and half
of the standard library's machinery behind it: a tenth of a broker's start) is not imported. Annotations that use them
are not evaluated: a module that imports from here begins with `from __future__ import annotations`.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any as Any
    from typing import ClassVar as ClassVar
    from typing import Final as Final
    from typing import NewType as NewType
    from typing import NoReturn as NoReturn
    from typing import ParamSpec as ParamSpec
    from typing import Protocol as Protocol
    from typing import Self as Self
    from typing import TypeAlias as TypeAlias
    from typing import TypeVar as TypeVar
    from typing import cast as cast
else:

    class Any:
        """Anything."""

        __slots__ = ()

    class Protocol:
        """What a class must offer; to inherit from it changes nothing."""

        __slots__ = ()

    ClassVar = Final = NoReturn = Self = TypeAlias = Any

    def NewType(name, supertype):
        """The type itself: values of a new type are those of the old one."""
        return supertype

    def TypeVar(name):
        """A name for annotations."""
        return Any

    ParamSpec = TypeVar

    def cast(kind, value):
        """The value."""
        return value

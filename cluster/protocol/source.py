"""Python source under construction: lines at a depth, names nobody else uses, and the constants it refers to."""

import struct
from types import FunctionType

SHORT = 8
_STRUCTS: dict[str, struct.Struct] = {}


def fixed_run(codes: str) -> struct.Struct:
    """The codec of a run of fixed-size fields, shared by everything generated."""
    known = _STRUCTS.get(codes)
    if known is None:
        known = _STRUCTS[codes] = struct.Struct(">" + codes)
    return known


def short_runs(code: str) -> tuple[struct.Struct, ...]:
    """The codecs of 0 up to SHORT values of one code: replica lists are this short, and parsing a format is slow."""
    return tuple(fixed_run(f"{count}{code}") for count in range(SHORT + 1))


class Source:
    """The text of one function."""

    __slots__ = ("constants", "depth", "lines", "serial")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1
        self.serial = 0
        self.constants: dict[str, object] = {}

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def fresh(self, prefix: str) -> str:
        self.serial += 1
        return f"{prefix}{self.serial}"

    def constant(self, name: str, value: object) -> str:
        """Make `value` known to the function under `name`; the same name always means the same value."""
        self.constants[name] = value
        return name

    def compile(self, header: str, label: str) -> object:
        """Run the definition `header` with these lines as its body, and return what it defined.

        Not by way of compile(), which makes the hundred classes of `ast` when it is first called: half the time that
        the first answer takes.
        """
        name = header.split(" ", 1)[1].split("(", 1)[0]
        exec(header + "\n" + "\n".join(self.lines), self.constants)
        made = self.constants[name]
        assert isinstance(made, FunctionType)
        made.__code__ = made.__code__.replace(co_filename=f"<{label}>")
        return made

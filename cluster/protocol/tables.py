"""The message tables: compact text per API under tables/, read at first use and turned into facts.

A table's lines (written by tests/tools/extract_messages.py, never by hand):

    NAME KIND API_KEY LOW-HIGH FLEXIBLE [unstable]      a message; its fields follow, one more blank per nesting depth
     name type versions [null=V] [tag=N:V] [default=X] [ignorable] [flexible=V]
    +NAME versions                                      a struct shared by several fields of the message above

Versions are written "3", "0-4", "7+" or "none". API_KEY of a coordinator's record is its record type.
"""

import os
from typing import NamedTuple

_FOLDER = os.path.join(os.path.dirname(__file__), "tables")
_NEWEST = 32767

Default = bool | int | float | str | bytes | None
FIXED_CODES = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "float64": "d",
    "uuid": "16s",
}
_TYPE_DEFAULTS: dict[str, Default] = {
    "bool": False,
    "float64": 0.0,
    "string": "",
    "uuid": bytes(16),
    "bytes": b"",
    "records": None,
}


class Versions(NamedTuple):
    """A closed range; empty when low > high."""

    low: int
    high: int

    def has(self, version: int) -> bool:
        return self.low <= version <= self.high


NO_VERSIONS = Versions(0, -1)


class Field(NamedTuple):
    """One field. `type` is the element's type when `is_array`; `struct` is set when that type is a struct."""

    name: str
    type: str
    is_array: bool
    struct: "Struct | None"
    versions: Versions
    nullable: Versions
    tagged: Versions
    tag: int
    default: Default
    default_is_null: bool
    ignorable: bool
    never_flexible: bool


class Struct(NamedTuple):
    """Fields in wire order. `name` is Kafka's own name of the type."""

    name: str
    fields: tuple[Field, ...]


class MessageTable(NamedTuple):
    """All versions of one message. `structs` are the nested ones by name, each once, inner before outer."""

    name: str
    kind: str
    api_key: int
    valid: Versions
    flexible: Versions
    latest_version_unstable: bool
    struct: Struct
    structs: dict[str, Struct]


def parse_versions(text: str) -> Versions:
    if text == "none":
        return NO_VERSIONS
    if text.endswith("+"):
        return Versions(int(text[:-1]), _NEWEST)
    low, _, high = text.partition("-")
    return Versions(int(low), int(high or low))


def table_name(message: str) -> str:
    """The file that holds a message: request and response share one, and so do a record's key and value."""
    for suffix, shared in (("Request", ""), ("Response", ""), ("Key", "Record"), ("Value", "Record")):
        if message.endswith(suffix):
            return message.removesuffix(suffix) + shared + ".txt"
    return message + ".txt"


def message_names() -> list[str]:
    """Every message there is a table for, sorted. Reads all tables: for tools and tests."""
    names = []
    for file_name in os.listdir(_FOLDER):
        with open(os.path.join(_FOLDER, file_name), encoding="ascii") as file:
            names += [line.split(" ", 1)[0] for line in file if line[0] not in " +"]
    return sorted(names)


def read_table(message: str) -> MessageTable:
    """Raises KeyError when there is no such message."""
    try:
        with open(os.path.join(_FOLDER, table_name(message)), encoding="ascii") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        raise KeyError(message) from None
    prefix = message + " "
    for start, line in enumerate(lines):
        if line.startswith(prefix):
            stop = start + 1
            while stop < len(lines) and lines[stop][0] in " +":
                stop += 1
            return _parse_message(lines[start:stop])
    raise KeyError(message)


def _parse_message(lines: list[str]) -> MessageTable:
    name, kind, api_key, valid, flexible, *flags = lines[0].split(" ")
    structs: dict[str, Struct] = {}
    # Shared structs stand last in the text, but the fields before them refer to them: they are parsed first.
    starts = [place for place, line in enumerate(lines) if line[0] == "+"]
    ends = [*starts, len(lines)][1:]
    for start, end in zip(starts, ends, strict=True):
        shared = lines[start][1:].split(" ")[0]
        structs[shared] = Struct(shared, _parse_fields(lines[start + 1 : end], 0, 1, structs)[0])
    fields, _ = _parse_fields(lines[1 : starts[0] if starts else len(lines)], 0, 1, structs)
    return MessageTable(
        name=name,
        kind=kind,
        api_key=-1 if api_key == "-" else int(api_key),
        valid=parse_versions(valid),
        flexible=parse_versions(flexible),
        latest_version_unstable="unstable" in flags,
        struct=Struct(name, fields),
        structs=structs,
    )


def _parse_fields(lines: list[str], at: int, depth: int, structs: dict[str, Struct]) -> tuple[tuple[Field, ...], int]:
    """The fields at `depth` from line `at` on, and the line behind them. Nested structs are added to `structs`."""
    fields: list[Field] = []
    deeper = " " * (depth + 1)
    while at < len(lines) and lines[at].startswith(deeper[:-1]):
        name, kind, versions, *options = lines[at][depth:].split(" ")
        is_array = kind.startswith("[]")
        type_name = kind.removeprefix("[]")
        at += 1
        if at < len(lines) and lines[at].startswith(deeper):
            inner, at = _parse_fields(lines, at, depth + 1, structs)
            structs[type_name] = Struct(type_name, inner)
        fields.append(_parse_field(name, type_name, is_array, versions, options, structs))
    return tuple(fields), at


def _parse_field(
    name: str, type_name: str, is_array: bool, versions: str, options: list[str], structs: dict[str, Struct]
) -> Field:
    nullable = tagged = NO_VERSIONS
    tag = -1
    default: Default = None if is_array else _TYPE_DEFAULTS.get(type_name, 0)
    default_is_null = type_name == "records"
    ignorable = never_flexible = False
    for option in options:
        key, _, value = option.partition("=")
        if key == "null":
            nullable = parse_versions(value)
        elif key == "tag":
            number, _, where = value.partition(":")
            tag, tagged = int(number), parse_versions(where)
        elif key == "default" and value == "null":
            default, default_is_null = None, True
        elif key == "default":
            default = True if value == "true" else int(value)
        elif key == "ignorable":
            ignorable = True
        else:
            never_flexible = True
    return Field(
        name,
        type_name,
        is_array,
        structs[type_name] if type_name[0].isupper() else None,
        parse_versions(versions),
        nullable,
        tagged,
        tag,
        default,
        default_is_null,
        ignorable,
        never_flexible,
    )

"""The message tables: compact text per API under tables/, read at first use and turned into facts.

A table's lines (written by tests/tools/extract_messages.py, never by hand):

    NAME KIND API_KEY LOW-HIGH FLEXIBLE [unstable]      a message; its fields follow, one more blank per nesting depth
     name type versions [null=V] [tag=N:V] [default=X] [ignorable] [flexible=V]
    +NAME versions                                      a struct shared by several fields of the message above

Versions are written "3", "0-4", "7+" or "none". API_KEY of a coordinator's record is its record type.
"""

import os

_FOLDER = os.path.join(os.path.dirname(__file__), "tables")
_NEWEST = 32767

#: Tags from here on are fields of ours, which Kafka does not have.
OUR_TAGS = 10_000

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


# Versions are ranges: `version in field.versions`. An empty one stands for "none".
NO_VERSIONS = range(0)


class Field:
    """One field. `type` is the element's type when `is_array`; `struct` is set when that type is a struct."""

    __slots__ = (
        "default",
        "default_is_null",
        "ignorable",
        "is_array",
        "name",
        "never_flexible",
        "nullable",
        "struct",
        "tag",
        "tagged",
        "type",
        "versions",
    )

    def __init__(self, name: str, kind: str, versions: str, struct: "Struct | None") -> None:
        self.name = name
        self.is_array = kind.startswith("[]")
        self.type = kind.removeprefix("[]")
        self.struct = struct
        self.versions = parse_versions(versions)
        self.nullable = self.tagged = NO_VERSIONS
        self.tag = -1
        self.default: Default = None if self.is_array else _TYPE_DEFAULTS.get(self.type, 0)
        self.default_is_null = kind == "records"
        self.ignorable = False
        self.never_flexible = False

    def set_option(self, option: str) -> None:
        """Take one word of the line behind the versions."""
        key, _, value = option.partition("=")
        if key == "null":
            self.nullable = parse_versions(value)
        elif key == "tag":
            number, _, where = value.partition(":")
            self.tag, self.tagged = int(number), parse_versions(where)
        elif key == "default" and value == "null":
            self.default, self.default_is_null = None, True
        elif key == "default":
            self.default = True if value == "true" else int(value)
        elif key == "ignorable":
            self.ignorable = True
        else:
            self.never_flexible = option == "flexible=none"


class Struct:
    """Fields in wire order. `name` is Kafka's own name of the type."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: list[Field]) -> None:
        self.name = name
        self.fields = fields


class MessageTable:
    """All versions of one message. `structs` are the nested ones by name, each once, inner before outer."""

    __slots__ = ("api_key", "flexible", "kind", "latest_version_unstable", "name", "struct", "structs", "valid")

    def __init__(self, head: str, fields: list[Field], structs: dict[str, Struct]) -> None:
        self.name, self.kind, api_key, valid, flexible, *flags = head.split(" ")
        self.api_key = -1 if api_key == "-" else int(api_key)
        self.valid = parse_versions(valid)
        self.flexible = parse_versions(flexible)
        self.latest_version_unstable = "unstable" in flags
        self.struct = Struct(self.name, fields)
        self.structs = structs


def parse_versions(text: str) -> range:
    if text == "none":
        return NO_VERSIONS
    if text.endswith("+"):
        return range(int(text[:-1]), _NEWEST + 1)
    low, _, high = text.partition("-")
    return range(int(low), int(high or low) + 1)


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
        with open(os.path.join(_FOLDER, table_name(message)), encoding="utf-8") as file:
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
    structs: dict[str, Struct] = {}
    # Shared structs stand last in the text, but the fields before them refer to them: they are parsed first.
    starts = [place for place, line in enumerate(lines) if line[0] == "+"]
    ends = [*starts, len(lines)][1:]
    for start, end in zip(starts, ends, strict=True):
        shared = lines[start][1:].split(" ")[0]
        structs[shared] = Struct(shared, _parse_fields(lines[start + 1 : end], 0, 1, structs)[0])
    fields, _ = _parse_fields(lines[1 : starts[0] if starts else len(lines)], 0, 1, structs)
    return MessageTable(lines[0], fields, structs)


def _parse_fields(lines: list[str], at: int, depth: int, structs: dict[str, Struct]) -> tuple[list[Field], int]:
    """The fields at `depth` from line `at` on, and the line behind them. Nested structs are added to `structs`."""
    fields: list[Field] = []
    deeper = " " * (depth + 1)
    while at < len(lines) and lines[at].startswith(deeper[:-1]):
        name, kind, versions, *options = lines[at][depth:].split(" ")
        type_name = kind.removeprefix("[]")
        at += 1
        if at < len(lines) and lines[at].startswith(deeper):
            inner, at = _parse_fields(lines, at, depth + 1, structs)
            structs[type_name] = Struct(type_name, inner)
        field = Field(name, kind, versions, structs[type_name] if type_name[0].isupper() else None)
        for option in options:
            field.set_option(option)
        fields.append(field)
    return fields, at

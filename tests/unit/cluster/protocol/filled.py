"""Messages filled by a fixed rule, so that two programs can make the same ones without talking to each other.

`full`: every field that the version has is set to something other than its default, tagged fields too; arrays have two
elements (one inside nested arrays). `bare`: every field is empty, null where it may be.
"""

from cluster.protocol.message import Message, Struct
from cluster.protocol.tables import OUR_TAGS, Field
from cluster.protocol.tables import Struct as StructTable

INT_BITS = {"int8": 8, "int16": 16, "uint16": 16, "int32": 32, "int64": 64}


def full(message: type[Message], version: int) -> Message:
    return _Filler(message, version, bare=False).message()


def bare(message: type[Message], version: int) -> Message:
    return _Filler(message, version, bare=True).message()


class _Filler:
    """Hands out values that differ from field to field by a serial number."""

    def __init__(self, message: type[Message], version: int, bare: bool) -> None:
        self.message_class = message
        self.version = version
        self.bare = bare
        self.serial = 0

    def message(self) -> Message:
        made = self.struct(self.message_class._table.struct, depth=0)
        assert isinstance(made, Message)
        return made

    def struct(self, table: StructTable, depth: int) -> Struct:
        fields = [field for field in table.fields if self.version in field.versions and field.tag < OUR_TAGS]
        return self.message_class._classes[table.name](**{field.name: self.value(field, depth) for field in fields})

    def value(self, field: Field, depth: int) -> object:
        if self.bare and self.version in field.nullable:
            return None
        if field.is_array:
            count = 0 if self.bare else 2 if depth == 0 else 1
            return [self.single(field, depth + 1) for _ in range(count)]
        return self.single(field, depth)

    def single(self, field: Field, depth: int) -> object:
        self.serial += 1
        if field.struct is not None:
            return self.struct(field.struct, depth)
        if field.type == "bool":
            return not self.bare
        if field.type in INT_BITS:
            return 0 if self.bare else self.integer(field.type)
        if field.type == "float64":
            return 0.0 if self.bare else self.serial + 0.25
        if field.type == "uuid":
            return bytes(16) if self.bare else bytes((self.serial * 7 + place) % 256 for place in range(16))
        if field.type == "string":
            return "" if self.bare else f"ö{self.serial}" + "x" * (130 if self.serial == 1 else 0)
        return b"" if self.bare else bytes(self.serial % 256 for _ in range(3 if depth else 200))

    def integer(self, kind: str) -> int:
        bits = INT_BITS[kind]
        value = (self.serial * 0x9E3779B97F4A7C15) >> (64 - bits) & ((1 << bits) - 1)
        signed = value - (1 << bits) if kind != "uint16" and value >> (bits - 1) else value
        return signed or 1

"""Generate the function that reads one version of one message.

What it keeps true of the generated code:
- `p` only grows, and no byte at or behind `end` is used: fixed runs and single bytes raise by themselves, everything
  that is sliced is compared with `end` first.
- A count is held against the bytes left, times the least an element can take, before anything is allocated for it.
- Every attribute of every object is set: what the version lacks gets the schema's default.
"""

from collections.abc import Mapping
from struct import unpack_from

from cluster.protocol import wire
from cluster.protocol.source import SHORT, Source, fixed_run, short_runs
from cluster.protocol.tables import FIXED_CODES, Field, MessageTable, Struct

_NAMES: dict[str, object] = {
    "read_uvarint": wire.read_uvarint,
    "read_string_length": wire.read_string_length,
    "skip_tags": wire.skip_tags,
    "bad_length": wire.bad_length,
    "bad_tag": wire.bad_tag,
    "unpack_from": unpack_from,
    "new": object.__new__,
}


def make_decoder(table: MessageTable, version: int, classes: Mapping[str, type]) -> object:
    """A function of (bytes, offset) that returns the message and the offset behind it."""
    return _Decoder(table, version, classes).compile()


class _Decoder:
    """Walks the table once, in wire order. `run` holds the fixed-size fields whose reading is still to be emitted."""

    __slots__ = ("classes", "flexible", "name", "run", "source", "table", "version")

    def __init__(self, table: MessageTable, version: int, classes: Mapping[str, type]) -> None:
        self.table = table
        self.name = table.name
        self.version = version
        self.flexible = version in table.flexible
        self.classes = classes
        self.source = Source()
        self.source.constants.update(_NAMES)
        self.run: list[tuple[str, str]] = []

    def compile(self) -> object:
        source = self.source
        source.line("end = len(data)")
        self.struct(self.table.struct, "o")
        self.flush()
        source.line("return o, p")
        return source.compile("def decode(data, p):", f"{self.name} v{self.version} decode")

    def flush(self) -> None:
        """Emit the pending run: one unpack, or one index for a lone byte."""
        if not self.run:
            return
        codes = "".join(code for code, _ in self.run)
        targets = ", ".join(target for _, target in self.run)
        if codes == "B":
            self.source.line(f"{targets} = data[p]")
            self.source.line("p += 1")
        else:
            codec = fixed_run(codes)
            name = self.source.constant("unpack_" + codes.replace("?", "z"), codec.unpack_from)
            self.source.line(f"{targets}{',' if len(self.run) == 1 else ''} = {name}(data, p)")
            self.source.line(f"p += {codec.size}")
        self.run = []

    def new(self, struct: Struct) -> str:
        name = self.source.constant(f"class_{struct.name}", self.classes[struct.name])
        return f"new({name})"

    def struct(self, struct: Struct, owner: str) -> None:
        """Make an object in `owner` and read its fields."""
        self.source.line(f"{owner} = {self.new(struct)}")
        tagged = []
        for field in struct.fields:
            present = self.version in field.versions
            if not present or self.version in field.tagged:
                self.source.line(f"{owner}.{field.name} = {self.default(field)}")
            if not present:
                continue
            if self.version in field.tagged:
                tagged.append(field)
            else:
                self.value(field, f"{owner}.{field.name}")
        if self.flexible:
            self.tags(tagged, owner)

    def default(self, field: Field) -> str:
        if field.default_is_null:
            return "None"
        if field.is_array:
            return "[]"
        if field.struct is not None:
            return self.source.constant(f"class_{field.struct.name}", self.classes[field.struct.name]) + "()"
        return repr(field.default)

    def tags(self, tagged: list[Field], owner: str) -> None:
        source = self.source
        count = source.fresh("c")
        self.run.append(("B", count))
        self.flush()
        if not tagged:
            source.line(f"if {count}: p = skip_tags(data, p, {count}, end)")
            return
        tag, size, stop = source.fresh("t"), source.fresh("n"), source.fresh("e")
        source.line(f"if {count} > 127: {count}, p = read_uvarint(data, p - 1)")
        source.line(f"for _ in range({count}):")
        source.depth += 1
        source.line(f"{tag}, p = read_uvarint(data, p)")
        source.line(f"{size}, p = read_uvarint(data, p)")
        source.line(f"{stop} = p + {size}")
        source.line(f"if {stop} > end: bad_length({self.label('tagged field')}, {size}, p, end)")
        for place, field in enumerate(tagged):
            source.line(f"{'el' if place else ''}if {tag} == {field.tag}:")
            source.depth += 1
            self.value(field, f"{owner}.{field.name}")
            self.flush()
            source.line(f"if p != {stop}: bad_tag({self.label(field.name)}, p, {stop})")
            source.depth -= 1
        source.line("else:")
        source.line(f"    p = {stop}")
        source.depth -= 1

    def label(self, field: str) -> str:
        return repr(f"{self.name}.{field}")

    def value(self, field: Field, target: str) -> None:
        nullable = self.version in field.nullable
        if field.is_array:
            self.array(field, target, nullable)
        else:
            self.single(field, target, nullable)

    def single(self, field: Field, target: str, nullable: bool) -> None:
        source = self.source
        if field.struct is None:
            if field.type in FIXED_CODES:
                self.run.append((FIXED_CODES[field.type], target))
            else:
                self.blob(field, target, nullable)
            return
        inner = source.fresh("o")
        if not nullable:
            self.struct(field.struct, inner)
            source.line(f"{target} = {inner}")
            return
        # Whether the struct is there: -1 or 1, but 0 or 1 inside a tagged field.
        mark = source.fresh("n")
        tagged = self.version in field.tagged
        self.run.append(("B" if tagged else "b", mark))
        self.flush()
        source.line(f"if {mark} == 0:" if tagged else f"if {mark} < 0:")
        source.line(f"    {target} = None")
        source.line("else:")
        source.depth += 1
        self.struct(field.struct, inner)
        self.flush()
        source.line(f"{target} = {inner}")
        source.depth -= 1

    def length(self, code: str, compact: bool, long_form: str) -> str:
        """Read a length into a fresh name; null is -1 in both encodings."""
        size = self.source.fresh("n")
        self.run.append(("B" if compact else code, size))
        self.flush()
        if compact:
            self.source.line(f"if {size} > 127: {size}, p = {long_form}(data, p - 1)")
            self.source.line(f"{size} -= 1")
        return size

    def blob(self, field: Field, target: str, nullable: bool) -> None:
        """Strings, bytes and record sets. Bytes that are not UTF-8 are replaced, as Kafka does."""
        source = self.source
        compact = self.flexible and not field.never_flexible
        is_string = field.type == "string"
        size = self.length("h" if is_string else "i", compact, "read_string_length" if is_string else "read_uvarint")
        if nullable:
            source.line(f"if {size} == -1:")
            source.line(f"    {target} = None")
            source.line("else:")
            source.depth += 1
        source.line(f"e = p + {size}")
        source.line(f"if {size} < 0 or e > end: bad_length({self.label(field.name)}, {size}, p, end)")
        source.line(f"{target} = data[p:e]" + ('.decode("utf-8", "replace")' if is_string else ""))
        source.line("p = e")
        if nullable:
            source.depth -= 1

    def array(self, field: Field, target: str, nullable: bool) -> None:
        source = self.source
        size = self.length("i", self.flexible, "read_uvarint")
        if nullable:
            source.line(f"if {size} == -1:")
            source.line(f"    {target} = None")
            source.line("else:")
            source.depth += 1
        # An element of no bytes does not exist in any schema, but a count must never be free.
        least = max(1, self.least_bytes(field))
        times = "" if least == 1 else f" * {least}"
        source.line(f"if {size} < 0 or {size}{times} > end - p: bad_length({self.label(field.name)}, {size}, p, end)")
        self.elements(field, target, size)
        if nullable:
            source.depth -= 1

    def elements(self, field: Field, target: str, size: str) -> None:
        source = self.source
        if field.type == "uuid":
            source.line(f"e = p + {size} * 16")
            source.line(f"{target} = [data[q : q + 16] for q in range(p, e, 16)]")
            source.line("p = e")
        elif field.type in FIXED_CODES:
            code = FIXED_CODES[field.type]
            unpacks = source.constant(f"unpacks_{code}", tuple(codec.unpack_from for codec in short_runs(code)))
            source.line(f"if {size} <= {SHORT}: {target} = [*{unpacks}[{size}](data, p)]")
            source.line(f'else: {target} = [*unpack_from(">%d{code}" % {size}, data, p)]')
            source.line(f"p += {size} * {fixed_run(code).size}")
        else:
            items, append, item = source.fresh("a"), source.fresh("f"), source.fresh("x")
            source.line(f"{target} = {items} = []")
            source.line(f"{append} = {items}.append")
            source.line(f"for _ in range({size}):")
            source.depth += 1
            if field.struct is not None:
                self.struct(field.struct, item)
            else:
                self.blob(field, item, nullable=False)
            self.flush()
            source.line(f"{append}({item})")
            source.depth -= 1

    def least_bytes(self, field: Field) -> int:
        """The least one element of this field can take."""
        if field.struct is not None:
            return self.least_struct_bytes(field.struct)
        if field.type in FIXED_CODES:
            return fixed_run(FIXED_CODES[field.type]).size
        if self.flexible and not field.never_flexible:
            return 1
        return 2 if field.type == "string" else 4

    def least_struct_bytes(self, struct: Struct) -> int:
        total = 1 if self.flexible else 0
        for field in struct.fields:
            if self.version not in field.versions or self.version in field.tagged:
                continue
            if field.is_array:
                total += 1 if self.flexible else 4
            elif field.struct is not None and self.version in field.nullable:
                total += 1
            else:
                total += self.least_bytes(field)
        return total

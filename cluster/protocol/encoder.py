"""Generate the function that writes one version of one message.

What it keeps true: neighbouring fixed-size fields are packed together; pieces are collected in one list and joined
once; a field that the version lacks is dropped when Kafka calls it ignorable and refused when it is set otherwise.
"""

from collections.abc import Callable, Mapping
from struct import pack

from cluster.protocol import wire
from cluster.protocol.source import SHORT, Source, fixed_run, short_runs
from cluster.protocol.tables import FIXED_CODES, Field, MessageTable, Struct

_NAMES: dict[str, object] = {
    "V": wire.SMALL_VARINTS,
    "uvarint": wire.uvarint,
    "string_length": wire.string_length,
    "bad_uuid": wire.bad_uuid,
    "not_in_version": wire.not_in_version,
    "pack": pack,
    "join": b"".join,
}


def make_encoder(table: MessageTable, version: int, classes: Mapping[str, Callable[[], object]]) -> object:
    """A function of one argument, the message, that returns its bytes."""
    return _Encoder(table, version, classes).compile()


class _Encoder:
    """Walks the table once, in wire order. `run` holds the fixed-size values not yet written."""

    __slots__ = ("classes", "flexible", "name", "run", "source", "table", "version")

    def __init__(self, table: MessageTable, version: int, classes: Mapping[str, Callable[[], object]]) -> None:
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
        source.line("out = []")
        source.line("w = out.append")
        self.fields(self.table.struct, "o", "w")
        self.flush("w")
        source.line("return join(out)")
        return source.compile("def encode(o):", f"{self.name} v{self.version} encode")

    def flush(self, w: str) -> None:
        if self.run:
            self.source.line(f"{w}({self.packed(self.take_run())})")

    def take_run(self) -> list[tuple[str, str]]:
        run, self.run = self.run, []
        return run

    def packed(self, run: list[tuple[str, str]]) -> str:
        """The expression that packs a run."""
        if run == [("B", "0")]:
            return "V[0]"
        codes = "".join(code for code, _ in run)
        name = self.source.constant("pack_" + codes.replace("?", "z"), fixed_run(codes).pack)
        return f"{name}({', '.join(value for _, value in run)})"

    def fields(self, struct: Struct, owner: str, w: str) -> None:
        tagged = []
        for field in struct.fields:
            if self.version not in field.versions:
                if not field.ignorable:
                    self.refuse_unless_default(field, owner)
            elif self.version in field.tagged:
                tagged.append(field)
            else:
                self.value(field, f"{owner}.{field.name}", w)
        if not self.flexible:
            return
        if tagged:
            self.tags(tagged, owner, w)
        else:
            self.run.append(("B", "0"))

    def not_default(self, field: Field, value: str) -> str:
        """The condition under which a field counts as set."""
        if field.default_is_null:
            return f"{value} is not None"
        if field.is_array:
            return f"{value} or {value} is None"
        if field.struct is not None:
            default = self.source.constant(f"default_{field.struct.name}", self.classes[field.struct.name]())
            return f"{value} != {default}"
        return f"{value} != {field.default!r}"

    def refuse_unless_default(self, field: Field, owner: str) -> None:
        where = f"{self.name}.{field.name}"
        self.source.line(
            f"if {self.not_default(field, f'{owner}.{field.name}')}: not_in_version({where!r}, {self.version})"
        )

    def tags(self, tagged: list[Field], owner: str, w: str) -> None:
        """The tagged section: how many are set, then each as tag, size, value."""
        source = self.source
        self.flush(w)
        pieces, count = source.fresh("t"), source.fresh("c")
        source.line(f"{pieces} = []")
        source.line(f"{count} = 0")
        for field in sorted(tagged, key=lambda field: field.tag):
            value = f"{owner}.{field.name}"
            inner, write_inner = source.fresh("u"), source.fresh("w")
            source.line(f"if {self.not_default(field, value)}:")
            source.depth += 1
            source.line(f"{inner} = []")
            source.line(f"{write_inner} = {inner}.append")
            self.value(field, value, write_inner)
            self.flush(write_inner)
            source.line(f"{inner} = join({inner})")
            source.line(f"{pieces} += (uvarint({field.tag}), uvarint(len({inner})), {inner})")
            source.line(f"{count} += 1")
            source.depth -= 1
        source.line(f"{w}(V[{count}])")
        source.line(f"if {count}: {w}(join({pieces}))")

    def value(self, field: Field, value: str, w: str) -> None:
        nullable = self.version in field.nullable
        if field.is_array:
            self.array(field, value, w, nullable)
        else:
            self.single(field, value, w, nullable)

    def single(self, field: Field, value: str, w: str, nullable: bool) -> None:
        if field.struct is not None:
            # In front of a struct that may be null stands whether it is: -1 or 1, but 0 or 1 inside a tagged field.
            null = r"\0" if self.version in field.tagged else r"\xff"
            self.struct(field.struct, value, w, null if nullable else "")
        elif field.type == "uuid":
            self.uuid(field, value)
        elif field.type in FIXED_CODES:
            self.run.append((FIXED_CODES[field.type], value))
        else:
            self.blob(field, value, w, nullable)

    def uuid(self, field: Field, value: str) -> None:
        self.source.line(f"if len({value}) != 16: bad_uuid({f'{self.name}.{field.name}'!r})")
        self.run.append(("16s", value))

    def blob(self, field: Field, value: str, w: str, nullable: bool) -> None:
        """Strings, bytes and record sets: a length, then the bytes."""
        source = self.source
        compact = self.flexible and not field.never_flexible
        size, data = source.fresh("n"), source.fresh("x")
        plus_one = " + 1" if compact else ""
        to_bytes = f'{data} = {data}.encode("utf-8", "replace")'
        is_string = field.type == "string"
        source.line(f"{data} = {value}")
        if nullable:
            source.line(f"if {data} is None:")
            source.line(f'    {data} = b""')
            source.line(f"    {size} = {0 if compact else -1}")
            source.line("else:")
            source.depth += 1
        if is_string:
            source.line(to_bytes)
        source.line(f"{size} = len({data}){plus_one}")
        if nullable:
            source.depth -= 1
        self.length(size, w, compact, "h" if is_string else "i", "string_length" if is_string else "uvarint")
        source.line(f"{w}({data})")

    def length(self, size: str, w: str, compact: bool, code: str, long_form: str) -> None:
        if not compact:
            self.run.append((code, size))
            self.flush(w)
        elif not self.run:
            self.source.line(f"{w}(V[{size}] if {size} < 128 else {long_form}({size}))")
        else:
            # Nearly every length is one byte, which joins the run in front of it.
            before = self.take_run()
            self.run = [*before, ("B", size)]
            short = self.packed(self.take_run())
            self.source.line(f"{w}({short} if {size} < 128 else {self.packed(before)} + {long_form}({size}))")

    def array(self, field: Field, value: str, w: str, nullable: bool) -> None:
        source = self.source
        compact = self.flexible
        items, size = source.fresh("a"), source.fresh("n")
        source.line(f"{items} = {value}")
        plus_one = " + 1" if compact else ""
        if nullable:
            source.line(f"{size} = {0 if compact else -1} if {items} is None else len({items}){plus_one}")
        else:
            source.line(f"{size} = len({items}){plus_one}")
        self.length(size, w, compact, "i", "uvarint")
        code = FIXED_CODES.get(field.type)
        if code is not None and field.type != "uuid":
            packs = source.constant(f"packs_{code}", tuple(codec.pack for codec in short_runs(code)))
            count = f"len({items})"
            source.line(f"if {items}:")
            source.line(
                f'    {w}({packs}[{count}](*{items}) if {count} <= {SHORT} else pack(">%d{code}" % {count}, *{items}))'
            )
            return
        if nullable:
            source.line(f"if {items}:")
            source.depth += 1
        item = source.fresh("o")
        source.line(f"for {item} in {items}:")
        source.depth += 1
        self.single(field, item, w, nullable=False)
        self.flush(w)
        source.depth -= 2 if nullable else 1

    def struct(self, struct: Struct, value: str, w: str, null: str) -> None:
        """`null` is the byte that says so, empty where the struct may not be null."""
        source = self.source
        inner = value
        if not value.isidentifier():
            inner = source.fresh("o")
            source.line(f"{inner} = {value}")
        if not null:
            self.fields(struct, inner, w)
            return
        self.flush(w)
        source.line(f"if {inner} is None:")
        source.line(f'    {w}(b"{null}")')
        source.line("else:")
        source.depth += 1
        self.run.append(("b", "1"))
        self.fields(struct, inner, w)
        self.flush(w)
        source.depth -= 1

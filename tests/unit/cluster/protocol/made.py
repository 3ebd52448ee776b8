"""Hypothesis strategies for messages: any value that a field may take in one version."""

from functools import cache

from hypothesis import strategies as st

from cluster.protocol.message import Message, Struct
from cluster.protocol.messages import message_class
from cluster.protocol.tables import OUR_TAGS, Field
from cluster.protocol.tables import Struct as StructTable

INTEGERS = {
    "int8": (-(1 << 7), (1 << 7) - 1),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "uint16": (0, (1 << 16) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
}
PLAIN: dict[str, st.SearchStrategy[object]] = {
    "bool": st.booleans(),
    "float64": st.floats(allow_nan=False),
    # Long ones are made by repetition: what matters is that their lengths take two and three bytes.
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(["x" * 127, "ü" * 8200]),
    "uuid": st.binary(min_size=16, max_size=16),
    "bytes": st.binary(max_size=12) | st.sampled_from([bytes(126), bytes(20_000)]),
    "records": st.binary(max_size=12),
} | {kind: st.integers(low, high) for kind, (low, high) in INTEGERS.items()}

_ALL_TAGS = 1 << 32


@cache
def values(name: str, version: int, *, with_ours: bool = True) -> st.SearchStrategy[Struct]:
    """Any message that can be said in this version; fields that the version lacks keep their defaults. `with_ours`:
    the fields that Kafka does not have, too."""
    message = message_class(name)
    return _struct(message, message._table.struct, version, _ALL_TAGS if with_ours else OUR_TAGS)


def _struct(message: type[Message], table: StructTable, version: int, tags: int) -> st.SearchStrategy[Struct]:
    made = message._classes[table.name]
    fields = {
        field.name: _value(message, field, version, tags)
        for field in table.fields
        if version in field.versions and field.tag < tags
    }
    return st.fixed_dictionaries(fields).map(lambda chosen: made(**chosen))


def _value(message: type[Message], field: Field, version: int, tags: int) -> st.SearchStrategy[object]:
    one: st.SearchStrategy[object]
    one = PLAIN[field.type] if field.struct is None else _struct(message, field.struct, version, tags)
    if field.is_array:
        one = st.lists(one, max_size=2)
    return st.none() | one if version in field.nullable else one

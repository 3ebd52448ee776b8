"""The same bytes mean the same to kafka-python's codec, which was written independently, for the APIs both have."""

import importlib
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cluster.protocol import messages as m
from cluster.protocol.message import Message, Struct
from cluster.protocol.tables import OUR_TAGS, Field
from tests.unit.cluster.protocol import made

kafka_protocol = pytest.importorskip("kafka.protocol.api_message", reason="kafka-python 3 is the other side")
OPERATIONS = "authorized_operations"  # their name for what is a set of bits to them
FAMILIES = ("admin", "consumer", "metadata", "producer", "sasl")


def theirs() -> dict[str, type]:
    found: dict[str, type] = {}
    for family in FAMILIES:
        for name, value in vars(importlib.import_module(f"kafka.protocol.{family}")).items():
            if name == "ApiVersionsResponse":
                continue  # as a client, it reads an answer with an error as version 0
            if name.endswith(("Request", "Response")) and isinstance(value, type(kafka_protocol.ApiMessage)):
                found[name] = value
    return found


THEIRS = theirs()


def assert_same(ours: Struct, other: Any, version: int) -> None:
    """Field by field, in the fields that the version has. Their uuids are objects, or None for zero; their authorized
    operations are sets of bits."""
    for field in ours._fields:
        if version not in field.versions or field.tag >= OUR_TAGS:
            continue
        value = getattr(ours, field.name)
        name = their_name(other, field)
        said = getattr(other, name)
        if name == OPERATIONS:
            assert said == operations(value)
        elif field.is_array and value is not None and said is not None:
            assert len(value) == len(said), field.name
            for one, their_one in zip(value, said, strict=True):
                assert_same_value(one, their_one, version)
        else:
            assert_same_value(value, said, version)


def their_name(other: Any, field: Field) -> str:
    return field.name if field.name in other._struct.fields else OPERATIONS


def operations(value: int) -> set[int] | None:
    return {bit for bit in range(32) if value >> bit & 1} if value != -(1 << 31) else None


def assert_same_value(value: object, said: object, version: int) -> None:
    if isinstance(value, Struct):
        assert_same(value, said, version)
    elif isinstance(value, bytes) and not isinstance(said, bytes | memoryview | bytearray):
        assert value == (bytes(16) if said is None else getattr(said, "bytes", said))
    else:
        assert value == said


def said_by(other: Any, ours: Struct, version: int) -> Any:
    """The same values as an object of theirs."""
    values = {}
    for field in ours._fields:
        value = getattr(ours, field.name)
        if version not in field.versions or field.tag >= OUR_TAGS:
            continue
        if version in field.tagged and is_default(field, value):
            continue
        if field.type == "uuid":
            value = [uuid.UUID(bytes=one) for one in value] if field.is_array else uuid.UUID(bytes=value)
        elif their_name(other, field) == OPERATIONS:
            value = operations(value)
        elif field.struct is not None and value is not None:
            data_class = other._struct.fields[field.name].data_class
            several = value if field.is_array else [value]
            said = [said_by(data_class, one, version) for one in several]
            value = said if field.is_array else said[0]
        values[their_name(other, field)] = value
    return other(version=version, **values)


def is_default(field: Field, value: object) -> bool:
    if field.is_array or field.struct is not None:
        return not value
    return bool(value == field.default)


def test_the_other_side_has_what_we_compare() -> None:
    assert len(THEIRS) >= 100
    assert all(
        name in THEIRS for name in ("FetchResponse", "MetadataResponse", "JoinGroupRequest", "OffsetFetchRequest")
    )


@pytest.mark.parametrize("name", sorted(THEIRS))
@given(st.data())
@settings(
    max_examples=2,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_both_read_and_write_the_same(name: str, data: st.DataObject) -> None:
    ours: type[Message] = m.message_class(name)
    other = THEIRS[name]
    low = max(ours.valid_versions[0], other.valid_versions[0])  # type: ignore[attr-defined]
    high = min(ours.valid_versions[1], other.valid_versions[1])  # type: ignore[attr-defined]
    assert low <= high
    for version in range(low, high + 1):
        message = data.draw(made.values(name, version, with_ours=False))
        assert isinstance(message, Message)
        encoded = message.encode(version)
        assert_same(message, other.decode(encoded, version=version), version)  # type: ignore[attr-defined]
        assert ours.decode(bytes(said_by(other, message, version).encode(version=version)), version) == message

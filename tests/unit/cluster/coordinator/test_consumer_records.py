"""Records of the consumer protocol: Kafka's bytes are read, and written the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.coordinator.consumer_member import ClassicProtocols, ConsumerMember, MemberState, Owned, Target
from cluster.coordinator.consumer_records import (
    ConsumerFact,
    CurrentStored,
    GroupEpoch,
    MemberStored,
    PartitionsKnown,
    TargetEpoch,
    TargetStored,
    encode_by_message,
)
from cluster.coordinator.group_records import decode, encode
from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError, EncodeError
from cluster.protocol.records import encode_versioned, read_version

GOLDEN = Path(__file__).parents[3] / "golden" / "consumer_group" / "records.jsonl"
RECORDS = [json.loads(line) for line in GOLDEN.read_text().splitlines()]
TOPIC = bytes(range(16))
EPOCHS = st.integers(-2, 1 << 30)


@pytest.mark.parametrize(("key", "value"), RECORDS)
def test_kafkas_bytes(key: str, value: str | None) -> None:
    record = (bytes.fromhex(key), None if value is None else bytes.fromhex(value))
    fact = decode(*record)
    assert fact is not None
    assert encode(fact) == record


def _partitions(most: int) -> st.SearchStrategy[frozenset[int]]:
    few = st.frozensets(st.integers(0, 70_000) | st.integers(0, 40), min_size=1, max_size=8)
    return few | st.integers(1, most).map(lambda count: frozenset(range(count)))


TOPICS = st.binary(min_size=16, max_size=16)
OWNED = st.dictionaries(TOPICS, _partitions(40).flatmap(lambda few: st.fixed_dictionaries(dict.fromkeys(few, EPOCHS))))
TARGETS = st.dictionaries(TOPICS, _partitions(200), max_size=5)
IDS = st.text(max_size=40) | st.sampled_from(["m" * 32_767, "\u20ac" * 10_923])


@settings(max_examples=60)
@given(IDS, IDS, EPOCHS, st.sampled_from(list(MemberState)), OWNED, OWNED)
def test_what_a_member_has_is_packed_as_the_messages_say(
    group_id: str, member_id: str, epoch: int, state: MemberState, assigned: Owned, revoking: Owned
) -> None:
    fact = CurrentStored(group_id, member_id, epoch, epoch - 1, state, assigned, revoking)
    assert _encoded(encode, fact) == _encoded(encode_by_message, fact)


@settings(max_examples=60)
@given(IDS, IDS, TARGETS)
def test_what_a_member_is_to_have_is_packed_as_the_messages_say(
    group_id: str, member_id: str, partitions: Target
) -> None:
    fact = TargetStored(group_id, member_id, partitions)
    assert _encoded(encode, fact) == _encoded(encode_by_message, fact)


@settings(max_examples=60)
@given(IDS, EPOCHS, st.sampled_from([0, 1, -1, 1 << 62, -(1 << 63)]) | st.integers(-(1 << 63), (1 << 63) - 1))
def test_epochs_are_packed_as_the_messages_say(group_id: str, epoch: int, more: int) -> None:
    facts: list[ConsumerFact] = [GroupEpoch(group_id, epoch, more), TargetEpoch(group_id, epoch, more)]
    for fact in facts:
        assert _encoded(encode, fact) == _encoded(encode_by_message, fact)


def test_many_topics_are_packed_as_the_messages_say() -> None:
    for count in (126, 127, 200):
        ids = [number.to_bytes(16, "big") for number in range(count)]
        target = TargetStored("g", "m", dict.fromkeys(ids, frozenset({1})))
        current = CurrentStored("g", "m", 5, 4, MemberState.STABLE, {each: {1: 5} for each in ids}, {})
        for fact in (target, current):
            assert encode(fact) == encode_by_message(fact)
            assert decode(*encode(fact)) == fact


def _encoded(encode: Callable[..., tuple[bytes, bytes | None]], fact: ConsumerFact) -> object:
    try:
        return encode(fact)
    except EncodeError as error:
        return str(error)


def test_there_are_records_of_each_kind() -> None:
    kinds = {(read_version(bytes.fromhex(key)), value is None) for key, value in RECORDS}
    assert kinds >= {(version, gone) for version in (3, 5, 6, 7, 8, 16) for gone in (False, True)}


def test_what_kafka_3_9_wrote_is_read() -> None:
    """Without epochs of partitions and times of assignments; with the partitions of topics."""
    key = encode_versioned(m.ConsumerGroupCurrentMemberAssignmentKey(group_id="g", member_id="m"), 8)
    owned = m.ConsumerGroupCurrentMemberAssignmentValue.TopicPartitions(topic_id=TOPIC, partitions=[1, 0])
    value = m.ConsumerGroupCurrentMemberAssignmentValue(
        member_epoch=7, previous_member_epoch=6, state=1, assigned_partitions=[owned]
    )
    expected = CurrentStored("g", "m", 7, 6, MemberState.UNREVOKED_PARTITIONS, {TOPIC: {1: 7, 0: 7}}, {})
    assert decode(key, encode_versioned(value, 0)) == expected
    epoch_key = encode_versioned(m.ConsumerGroupTargetAssignmentMetadataKey(group_id="g"), 6)
    assert decode(epoch_key, b"\0\0\0\0\0\5\0") == TargetEpoch("g", 5, 0)
    partitions_key = encode_versioned(m.ConsumerGroupPartitionMetadataKey(group_id="g"), 4)
    partitions = encode_versioned(m.ConsumerGroupPartitionMetadataValue(), 0)
    assert decode(partitions_key, partitions) == PartitionsKnown("g")


def test_a_state_of_a_later_version_is_unknown() -> None:
    fact = CurrentStored("g", "m", 1, 0, MemberState.STABLE, {}, {})
    key, value = encode(fact)
    assert value is not None
    at = 2 + 4 + 4
    read = decode(key, value[:at] + b"\x09" + value[at + 1 :])
    assert isinstance(read, CurrentStored) and read.state is MemberState.UNKNOWN


def test_a_classic_member_keeps_what_it_brought() -> None:
    classic = ClassicProtocols(9_000, (("range", b"\0\1"), ("roundrobin", b"")))
    member = ConsumerMember("m", instance_id="i", rack_id="r", topics=frozenset({"b", "a"}), classic=classic)
    fact = MemberStored("g", member)
    assert decode(*encode(fact)) == fact


@pytest.mark.parametrize("value", [b"", b"\0", b"\0\1\0\0\0\1\0", b"\0\0\0\0"])
def test_damaged_values_raise(value: bytes) -> None:
    key, _ = encode(TargetEpoch("g", 1, 0))
    with pytest.raises(DecodeError):
        decode(key, value)

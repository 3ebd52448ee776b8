"""Records of transactional ids, written by hand, are what the tables of the protocol write, to the byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.coordinator.transaction_records import TransactionalIdDeleted, TransactionStored, decode, encode
from cluster.coordinator.transaction_state import EMPTY
from cluster.protocol import messages as m
from cluster.protocol.errors import EncodeError
from cluster.protocol.records import encode_versioned
from pylog.transaction_log import TransactionState

INT64 = st.integers(-1, (1 << 63) - 1)
INT32 = st.integers(0, (1 << 31) - 1)
INT16 = st.integers(-1, (1 << 15) - 1)
PARTITION = st.tuples(st.sampled_from(["t", "über", "__consumer_offsets", "x" * 249]), st.integers(0, 300))
STORED = st.builds(
    TransactionStored,
    transactional_id=st.text(st.characters(exclude_categories=("Cs",)), max_size=200),
    producer_id=INT64,
    epoch=INT16,
    timeout_ms=INT32,
    state=st.sampled_from(list(TransactionState)),
    partitions=st.lists(PARTITION, unique=True, max_size=200).map(tuple),
    update_ms=INT64,
    start_ms=INT64,
    previous_producer_id=INT64,
    next_producer_id=INT64,
    next_epoch=INT16,
    client_version=INT16,
)


def by_tables(fact: TransactionStored, *, flexible: bool) -> tuple[bytes, bytes]:
    topics: dict[str, list[int]] = {}
    for topic, partition in fact.partitions:
        topics.setdefault(topic, []).append(partition)
    value = m.TransactionLogValue(
        producer_id=fact.producer_id,
        producer_epoch=fact.epoch,
        transaction_timeout_ms=fact.timeout_ms,
        transaction_status=fact.state,
        transaction_partitions=None
        if fact.state is EMPTY
        else [m.TransactionLogValue.PartitionsSchema(topic=name, partition_ids=ids) for name, ids in topics.items()],
        transaction_last_update_timestamp_ms=fact.update_ms,
        transaction_start_timestamp_ms=fact.start_ms,
    )
    if flexible:
        value.previous_producer_id = fact.previous_producer_id
        value.next_producer_id = fact.next_producer_id
        value.next_producer_epoch = fact.next_epoch
        value.client_transaction_version = fact.client_version
    key = encode_versioned(m.TransactionLogKey(transactional_id=fact.transactional_id), 0)
    return key, encode_versioned(value, int(flexible))


@settings(max_examples=150)
@given(STORED, st.booleans())
def test_by_hand_and_by_the_tables(fact: TransactionStored, flexible: bool) -> None:
    key, value = encode(fact, flexible=flexible)
    assert (key, value) == by_tables(fact, flexible=flexible)
    read = decode(key, value)
    assert isinstance(read, TransactionStored)
    assert read._replace(partitions=()) == fact._replace(
        partitions=(),
        last_epoch=-1,
        previous_producer_id=fact.previous_producer_id if flexible else -1,
        next_producer_id=fact.next_producer_id if flexible else -1,
        next_epoch=fact.next_epoch if flexible else -1,
        client_version=fact.client_version if flexible else 0,
    )
    assert set(read.partitions) == (set() if fact.state is EMPTY else set(fact.partitions))


def test_an_id_that_no_record_has_room_for() -> None:
    longest = TransactionalIdDeleted("x" * 32_767)
    assert decode(*encode(longest, flexible=True)) == longest
    for flexible in (False, True):
        with pytest.raises(EncodeError):
            encode(TransactionalIdDeleted("ü" * 16_384), flexible=flexible)

"""The records of `__transaction_state`: facts to key and value, and back.

What stays true: the bytes are Kafka's. Values are written as version 0, or as version 1 where the cluster's transaction
version says that records are flexible; both are read. A value of None deletes what its key names. What only version 1
has room for is lost in version 0, as it is in Kafka.
"""

from __future__ import annotations

from cluster.coordinator.transaction_state import EMPTY
from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.records import VERSION_BYTES, encode_versioned, read_version
from pylog.facts import NamedTuple
from pylog.transaction_log import TransactionState
from pylog.typed import TypeAlias

TRANSACTION_TOPIC = "__transaction_state"
NO_PRODUCER_ID = -1
NO_EPOCH = -1

_KEY_VERSION = 0
_PLAIN_VERSION = 0
_FLEXIBLE_VERSION = 1

TopicPartition: TypeAlias = tuple[str, int]


class TransactionStored(NamedTuple):
    """A transactional id as it stands. `start_ms`: -1 before the first transaction. `partitions`: those that the open
    transaction has written to, or may have. `next_producer_id`: what follows when the epochs of this one are used up.
    `client_version`: the transaction version that the producer of the last step spoke. `last_epoch`: the epoch that the
    producer had before this one, while it may still ask again with it; Kafka does not write it down."""

    transactional_id: str
    producer_id: int
    epoch: int
    timeout_ms: int
    state: TransactionState
    partitions: tuple[TopicPartition, ...]
    update_ms: int
    start_ms: int
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    next_epoch: int = NO_EPOCH
    client_version: int = 0
    last_epoch: int = NO_EPOCH


class TransactionalIdDeleted(NamedTuple):
    transactional_id: str


Fact: TypeAlias = TransactionStored | TransactionalIdDeleted


def encode(fact: Fact, *, flexible: bool) -> tuple[bytes, bytes | None]:
    key = encode_versioned(m.TransactionLogKey(transactional_id=fact.transactional_id), _KEY_VERSION)
    if isinstance(fact, TransactionalIdDeleted):
        return key, None
    value = m.TransactionLogValue(
        producer_id=fact.producer_id,
        producer_epoch=fact.epoch,
        transaction_timeout_ms=fact.timeout_ms,
        transaction_status=fact.state,
        transaction_partitions=None if fact.state is EMPTY else _topics(fact.partitions),
        transaction_last_update_timestamp_ms=fact.update_ms,
        transaction_start_timestamp_ms=fact.start_ms,
    )
    if not flexible:
        return key, encode_versioned(value, _PLAIN_VERSION)
    value.previous_producer_id = fact.previous_producer_id
    value.next_producer_id = fact.next_producer_id
    value.next_producer_epoch = fact.next_epoch
    value.client_transaction_version = fact.client_version
    return key, encode_versioned(value, _FLEXIBLE_VERSION)


def decode(key: bytes, value: bytes | None) -> Fact | None:
    """The fact in a record, or None when the key is of a kind that this coordinator does not keep."""
    if read_version(key) != _KEY_VERSION:
        return None
    transactional_id = m.TransactionLogKey.decode(key, _KEY_VERSION, VERSION_BYTES).transactional_id
    if value is None:
        return TransactionalIdDeleted(transactional_id)
    version = read_version(value)
    if not _PLAIN_VERSION <= version <= _FLEXIBLE_VERSION:
        raise DecodeError(f"unknown version {version} of a value in {TRANSACTION_TOPIC}")
    stored = m.TransactionLogValue.decode(value, version, VERSION_BYTES)
    try:
        state = TransactionState(stored.transaction_status)
    except ValueError:
        raise DecodeError(f"unknown transaction status {stored.transaction_status} in {TRANSACTION_TOPIC}") from None
    return TransactionStored(
        transactional_id,
        stored.producer_id,
        stored.producer_epoch,
        stored.transaction_timeout_ms,
        state,
        tuple(
            (topic.topic, partition)
            for topic in stored.transaction_partitions or []
            for partition in topic.partition_ids
        ),
        stored.transaction_last_update_timestamp_ms,
        stored.transaction_start_timestamp_ms,
        stored.previous_producer_id,
        stored.next_producer_id,
        stored.next_producer_epoch,
        stored.client_transaction_version,
    )


def _topics(partitions: tuple[TopicPartition, ...]) -> list[m.TransactionLogValue.PartitionsSchema]:
    """Topics, and partitions in them, in the order of first appearance."""
    topics: dict[str, list[int]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(partition)
    return [m.TransactionLogValue.PartitionsSchema(topic=topic, partition_ids=ids) for topic, ids in topics.items()]

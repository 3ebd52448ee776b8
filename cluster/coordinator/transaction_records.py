"""The records of `__transaction_state`: facts to key and value, and back.

What stays true: the bytes are Kafka's. Values are written as version 0, or as version 1 where the cluster's transaction
version says that records are flexible; both are read. A value of None deletes what its key names. What only version 1
has room for is lost in version 0, as it is in Kafka. They are written by hand: three for each transaction, and this
takes a quarter of what the tables take. The tests hold them against the tables.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct, pack

from cluster.coordinator.transaction_state import EMPTY
from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError, EncodeError
from cluster.protocol.records import VERSION_BYTES, read_version
from cluster.protocol.wire import uvarint
from pylog.facts import NamedTuple
from pylog.transaction_log import TransactionState
from pylog.typed import TypeAlias

TRANSACTION_TOPIC = "__transaction_state"
NO_PRODUCER_ID = -1
NO_EPOCH = -1

_KEY_VERSION = 0
_PLAIN_VERSION = 0
_FLEXIBLE_VERSION = 1

_TWO_SHORTS = Struct(">hh")
_SHORT = Struct(">h")
_INT = Struct(">i")
_HEAD = Struct(">hqhib")  # version, producer id, epoch, timeout, state
_TIMES = Struct(">qq")
_LONG_TAG = Struct(">bbq")  # tag, size, value
_SHORT_TAG = Struct(">bbh")
_LONGEST_ID = 32_767

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
    """Raises EncodeError."""
    raw = fact.transactional_id.encode()
    if len(raw) > _LONGEST_ID:
        raise EncodeError(f"a transactional id of {len(raw)} bytes")
    key = _TWO_SHORTS.pack(_KEY_VERSION, len(raw)) + raw
    if isinstance(fact, TransactionalIdDeleted):
        return key, None
    version = _FLEXIBLE_VERSION if flexible else _PLAIN_VERSION
    head = _HEAD.pack(version, fact.producer_id, fact.epoch, fact.timeout_ms, fact.state)
    times = _TIMES.pack(fact.update_ms, fact.start_ms)
    partitions = None if fact.state is EMPTY else fact.partitions
    if flexible:
        return key, head + _compact_topics(partitions) + times + _tags(fact)
    return key, head + _plain_topics(partitions) + times


def _tags(fact: TransactionStored) -> bytes:
    """What only version 1 has room for, as far as it is set."""
    tags = []
    if fact.previous_producer_id != NO_PRODUCER_ID:
        tags.append(_LONG_TAG.pack(0, 8, fact.previous_producer_id))
    if fact.next_producer_id != NO_PRODUCER_ID:
        tags.append(_LONG_TAG.pack(1, 8, fact.next_producer_id))
    if fact.client_version:
        tags.append(_SHORT_TAG.pack(2, 2, fact.client_version))
    if fact.next_epoch != NO_EPOCH:
        tags.append(_SHORT_TAG.pack(3, 2, fact.next_epoch))
    return uvarint(len(tags)) + b"".join(tags)


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


def _by_topic(partitions: tuple[TopicPartition, ...]) -> dict[str, list[int]]:
    """Topics, and partitions in them, in the order of first appearance."""
    topics: dict[str, list[int]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(partition)
    return topics


@lru_cache(
    maxsize=256
)  # a transaction is written down with the same partitions twice, and its producer's next ones often
def _compact_topics(partitions: tuple[TopicPartition, ...] | None) -> bytes:
    if partitions is None:
        return b"\0"
    topics = _by_topic(partitions)
    out = [uvarint(len(topics) + 1)]
    for topic, indexes in topics.items():
        name = topic.encode()
        out += (uvarint(len(name) + 1), name, uvarint(len(indexes) + 1), pack(f">{len(indexes)}i", *indexes), b"\0")
    return b"".join(out)


@lru_cache(maxsize=256)
def _plain_topics(partitions: tuple[TopicPartition, ...] | None) -> bytes:
    if partitions is None:
        return b"\xff\xff\xff\xff"
    topics = _by_topic(partitions)
    out = [_INT.pack(len(topics))]
    for topic, indexes in topics.items():
        name = topic.encode()
        out += (_SHORT.pack(len(name)), name, _INT.pack(len(indexes)), pack(f">{len(indexes)}i", *indexes))
    return b"".join(out)

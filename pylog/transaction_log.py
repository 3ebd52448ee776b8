"""The records of `__transaction_state`: what became of a transaction, as Kafka's coordinator notes it.

Keeps true: the bytes are Kafka's (key version 0, value version 0), so a broker that is started on a store's directory
finishes what the store had decided, as its own coordinator would after a crash.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from pylog.facts import IntEnum, NamedTuple
from pylog.record import NewRecord, Record
from pylog.types import TopicPartition

TRANSACTION_TOPIC = "__transaction_state"
TRANSACTION_TIMEOUT_MS = 60_000

_VERSION = b"\0\0"
_HEAD = struct.Struct(">hqhib")
_TIMES = struct.Struct(">qq")
_INT32 = struct.Struct(">i")
_INT16 = struct.Struct(">h")


class TransactionState(IntEnum):
    """A transaction's states, by Kafka's numbers."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7


class TransactionFact(NamedTuple):
    """The latest about a transactional id. start_ms: -1 when none is open."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    state: TransactionState
    partitions: tuple[TopicPartition, ...]
    update_ms: int
    start_ms: int


def _text(value: str) -> bytes:
    data = value.encode()
    return _INT16.pack(len(data)) + data


def transaction_record(fact: TransactionFact) -> NewRecord:
    """The record that says it."""
    by_topic: dict[str, list[int]] = {}
    for topic, partition in fact.partitions:
        by_topic.setdefault(topic, []).append(partition)
    head = _HEAD.pack(0, fact.producer_id, fact.producer_epoch, TRANSACTION_TIMEOUT_MS, fact.state)
    topics = [_INT32.pack(-1)]
    if fact.state != TransactionState.EMPTY:
        topics = [_INT32.pack(len(by_topic))]
        for topic, partitions in by_topic.items():
            topics.append(
                _text(topic) + _INT32.pack(len(partitions)) + struct.pack(f">{len(partitions)}i", *partitions)
            )
    value = head + b"".join(topics) + _TIMES.pack(fact.update_ms, fact.start_ms)
    return NewRecord(value, _VERSION + _text(fact.transactional_id))


def decode_transaction(record: Record) -> TransactionFact | None:
    """None for a deleted id, and for what a newer Kafka wrote in another way."""
    key, value = record.key, record.value
    if key is None or value is None or key[:2] != _VERSION or value[:2] != _VERSION:
        return None
    try:
        (size,) = _INT16.unpack_from(key, 2)
        transactional_id = key[4 : 4 + size].decode()
        _, producer_id, epoch, _, state = _HEAD.unpack_from(value)
        (topics,) = _INT32.unpack_from(value, _HEAD.size)
        partitions, at = _take_partitions(value, _HEAD.size + 4, topics)
        update_ms, start_ms = _TIMES.unpack_from(value, at)
        return TransactionFact(
            transactional_id, producer_id, epoch, TransactionState(state), tuple(partitions), update_ms, start_ms
        )
    except (struct.error, ValueError):
        return None


def _take_partitions(value: bytes, at: int, topics: int) -> tuple[Iterable[TopicPartition], int]:
    found = []
    for _ in range(topics):
        (size,) = _INT16.unpack_from(value, at)
        topic = value[at + 2 : at + 2 + size].decode()
        at += 2 + size
        (count,) = _INT32.unpack_from(value, at)
        found += [TopicPartition(topic, n) for n in struct.unpack_from(f">{count}i", value, at + 4)]
        at += 4 + 4 * count
    return found, at

"""Where named readers go on: their committed positions.

Keeps true:
- A store that is written keeps them as Kafka's group coordinator does: records in `__consumer_offsets`, in the
  partition that the reader's name hashes to. A broker that is started on the directory knows each reader as a consumer
  group with these offsets, and a store opened on a broker's directory knows its groups.
- One commit is one batch: all its positions are there after a crash, or none.
- A reader without write access keeps its own in a file of its own, replaced as a whole; until it has one, it begins
  with what `__consumer_offsets` says.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from pylog.checkpoint import OffsetCheckpoint
from pylog.facts import NamedTuple
from pylog.partition import Durability, Partition
from pylog.partition_reader import PartitionReader
from pylog.record import NewRecord, Record
from pylog.store_errors import InvalidRecordError, ReadOnlyError
from pylog.typed import Protocol
from pylog.types import TopicPartition

OFFSETS_TOPIC = "__consumer_offsets"

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
_INT64 = struct.Struct(">q")
_KEY_VERSIONS = (0, 1)
_KEY_VERSION = b"\0\1"
_VALUE_VERSION = b"\0\3"
_VERSIONS_WITH_EPOCH = 3
_NO_EPOCH = -1


class Position(NamedTuple):
    """A committed position. offset: of the next record to read. commit_ms: when, ms since 1970."""

    offset: int
    metadata: str = ""
    leader_epoch: int = _NO_EPOCH
    commit_ms: int = -1


class PositionTable(Protocol):
    """Committed positions by reader."""

    def committed(self, reader: str, partition: TopicPartition) -> Position | None: ...

    def commit(
        self, reader: str, positions: Mapping[TopicPartition, int], durability: Durability | None = None
    ) -> None: ...


# -------------------------------------------------------------------------------------------------- Kafka's records


def _text(value: str) -> bytes:
    data = value.encode()
    if len(data) > 0x7FFF:
        raise InvalidRecordError(f"a name of {len(data)} bytes; at most 32767 are possible")
    return _INT16.pack(len(data)) + data


def position_record(reader: str, partition: TopicPartition, offset: int, commit_ms: int) -> NewRecord:
    """The record that commits a position."""
    if offset < 0:
        raise ValueError(f"{partition}: {offset} is no position")
    key = _KEY_VERSION + _text(reader) + _text(partition.topic) + _INT32.pack(partition.partition)
    value = _VALUE_VERSION + _INT64.pack(offset) + _INT32.pack(_NO_EPOCH) + _text("") + _INT64.pack(commit_ms)
    return NewRecord(value, key)


def _take_text(data: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + _INT16.unpack_from(data, at)[0]
    if not at + 2 <= end <= len(data):
        raise ValueError("a text is longer than what holds it")
    return data[at + 2 : end].decode(), end


class Commit(NamedTuple):
    """What a record of __consumer_offsets says about a position. position None: it was deleted."""

    reader: str
    partition: TopicPartition
    position: Position | None


def decode_commit(record: Record) -> Commit | None:
    """None for records of other kinds (groups), and for what a newer Kafka wrote in another way."""
    key, value = record.key, record.value
    try:
        if key is None or _INT16.unpack_from(key)[0] not in _KEY_VERSIONS:
            return None
        reader, at = _take_text(key, 2)
        topic, at = _take_text(key, at)
        partition = TopicPartition(topic, _INT32.unpack_from(key, at)[0])
        if value is None:
            return Commit(reader, partition, None)
        version = _INT16.unpack_from(value)[0]
        (offset,) = _INT64.unpack_from(value, 2)
        epoch = _NO_EPOCH
        at = 10
        if version >= _VERSIONS_WITH_EPOCH:
            (epoch,) = _INT32.unpack_from(value, at)
            at += 4
        metadata, at = _take_text(value, at)
        return Commit(reader, partition, Position(offset, metadata, epoch, _INT64.unpack_from(value, at)[0]))
    except (struct.error, ValueError):
        return None


def offsets_partition(reader: str, count: int) -> int:
    """Which of `count` partitions of __consumer_offsets has this reader: Java's hash of its name."""
    data = reader.encode("utf-16-be", "surrogatepass")
    h = 0
    for at in range(0, len(data), 2):
        h = (h * 31 + (data[at] << 8 | data[at + 1])) & 0xFFFFFFFF
    signed = h - (1 << 32) if h & 0x80000000 else h
    return 0 if signed == -(1 << 31) else abs(signed) % count


def _load(partitions: Iterable[PartitionReader]) -> dict[tuple[str, TopicPartition], Position]:
    found: dict[tuple[str, TopicPartition], Position] = {}
    for partition in partitions:
        for record in partition.read():
            commit = decode_commit(record)
            if commit is None:
                continue
            if commit.position is None:
                found.pop((commit.reader, commit.partition), None)
            else:
                found[commit.reader, commit.partition] = commit.position
    return found


# -------------------------------------------------------------------------------------------------- the two tables


class Positions:
    """The positions that a store which is written keeps. Any thread."""

    __slots__ = ("_guard", "_known", "_make", "_partitions")

    def __init__(self, partitions: Sequence[Partition], make: Callable[[str], Sequence[Partition]]) -> None:
        """partitions: of __consumer_offsets, none when there is no such topic yet; make: makes it."""
        self._guard = threading.Lock()
        self._partitions = partitions
        self._make = make
        self._known: dict[tuple[str, TopicPartition], Position] | None = None

    def _loaded(self) -> dict[tuple[str, TopicPartition], Position]:
        if self._known is None:
            self._known = _load(self._partitions)
        return self._known

    def committed(self, reader: str, partition: TopicPartition) -> Position | None:
        with self._guard:
            return self._loaded().get((reader, partition))

    def home(self, reader: str) -> Partition:
        """The partition that holds this reader's positions."""
        with self._guard:
            if not self._partitions:
                self._partitions = self._make(OFFSETS_TOPIC)
            return self._partitions[offsets_partition(reader, len(self._partitions))]

    def commit(
        self, reader: str, positions: Mapping[TopicPartition, int], durability: Durability | None = None
    ) -> None:
        """Append them as one batch. Raises as Partition.append does."""
        if not positions:
            return
        now_ms = time.time_ns() // 1_000_000
        records = [position_record(reader, p, offset, now_ms) for p, offset in positions.items()]
        home = self.home(reader)
        with self._guard:
            known = self._loaded()
            home.append_many(records, durability=durability)
            known.update(_positions(reader, positions, now_ms))

    def note(self, reader: str, positions: Mapping[TopicPartition, int], commit_ms: int) -> None:
        """A transaction that commits them has ended well."""
        with self._guard:
            self._loaded().update(_positions(reader, positions, commit_ms))


def _positions(
    reader: str, positions: Mapping[TopicPartition, int], commit_ms: int
) -> dict[tuple[str, TopicPartition], Position]:
    return {(reader, p): Position(offset, commit_ms=commit_ms) for p, offset in positions.items()}


class PositionFile:
    """The positions of readers that may not write into the store: a file for each reader in a directory of theirs.

    The files have the format of Kafka's offset checkpoints. One process at a time per reader.
    """

    __slots__ = ("_directory", "_offsets", "_store")

    def __init__(
        self, store: str, directory: str | None, offsets_partitions: Callable[[], Sequence[PartitionReader]]
    ) -> None:
        """directory None: positions are read from the store's `__consumer_offsets` and cannot be committed."""
        self._store = store
        self._directory = directory
        self._offsets = offsets_partitions

    def _file(self, reader: str) -> OffsetCheckpoint | None:
        if self._directory is None:
            return None
        from urllib.parse import quote

        return OffsetCheckpoint(self._directory, quote(reader, safe="") + ".positions")

    def committed(self, reader: str, partition: TopicPartition) -> Position | None:
        file = self._file(reader)
        own = None if file is None else file.read().get(partition)
        if own is not None:
            return Position(own)
        partitions = self._offsets()
        if not partitions:
            return None
        return _load([partitions[offsets_partition(reader, len(partitions))]]).get((reader, partition))

    def commit(
        self, reader: str, positions: Mapping[TopicPartition, int], durability: Durability | None = None
    ) -> None:
        """Always durable on return."""
        file = self._file(reader)
        if file is None or self._directory is None:
            raise ReadOnlyError(
                f"{self._store} was opened for reading: give open() a `positions` directory to commit positions in"
            )
        os.makedirs(self._directory, exist_ok=True)
        file.write({**file.read(), **positions})

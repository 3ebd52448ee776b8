"""A store: topics and partitions in one directory, in Apache Kafka's files, without a broker.

Keeps true:
- One process writes: it holds Kafka's `.lock`, so that a broker, ours or a JVM, and a store never write at once.
  Readers take no lock, write nothing into the directory, and may be as many as you like, beside a running broker too.
- What `close` leaves is what a broker leaves at a clean stop; what a crash leaves is put right by the next open.
- Nothing is deleted that nobody asked to delete: a topic without settings of its own keeps its records for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from typing import Literal, overload

from pylog import logger
from pylog._native import Sys
from pylog.clock import Clock, SystemClock
from pylog.compaction import CleanerConfig
from pylog.config import LogConfig, validate_overrides
from pylog.config_value import ConfigError
from pylog.data_dir import list_partition_directories
from pylog.log import Log
from pylog.log_manager import LogManager, LogManagerConfig
from pylog.log_source import DirectorySource
from pylog.maintenance import Maintenance
from pylog.partition import Durability, Partition
from pylog.partition_reader import PartitionReader
from pylog.position import OFFSETS_TOPIC, Position, PositionFile, Positions
from pylog.reader import Reader
from pylog.store_errors import InvalidTopicError, StoreClosedError, TopicExistsError, UnknownTopicError
from pylog.topic import Topic, TopicReader
from pylog.topic_settings import TopicSettings
from pylog.transaction import Transaction, Transactions
from pylog.transaction_log import TRANSACTION_TOPIC
from pylog.typed import Self
from pylog.types import TopicPartition

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_NAME_LENGTH = 249

KEEP_FOR_EVER = LogConfig(retention_ms=-1)
"""A topic without settings: Kafka's defaults, but nothing is deleted."""
_INTERNAL = KEEP_FOR_EVER._replace(cleanup_policy=("compact",), segment_bytes=100 << 20)


@overload
def open(
    path: str | os.PathLike[str],
    mode: Literal["rw"] = "rw",
    *,
    durability: Durability = "page-cache",
    mapped_tail: bool = False,
) -> Store: ...


@overload
def open(
    path: str | os.PathLike[str], mode: Literal["r"], *, positions: str | os.PathLike[str] | None = None
) -> StoreReader: ...


def open(
    path: str | os.PathLike[str],
    mode: Literal["rw", "r"] = "rw",
    *,
    durability: Durability = "page-cache",
    mapped_tail: bool = False,
    positions: str | os.PathLike[str] | None = None,
) -> Store | StoreReader:
    """Open the store in directory path.

    mode "rw": to read and append; made if need be. Only one at a time: DirectoryInUse while a broker or another store
    has it. durability: what appends wait for, "page-cache" or "fsync", where a call does not say.
    mapped_tail: records that are appended one by one are stored into the mapped end of the file, without a system call
    and for half the CPU. They are in the page cache as all others; but a disk that fails at that moment ends the
    process with SIGBUS, where a write would raise. For local file systems that write in place (ext4, XFS, tmpfs).
    mode "r": to read, beside whoever writes: a Store, this broker, Apache Kafka. positions: a directory where named
    readers keep their positions; without it they cannot commit.

    After a crash, opening "rw" checks what was written last and cuts a torn tail. Raises OSError, DirectoryInUse,
    KafkaError; FileNotFoundError in mode "r" when there is no directory.
    """
    if logger.sink is logger.to_stderr:
        logger.sink = _to_logging
    where = os.path.abspath(os.fspath(path))
    if mode == "rw":
        if positions is not None:
            raise ValueError("positions: only for mode 'r'; a store that is written keeps them itself")
        return Store(where, durability=durability, mapped_tail=mapped_tail)
    if mode != "r":
        raise ValueError(f"mode is 'rw' or 'r', not {mode!r}")
    if mapped_tail:
        raise ValueError("mapped_tail: only for mode 'rw'")
    return StoreReader(where, positions=None if positions is None else os.path.abspath(os.fspath(positions)))


def _to_logging(level: int, line: str) -> None:
    """A library's lines go where the program sends its own: to the standard library's logger "pylog"."""
    import logging

    logging.getLogger("pylog").log(level, line)


def _missing(topic: str, partition: int | None = None) -> UnknownTopicError:
    return UnknownTopicError(
        f"there is no topic {topic}" + ("" if partition is None else f" with partition {partition}")
    )


class StoreReader:
    """A store for reading. Any thread; no lock is taken and nothing is written into the directory."""

    __slots__ = ("_closed", "_positions", "path")

    def __init__(self, path: str, *, positions: str | None = None) -> None:
        os.listdir(path)
        self.path = path
        self._closed = False
        self._positions = PositionFile(path, positions, self._offsets_partitions)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{'closed ' if self._closed else ''}{type(self).__name__} {self.path}>"

    def close(self) -> None:
        """Nothing can be asked any more; iterations under way finish."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError(f"{self.path} is closed")

    def _partitions(self) -> dict[str, list[int]]:
        self._check_open()
        found: dict[str, list[int]] = {}
        for (topic, number), _ in list_partition_directories(self.path).current:
            found.setdefault(topic, []).append(number)
        return found

    def topics(self) -> list[str]:
        """Names of the topics, sorted."""
        return sorted(self._partitions())

    def topic(self, name: str) -> TopicReader[PartitionReader]:
        """Raises UnknownTopicError. Partitions that are missing in between raise it when they are read."""
        numbers = self._partitions().get(name)
        if numbers is None:
            raise _missing(name)
        return TopicReader(name, [self._open(TopicPartition(name, n)) for n in range(max(numbers) + 1)])

    def partition(self, topic: str, partition: int = 0) -> PartitionReader:
        """Raises UnknownTopicError."""
        if partition not in self._partitions().get(topic, ()):
            raise _missing(topic, partition)
        return self._open(TopicPartition(topic, partition))

    def _open(self, partition: TopicPartition) -> PartitionReader:
        return PartitionReader(DirectorySource(self.path, partition))

    def _offsets_partitions(self) -> list[PartitionReader]:
        numbers = self._partitions().get(OFFSETS_TOPIC, [])
        return [self._open(TopicPartition(OFFSETS_TOPIC, n)) for n in sorted(numbers)]

    def committed(self, reader: str, topic: str, partition: int = 0) -> Position | None:
        """The position that the named reader (a consumer group's id) committed, None: none yet."""
        self._check_open()
        return self._positions.committed(reader, TopicPartition(topic, partition))

    def reader(self, name: str, *topics: str, start: Literal["earliest", "latest"] = "earliest") -> Reader:
        """A named reader of all partitions of these topics, going on where it committed last.

        start: where it begins in a partition that it never committed.
        """
        self._check_open()
        return Reader(name, [p for t in topics for p in self.topic(t)], self._positions, start)


class Store:
    """A store for reading and appending. Any thread.

    Use it as a context manager, or `close` it: that leaves the directory so that the next open reads nothing.
    """

    __slots__ = (
        "_clock", "_durability", "_guard", "_maintenance", "_manager", "_mapped_tail", "_open_partitions", "_positions",
        "_settings", "_state", "_sys", "_transactions", "path",
    )  # fmt: skip

    def __init__(
        self,
        path: str,
        *,
        durability: Durability = "page-cache",
        mapped_tail: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """See `open`. clock: where background work takes the time from; records are stamped by the system's."""
        if durability not in ("page-cache", "fsync"):
            raise ValueError(f"durability is page-cache or fsync, not {durability!r}")
        self.path = path
        self._clock = clock or SystemClock()
        self._durability: Durability = durability
        self._mapped_tail = mapped_tail
        self._guard = threading.RLock()
        self._state = "open"
        self._sys = Sys()
        self._open_partitions: dict[TopicPartition, Partition] = {}
        self._manager = LogManager(
            LogManagerConfig((path,)),
            sys=self._sys,
            clock=self._clock,
            config_of=self._config_of,
            on_directory_failure=self._directory_failed,
            cleaner_config=CleanerConfig,
        )
        self._maintenance = Maintenance(self._manager.schedule, self._clock, "store-maintenance")
        try:
            self._settings = TopicSettings(path)
            self._manager.load()
            self._positions = Positions(self._internal_partitions(OFFSETS_TOPIC), self._make_internal)
            self._transactions = Transactions(self._make_internal)
            self._transactions.recover(
                self._logs_with_producers(), self._internal_partitions(TRANSACTION_TOPIC), self.partition
            )
        except BaseException:
            self._release_partitions("")
            self._manager.shutdown(clean=False)
            raise
        self._maintenance.start()

    # ------------------------------------------------------------------------------------------------ ends

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{'' if self._state == 'open' else 'closed '}Store {self.path}>"

    def close(self) -> None:
        """Abort open transactions, make everything durable, and let go of the directory. Once is enough.

        Whoever appends, reads or waits in another thread gets StoreClosedError, or the end of the iteration. No
        exception says that the disk failed meanwhile: then the next open recovers.
        """
        self._manager.stop_cleaning()
        with self._guard:
            if self._state == "closed":
                return
            self._transactions.abort_all()
            self._state = "closed"
            self._release_partitions("")
        self._manager.hurry()
        self._maintenance.stop()
        self._manager.shutdown(clean=True)

    def _release_partitions(self, why: str) -> None:
        for partition in self._open_partitions.values():
            partition.release(why)
        self._open_partitions.clear()

    def _directory_failed(self, directory: str, logs: list[Log]) -> None:
        why = f"{directory} failed: {self._manager.offline_directories().get(directory, '')}"
        with self._guard:
            self._state = why
            self._release_partitions(why)
        for log in logs:
            log.close(clean=False)

    def _check_open(self) -> None:
        if self._state != "open":
            raise StoreClosedError(f"{self.path} is closed" if self._state == "closed" else self._state)

    # ------------------------------------------------------------------------------------------------ topics

    def _config_of(self, topic: str) -> LogConfig:
        if topic in (OFFSETS_TOPIC, TRANSACTION_TOPIC):
            return _INTERNAL
        return KEEP_FOR_EVER.with_overrides(self._settings.of(topic))

    def _numbers(self, topic: str) -> list[int]:
        return sorted(log.partition.partition for log in self._manager.logs() if log.partition.topic == topic)

    def topics(self) -> list[str]:
        """Names of the topics, sorted; Kafka's internal ones too."""
        self._check_open()
        return sorted({log.partition.topic for log in self._manager.logs()})

    def __contains__(self, topic: str) -> bool:
        return bool(self._numbers(topic))

    def __iter__(self) -> Iterator[str]:
        return iter(self.topics())

    def create_topic(
        self, name: str, partitions: int = 1, *, config: Mapping[str, str] | None = None, exist_ok: bool = False
    ) -> Topic:
        """Make a topic. config: topic settings by Kafka's names, as text ("retention.ms", "compression.type", ...).

        A topic without retention settings keeps its records for ever. exist_ok: one that is there is returned as it is
        (with more partitions if fewer were asked for now than are there: they only grow).
        Raises TopicExistsError, InvalidTopicError, OSError.
        """
        with self._guard:
            self._check_open()
            there = self._numbers(name)
            if there and not exist_ok:
                raise TopicExistsError(f"topic {name} is there already")
            _check_name(name)
            if partitions < 1:
                raise InvalidTopicError(f"{name}: {partitions} partitions; at least one is wanted")
            if not there and config:
                try:
                    validate_overrides(config, KEEP_FOR_EVER)
                except ConfigError as e:
                    raise InvalidTopicError(f"{name}: {e}") from e
                self._settings.put(name, config)
            self._make_partitions(name, max(partitions, len(there)))
            return self.topic(name)

    def _make_partitions(self, name: str, count: int) -> None:
        first = self._manager.get(TopicPartition(name, 0))
        topic_id = os.urandom(16) if first is None else first.topic_id
        for number in range(count):
            self._manager.create(TopicPartition(name, number), topic_id)

    def topic(self, name: str) -> Topic:
        """Raises UnknownTopicError."""
        with self._guard:
            self._check_open()
            numbers = self._numbers(name)
            if not numbers:
                raise _missing(name)
            return Topic(name, [self.partition(name, number) for number in numbers])

    def partition(self, topic: str, partition: int = 0) -> Partition:
        """Raises UnknownTopicError."""
        with self._guard:
            self._check_open()
            which = TopicPartition(topic, partition)
            found = self._open_partitions.get(which)
            if found is None:
                log = self._manager.get(which)
                if log is None:
                    raise _missing(topic, partition)
                found = self._open_partitions[which] = Partition(
                    log, self._manager, self._sys, self._durability, mapped_tail=self._mapped_tail
                )
            return found

    def delete_topic(self, name: str) -> None:
        """Forget a topic; its files go in the background. Raises UnknownTopicError."""
        with self._guard:
            self._check_open()
            numbers = self._numbers(name)
            if not numbers:
                raise _missing(name)
            for number in numbers:
                which = TopicPartition(name, number)
                held = self._open_partitions.pop(which, None)
                if held is not None:
                    held.release(f"topic {name} was deleted")
                self._manager.delete(which)
            self._settings.remove(name)

    def config(self, topic: str) -> dict[str, str]:
        """The settings of its own that a topic has."""
        self._check_open()
        return dict(self._settings.of(topic))

    def configure_topic(self, name: str, config: Mapping[str, str]) -> None:
        """Replace a topic's settings of its own. Raises UnknownTopicError, InvalidTopicError."""
        with self._guard:
            self._check_open()
            numbers = self._numbers(name)
            if not numbers:
                raise _missing(name)
            try:
                validate_overrides(config, KEEP_FOR_EVER)
            except ConfigError as e:
                raise InvalidTopicError(f"{name}: {e}") from e
            self._settings.put(name, config)
            self._manager.configure_topic(name)
            for number in numbers:
                self.partition(name, number).configure()

    # ------------------------------------------------------------------------------------------------ positions

    def _internal_partitions(self, topic: str) -> list[Partition]:
        return [self.partition(topic, number) for number in self._numbers(topic)]

    def _make_internal(self, topic: str) -> list[Partition]:
        with self._guard:
            self._check_open()
            if not self._numbers(topic):
                self._make_partitions(topic, 1)
            return self._internal_partitions(topic)

    def committed(self, reader: str, topic: str, partition: int = 0) -> Position | None:
        """The position that the named reader (a consumer group's id) committed, None: none yet."""
        self._check_open()
        return self._positions.committed(reader, TopicPartition(topic, partition))

    def commit(
        self, reader: str, positions: Mapping[TopicPartition, int], *, durability: Durability | None = None
    ) -> None:
        """Note where the named reader goes on in these partitions: all of them, or none when it raises."""
        self._check_open()
        self._positions.commit(reader, positions, durability)

    def reader(self, name: str, *topics: str, start: Literal["earliest", "latest"] = "earliest") -> Reader:
        """A named reader of all partitions of these topics, going on where it committed last.

        start: where it begins in a partition that it never committed.
        """
        self._check_open()
        return Reader(name, [p for t in topics for p in self.topic(t)], self._positions, start)

    # ------------------------------------------------------------------------------------------------ transactions

    def transaction(self, *, durability: Durability | None = None) -> Transaction:
        """Records and positions that become visible together, or not at all: `with store.transaction() as tx:`.

        durability: what its commit waits for, that of the store when left out.
        """
        self._check_open()
        return self._transactions.begin(self._positions, self.partition, durability or self._durability)

    def _logs_with_producers(self) -> list[Log]:
        return [log for log in self._manager.logs() if log.info().producer_count]

    def flush(self) -> None:
        """Make everything appended so far durable. Raises StorageFailedError."""
        with self._guard:
            self._check_open()
            held = list(self._open_partitions.values())
        for partition in held:
            partition.flush()


def _check_name(name: str) -> None:
    if not name or name in (".", "..") or len(name) > _NAME_LENGTH or not _NAME_CHARACTERS.issuperset(name):
        raise InvalidTopicError(
            f"{name!r} is no topic's name: 1 to {_NAME_LENGTH} letters, digits, dots, underscores and dashes"
        )

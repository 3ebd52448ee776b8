"""The embedded stores that are compared, each driven as its own documentation says it is fastest.

Keeps true: all have the same durability: what an append returned from survives the end of the process, in the page
cache, and nothing is synced; compression is off everywhere. What a store wants its input to look like (keys, tuples)
is prepared before the clock runs. A store is imported when it is opened, by the process that measures it alone.
"""

from __future__ import annotations

import os
import sqlite3
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count, islice

VALUE_BYTES = 100
TOPIC = "records"
_MEMORY_BYTES = 256 << 20
"""Of write buffers and maps: so much that no store has to flush or grow during a lap."""


def _drain(items: Iterable[object]) -> None:
    deque(items, maxlen=0)


class Store(ABC):
    """One store in a directory of its own. `prepare` is not timed, everything else may be."""

    name: str
    how: str
    """The settings that decide about durability and speed, for the reader of the figures."""

    def __init__(self, path: str) -> None:
        self.path = path

    def prepare(self, batch: Sequence[bytes], first: int) -> object:
        """The batch as `append_batch` wants it. first: the number of its first record, from 0."""
        return batch

    @abstractmethod
    def append_batch(self, batch: object) -> None:
        """All records of a prepared batch, in one transaction where there is such a thing."""

    @abstractmethod
    def append_each(self, values: Sequence[bytes], first: int) -> None:
        """The records one by one, each in the page cache before the next."""

    @abstractmethod
    def read(self) -> None:
        """Every record in order, with its key or offset, as what the store's iteration gives."""

    def read_columns(self) -> None:
        """Every record, as columns where there are such; else as `read` does."""
        self.read()

    @abstractmethod
    def records(self) -> list[bytes]:
        """The values, in order: to see that the store has what it was given."""

    @abstractmethod
    def close(self) -> None: ...


class Pylog(Store):
    name = "pylog"
    how = 'pylog.open(path), durability="page-cache"; append_many of bytes, batches of 1000'
    mapped_tail = False

    def __init__(self, path: str) -> None:
        import pylog

        super().__init__(path)
        self._store = pylog.open(path, mapped_tail=self.mapped_tail)
        self._partition = self._store.create_topic(TOPIC, exist_ok=True)[0]

    def append_batch(self, batch: object) -> None:
        self._partition.append_many(batch)  # type: ignore[arg-type]

    def append_each(self, values: Sequence[bytes], first: int) -> None:
        append = self._partition.append
        for value in values:
            append(value)

    def read(self) -> None:
        _drain(self._partition.read())

    def read_columns(self) -> None:
        for columns in self._partition.read_columns():
            _ = columns.offset, columns.timestamp_ms, columns.key, columns.value

    def records(self) -> list[bytes]:
        return [record.value or b"" for record in self._partition.read()]

    def close(self) -> None:
        self._store.close()


class PylogColumns(Pylog):
    name = "pylog columns"
    how = 'pylog.open(path), durability="page-cache"; append_columns of NumPy arrays, batches of 1000'

    def prepare(self, batch: Sequence[bytes], first: int) -> object:
        import numpy

        return numpy.frombuffer(b"".join(batch), numpy.uint8).reshape(len(batch), -1)

    def append_batch(self, batch: object) -> None:
        self._partition.append_columns(batch)


class PylogMapped(Pylog):
    name = "pylog mapped"
    how = "pylog.open(path, mapped_tail=True): single records are stored into the mapped end of the file"
    mapped_tail = True


class PylogRows(Pylog):
    name = "pylog rows"
    how = "pylog.open(path); read_rows: plain tuples, as the other stores give"

    def read(self) -> None:
        _drain(self._partition.read_rows())


def _numbered(values: Sequence[bytes], first: int) -> list[tuple[bytes, bytes]]:
    return [(number.to_bytes(8, "big"), value) for number, value in enumerate(values, first)]


class Lmdb(Store):
    name = "LMDB"
    how = "sync=False, metasync=False, append=True; 8-byte keys; putmulti in one transaction"

    def __init__(self, path: str) -> None:
        import lmdb

        super().__init__(path)
        self._environment = lmdb.open(path, map_size=_MEMORY_BYTES, sync=False, metasync=False, lock=False)

    def prepare(self, batch: Sequence[bytes], first: int) -> object:
        return _numbered(batch, first)

    def append_batch(self, batch: object) -> None:
        with self._environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(batch, append=True)

    def append_each(self, values: Sequence[bytes], first: int) -> None:
        begin = self._environment.begin
        for number, value in enumerate(values, first):
            with begin(write=True) as transaction:
                transaction.put(number.to_bytes(8, "big"), value, append=True)

    def read(self) -> None:
        with self._environment.begin() as transaction:
            _drain(transaction.cursor().iternext())

    def records(self) -> list[bytes]:
        with self._environment.begin() as transaction:
            return list(transaction.cursor().iternext(keys=False))

    def close(self) -> None:
        self._environment.close()


class LmdbViews(Lmdb):
    name = "LMDB buffers"
    how = "as LMDB, read with buffers=True: views of the map, nothing copied"

    def read(self) -> None:
        with self._environment.begin(buffers=True) as transaction:
            _drain(transaction.cursor().iternext())


class Sqlite(Store):
    name = "SQLite"
    how = "WAL, synchronous=OFF; executemany in one transaction; autocommit one by one"
    synchronous = "OFF"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._connection = sqlite3.connect(os.path.join(path, "records.db"), isolation_level=None)
        for pragma in ("journal_mode=WAL", f"synchronous={self.synchronous}"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, value BLOB)")

    def prepare(self, batch: Sequence[bytes], first: int) -> object:
        return [(value,) for value in batch]

    def append_batch(self, batch: object) -> None:
        connection = self._connection
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO records (value) VALUES (?)", batch)  # type: ignore[arg-type]
        connection.execute("COMMIT")

    def append_each(self, values: Sequence[bytes], first: int) -> None:
        execute = self._connection.execute
        for value in values:
            execute("INSERT INTO records (value) VALUES (?)", (value,))

    def read(self) -> None:
        _drain(self._connection.execute("SELECT number, value FROM records ORDER BY number"))

    def records(self) -> list[bytes]:
        return [value for (value,) in self._connection.execute("SELECT value FROM records ORDER BY number")]

    def close(self) -> None:
        self._connection.close()


class SqliteNormal(Sqlite):
    name = "SQLite NORMAL"
    how = "as SQLite, synchronous=NORMAL: synced at checkpoints of the WAL"
    synchronous = "NORMAL"


class RocksDb(Store):
    name = "RocksDB"
    how = "WAL on, sync off, no compression, raw mode; 8-byte keys; WriteBatch"

    def __init__(self, path: str) -> None:
        import rocksdict

        super().__init__(path)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_compression_type(rocksdict.DBCompressionType.none())
        options.set_write_buffer_size(_MEMORY_BYTES)
        self._make_batch: Callable[[], rocksdict.WriteBatch] = lambda: rocksdict.WriteBatch(raw_mode=True)
        self._database = rocksdict.Rdict(path, options)

    def prepare(self, batch: Sequence[bytes], first: int) -> object:
        return _numbered(batch, first)

    def append_batch(self, batch: object) -> None:
        writes = self._make_batch()
        put = writes.put
        for key, value in batch:  # type: ignore[attr-defined]
            put(key, value)
        self._database.write(writes)

    def append_each(self, values: Sequence[bytes], first: int) -> None:
        put = self._database.put
        for number, value in enumerate(values, first):
            put(number.to_bytes(8, "big"), value)

    def read(self) -> None:
        _drain(self._database.items())

    def records(self) -> list[bytes]:
        return list(self._database.values())

    def close(self) -> None:
        self._database.close()


class LevelDb(Store):
    name = "LevelDB"
    how = "sync off, no compression; 8-byte keys; write_batch"

    def __init__(self, path: str) -> None:
        import plyvel

        super().__init__(path)
        self._database = plyvel.DB(path, create_if_missing=True, compression=None, write_buffer_size=_MEMORY_BYTES)

    def prepare(self, batch: Sequence[bytes], first: int) -> object:
        return _numbered(batch, first)

    def append_batch(self, batch: object) -> None:
        with self._database.write_batch() as writes:
            put = writes.put
            for key, value in batch:  # type: ignore[attr-defined]
                put(key, value)

    def append_each(self, values: Sequence[bytes], first: int) -> None:
        put = self._database.put
        for number, value in enumerate(values, first):
            put(number.to_bytes(8, "big"), value)

    def read(self) -> None:
        _drain(self._database.iterator())

    def records(self) -> list[bytes]:
        return list(self._database.iterator(include_key=False))

    def close(self) -> None:
        self._database.close()


class DiskCache(Store):
    name = "diskcache"
    how = "Cache.push in one transact(); no eviction, sqlite_synchronous=0"

    def __init__(self, path: str) -> None:
        import diskcache

        super().__init__(path)
        self._cache = diskcache.Cache(path, eviction_policy="none", size_limit=1 << 40, sqlite_synchronous=0)

    def append_batch(self, batch: object) -> None:
        push = self._cache.push
        with self._cache.transact():
            for value in batch:  # type: ignore[attr-defined]
                push(value)

    def append_each(self, values: Sequence[bytes], first: int) -> None:
        push = self._cache.push
        for value in values:
            push(value)

    def read(self) -> None:
        cache = self._cache
        _drain((key, cache[key]) for key in cache)

    def records(self) -> list[bytes]:
        return [self._cache[key] for key in self._cache]

    def close(self) -> None:
        self._cache.close()


class PersistQueue(Store):
    name = "persist-queue"
    how = "file Queue, one chunk (a full one is synced); it has no batches; reading takes the records out"

    def __init__(self, path: str) -> None:
        import persistqueue

        super().__init__(path)
        self._queue = persistqueue.Queue(path, chunksize=1 << 40, tempdir=path)

    def append_batch(self, batch: object) -> None:
        self.append_each(batch, 0)  # type: ignore[arg-type]

    def append_each(self, values: Sequence[bytes], first: int) -> None:
        put = self._queue.put
        for value in values:
            put(value)

    def read(self) -> None:
        get = self._queue.get
        for _ in range(self._queue.qsize()):
            get()

    def records(self) -> list[bytes]:
        get = self._queue.get
        return [get() for _ in range(self._queue.qsize())]

    def close(self) -> None:
        del self._queue  # which closes its files


OURS: tuple[type[Store], ...] = (Pylog, PylogColumns, PylogMapped, PylogRows)
OTHERS: tuple[type[Store], ...] = (
    Lmdb,
    LmdbViews,
    Sqlite,
    SqliteNormal,
    RocksDb,
    LevelDb,
    DiskCache,
    PersistQueue,
)
BY_NAME = {store.name: store for store in (*OURS, *OTHERS)}


def numbered_values(records: int) -> list[bytes]:
    """Values that cannot be compressed, all different."""
    data = os.urandom(records * VALUE_BYTES)
    return [data[at : at + VALUE_BYTES] for at in islice(count(0, VALUE_BYTES), records)]

"""One partition of a store that this process writes.

Keeps true: an offset that was returned is of a record that is in its file (in the page cache; on stable storage when
durability is "fsync"); records of one call get rising offsets, whatever other threads append. Any thread may append.
"""

from __future__ import annotations

import errno
import threading
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from pylog._columns import (
    FLUSH_WANTED,
    NO_BYTES,
    NO_COLUMN,
    NOW,
    Appended,
    Appender,
    AppenderSettings,
    ByteColumn,
    Producer,
)
from pylog._native import INT32_MIN, LogSettings, Sys
from pylog._native import Log as NativeLog
from pylog.column_input import (
    NO_HEADERS,
    BytesLike,
    HeadersColumn,
    byte_column,
    headers_column,
    joined_column,
    timestamp_column,
)
from pylog.compression import PRODUCER, codec_named
from pylog.config import LogConfig
from pylog.errors import KafkaError
from pylog.log import Log, unhost_all
from pylog.log_manager import LogManager
from pylog.log_source import LocalSource
from pylog.partition_reader import PartitionReader
from pylog.record import HeadersLike, NewRecord, as_headers
from pylog.store_errors import InvalidRecordError, StorageFailedError, StoreClosedError, append_error

if TYPE_CHECKING:
    from pylog._cleaning import NativeCleaning

Durability: TypeAlias = Literal["page-cache", "fsync"]
"""What an append waits for. "page-cache": the records survive this process, whatever ends it, but not a power cut in
the next seconds. "fsync": they are on stable storage; threads that wait at the same time share one fsync."""

BATCH_RECORDS = 1000
BATCH_BYTES = 128 << 10
"""A batch is read, checked and decompressed as a whole: so large one gets, unless one record is larger."""
MAPPED_AFTER = 4
"""So many small writes in a row say that there will be more of them: then the end of the file is mapped."""


class AppenderOwner:
    """A log that a store's threads append to: the log's other changes take the appender's lock. Any thread."""

    __slots__ = ("_appender", "_native")

    def __init__(self, appender: Appender, native: NativeLog) -> None:
        self._appender = appender
        self._native = native

    def configure(self, settings: LogSettings) -> None:
        with self._appender:
            self._native.configure(settings)

    def roll(self, now_ms: int) -> None:
        with self._appender:
            self._native.roll(now_ms)

    def truncate(self, offset: int, now_ms: int) -> None:
        with self._appender:
            self._native.truncate(offset, now_ms)

    def truncate_fully(self, offset: int, now_ms: int) -> None:
        with self._appender:
            self._native.truncate_fully(offset, now_ms)

    def set_start(self, offset: int) -> int:
        with self._appender:
            self._native.set_start(offset)
        return self._native.info().log_start_offset

    def delete_segments(self, upto: int) -> int:
        with self._appender:
            return self._native.delete_segments(upto)

    def expire_producers(self, before_ms: int) -> int:
        with self._appender:
            return self._native.expire_producers(before_ms)

    def replace(self, cleaning: NativeCleaning) -> None:
        with self._appender:
            self._native.replace(cleaning.pointer)

    def high_watermark(self) -> int:
        return self._native.info().log_end_offset

    def last_stable_offset(self) -> int:
        info = self._native.info()
        return min(info.log_end_offset, info.last_stable_offset_limit)


def appender_settings(config: LogConfig, leader_epoch: int, *, mapped_tail: bool = False) -> AppenderSettings:
    """What of a topic's settings an append asks for. A topic's compression.type of "producer" means none here."""
    name = config.compression_type
    codec = codec_named("none" if name == PRODUCER else name)
    levels = {
        "gzip": config.compression_gzip_level,
        "lz4": config.compression_lz4_level,
        "zstd": config.compression_zstd_level,
    }
    return AppenderSettings(
        codec=codec,
        level=levels.get(name, INT32_MIN),
        log_append_time=config.log_append_time,
        compacted=config.compact,
        max_message_bytes=config.max_message_bytes,
        leader_epoch=leader_epoch,
        batch_records=BATCH_RECORDS,
        batch_bytes=min(BATCH_BYTES, config.segment_bytes),
        mapped_tail=MAPPED_AFTER if mapped_tail else 0,
    )


class Partition(PartitionReader):
    """One partition, for reading and appending. Got from a Store, which closes it."""

    __slots__ = (
        "_append_record",
        "_appender",
        "_durable",
        "_flush_guard",
        "_leader_epoch",
        "_log",
        "_manager",
        "_mapped_tail",
        "_pointer",
        "_syncs",
        "_why_closed",
    )

    def __init__(
        self, log: Log, manager: LogManager, sys: Sys, durability: Durability, *, mapped_tail: bool = False
    ) -> None:
        self._log = log
        self._manager = manager
        self._syncs = durability == "fsync"
        self._leader_epoch = max(log.info().latest_epoch, 0)
        self._mapped_tail = mapped_tail
        self._appender = Appender(sys, log.native, self._settings())
        self._append_record = self._appender.append_record
        self._pointer = self._appender.pointer
        self._flush_guard = threading.Lock()
        self._durable = 0
        self._why_closed = ""
        log.host(AppenderOwner(self._appender, log.native))
        super().__init__(LocalSource(log, self._appender))

    # ------------------------------------------------------------------------------------------------ appending

    def append(
        self,
        value: BytesLike | None,
        key: BytesLike | None = None,
        *,
        timestamp_ms: int | None = None,
        headers: HeadersLike = (),
        codec: str | None = None,
        durability: Durability | None = None,
    ) -> int:
        """Append one record, as a batch of its own; returns its offset.

        value, key: bytes-like, or None for null. timestamp_ms: ms since 1970; left out, it is now. headers: pairs of a
        str and bytes or None. codec: none, gzip, snappy, lz4 or zstd; the topic's compression.type when left out.
        durability: that of the store when left out.

        Raises RecordTooLargeError, InvalidRecordError, StoreClosedError, StorageFailedError; OSError as the disk says
        it (ENOSPC: nothing was appended, and it works again when there is room).
        """
        if headers or codec is not None:
            record = NewRecord(_as_bytes(value, "value"), _as_bytes(key, "key"), timestamp_ms, as_headers(headers))
            return self.append_many([record], codec=codec, durability=durability)[0]
        try:
            offset: int = self._append_record(
                self._pointer,
                NO_BYTES if value is None else value,
                -1 if value is None else len(value),
                NO_BYTES if key is None else key,
                -1 if key is None else len(key),
                NOW if timestamp_ms is None else timestamp_ms,
            )
        except TypeError:
            as_bytes = _as_bytes(value, "value"), _as_bytes(key, "key")
            if as_bytes[0] is value and as_bytes[1] is key:
                raise  # it was something else
            return self.append(*as_bytes, timestamp_ms=timestamp_ms, durability=durability)
        if offset < 0:
            offset = self._attend(offset)
        if self._syncs if durability is None else durability == "fsync":
            self._flush_to(offset)
        return offset

    def append_many(
        self,
        records: Iterable[NewRecord | bytes | None],
        *,
        codec: str | None = None,
        durability: Durability | None = None,
        producer: Producer | None = None,
    ) -> range:
        """Append records, in batches of up to 1000; returns their offsets. A plain bytes is a record's value.

        When it raises, records of whole batches before the failing one may be in the log; the exception's note says
        how many. Raises as `append` does. producer: a transaction's, which sees to it.
        """
        rows = records if isinstance(records, list) else list(records)
        if not rows:
            end = self.log_end_offset()
            return range(end, end)
        if type(rows[0]) is bytes and (column := joined_column(rows)) is not None:
            return self._append_columns(*column, codec=codec, durability=durability, producer=producer)
        whole = [row if isinstance(row, NewRecord) else NewRecord(row) for row in rows]
        values, keys, timestamps, headers = zip(*whole, strict=True)
        return self.append_columns(
            values,
            keys=None if not any(key is not None for key in keys) else keys,
            timestamps_ms=array("q", [NOW if timestamp is None else timestamp for timestamp in timestamps]),
            headers=headers if any(headers) else None,
            codec=codec,
            durability=durability,
            producer=producer,
        )

    def append_columns(
        self,
        values: object,
        *,
        keys: object = None,
        timestamps_ms: object = None,
        headers: Sequence[HeadersLike] | None = None,
        codec: str | None = None,
        durability: Durability | None = None,
        producer: Producer | None = None,
    ) -> range:
        """Append records given as columns, in batches of up to 1000; returns their offsets.

        values, keys: a list of bytes or None; `Packed(data, offsets)`; a `BytesColumn` that was read; a NumPy array or
        anything else with the buffer protocol (each item, or each row of two dimensions, is a value); an Arrow array of
        binary, string or fixed-size binary. keys None: no record has one.
        timestamps_ms: int64, ms since 1970, one per record or one for all; None: now.
        headers: per record its headers. codec: as for `append`.

        When it raises, records of whole batches before the failing one may be in the log; the exception's note says
        how many. Raises as `append` does, and TypeError, ValueError for columns that do not fit together: then nothing
        was appended, unless offsets in a buffer turn out wrong further on. producer: a transaction's, which sees to it.
        """
        column, count = byte_column(values, "values")
        key_column: ByteColumn = NO_COLUMN
        if keys is not None:
            key_column, keys_count = byte_column(keys, "keys")
            if keys_count != count:
                raise ValueError(f"{keys_count} keys for {count} values")
        times = timestamp_column(timestamps_ms, count)
        encoded = headers_column(headers, count)
        return self._append_columns(
            column,
            count,
            key_column,
            headers=encoded,
            timestamps=times,
            codec=codec,
            durability=durability,
            producer=producer,
        )

    def _append_columns(
        self,
        column: ByteColumn,
        count: int,
        keys: ByteColumn = NO_COLUMN,
        *,
        headers: HeadersColumn = NO_HEADERS,
        timestamps: object = None,
        codec: str | None,
        durability: Durability | None,
        producer: Producer | None,
    ) -> range:
        appended = self._appender.append_columns(
            count,
            column,
            keys,
            headers=headers.column,
            headers_counts=headers.counts,
            timestamps=timestamps,
            codec=-1 if codec is None else codec_named(codec),
            producer=producer,
        )
        self._settle(appended, count)
        if count and (self._syncs if durability is None else durability == "fsync"):
            self._flush_to(appended.end_offset - 1)
        return range(appended.first_offset, appended.end_offset)

    def append_control_batch(self, batch: bytes) -> int:
        """Append the marker of a transaction; returns its offset. For Transaction."""
        try:
            offset = self._appender.append_batch(batch)
        except (KafkaError, OSError) as e:
            self._failed(e)
            raise
        self._look_after()
        return offset

    # ------------------------------------------------------------------------------------------------ what came of it

    def _attend(self, answer: int) -> int:
        """An answer below 0 is a failure, or an offset and something to look after."""
        if answer != -1:
            self._look_after()
            return -answer - 2
        raise self._failure(self._appender.error())

    def _settle(self, appended: Appended, count: int) -> None:
        if appended.attention:
            self._look_after()
        if appended.code:
            failure = self._failure(appended.code)
            done = appended.end_offset - appended.first_offset
            failure.add_note(f"{done} of {count} records were appended, from offset {appended.first_offset} on")
            raise failure

    def _failure(self, code: int) -> Exception:
        failure = append_error(code, str(self._log.partition))
        if isinstance(failure, StoreClosedError) and self._why_closed:
            return StorageFailedError(self._why_closed)
        if isinstance(failure, OSError) and failure.errno == errno.EINVAL:
            return InvalidRecordError("offsets of a column fall, or lie outside its data")
        self._failed(failure)
        return failure

    def _failed(self, failure: Exception) -> None:
        """A disk that fails is not written to any more; one that is full may have room again."""
        full = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
        if isinstance(failure, OSError) and failure.errno not in full:
            self._manager.fail_directory(self._log.directory, failure)

    def _look_after(self) -> None:
        """The log rolled, flush.messages was reached, or a leader epoch began: the maintenance thread sees to it."""
        wanted = self._appender.take_attention()
        if wanted & FLUSH_WANTED:
            self._log.note_rolled()
        elif wanted:
            self._log.note_epoch_started()

    def flush(self) -> None:
        """Make everything appended so far durable. Raises StorageFailedError; then the store's directory is closed."""
        end = self.log_end_offset()
        if end:
            self._flush_to(end - 1)

    def _flush_to(self, offset: int) -> None:
        """Threads that come while one flushes find their records durable when they get their turn."""
        with self._flush_guard:
            if self._durable > offset:
                return
            if not self._manager.flush(self._log) or self._why_closed:
                raise StorageFailedError(self._why_closed or f"{self._log.path}: the log could not be flushed")
            self._durable = self._log.info().recovery_point

    # ------------------------------------------------------------------------------------------------ the rest

    def delete_records(self, before_offset: int) -> int:
        """Let go of the records below before_offset; returns where the log starts now. Files go in the background.

        Raises OFFSET_OUT_OF_RANGE above the log end offset.
        """
        return self._log.set_start(before_offset)

    def _settings(self) -> AppenderSettings:
        return appender_settings(self._log.config, self._leader_epoch, mapped_tail=self._mapped_tail)

    def configure(self) -> None:
        """The topic's settings changed."""
        self._appender.configure(self._settings())

    def release(self, why: str = "") -> None:
        """Give the log back to the store. why: what failed, "": it is closed."""
        self._why_closed = why
        self._source = None
        unhost_all([self._log], self._appender.release)


def _as_bytes(value: object, what: str) -> bytes | None:
    """A value that is not bytes as such; where it cannot be, the caller is told what is wanted."""
    if value is None or type(value) is bytes:
        return value
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{what}: bytes-like or None is wanted, not {type(value).__name__}")
    return bytes(value)

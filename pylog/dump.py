"""What is in the files of a partition, as text: what kafka-dump-log prints, line for line; and whether it is right.

Keeps true: reads only; a damaged file is shown up to its damage and the damage is told as a Problem. Works on any Kafka
directory, messages of formats 0 and 1 included, whether or not a broker is running on it. Besides what Kafka's tool
knows it shows leader-epoch-checkpoint and partition.metadata.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from pylog.compression import Codec
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.leader_epoch import LEADER_EPOCH_FILE, read_leader_epochs
from pylog.old_format import OldBatch, OldMessage
from pylog.partition_metadata import PARTITION_METADATA_FILE, read_partition_metadata
from pylog.producer_snapshot import read_producer_snapshot
from pylog.records import CODEC_MASK, FileBatch, Record, RecordBatch, end_marker, file_batches, sequence_after
from pylog.segment import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    segment_file,
)
from pylog.transaction_index import read_transaction_index
from pylog.typed import TypeAlias
from pylog.types import id_text

_INDEX_ENTRY_BYTES = 8
_TIME_INDEX_ENTRY_BYTES = 12


class Problem(NamedTuple):
    """Something wrong with a file."""

    path: str
    what: str


RecordDecoder: TypeAlias = Callable[[Record], tuple[str | None, str | None]]
"""Key and payload of a record as text; None is not shown."""


class DumpOptions(NamedTuple):
    """kafka-dump-log's options by the same names."""

    deep_iteration: bool = False
    print_data_log: bool = False
    decoder: RecordDecoder | None = None
    """Reads what is in keys and values, in place of plain text; implies print_data_log."""


class Dump:
    """The text of one file, line by line, and what was found wrong with it on the way."""

    __slots__ = ("_options", "path", "problems")

    def __init__(self, path: str, options: DumpOptions | None = None) -> None:
        """path: a .log, .index, .timeindex, .txnindex or .snapshot file, named by its base offset, or one of
        `SIDE_FILES`. ValueError otherwise."""
        self.path = path
        self.problems: list[Problem] = []
        self._options = options or DumpOptions()
        if not is_dumpable(path):
            raise ValueError(f"{path}: neither segment, index nor snapshot, which are named <20 digits>.log and so on")

    @property
    def _base_offset(self) -> int:
        return int(os.path.basename(self.path).partition(".")[0])

    def lines(self) -> Iterator[str]:
        """Every line, as the file is read. `problems` is complete once they are through."""
        yield f"Dumping {self.path}"
        yield from _LINES[_kind(self.path)](self)

    def _problem(self, what: str) -> None:
        self.problems.append(Problem(self.path, what))

    # ---------------------------------------------------------------------------------- .log

    def _log_lines(self) -> Iterator[str]:
        yield f"Log starting offset: {self._base_offset}"
        end = 0
        previous: RecordBatch | None = None
        for position, batch in file_batches(self.path):
            valid = batch.check()
            if not valid:
                self._problem(f"CRC of the batch at position {position} (offset {batch.header.base_offset}) is wrong")
            if previous is not None and batch.header.base_offset <= previous.last_offset:
                self._problem(f"offset {batch.header.base_offset} follows {previous.last_offset}")
            previous = batch
            yield batch_line(position, batch, valid)
            if self._options.deep_iteration or self._options.print_data_log or self._options.decoder:
                yield from self._record_lines(position, batch)
            end = position + batch.header.size_bytes
        rest = os.stat(self.path).st_size - end
        if rest:
            self._problem(f"{rest} bytes at the end are no batch")
            yield f"Found {rest} invalid bytes at the end of {os.path.basename(self.path)}"

    def _record_lines(self, position: int, batch: RecordBatch) -> Iterator[str]:
        """As far as they can be read, when the CRC is wrong too: the batch's line says so."""
        try:
            if isinstance(batch, OldBatch):
                yield from [self._old_message_line(batch, message) for message in batch.messages()]
                return
            for record in batch.records():
                yield record_line(batch, record) + ("" if batch.control else self._data(record))
        except KafkaError as e:
            self._problem(f"records of the batch at position {position}: {e.message}")

    def _old_message_line(self, batch: OldBatch, message: OldMessage) -> str:
        if not message.valid:
            self._problem(f"CRC of the message at offset {message.offset} is wrong")
        record = Record(message.offset, message.timestamp, message.key, message.value)
        return (
            f"| offset: {message.offset} {_time_type(batch)}: {message.timestamp} keySize: {_size(message.key)}"
            f" valueSize: {_size(message.value)} isValid: {_boolean(message.valid)} crc: {message.crc}}}"
        ) + self._data(record)

    def _data(self, record: Record) -> str:
        """Key and payload, as far as they are asked for."""
        if self._options.decoder is not None:
            key, payload = self._options.decoder(record)
        elif self._options.print_data_log:
            key = None if record.key is None else record.key.decode("utf-8", "replace")
            payload = None if record.value is None else record.value.decode("utf-8", "replace")
        else:
            return ""
        return ("" if key is None else f" key: {key}") + ("" if payload is None else f" payload: {payload}")

    # ---------------------------------------------------------------------------------- .index, .timeindex

    def _log_path(self) -> str:
        return os.path.splitext(self.path)[0] + LOG_SUFFIX

    def _index_lines(self) -> Iterator[str]:
        """An index is as long as it was allocated: zeros after the entries are no entries."""
        entries = self._entries(_INDEX_ENTRY_BYTES, 4)
        first = next(entries, None)
        if first is None:
            yield f"{self.path} is empty."
            return
        offsets = {position: batch.last_offset for position, batch in self._batches()}
        if not offsets and not any(first):
            yield f"{self.path} is empty."
            return
        yield self._index_line(first, offsets)
        for entry in entries:
            if entry[0] <= 0:
                return
            yield self._index_line(entry, offsets)

    def _index_line(self, entry: tuple[int, int], offsets: dict[int, int]) -> str:
        relative, position = entry
        offset = self._base_offset + relative
        found = offsets.get(position)
        if found != offset and any(entry):
            self._problem(f"index offset {offset} at position {position}, log offset {found}")
        return f"offset: {offset} position: {position}"

    def _time_index_lines(self) -> Iterator[str]:
        batches = {batch.last_offset: batch for _, batch in self._batches()}
        previous = -1
        for number, (timestamp, relative) in enumerate(self._entries(_TIME_INDEX_ENTRY_BYTES, 8)):
            if number and relative == 0:
                return
            offset = self._base_offset + relative
            self._check_time(timestamp, offset, previous, batches)
            previous = timestamp
            yield f"timestamp: {timestamp} offset: {offset}"

    def _check_time(self, timestamp: int, offset: int, previous: int, batches: dict[int, RecordBatch]) -> None:
        if timestamp == 0 and offset == self._base_offset:
            return
        batch = batches.get(offset)
        if batch is None:
            self._problem(f"indexed offset {offset} ends no batch of the log")
        elif batch.header.max_timestamp != timestamp:
            self._problem(f"index timestamp {timestamp}, log timestamp {batch.header.max_timestamp} at offset {offset}")
        if timestamp <= previous:
            self._problem(f"index timestamp {timestamp} follows {previous}")

    def _batches(self) -> Iterator[FileBatch]:
        log = self._log_path()
        if not os.path.exists(log):
            self._problem("there is no .log beside it")
            return iter(())
        return file_batches(log, headers_only=True)

    def _entries(self, entry_bytes: int, key_bytes: int) -> Iterator[tuple[int, int]]:
        with open(self.path, "rb") as file:
            while entry := file.read(entry_bytes):
                if len(entry) < entry_bytes:
                    self._problem(f"ends in {len(entry)} bytes of an entry of {entry_bytes}")
                    return
                yield (
                    int.from_bytes(entry[:key_bytes], "big", signed=True),
                    int.from_bytes(entry[key_bytes:], "big", signed=True),
                )

    # ---------------------------------------------------------------------------------- .txnindex, .snapshot

    def _transaction_index_lines(self) -> Iterator[str]:
        for entry in read_transaction_index(self.path):
            yield (
                f"version: {entry.version} producerId: {entry.producer_id} firstOffset: {entry.first_offset}"
                f" lastOffset: {entry.last_offset} lastStableOffset: {entry.last_stable_offset}"
            )

    def _snapshot_lines(self) -> Iterator[str]:
        for p in read_producer_snapshot(self.path):
            line = (
                f"producerId: {p.producer_id} producerEpoch: {p.producer_epoch}"
                f" coordinatorEpoch: {p.coordinator_epoch}"
                f" currentTxnFirstOffset: {_optional_long(p.current_txn_first_offset)}"
                f" lastTimestamp: {p.last_timestamp}"
            )
            if p.last_offset >= 0:
                first_sequence = sequence_after(p.last_sequence, -p.offset_delta)
                line += (
                    f" firstSequence: {first_sequence} lastSequence: {p.last_sequence} lastOffset: {p.last_offset}"
                    f" offsetDelta: {p.offset_delta} timestamp: {p.last_timestamp}"
                )
            yield line

    # ---------------------------------------------------------------------------------- leader epochs, topic id

    def _leader_epoch_lines(self) -> Iterator[str]:
        for entry in read_leader_epochs(self.path) or ():
            yield f"epoch: {entry.epoch} startOffset: {entry.start_offset}"

    def _partition_metadata_lines(self) -> Iterator[str]:
        topic_id = read_partition_metadata(self.path)
        if topic_id is not None:
            yield f"topicId: {id_text(topic_id)}"


SIDE_FILES = (LEADER_EPOCH_FILE, PARTITION_METADATA_FILE)
"""Files of a partition that are not named by an offset."""

_LINES = {
    LEADER_EPOCH_FILE: Dump._leader_epoch_lines,
    PARTITION_METADATA_FILE: Dump._partition_metadata_lines,
    LOG_SUFFIX: Dump._log_lines,
    INDEX_SUFFIX: Dump._index_lines,
    TIME_INDEX_SUFFIX: Dump._time_index_lines,
    TRANSACTION_INDEX_SUFFIX: Dump._transaction_index_lines,
    SNAPSHOT_SUFFIX: Dump._snapshot_lines,
}


def is_dumpable(path: str) -> bool:
    """Whether the file's name says that a Dump can read it."""
    name = os.path.basename(path)
    return name in SIDE_FILES or (segment_file(name) is not None and _kind(path) in _LINES)


def _kind(path: str) -> str:
    name = os.path.basename(path)
    return name if name in SIDE_FILES else os.path.splitext(name)[1]


def batch_line(position: int, batch: RecordBatch, valid: bool) -> str:
    """A batch as kafka-dump-log shows it."""
    h = batch.header
    if isinstance(batch, OldBatch):
        return (
            f"offset: {batch.offset} position: {position} {_time_type(batch)}: {h.max_timestamp} size: {h.size_bytes}"
            f" magic: {h.magic} compresscodec: {_codec_name(batch)} crc: {h.crc} isvalid: {_boolean(valid)}"
        )
    horizon = _optional_long(-1 if batch.delete_horizon_ms is None else batch.delete_horizon_ms)
    return (
        f"baseOffset: {h.base_offset} lastOffset: {batch.last_offset} count: {h.records_count}"
        f" baseSequence: {h.base_sequence} lastSequence: {batch.last_sequence}"
        f" producerId: {h.producer_id} producerEpoch: {h.producer_epoch}"
        f" partitionLeaderEpoch: {h.partition_leader_epoch} isTransactional: {_boolean(batch.transactional)}"
        f" isControl: {_boolean(batch.control)} deleteHorizonMs: {horizon} position: {position}"
        f" {_time_type(batch)}: {h.max_timestamp} size: {h.size_bytes} magic: {h.magic}"
        f" compresscodec: {_codec_name(batch)} crc: {h.crc} isvalid: {_boolean(valid)}"
    )


def record_line(batch: RecordBatch, record: Record) -> str:
    """A record as kafka-dump-log shows it, without its data."""
    sequence = sequence_after(batch.header.base_sequence, record.offset - batch.header.base_offset)
    keys = ",".join(header.key for header in record.headers)
    line = (
        f"| offset: {record.offset} {_time_type(batch)}: {record.timestamp} keySize: {_size(record.key)}"
        f" valueSize: {_size(record.value)} sequence: {sequence} headerKeys: [{keys}]"
    )
    marker = end_marker(record) if batch.control else None
    if marker is not None:
        kind = "COMMIT" if marker.committed else "ABORT"
        line += f" endTxnMarker: {kind} coordinatorEpoch: {marker.coordinator_epoch}"
    return line


def _codec_name(batch: RecordBatch) -> str:
    """A number when no codec has it: what is damaged is shown too."""
    number = batch.header.attributes & CODEC_MASK
    return Codec(number).kafka_name if number <= Codec.ZSTD else str(number)


def _time_type(batch: RecordBatch) -> str:
    if batch.header.magic == 0:
        return "NoTimestampType"
    return "LogAppendTime" if batch.log_append_time else "CreateTime"


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _optional_long(value: int) -> str:
    """As Java prints an OptionalLong; -1 is the empty one."""
    return "OptionalLong.empty" if value == -1 else f"OptionalLong[{value}]"


def _size(data: bytes | None) -> int:
    return -1 if data is None else len(data)

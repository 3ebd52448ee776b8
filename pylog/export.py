"""Records of partitions as JSON lines, CSV or Parquet.

Keeps true: every record is written as it is: in text, a key or value that is not UTF-8 becomes {"base64": "..."}; null
and empty stay apart (in CSV null is an empty field, and everything else is in quotes); JSON lines are what
`pylog produce --json` reads. A file appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol

from pylog.batch_walk import BatchWalk
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.files import TEMPORARY_SUFFIX
from pylog.finding import Finding
from pylog.partition_files import PartitionFiles, log_start_offset
from pylog.records import Header, Record

if TYPE_CHECKING:
    import pyarrow

FORMATS = ("jsonl", "csv", "parquet")
_COLUMNS = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")
_ROW_GROUP_RECORDS = 1 << 16


class Range(NamedTuple):
    """Which records: offsets and times (ms) from the first on, up to and without the second; None: no limit."""

    from_offset: int | None = None
    to_offset: int | None = None
    from_time: int | None = None
    to_time: int | None = None


class RecordSink(Protocol):
    """Where records go."""

    def write(self, topic: str, partition: int, records: Sequence[Record]) -> None: ...
    def close(self) -> None:
        """Everything has been written."""


class JsonLines:
    """A line of JSON for each record."""

    __slots__ = ("_out",)

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        self._out.write(b"".join([self._line(topic, partition, record) for record in records]))

    @staticmethod
    def _line(topic: str, partition: int, record: Record) -> bytes:
        fields: dict[str, object] = {
            "topic": topic,
            "partition": partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": _text(record.key),
            "value": _text(record.value),
        }
        if record.headers:
            fields["headers"] = _headers(record.headers)
        return _json(fields) + b"\n"

    def close(self) -> None:
        self._out.flush()


class CommaSeparated:
    """RFC 4180 with a line of names in front."""

    __slots__ = ("_out",)

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._out.write(",".join(_COLUMNS).encode() + b"\r\n")

    def write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        where = b'"%s",%d,' % (topic.encode(), partition)
        lines = [
            b"%s%d,%d,%s,%s,%s\r\n"
            % (
                where,
                record.offset,
                record.timestamp,
                _quoted(record.key),
                _quoted(record.value),
                _quoted(_json(_headers(record.headers))) if record.headers else b"",
            )
            for record in records
        ]
        self._out.write(b"".join(lines))

    def close(self) -> None:
        self._out.flush()


class Parquet:
    """A Parquet file: key, value and header values as binary, timestamps in ms of UTC."""

    __slots__ = ("_rows", "_schema", "_waiting", "_writer")

    def __init__(self, path: str) -> None:
        """Raises ImportError without pyarrow."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        header = pa.struct([("key", pa.string()), ("value", pa.binary())])
        kinds = (
            pa.string(),
            pa.int32(),
            pa.int64(),
            pa.timestamp("ms", "UTC"),
            pa.binary(),
            pa.binary(),
            pa.list_(header),
        )
        self._schema: pyarrow.Schema = pa.schema(list(zip(_COLUMNS, kinds, strict=True)))
        self._writer: pq.ParquetWriter = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[tuple[str, int, Sequence[Record]]] = []
        self._rows = 0

    def write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        self._waiting.append((topic, partition, records))
        self._rows += len(records)
        if self._rows >= _ROW_GROUP_RECORDS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        columns: list[list[object]] = [[] for _ in _COLUMNS]
        for topic, partition, records in self._waiting:
            columns[0] += [topic] * len(records)
            columns[1] += [partition] * len(records)
            columns[2] += [record.offset for record in records]
            columns[3] += [None if record.timestamp < 0 else record.timestamp for record in records]
            columns[4] += [record.key for record in records]
            columns[5] += [record.value for record in records]
            columns[6] += [[{"key": _valid(h.key), "value": h.value} for h in record.headers] for record in records]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._waiting, self._rows = [], 0

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()


def _text(data: bytes | None) -> str | dict[str, str] | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}


def _headers(headers: Sequence[Header]) -> list[list[object]]:
    return [[name, _text(value)] for name, value in headers]


def _json(value: object) -> bytes:
    # A byte of a header's name that is not UTF-8 is a lone surrogate here, and becomes JSON's escape for it.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _quoted(data: bytes | None) -> bytes:
    if data is None:
        return b""
    text = _text(data)
    plain = data if isinstance(text, str) else _json(text)
    return b'"' + plain.replace(b'"', b'""') + b'"'


def _valid(name: str) -> str:
    """A header's name as Unicode: what is not UTF-8 in it is shown as U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class Export:
    """One export of some partitions into one sink."""

    __slots__ = ("_range", "_sink", "damage", "records")

    def __init__(self, sink: RecordSink, wanted: Range) -> None:
        self._sink = sink
        self._range = wanted
        self.records = 0
        self.damage: list[Finding] = []
        """What had to be left out."""

    def partition(self, files: PartitionFiles, progress: Callable[[int], None] | None = None) -> None:
        """Write the records of a partition. Raises OSError, ValueError for a directory that is no partition's."""
        partition = files.partition
        if partition is None:
            raise ValueError(f"{files.path} is not named <topic>-<number>")
        begin = max(log_start_offset(files), self._range.from_offset or 0)
        walk = BatchWalk(files, from_offset=begin, from_time=self._range.from_time, progress=progress)
        for batch in walk.batches():
            if self._range.to_offset is not None and batch.header.base_offset >= self._range.to_offset:
                break
            if batch.control:
                continue
            try:
                records = [record for record in batch.records() if self._wants(record, begin)]
            except KafkaError as error:
                first, last = batch.header.base_offset, batch.last_offset
                self.damage.append(Finding(files.path, f"records cannot be read: {error.message}", None, first, last))
                continue
            if records:
                self._sink.write(partition.topic, partition.partition, records)
                self.records += len(records)
        self.damage += walk.damage

    def _wants(self, record: Record, begin: int) -> bool:
        _, to_offset, from_time, to_time = self._range
        return (
            record.offset >= begin
            and (to_offset is None or record.offset < to_offset)
            and (from_time is None or record.timestamp >= from_time)
            and (to_time is None or record.timestamp < to_time)
        )


@contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Yields the name to write to; afterwards the file takes its own. When the writer fails nothing is left."""
    aside = path + TEMPORARY_SUFFIX
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        if os.path.exists(aside):
            os.unlink(aside)
        raise

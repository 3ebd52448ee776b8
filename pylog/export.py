"""Records of partitions as JSON lines, CSV or Parquet.

Keeps true: every record is written as it is: in text, a key or value that is not UTF-8 becomes {"base64": "..."}; null
and empty stay apart (in CSV null is an empty field, and everything else is in quotes); JSON lines are what
`pylog produce --json` reads. A file appears under its name only when it is complete.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from json.encoder import encode_basestring
from typing import IO, TYPE_CHECKING, Protocol

from pylog.batch_walk import BatchWalk
from pylog.facts import NamedTuple
from pylog.files import TEMPORARY_SUFFIX
from pylog.finding import Finding
from pylog.partition_files import PartitionFiles, log_start_offset
from pylog.record import Record, records_of
from pylog.records import Header

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
        where = f'{{"topic":{encode_basestring(topic)},"partition":{partition},"offset":'
        lines = [
            f'{where}{offset},"timestamp":{timestamp},"key":{_text(key)},"value":{_text(value)}'
            + (f',"headers":{_headers(headers)}}}\n' if headers else "}\n")
            for offset, timestamp, key, value, headers in records
        ]
        # A byte of a header's name that is not UTF-8 is a lone surrogate here, and becomes JSON's escape for it.
        self._out.write("".join(lines).encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        self._out.flush()


class CommaSeparated:
    """RFC 4180 with a line of names in front."""

    __slots__ = ("_out",)

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._out.write(",".join(_COLUMNS).encode() + b"\r\n")

    def write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        where = f'"{topic}",{partition},'
        lines = [
            f"{where}{offset},{timestamp},{_quoted(key)},{_quoted(value)},"
            + (_in_quotes(_headers(headers)) if headers else "")
            + "\r\n"
            for offset, timestamp, key, value, headers in records
        ]
        self._out.write("".join(lines).encode("utf-8", "backslashreplace"))

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
            columns[3] += [None if record.timestamp_ms < 0 else record.timestamp_ms for record in records]
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


def _text(data: bytes | None) -> str:
    """As JSON."""
    if data is None:
        return "null"
    try:
        return encode_basestring(data.decode())
    except UnicodeDecodeError:
        return f'{{"base64":"{b64encode(data).decode()}"}}'


def _headers(headers: Sequence[Header]) -> str:
    return "[" + ",".join([f"[{encode_basestring(name)},{_text(value)}]" for name, value in headers]) + "]"


def _quoted(data: bytes | None) -> str:
    """As a field of CSV."""
    if data is None:
        return ""
    try:
        return _in_quotes(data.decode())
    except UnicodeDecodeError:
        return _in_quotes(_text(data))


def _in_quotes(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _valid(name: str) -> str:
    """A header's name as Unicode: what is not UTF-8 in it is shown as U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class Export:
    """One export of some partitions into one sink."""

    __slots__ = ("_filtered", "_range", "_sink", "damage", "records")

    def __init__(self, sink: RecordSink, wanted: Range) -> None:
        self._sink = sink
        self._range = wanted
        self._filtered = any(limit is not None for limit in wanted[1:])
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
        for span in walk.spans():
            if self._range.to_offset is not None and span.rows["base_offset"][0] >= self._range.to_offset:
                break
            for decoded in walk.records(span):
                records = list(records_of(decoded))
                if self._filtered:
                    records = [record for record in records if self._wants(record)]
                if records:
                    self._sink.write(partition.topic, partition.partition, records)
                    self.records += len(records)
        self.damage += walk.damage

    def _wants(self, record: Record) -> bool:
        _, to_offset, from_time, to_time = self._range
        return (
            (to_offset is None or record.offset < to_offset)
            and (from_time is None or record.timestamp_ms >= from_time)
            and (to_time is None or record.timestamp_ms < to_time)
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

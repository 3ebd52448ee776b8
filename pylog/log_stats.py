"""Statistics of a partition's records: how many, how large, how compressed, when.

Keeps true: every record of every undamaged batch is counted, control batches apart; sizes in the histogram are exact up
to `EXACT_BYTES` and within 1/64 above, so memory does not grow with the log.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pylog._columns import Decoded
from pylog.batch_table import Int64s
from pylog.batch_walk import BatchWalk, Span
from pylog.columns import Columns
from pylog.compression import LARGEST_BATCH_BYTES, Codec, decompress
from pylog.facts import NamedTuple
from pylog.finding import Finding
from pylog.old_format import old_batch
from pylog.partition_files import PartitionFiles
from pylog.records import BATCH_OVERHEAD_BYTES, CODEC_MASK, CONTROL, TRANSACTIONAL

EXACT_BYTES = 128
_STEPS = 64
"""Per doubling of the size, above EXACT_BYTES."""

NO_TIME = -1


class Histogram:
    """Counts of sizes, for percentiles."""

    __slots__ = ("_counts", "count", "largest", "smallest", "total")

    def __init__(self) -> None:
        self._counts = np.zeros(EXACT_BYTES + _STEPS * 64, np.int64)
        self.count = 0
        self.total = 0
        self.smallest = 0
        self.largest = 0

    def add(self, sizes: Int64s) -> None:
        """Sizes of 0 to 2^53."""
        if not len(sizes):
            return
        self._counts += np.bincount(_buckets(sizes), minlength=len(self._counts))
        smallest = int(sizes.min())
        self.smallest = min(self.smallest, smallest) if self.count else smallest
        self.largest = max(self.largest, int(sizes.max()))
        self.count += len(sizes)
        self.total += int(sizes.sum())

    def percentile(self, percent: float) -> int:
        """A size that so many of them do not exceed; 0 when there is none."""
        bucket = int(np.searchsorted(np.cumsum(self._counts), self.count * percent / 100))
        return min(_largest_in(bucket), self.largest)


def _buckets(sizes: Int64s) -> npt.NDArray[np.int64]:
    _, bit_lengths = np.frexp(sizes.astype(np.float64))
    shifts = np.maximum(bit_lengths.astype(np.int64) - _STEPS.bit_length(), 1)
    found: npt.NDArray[np.int64] = np.where(
        sizes < EXACT_BYTES, sizes, EXACT_BYTES + (shifts - 1) * _STEPS + (sizes >> shifts) - _STEPS
    )
    return found


def _largest_in(bucket: int) -> int:
    if bucket < EXACT_BYTES:
        return bucket
    shift, step = divmod(bucket - EXACT_BYTES, _STEPS)
    return ((step + _STEPS + 1) << (shift + 1)) - 1


class CodecStats(NamedTuple):
    """Batches of one codec. Bytes are those of their records, stored and unpacked."""

    batches: int
    records: int
    stored_bytes: int
    unpacked_bytes: int

    @property
    def ratio(self) -> float:
        """How many times smaller they are stored."""
        return self.unpacked_bytes / self.stored_bytes if self.stored_bytes else 1.0


class LogStats:
    """What was counted."""

    __slots__ = (
        "batch_bytes",
        "codecs",
        "control_batches",
        "damage",
        "first_timestamp",
        "headers",
        "key_bytes",
        "last_timestamp",
        "null_keys",
        "null_values",
        "record_bytes",
        "transactional_batches",
        "value_bytes",
    )

    def __init__(self) -> None:
        self.batch_bytes = Histogram()
        """Whole batches as they are stored, control batches apart."""
        self.record_bytes = Histogram()
        """Key and value together."""
        self.codecs: dict[str, CodecStats] = {}
        self.control_batches = 0
        self.transactional_batches = 0
        self.key_bytes = 0
        self.value_bytes = 0
        self.null_keys = 0
        self.null_values = 0
        self.headers = 0
        self.first_timestamp = NO_TIME
        """The smallest."""
        self.last_timestamp = NO_TIME
        """The largest."""
        self.damage: list[Finding] = []

    @property
    def records(self) -> int:
        return self.record_bytes.count

    @property
    def seconds(self) -> float:
        """Between the smallest and the largest timestamp."""
        return (self.last_timestamp - self.first_timestamp) / 1000

    def take_batches(self, span: Span) -> None:
        """Count the batches of a span."""
        attributes = span.rows["attributes"]
        control = ((attributes & CONTROL) != 0) & (span.rows["magic"] >= 2)
        self.control_batches += int(control.sum())
        rows = np.flatnonzero(~control)
        self.batch_bytes.add(span.rows["size_bytes"][rows].astype(np.int64))
        self.transactional_batches += int(((attributes[rows] & TRANSACTIONAL) != 0).sum())
        codecs = attributes[rows] & CODEC_MASK
        for number in np.unique(codecs).tolist():
            self._take_codec(span, number, rows[codecs == number])

    def _take_codec(self, span: Span, number: int, rows: npt.NDArray[np.intp]) -> None:
        name = Codec(number).kafka_name if number <= Codec.ZSTD else str(number)
        old = bool(span.rows["magic"][0] < 2)
        stored = int(span.rows["size_bytes"][rows].sum()) - (0 if old else BATCH_OVERHEAD_BYTES * len(rows))
        unpacked = stored
        if number != Codec.NONE and number <= Codec.ZSTD:
            unpack = _old_unpacked_bytes if old else _unpacked_bytes
            unpacked = sum(unpack(Codec(number), span.batch(row)) for row in rows.tolist())
        records = int(span.rows["records_count"][rows].sum())
        before = self.codecs.get(name, CodecStats(0, 0, 0, 0))
        self.codecs[name] = CodecStats(
            before.batches + len(rows),
            before.records + records,
            before.stored_bytes + stored,
            before.unpacked_bytes + unpacked,
        )

    def take_records(self, decoded: Decoded) -> None:
        """Count records."""
        columns = Columns(decoded, decoded.next_offset)
        key, value = columns.key, columns.value
        key_sizes, value_sizes = np.diff(key.offsets), np.diff(value.offsets)
        self.null_keys += 0 if key.null is None else int(key.null.sum())
        self.null_values += 0 if value.null is None else int(value.null.sum())
        self.key_bytes += int(key_sizes.sum())
        self.value_bytes += int(value_sizes.sum())
        self.record_bytes.add(key_sizes + value_sizes)
        if columns.has_headers:
            self.headers += sum(decoded.headers_counts())
        times = columns.timestamp_ms
        times = times[times >= 0]
        if len(times):
            smallest = int(times.min())
            self.first_timestamp = smallest if self.first_timestamp < 0 else min(self.first_timestamp, smallest)
            self.last_timestamp = max(self.last_timestamp, int(times.max()))


def _unpacked_bytes(codec: Codec, batch: memoryview) -> int:
    records = bytes(batch[BATCH_OVERHEAD_BYTES:])
    return len(decompress(codec, records, LARGEST_BATCH_BYTES)) if records else 0


def _old_unpacked_bytes(codec: Codec, message: memoryview) -> int:
    """Of the messages in a compressed one."""
    overhead = 26 if message[16] == 0 else 34
    return sum(overhead + len(one.key or b"") + len(one.value or b"") for one in old_batch(message).messages())


def log_stats(files: PartitionFiles, progress: Callable[[int], None] | None = None) -> LogStats:
    """Count everything in a partition. Raises OSError, KafkaError when a codec's library is missing."""
    stats = LogStats()
    walk = BatchWalk(files, progress=progress)
    for span in walk.spans():
        readable = len(walk.damage)
        for decoded in walk.records(span):
            stats.take_records(decoded)
        if len(walk.damage) == readable:
            stats.take_batches(span)
    stats.damage = walk.damage
    return stats

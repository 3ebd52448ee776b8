"""Statistics of a partition's records: how many, how large, how compressed, when.

Keeps true: every record of every undamaged batch is counted, control batches apart; sizes in the histogram are exact up
to `EXACT_BYTES` and within 1/64 above, so memory does not grow with the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pylog.batch_walk import BatchWalk
from pylog.compression import LARGEST_BATCH_BYTES, Codec, decompress
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.finding import Finding
from pylog.old_format import OldBatch
from pylog.partition_files import PartitionFiles
from pylog.records import BATCH_OVERHEAD_BYTES, RecordBatch

EXACT_BYTES = 128
_STEPS = 64
"""Per doubling of the size, above EXACT_BYTES."""

NO_TIME = -1


class Histogram:
    """Counts of sizes, for percentiles."""

    __slots__ = ("_counts", "count", "largest", "smallest", "total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.smallest = 0
        self.largest = 0

    def add(self, size: int) -> None:
        bucket = _bucket(size)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.smallest = size if not self.count else min(self.smallest, size)
        self.largest = max(self.largest, size)
        self.count += 1
        self.total += size

    def percentile(self, percent: float) -> int:
        """A size that so many of them do not exceed; 0 when there is none."""
        left = self.count * percent / 100
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                return min(_largest_in(bucket), self.largest)
        return self.largest


def _bucket(size: int) -> int:
    if size < EXACT_BYTES:
        return size
    shift = size.bit_length() - _STEPS.bit_length()
    return EXACT_BYTES + (shift - 1) * _STEPS + (size >> shift) - _STEPS


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

    def _take_times(self, times: Iterable[int]) -> None:
        known = [time for time in times if time >= 0]
        if known:
            smallest = min(known)
            if self.first_timestamp == NO_TIME or smallest < self.first_timestamp:
                self.first_timestamp = smallest
            self.last_timestamp = max(self.last_timestamp, *known)

    def take(self, batch: RecordBatch) -> None:
        """Count a batch. Raises KafkaError when its records cannot be read."""
        if batch.control:
            self.control_batches += 1
            return
        records = batch.records()
        for record in records:
            key, value = record.key, record.value
            key_bytes = 0 if key is None else len(key)
            value_bytes = 0 if value is None else len(value)
            self.null_keys += key is None
            self.null_values += value is None
            self.key_bytes += key_bytes
            self.value_bytes += value_bytes
            self.headers += len(record.headers)
            self.record_bytes.add(key_bytes + value_bytes)
        self._take_times(record.timestamp for record in records)
        self.batch_bytes.add(batch.header.size_bytes)
        self.transactional_batches += batch.transactional
        stored, unpacked = _records_bytes(batch)
        name = batch.codec.kafka_name
        before = self.codecs.get(name, CodecStats(0, 0, 0, 0))
        self.codecs[name] = CodecStats(
            before.batches + 1,
            before.records + len(records),
            before.stored_bytes + stored,
            before.unpacked_bytes + unpacked,
        )


def _records_bytes(batch: RecordBatch) -> tuple[int, int]:
    """What its records take, stored and unpacked."""
    if isinstance(batch, OldBatch):
        stored = batch.header.size_bytes
        if batch.codec == Codec.NONE:
            return stored, stored
        overhead = 26 if batch.header.magic == 0 else 34
        return stored, sum(overhead + len(m.key or b"") + len(m.value or b"") for m in batch.messages())
    stored = batch.header.size_bytes - BATCH_OVERHEAD_BYTES
    if batch.codec == Codec.NONE or not batch.header.records_count:
        return stored, stored
    return stored, len(decompress(batch.codec, bytes(batch.data[BATCH_OVERHEAD_BYTES:]), LARGEST_BATCH_BYTES))


def log_stats(files: PartitionFiles, progress: Callable[[int], None] | None = None) -> LogStats:
    """Count everything in a partition. Raises OSError."""
    stats = LogStats()
    walk = BatchWalk(files, progress=progress)
    for batch in walk.batches():
        try:
            stats.take(batch)
        except KafkaError as error:
            first, last = batch.header.base_offset, batch.last_offset
            stats.damage.append(Finding(files.path, f"records cannot be read: {error.message}", None, first, last))
    stats.damage += walk.damage
    return stats

"""Which segments of a log may go: by age, by size, by log start offset. Pure.

Keeps true: segments go from the oldest on without a gap; nothing at or above the high watermark goes; an empty active
segment stays. Where even the active segment may go, the caller first rolls, so a log always has one to append to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pylog.facts import NamedTuple
from pylog.typed import Protocol


class RetainedSegment(Protocol):
    """What is looked at of a segment; sizes in bytes, times in ms."""

    @property
    def base_offset(self) -> int: ...
    @property
    def next_offset(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def max_timestamp(self) -> int: ...
    @property
    def last_modified_ms(self) -> int: ...


class Deletion(NamedTuple):
    """The first segment_count segments may go; the log then starts at or above start_offset."""

    segment_count: int
    start_offset: int
    roll_first: bool
    """The active segment is among them."""
    reason: str


class Limits(NamedTuple):
    """retention.ms and retention.bytes, -1 for none, and whether cleanup.policy holds `delete`."""

    retention_ms: int
    retention_bytes: int
    delete: bool


def segments_to_delete(
    segments: Sequence[RetainedSegment], limits: Limits, *, log_start: int, high_watermark: int, now_ms: int
) -> Deletion | None:
    """What may go now, None when nothing may. A log that is only compacted loses only what its start offset has
    passed."""
    ends = [segment.base_offset for segment in segments[1:]] + [segment.next_offset for segment in segments[-1:]]
    best: Deletion | None = None
    for reason, condemned in _rules(limits, sum(s.size_bytes for s in segments), log_start, now_ms):
        count = _count_from_oldest(segments, ends, high_watermark, condemned)
        if count and (best is None or count > best.segment_count):
            best = Deletion(count, ends[count - 1], count == len(segments), reason)
    return best


# Told a segment and where it ends, asked in order from the oldest on until it says no.
_Rule = Callable[[RetainedSegment, int], bool]


def _rules(limits: Limits, size_bytes: int, log_start: int, now_ms: int) -> list[tuple[str, _Rule]]:
    rules: list[tuple[str, _Rule]] = [("log start offset", lambda segment, end: end <= log_start)]
    if limits.delete and limits.retention_bytes >= 0:
        rules.append(("retention.bytes", _surplus(size_bytes - limits.retention_bytes)))
    if limits.delete and limits.retention_ms >= 0:
        oldest_kept_ms = now_ms - limits.retention_ms
        rules.append(("retention.ms", lambda segment, end: _largest_timestamp(segment) < oldest_kept_ms))
    return rules


def _surplus(surplus_bytes: int) -> _Rule:
    """Condemns a segment while the log stays at or above its limit without it."""
    left = surplus_bytes

    def condemned(segment: RetainedSegment, end: int) -> bool:
        nonlocal left
        if left < segment.size_bytes:
            return False
        left -= segment.size_bytes
        return True

    return condemned


def _largest_timestamp(segment: RetainedSegment) -> int:
    """Of its records; of its file where it has none."""
    return segment.max_timestamp if segment.max_timestamp >= 0 else segment.last_modified_ms


def _count_from_oldest(
    segments: Sequence[RetainedSegment], ends: Sequence[int], high_watermark: int, condemned: _Rule
) -> int:
    for index, (segment, end) in enumerate(zip(segments, ends, strict=True)):
        empty_active = index == len(segments) - 1 and segment.size_bytes == 0
        if end > high_watermark or empty_active or not condemned(segment, end):
            return index
    return len(segments)

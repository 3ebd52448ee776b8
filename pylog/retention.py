"""Which segments of a log may go: by age, by size, by log start offset. Pure.

Keeps true: segments go from the oldest on without a gap; nothing at or above the high watermark goes; an empty active
segment stays. Where even the active segment may go, the caller first rolls, so a log always has one to append to.
"""

from __future__ import annotations

from bisect import bisect_right
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
    passed.

    One rule after the other, each from where the one before left off: a segment that is too young to go by its age
    protects those behind it, until it goes for another reason.
    """
    ends = [segment.base_offset for segment in segments[1:]] + [segment.next_offset for segment in segments[-1:]]
    may_go = _count_committed(segments, ends, high_watermark)
    gone, reasons = 0, []
    for reason, rule in _rules(limits, log_start, now_ms):
        count = rule(segments, ends, gone, may_go)
        if count > gone:
            gone = count
            reasons.append(reason)
    return Deletion(gone, ends[gone - 1], gone == len(segments), ", ".join(reasons)) if gone else None


def _count_committed(segments: Sequence[RetainedSegment], ends: Sequence[int], high_watermark: int) -> int:
    """How many from the oldest on are below the high watermark, without an active one that is empty."""
    committed = bisect_right(ends, high_watermark)
    return committed - 1 if committed == len(segments) and segments[-1].size_bytes == 0 else committed


# Told the segments, where each ends, how many are gone and how many may go: how many are gone then.
_Rule = Callable[[Sequence[RetainedSegment], Sequence[int], int, int], int]


def _rules(limits: Limits, log_start: int, now_ms: int) -> list[tuple[str, _Rule]]:
    """In Kafka's order."""

    def by_start(segments: Sequence[RetainedSegment], ends: Sequence[int], gone: int, may_go: int) -> int:
        """The active segment stays, even if the log starts at its end."""
        closed = min(may_go, len(segments) - 1)
        while gone < closed and ends[gone] <= log_start:
            gone += 1
        return gone

    def by_size(segments: Sequence[RetainedSegment], ends: Sequence[int], gone: int, may_go: int) -> int:
        surplus_bytes = sum(segment.size_bytes for segment in segments[gone:]) - limits.retention_bytes
        while gone < may_go and surplus_bytes >= segments[gone].size_bytes:
            surplus_bytes -= segments[gone].size_bytes
            gone += 1
        return gone

    def by_time(segments: Sequence[RetainedSegment], ends: Sequence[int], gone: int, may_go: int) -> int:
        oldest_kept_ms = now_ms - limits.retention_ms
        while gone < may_go and _largest_timestamp(segments[gone]) < oldest_kept_ms:
            gone += 1
        return gone

    rules: list[tuple[str, _Rule]] = [("log start offset", by_start)]
    if limits.delete and limits.retention_bytes >= 0:
        rules.append(("retention.bytes", by_size))
    if limits.delete and limits.retention_ms >= 0:
        rules.append(("retention.ms", by_time))
    return rules


def _largest_timestamp(segment: RetainedSegment) -> int:
    """Of its records; of its file where it has none."""
    return segment.max_timestamp if segment.max_timestamp >= 0 else segment.last_modified_ms

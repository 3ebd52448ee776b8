"""Which part of a log compaction may work on, how much it needs it, and which segments become one. Pure.

Keeps true (Kafka's rules): a log is clean below its first dirty offset, dirty up to the first segment that may not be
cleaned yet, and not looked at from there on: that is the active segment, the one that holds the last stable offset, or
the first with a record younger than min.compaction.lag.ms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pylog.facts import NamedTuple
from pylog.typed import Protocol

_MAX_RELATIVE_OFFSET = (1 << 31) - 1


class CleanableSegment(Protocol):
    """What is looked at of a segment; sizes in bytes, times in ms."""

    @property
    def base_offset(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def index_bytes(self) -> int: ...
    @property
    def timeindex_bytes(self) -> int: ...
    @property
    def max_timestamp(self) -> int: ...


class DirtySection(NamedTuple):
    """The part of a log whose keys may make others obsolete."""

    first_dirty: int
    upto: int
    """The base offset of the first segment that may not be cleaned; not above first_dirty when nothing can be."""
    clean_bytes: int
    cleanable_bytes: int
    reset: bool
    """The checkpoint says something that cannot be: all of the log counts as dirty, and it should say so."""

    @property
    def ratio(self) -> float:
        """The share of the dirty section, by which logs are chosen; 0 for an empty log."""
        total = self.clean_bytes + self.cleanable_bytes
        return self.cleanable_bytes / total if total else 0.0


def dirty_section(
    segments: Sequence[CleanableSegment],
    *,
    checkpoint: int | None,
    log_start: int,
    log_end: int,
    last_stable: int,
    min_lag_ms: int,
    now_ms: int,
) -> DirtySection:
    """Where a log is dirty. segments: all of them, the active one last. checkpoint: the first dirty offset after the
    last cleaning, None before the first one."""
    first_dirty = log_start if checkpoint is None else checkpoint
    reset = not log_start <= first_dirty <= log_end
    if reset:
        first_dirty = log_start
    active = segments[-1].base_offset
    bases = [segment.base_offset for segment in segments]
    limit = min(last_stable, active)
    if min_lag_ms > 0:
        begin = _holding(bases, first_dirty)
        for segment in segments[begin:-1]:
            if segment.max_timestamp > now_ms - min_lag_ms:
                limit = min(limit, segment.base_offset)
                break
    upto = bases[_holding(bases, max(first_dirty, limit))]
    from_base = bases[_holding(bases, min(first_dirty, upto))]
    return DirtySection(
        first_dirty,
        upto,
        sum(segment.size_bytes for segment in segments if segment.base_offset < first_dirty),
        sum(segment.size_bytes for segment in segments if from_base <= segment.base_offset < upto),
        reset,
    )


def _holding(bases: Sequence[int], offset: int) -> int:
    """The index of the segment that offset falls into; the first one's when it is below all."""
    index = len(bases) - 1
    while index > 0 and bases[index] > offset:
        index -= 1
    return index


def overdue(
    segments: Sequence[CleanableSegment],
    section: DirtySection,
    *,
    max_lag_ms: int,
    now_ms: int,
    first_timestamp: Callable[[int], int | None],
) -> bool:
    """A closed dirty segment is older than max.compaction.lag.ms allows: whatever the ratio, it is to be cleaned.

    first_timestamp: of the first batch of the segment with a base offset, None when it has none.
    """
    until_ms = now_ms - max_lag_ms
    if until_ms <= 0:
        return False
    bases = [segment.base_offset for segment in segments]
    for segment in segments[_holding(bases, section.first_dirty) : -1]:
        timestamp = first_timestamp(segment.base_offset)
        if timestamp is not None and 0 < timestamp < until_ms:
            return True
    return False


def group_segments(
    segments: Sequence[CleanableSegment], *, segment_bytes: int, index_bytes: int, upto: int
) -> list[list[CleanableSegment]]:
    """Neighbours that fit in one segment together, by the size of their logs and indexes and by the range of offsets.

    segments: those to be cleaned, oldest first; upto: where the last of them ends at most.
    """
    groups: list[list[CleanableSegment]] = []
    log = index = time_index = 0
    for position, segment in enumerate(segments):
        after = segments[position + 1].base_offset if position + 1 < len(segments) else upto
        fits = (
            position > 0
            and log + segment.size_bytes <= segment_bytes
            and index + segment.index_bytes <= index_bytes
            and time_index + segment.timeindex_bytes <= index_bytes
            and (segment.size_bytes == 0 or after - 1 - groups[-1][0].base_offset <= _MAX_RELATIVE_OFFSET)
        )
        if fits:
            groups[-1].append(segment)
            log += segment.size_bytes
            index += segment.index_bytes
            time_index += segment.timeindex_bytes
        else:
            groups.append([segment])
            log, index, time_index = segment.size_bytes, segment.index_bytes, segment.timeindex_bytes
    return groups

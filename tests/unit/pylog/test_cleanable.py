"""Which part of a log may be compacted, how dirty it is, and which segments become one."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from pylog.cleanable import DirtySection, dirty_section, group_segments, overdue

NOW = 1_000_000


class Segment(NamedTuple):
    base_offset: int
    size_bytes: int = 100
    index_bytes: int = 8
    timeindex_bytes: int = 12
    max_timestamp: int = 0


SEGMENTS = [Segment(0), Segment(10), Segment(20), Segment(30)]


def section(
    segments: Sequence[Segment] = SEGMENTS,
    *,
    checkpoint: int | None = None,
    log_start: int = 0,
    log_end: int = 40,
    last_stable: int = 40,
    min_lag_ms: int = 0,
) -> DirtySection:
    return dirty_section(
        segments,
        checkpoint=checkpoint,
        log_start=log_start,
        log_end=log_end,
        last_stable=last_stable,
        min_lag_ms=min_lag_ms,
        now_ms=NOW,
    )


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, DirtySection(0, 30, 0, 300, False)),
        ({"checkpoint": 10}, DirtySection(10, 30, 100, 200, False)),
        ({"checkpoint": 30}, DirtySection(30, 30, 300, 0, False)),
        # in the middle of a segment, as after a map that was full: that segment is clean and dirty
        ({"checkpoint": 15}, DirtySection(15, 30, 200, 200, False)),
        # the segment with the last stable offset, or the high watermark, is not touched
        ({"last_stable": 25}, DirtySection(0, 20, 0, 200, False)),
        ({"last_stable": 5}, DirtySection(0, 0, 0, 0, False)),
        ({"checkpoint": 20, "last_stable": 5}, DirtySection(20, 20, 200, 0, False)),
        # a checkpoint that cannot be
        ({"checkpoint": 41}, DirtySection(0, 30, 0, 300, True)),
        ({"checkpoint": 5, "log_start": 10}, DirtySection(10, 30, 100, 200, True)),
    ],
)
def test_the_dirty_section(asked: dict[str, int], expected: DirtySection) -> None:
    assert section(SEGMENTS, **asked) == expected


def test_the_ratio_is_the_share_of_the_dirty_bytes() -> None:
    assert section(checkpoint=10).ratio == 200 / 300
    assert DirtySection(0, 0, 0, 0, False).ratio == 0


def test_young_segments_are_left_alone() -> None:
    segments = [Segment(0, max_timestamp=10), Segment(10, max_timestamp=NOW - 4), Segment(20), Segment(30)]
    assert section(segments, min_lag_ms=5).upto == 10
    assert section(segments, min_lag_ms=4).upto == 30, "as old as that is old enough"
    assert section(segments, checkpoint=20, min_lag_ms=5).upto == 30, "only the dirty ones count"


def test_a_log_is_overdue_by_its_first_batches() -> None:
    first = {0: NOW - 100, 10: NOW - 50, 20: None, 30: NOW - 500}

    def asked(max_lag_ms: int, checkpoint: int | None = None, now_ms: int = NOW) -> bool:
        return overdue(
            SEGMENTS,
            section(checkpoint=checkpoint),
            max_lag_ms=max_lag_ms,
            now_ms=now_ms,
            first_timestamp=first.__getitem__,
        )

    assert asked(99) and not asked(100), "the active segment does not count"
    assert asked(49, checkpoint=10) and not asked(50, checkpoint=10)
    assert not asked(1, checkpoint=20), "a segment without a record is never late"
    assert not asked((1 << 63) - 1)
    assert not asked(NOW)


@pytest.mark.parametrize(
    ("segments", "upto", "expected"),
    [
        ([], 0, []),
        ([Segment(0, 400), Segment(5, 400), Segment(9, 200), Segment(12, 900)], 20, [[0, 5, 9], [12]]),
        ([Segment(0, 1001), Segment(5, 1)], 20, [[0], [5]]),
        ([Segment(0, 1, index_bytes=60), Segment(5, 1, index_bytes=40), Segment(9, 1)], 20, [[0, 5], [9]]),
        ([Segment(0, 1, timeindex_bytes=60), Segment(5, 1, timeindex_bytes=41)], 20, [[0], [5]]),
        # offsets within a segment are 31 bits; where the last one ends is told
        ([Segment(0, 1), Segment(5, 1)], 1 << 31, [[0, 5]]),
        ([Segment(0, 1), Segment(5, 1)], (1 << 31) + 1, [[0], [5]]),
        ([Segment(0, 1), Segment(5, 1), Segment((1 << 31) + 1, 1)], (1 << 31) + 5, [[0], [5, (1 << 31) + 1]]),
        ([Segment(0, 1), Segment(5, 0), Segment(1 << 33, 1)], 1 << 34, [[0, 5], [1 << 33]]),
    ],
)
def test_groups_fit_in_a_segment(segments: list[Segment], upto: int, expected: list[list[int]]) -> None:
    groups = group_segments(segments, segment_bytes=1000, index_bytes=100, upto=upto)
    assert [[segment.base_offset for segment in group] for group in groups] == expected

"""Which segments may go: each rule, their union, and what always stays."""

from typing import NamedTuple

import pytest

from pylog.retention import Deletion, Limits, segments_to_delete

NONE = Limits(-1, -1, True)
NOW = 10_000


class Segment(NamedTuple):
    base_offset: int
    next_offset: int
    size_bytes: int = 100
    max_timestamp: int = 5_000
    last_modified_ms: int = 9_000


LOG = [Segment(0, 10), Segment(10, 20), Segment(20, 30)]


def decide(
    segments: list[Segment], limits: Limits, log_start: int = 0, high_watermark: int | None = None
) -> Deletion | None:
    end = segments[-1].next_offset if high_watermark is None else high_watermark
    return segments_to_delete(segments, limits, log_start=log_start, high_watermark=end, now_ms=NOW)


def test_without_limits_nothing_goes() -> None:
    assert decide(LOG, NONE) is None
    assert decide(LOG, Limits(0, 0, False)) is None


@pytest.mark.parametrize(("log_start", "count"), [(0, 0), (9, 0), (10, 1), (19, 1), (20, 2), (30, 2)])
def test_log_start_offset(log_start: int, count: int) -> None:
    for limits in (NONE, Limits(-1, -1, False)):
        deletion = decide(LOG, limits, log_start)
        assert (deletion.segment_count if deletion else 0) == count


@pytest.mark.parametrize(("limit", "count"), [(300, 0), (201, 0), (200, 1), (101, 1), (100, 2), (0, 3)])
def test_size(limit: int, count: int) -> None:
    deletion = decide(LOG, Limits(-1, limit, True))
    assert (deletion.segment_count if deletion else 0) == count
    if deletion:
        assert deletion.start_offset == 10 * count
        assert deletion.roll_first == (count == 3)


def test_time() -> None:
    log = [Segment(0, 10, max_timestamp=1), Segment(10, 20, max_timestamp=9_000), Segment(20, 30, max_timestamp=1)]
    assert decide(log, Limits(2_000, -1, True)) == Deletion(1, 10, False, "retention.ms")
    assert decide(log, Limits(9_998, -1, True)) == Deletion(1, 10, False, "retention.ms")
    assert decide(log, Limits(9_999, -1, True)) is None
    assert decide(log, Limits(0, -1, True)) == Deletion(3, 30, True, "retention.ms")


def test_a_segment_without_records_is_as_old_as_its_file() -> None:
    log = [Segment(0, 10, 0, max_timestamp=-1, last_modified_ms=1), Segment(10, 20)]
    assert decide(log, Limits(6_000, -1, True)) == Deletion(1, 10, False, "retention.ms")


def test_nothing_at_or_above_the_high_watermark() -> None:
    limits = Limits(0, 0, True)
    for high_watermark, count in ((0, 0), (9, 0), (10, 1), (29, 2), (30, 3)):
        deletion = decide(LOG, limits, high_watermark=high_watermark)
        assert (deletion.segment_count if deletion else 0) == count


def test_an_empty_active_segment_stays() -> None:
    deletion = decide([Segment(0, 10), Segment(10, 10, 0, -1, 0)], Limits(0, 0, True))
    assert deletion is not None and deletion.segment_count == 1 and not deletion.roll_first
    assert decide([Segment(10, 10, 0, -1, 0)], Limits(0, 0, True), log_start=10) is None


def test_a_compacted_segment_ends_where_the_next_begins() -> None:
    log = [Segment(0, 0, 0, -1, 9_999), Segment(140, 140, 0, -1, 9_999), Segment(154, 165)]
    assert decide(log, NONE, log_start=139) is None
    assert decide(log, NONE, log_start=140) == Deletion(1, 140, False, "log start offset")
    assert decide(log, Limits(-1, 50, True)) == Deletion(2, 154, False, "retention.bytes")


def test_each_rule_begins_where_the_one_before_left_off() -> None:
    assert decide(LOG, Limits(0, 200, True), log_start=20) == Deletion(3, 30, True, "log start offset, retention.ms")
    assert decide(LOG, Limits(-1, 100, True), log_start=10) == Deletion(
        2, 20, False, "log start offset, retention.bytes"
    )
    young_first = [Segment(0, 10, max_timestamp=9_999), *LOG[1:]]
    assert decide(young_first, Limits(2_000, -1, True)) is None
    assert decide(young_first, Limits(2_000, 200, True)) == Deletion(3, 30, True, "retention.bytes, retention.ms")
    assert decide(young_first, Limits(2_000, -1, True), log_start=10) == Deletion(
        3, 30, True, "log start offset, retention.ms"
    )


def test_only_age_and_size_empty_the_active_segment() -> None:
    assert decide(LOG[2:], NONE, log_start=30) is None
    assert decide(LOG[2:], Limits(0, -1, True), log_start=30) == Deletion(1, 30, True, "retention.ms")
    assert decide(LOG[2:], Limits(-1, 0, True), log_start=30) == Deletion(1, 30, True, "retention.bytes")

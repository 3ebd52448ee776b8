"""Logs, and settings under which segments of them go: what Apache Kafka was asked, and ours is.

Times are ages in hours at the capture, far enough from the limits that the minutes it took do not matter. Every
batch has the same size, so that two fill a segment.
"""

from __future__ import annotations

from typing import NamedTuple

from pylog.records import NewRecord, RecordBatchBuilder

HOUR_MS = 3_600_000
NO_TIME = None  # a record without a timestamp
BATCH_BYTES = 200  # of each batch, by the length of its value
TWO = {"segment.bytes": str(2 * BATCH_BYTES)}
ALL_KEPT = {"retention.ms": "-1", "retention.bytes": "-1"}


class Case(NamedTuple):
    """`writing`: settings while batches are written; `then`: settings that follow; `deleted`: DeleteRecords up to."""

    ages_h: tuple[float | None, ...]
    writing: dict[str, str] = TWO
    then: dict[str, str] = {}
    deleted: int | None = None


class Left(NamedTuple):
    """What is left of the log. error: of DeleteRecords."""

    error: int
    log_start: int
    bases: list[int]


AGEING = (9, 9, 8, 8, 7, 7, 6, 6, 5)
AHEAD = (-1, -1, -2, -2, -3, -3, -4, -4, -5)  # too young for the cleaner, who would join segments
CASES = {
    "nothing": Case(AGEING),
    "by-time": Case(AGEING, then={"retention.ms": str(int(7.5 * HOUR_MS))}),
    "time-all": Case(AGEING, then={"retention.ms": str(HOUR_MS)}),
    "time-zero": Case(AGEING, then={"retention.ms": "0"}),
    "time-young-first": Case((0, 9, 8, 8, 7, 7), then={"retention.ms": str(3 * HOUR_MS)}),
    "time-young-inside": Case((9, 9, 8, 1, 7, 7, 6), then={"retention.ms": str(3 * HOUR_MS)}),
    "time-future": Case((9, 9, -50, 9, 9, 9), then={"retention.ms": str(3 * HOUR_MS)}),
    "time-none-kept": Case((NO_TIME, NO_TIME, NO_TIME), then={"retention.ms": str(HOUR_MS)}),
    "time-none-gone": Case((NO_TIME, NO_TIME, NO_TIME), then={"retention.ms": "1"}),
    "append-time": Case(AGEING, {**TWO, "message.timestamp.type": "LogAppendTime"}, {"retention.ms": str(HOUR_MS)}),
    "empty": Case((), then={"retention.ms": "0", "retention.bytes": "0"}),
    "by-size": Case(AGEING, then={"retention.bytes": str(5 * BATCH_BYTES)}),
    "size-one-less": Case(AGEING, then={"retention.bytes": str(5 * BATCH_BYTES - 1)}),
    "size-one-more": Case(AGEING, then={"retention.bytes": str(5 * BATCH_BYTES + 1)}),
    "size-active": Case(AGEING, then={"retention.bytes": str(BATCH_BYTES)}),
    "size-within-active": Case(AGEING, then={"retention.bytes": "1"}),
    "size-zero": Case(AGEING, then={"retention.bytes": "0"}),
    "size-then-time": Case(
        (0, 0, 9, 9, 8, 8, 0), then={"retention.bytes": str(5 * BATCH_BYTES), "retention.ms": str(3 * HOUR_MS)}
    ),
    "start-inside": Case(AGEING, deleted=3),
    "start-at-segment": Case(AGEING, deleted=4),
    "start-in-active": Case(AGEING, deleted=8),
    "start-at-end": Case(AGEING, deleted=9),
    "start-at-high-watermark": Case(AGEING, deleted=-1),
    "start-behind-end": Case(AGEING, deleted=10),
    "start-then-size": Case(AGEING, then={"retention.bytes": str(5 * BATCH_BYTES)}, deleted=3),
    "start-at-end-then-time": Case(AGEING, then={"retention.ms": str(HOUR_MS)}, deleted=9),
    "compacted-start": Case(AGEING, {**TWO, "cleanup.policy": "compact"}, deleted=4),
    "compacted-time": Case(AGEING, {**TWO, "cleanup.policy": "compact"}, {"retention.ms": "0", "retention.bytes": "0"}),
    "both-time": Case(AGEING, {**TWO, "cleanup.policy": "compact,delete"}, {"retention.ms": str(int(7.5 * HOUR_MS))}),
    "roll-by-time": Case((9, 8.5, 8.1, 7.9, 9, 7, 6.5, 6, 5.9, 1), {"segment.ms": str(HOUR_MS)}),
    "roll-by-time-backwards": Case((1, 9, 5, 0.5, 9, -0.5, 3), {"segment.ms": str(HOUR_MS)}),
    "roll-without-times": Case((NO_TIME, 9, 3, NO_TIME, 1), {"segment.ms": str(HOUR_MS)}),
    "roll-by-lag": Case(AHEAD, {"cleanup.policy": "compact", "max.compaction.lag.ms": str(HOUR_MS + 1)}),
    "roll-by-lag-deleted": Case(AHEAD, {"max.compaction.lag.ms": str(HOUR_MS + 1)}),
    "roll-by-size": Case(AGEING, {"segment.bytes": str(3 * BATCH_BYTES)}),
    "roll-by-size-one-less": Case(AGEING, {"segment.bytes": str(3 * BATCH_BYTES - 1)}),
    "roll-by-size-each": Case(AGEING, {"segment.bytes": str(BATCH_BYTES)}),
    "roll-by-offset-index": Case((9,) * 12, {"segment.index.bytes": "24", "index.interval.bytes": "0"}),
    "roll-by-time-index": Case(
        tuple(9 - n / 100 for n in range(12)), {"segment.index.bytes": "48", "index.interval.bytes": "0"}
    ),
    "roll-by-sparse-index": Case(
        tuple(9 - n / 100 for n in range(12)), {"segment.index.bytes": "36", "index.interval.bytes": "250"}
    ),
}

_builder = RecordBatchBuilder()


def batch_of(case: Case, number: int, now_ms: int, *, offset: int = 0, leader_epoch: int = -1) -> bytes:
    """Batch `number` of a case, BATCH_BYTES long. With a leader epoch it is stamped as a leader would have done."""
    age_h = case.ages_h[number]
    timestamp = -1 if age_h is None else now_ms - int(age_h * HOUR_MS)
    append_time = leader_epoch >= 0 and case.writing.get("message.timestamp.type") == "LogAppendTime"
    return _builder.build(
        [NewRecord(now_ms if append_time else timestamp, b"%03d" % number, b"v" * 127)],
        base_offset=offset,
        leader_epoch=leader_epoch,
        log_append_time=append_time,
    )

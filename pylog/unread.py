"""What a reader at an offset has not read yet: the first record there, in batches as a log or a Fetch gave them.

What stays true: markers of transactions are no records; with LogAppendTime the batch's time is that of all its records.
"""

from __future__ import annotations

from pylog.facts import NamedTuple
from pylog.records import batches


class FirstUnread(NamedTuple):
    """`time_ms`: of the first record, None: there is none here. `go_on`: look from this offset on then; -1: do not."""

    time_ms: int | None
    go_on: int = -1


def first_unread(data: bytes, start: int) -> FirstUnread | None:
    """The first record at or behind `start`; None: there is no whole batch that goes beyond it. What comes behind the
    record is not looked at. Raises KafkaError for what cannot be read."""
    end = start
    for batch in batches(data):
        if batch.next_offset <= start:
            continue
        end = batch.next_offset
        if not batch.control and (time_ms := batch.first_timestamp(start)) is not None:
            return FirstUnread(time_ms)
    return FirstUnread(None, end) if end > start else None

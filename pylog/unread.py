"""What a reader at an offset has not read yet: the first record there, in batches as a log or a Fetch gave them.

What stays true: markers of transactions are no records; with LogAppendTime the batch's time is that of all its records.
"""

from __future__ import annotations

from pylog.facts import NamedTuple
from pylog.records import Record, batches


class FirstUnread(NamedTuple):
    """`time_ms`: of the first record, None: there is none here. `go_on`: look from this offset on then; -1: do not."""

    time_ms: int | None
    go_on: int = -1


class Fetched:
    """`end`: the offset behind the last whole batch; -1: there is none. Raises KafkaError for what cannot be read."""

    def __init__(self, data: bytes) -> None:
        self._batches = list(batches(data))
        self._records: dict[int, list[Record]] = {}
        self.end = self._batches[-1].next_offset if self._batches else -1

    def first_record(self, start: int) -> FirstUnread:
        """The first record at or behind `start`, which is before the end."""
        for place, batch in enumerate(self._batches):
            if batch.control or batch.next_offset <= start:
                continue
            if place not in self._records:
                self._records[place] = batch.records()
            for record in self._records[place]:
                if record.offset >= start:
                    return FirstUnread(batch.header.max_timestamp if batch.log_append_time else record.timestamp)
        return FirstUnread(None, self.end)

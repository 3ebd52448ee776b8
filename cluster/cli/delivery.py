"""Fetched records on their way to stdout: what is printed, how far that got, and when it is enough.

What it keeps true: `take_progress` never runs ahead of what the reader of stdout was given; not a record is printed
beyond a limit; the order of a partition's records is kept.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import BinaryIO

from cluster.cli.fetcher import Fetched
from cluster.cli.offsets import TopicPartition
from cluster.cli.output import RecordMeter, notice
from cluster.cli.record_format import Renderer
from cluster.cli.visibility import visible_batches
from pylog.records import Record

_SAY_WAITING_AFTER_S = 2.0


class Delivery:
    """`limit`: records in all; `idle_s`: how long nothing may come; `to_end`: done where the partitions end."""

    def __init__(
        self,
        out: BinaryIO,
        render: Renderer,
        meter: RecordMeter,
        *,
        limit: int | None,
        idle_s: float | None,
        to_end: bool,
    ) -> None:
        self._out = out
        self._render = render
        self._meter = meter
        self._left = limit
        self._idle_s = idle_s
        self._to_end = to_end
        self._ends: dict[TopicPartition, int] = {}
        self._progress: dict[TopicPartition, int] = {}
        self._last_record = time.monotonic()
        self._said_waiting = not sys.stdout.isatty()

    def begin(self, ends: dict[TopicPartition, int]) -> None:
        """From now on these partitions are read. `ends`: where to stop, when `to_end`."""
        self._ends = ends
        self._progress.clear()
        self._last_record = time.monotonic()

    def done(self, positions: Mapping[TopicPartition, int]) -> bool:
        """Whether nothing more is wanted. `positions`: behind what was delivered."""
        if self._left == 0:
            return True
        if self._to_end and all(positions.get(tp, end) >= end for tp, end in self._ends.items()):
            return True
        waited = time.monotonic() - self._last_record
        if not self._said_waiting and waited > _SAY_WAITING_AFTER_S:
            self._said_waiting = True
            notice("waiting for records; Ctrl-C ends")
        return self._idle_s is not None and waited >= self._idle_s

    def deliver(self, fetched: Fetched) -> None:
        """Print what is new and wanted of one fetch."""
        records, position = self._wanted(fetched)
        if records:
            text = self._render(fetched.partition, records)
            self._out.write(text)
            self._out.flush()
            self._meter.add(len(records), len(text))
            self._last_record = time.monotonic()
            self._said_waiting = True
        self._progress[fetched.partition] = position

    def take_progress(self) -> dict[TopicPartition, int]:
        """The offsets behind what was delivered since the last call."""
        progress, self._progress = self._progress, {}
        return progress

    def _wanted(self, fetched: Fetched) -> tuple[list[Record], int]:
        """The records to print, and the offset behind the last one that is done with."""
        end = self._ends.get(fetched.partition, fetched.batches[-1].next_offset)
        records: list[Record] = []
        for batch in visible_batches(fetched):
            found = batch.records()
            if found and found[0].offset < fetched.start:
                found = [record for record in found if record.offset >= fetched.start]
            if batch.next_offset > end:
                found = [record for record in found if record.offset < end]
            if self._left is not None:
                found = found[: self._left]
                self._left -= len(found)
                records += found
                if self._left == 0:
                    return records, records[-1].offset + 1 if records else fetched.start
            else:
                records += found
        return records, min(end, fetched.batches[-1].next_offset)

"""Verifying the batches of one partition, segment by segment.

A CRC covers all of a batch but its first 16 bytes and the format's number behind them. Those are found out otherwise:
- base offset: batches follow one another without a gap, and the first of a segment bears the segment's name. Where a
  compaction has been, gaps are no fault: there only what overlaps, or contradicts an index entry, is found;
- length: what follows is then no batch, or the CRC is summed over the wrong bytes;
- leader epoch: it never falls, and is what leader-epoch-checkpoint says. Below the first entry of that file, which is
  cut where the log was, and above the last, which may be missing until the log is closed, only a fall is found;
- format: nothing of another format has a matching CRC.

Keeps true: reads only, each byte once (but for the neighbourhood of damage); a finding never hides a later one: behind
damage the next whole batch is looked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from pylog.batch_table import Int64s, SegmentScan, Table, last_offsets
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.finding import Finding
from pylog.leader_epoch import EpochEntry
from pylog.records import BATCH_OVERHEAD_BYTES, CONTROL, TRANSACTIONAL, RecordBatch, batches, end_marker
from pylog.transaction_index import AbortedTransaction

_MAGIC_AT = 16
_MAGIC = b"\x02"
_WAITS = 20
_WAIT_S = 0.05

NO_TIMESTAMP = -1


class SegmentTable(NamedTuple):
    """What the checks of side files need to know of a segment's batches: a row for each, in the file's order."""

    base_offset: int
    positions: Int64s
    first_offsets: Int64s
    last_offsets: Int64s
    max_timestamps: Int64s
    records: Int64s
    end: int
    """Where the batches end in the file."""

    def max_timestamp(self) -> int:
        return int(self.max_timestamps.max(initial=NO_TIMESTAMP))


class LogVerification:
    """The batches of a partition on their way through the checks, one segment after the other."""

    __slots__ = (
        "_epoch",
        "_epochs",
        "_gaps",
        "_last_offset",
        "_live",
        "_next_offset",
        "_open",
        "_progress",
        "_settled",
        "_trusted",
        "aborted",
        "compacted",
        "end_offset",
        "epoch_starts",
        "findings",
        "first_base",
        "misplaced_epochs",
        "unknown_transactions",
    )

    def __init__(
        self,
        *,
        epochs: list[EpochEntry] | None,
        compacted: bool,
        open_transactions: dict[int, int] | None,
        settled: bool,
        live: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        """epochs: what leader-epoch-checkpoint says, None when it says nothing. compacted: gaps are known to be no
        fault. open_transactions: producer id → first offset where the first segment begins, None: unknown. settled: the
        log was closed in order, so the newest epochs are in that file. live: a broker is at work on it."""
        self._epochs = epochs
        self._settled = settled
        self._live = live
        self._progress = progress
        self._next_offset: int | None = None
        self._trusted = True  # whether _next_offset comes from a batch with a right CRC
        self._last_offset = -1  # of the batch before the present table
        self._epoch = -1
        self._gaps: list[Finding] = []
        self._open = dict(open_transactions or {})
        self.unknown_transactions = open_transactions is None
        self.compacted = compacted
        self.findings: list[Finding] = []
        self.epoch_starts: list[tuple[int, int, int]] = []
        """(epoch, first offset of its first batch, last offset before that) as the batches say."""
        self.misplaced_epochs = False
        self.aborted: dict[int, list[AbortedTransaction]] = {}
        """By base offset of the segment: the transactions whose abort marker is in it."""
        self.first_base = 0
        self.end_offset: int | None = None

    def finish(self) -> list[Finding]:
        """Everything found, gaps included if no compaction explains them."""
        return self.findings + ([] if self.compacted else self._gaps)

    # ---------------------------------------------------------------------------------- one segment

    def segment(self, path: str, base_offset: int, *, last: bool) -> SegmentTable:
        """Check the batches of a segment. last: nothing follows it, so its tail may be torn. Raises OSError."""
        if self._next_offset is None:
            self.first_base = base_offset
            self._next_offset = base_offset
        elif self._next_offset != base_offset:
            if self._trusted:
                self._order(path, 0, base_offset, base_offset, self._next_offset)
            self._next_offset = base_offset
        self.aborted[base_offset] = []
        kept: list[Table] = []
        with SegmentScan(path, check_crc=True, progress=self._progress) as scan:
            position = 0
            while True:
                for table in scan.tables(position):
                    self._check_table(scan, base_offset, table)
                    kept.append(table)
                if scan.end >= scan.size_bytes:
                    break
                found = self._behind_damage(scan, last)
                if found is None:
                    break
                position = found
            end = scan.end
        self.end_offset = self._next_offset
        return _segment_table(base_offset, kept, end)

    def _behind_damage(self, scan: SegmentScan, last: bool) -> int | None:
        """Tell of the bytes at the scan's end that are no batch; where the next batch is, None when there is none."""
        at = scan.end
        if last and self._live and _whole_by_and_by(scan, at):
            return at
        following = _next_batch(scan, at + 1)
        if following is None:
            rest = scan.size_bytes - at
            if not (last and _all_zero(scan, at)):
                self.findings.append(
                    Finding(scan.path, f"{rest} bytes at the end are no whole batch", at, self._next_offset)
                )
            return None
        position, batch = following
        self.findings.append(
            Finding(
                scan.path,
                f"{position - at} bytes are no batch",
                at,
                self._next_offset,
                max(batch.header.base_offset - 1, self._next_offset or 0),
            )
        )
        self._next_offset = batch.header.base_offset
        self._trusted = True
        return position

    # ---------------------------------------------------------------------------------- the batches of one table

    def _check_table(self, scan: SegmentScan, base_offset: int, table: Table) -> None:
        path = scan.path
        first, last = table["base_offset"], last_offsets(table)
        sound = table["crc_ok"] == 1
        for row in np.flatnonzero(~sound):
            self.findings.append(
                Finding(path, "the CRC is wrong", int(table["position"][row]), int(first[row]), int(last[row]))
            )
        counts = table["records_count"].astype(np.int64)
        spans = table["last_offset_delta"].astype(np.int64) + 1
        if np.any((counts < spans) & sound):
            self.compacted = True
        for row in np.flatnonzero(((counts > spans) | (counts < 0)) & sound):
            what = f"{counts[row]} records in {spans[row]} offsets"
            self.findings.append(Finding(path, what, int(table["position"][row]), int(first[row]), int(last[row])))
        self._check_offsets(path, table, first, last, sound)
        self._check_epochs(path, table, first, last)
        self._last_offset = int(last[-1])
        for row in np.flatnonzero(((table["attributes"] & TRANSACTIONAL) != 0) & sound & (table["magic"] == 2)):
            self._follow_transaction(scan, base_offset, table[row])

    def _check_offsets(self, path: str, table: Table, first: Int64s, last: Int64s, sound: np.ndarray) -> None:
        """Batches follow one another. What a batch with a wrong CRC says of its end is nobody's word."""
        assert self._next_offset is not None
        expected = np.roll(last + 1, 1)
        expected[0] = self._next_offset
        trusted = np.concatenate(([self._trusted], sound[:-1]))
        for row in np.flatnonzero((first != expected) & trusted).tolist():
            self._order(path, int(table["position"][row]), int(first[row]), int(last[row]), int(expected[row]))
        self._next_offset = int(last[-1]) + 1
        self._trusted = bool(sound[-1])

    def _order(self, path: str, position: int, first: int, last: int, expected: int) -> None:
        finding = Finding(path, f"offset {first} where {expected} is due", position, first, last)
        (self._gaps if first > expected else self.findings).append(finding)

    def _check_epochs(self, path: str, table: Table, first: Int64s, last: Int64s) -> None:
        epochs = table["partition_leader_epoch"]
        known = (table["magic"] == 2) & (epochs >= 0) if self._epochs is None else table["magic"] == 2
        if self._epochs:
            starts = np.array([entry.start_offset for entry in self._epochs], np.int64)
            numbers = np.array([entry.epoch for entry in self._epochs], np.int64)
            entry_of = np.searchsorted(starts, first, "right") - 1
            wrong = known & (entry_of >= 0) & (numbers[entry_of] != epochs)
            if not self._settled:
                wrong &= (entry_of < len(numbers) - 1) | (epochs < numbers[-1])
            wrong |= known & (entry_of < 0) & ((epochs > numbers[0]) | (epochs < -1))
            for row in np.flatnonzero(wrong).tolist():
                self.misplaced_epochs = True
                expected = f"{numbers[entry_of[row]]}" if entry_of[row] >= 0 else f"at most {numbers[0]}"
                what = f"leader epoch {epochs[row]}, but {expected} in leader-epoch-checkpoint"
                self.findings.append(Finding(path, what, int(table["position"][row]), int(first[row]), int(last[row])))
            known &= ~wrong
        rows = np.flatnonzero(known)
        if not len(rows):
            return
        seen = epochs[rows].astype(np.int64)
        before = np.concatenate(([self._epoch], seen[:-1]))
        for at in np.flatnonzero(seen != before).tolist():
            row = int(rows[at])
            if seen[at] < before[at]:
                what = f"leader epoch {seen[at]} after {before[at]}"
                self.findings.append(Finding(path, what, int(table["position"][row]), int(first[row]), int(last[row])))
            else:
                previous = int(last[row - 1]) if row else self._last_offset
                self.epoch_starts.append((int(seen[at]), int(first[row]), previous))
        self._epoch = max(self._epoch, int(seen.max()))

    # ---------------------------------------------------------------------------------- transactions

    def _follow_transaction(self, scan: SegmentScan, base_offset: int, batch: np.void) -> None:
        producer, first = int(batch["producer_id"]), int(batch["base_offset"])
        if not batch["attributes"] & CONTROL:
            self._open.setdefault(producer, first)
            return
        aborted = self._is_abort(scan, int(batch["position"]), int(batch["size_bytes"]))
        began = self._open.pop(producer, None)
        if not aborted or (began is None and not self.unknown_transactions):
            return
        last = first + int(batch["last_offset_delta"])
        stable = min(self._open.values(), default=last + 1)
        self.aborted[base_offset].append(AbortedTransaction(0, producer, -1 if began is None else began, last, stable))

    @staticmethod
    def _is_abort(scan: SegmentScan, position: int, size_bytes: int) -> bool:
        try:
            (batch,) = batches(scan.read(position, size_bytes))
            marker = end_marker(batch.records()[0])
        except (KafkaError, IndexError, ValueError):
            return False  # a control batch of another kind, or emptied by compaction
        return marker is not None and not marker.committed


def _segment_table(base_offset: int, tables: list[Table], end: int) -> SegmentTable:
    def column(of: Callable[[Table], np.ndarray]) -> Int64s:
        return np.concatenate([of(table) for table in tables] or [np.empty(0)]).astype(np.int64)

    return SegmentTable(
        base_offset,
        column(lambda table: table["position"]),
        column(lambda table: table["base_offset"]),
        column(last_offsets),
        column(lambda table: table["max_timestamp"]),
        column(lambda table: table["records_count"]),
        end,
    )


def _whole_by_and_by(scan: SegmentScan, position: int) -> bool:
    """Whether a batch that a running broker was writing is there after a while."""
    for _ in range(_WAITS):
        time.sleep(_WAIT_S)  # sleep: another process's write has no event
        scan.refresh()
        if next(iter(scan.tables(position)), None) is not None:
            return True
        if scan.end >= scan.size_bytes:
            return True
    return False


def _next_batch(scan: SegmentScan, position: int) -> tuple[int, RecordBatch] | None:
    """The first whole batch with a right CRC at or behind position, by the format's number that each has."""
    for magic_at in _magic_positions(scan, position + _MAGIC_AT):
        at = magic_at - _MAGIC_AT
        head = scan.read(at, BATCH_OVERHEAD_BYTES)
        size = int.from_bytes(head[8:12], "big", signed=True) + 12
        if len(head) < BATCH_OVERHEAD_BYTES or not BATCH_OVERHEAD_BYTES <= size <= scan.size_bytes - at:
            continue
        try:
            batch = next(batches(scan.read(at, size)), None)
        except KafkaError:
            continue
        if batch is not None and batch.check():
            return at, batch
    return None


def _magic_positions(scan: SegmentScan, position: int) -> Iterator[int]:
    piece_bytes = 1 << 20
    while position < scan.size_bytes and (piece := scan.read(position, piece_bytes)):
        at = piece.find(_MAGIC)
        while at >= 0:
            yield position + at
            at = piece.find(_MAGIC, at + 1)
        position += len(piece)


def _all_zero(scan: SegmentScan, position: int) -> bool:
    """What a preallocated segment has at its end."""
    while piece := scan.read(position, 1 << 20):
        if piece.strip(b"\0"):
            return False
        position += len(piece)
    return True

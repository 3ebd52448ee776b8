"""Verifying a Kafka directory: every record's checksum, and every derived file against the records.

Keeps true: reads only and takes no lock, so a broker may be working in it meanwhile: what it was just writing is waited
for, and what it removed is left out. What is found by which means, and what cannot be found, is said in verify_log.py,
verify_index.py and verify_side_files.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from pylog.data_dir import lock_holder
from pylog.facts import NamedTuple
from pylog.finding import Finding
from pylog.leader_epoch import LEADER_EPOCH_FILE
from pylog.partition_files import LogDirectory, PartitionFiles, log_start_offset
from pylog.partition_metadata import PARTITION_METADATA_FILE
from pylog.segment import LOG_SUFFIX, SNAPSHOT_SUFFIX, segment_file
from pylog.types import TopicPartition
from pylog.verify_index import SegmentIndexes
from pylog.verify_log import LogVerification
from pylog.verify_side_files import (
    Checkpoints,
    LogEnds,
    check_epoch_file,
    check_epoch_starts,
    check_one_id_per_topic,
    check_snapshot,
    check_topic_id,
)


class Verified(NamedTuple):
    """What was looked at."""

    partitions: int
    segments: int
    size_bytes: int
    """Of the .log files."""


class Verification:
    """One look at a directory. Findings come partition by partition; `verified` grows on the way."""

    __slots__ = ("_checkpoints", "_directory", "_live", "_progress", "verified")

    def __init__(self, directory: LogDirectory, *, progress: Callable[[int], None] | None = None) -> None:
        """progress: told the bytes of each piece of a .log file that is done. Raises OSError."""
        self._directory = directory
        self._progress = progress
        self._live = os.path.isdir(directory.path) and lock_holder(directory.path) is not None
        self._checkpoints = Checkpoints(directory.path)
        self.verified = Verified(0, 0, 0)

    def findings(self) -> Iterator[Finding]:
        """Everything that is wrong. Raises OSError when something cannot be read."""
        ends: dict[TopicPartition, LogEnds] = {}
        ids: dict[TopicPartition, tuple[str, bytes]] = {}
        for files in self._directory.partitions:
            topic_id, found = check_topic_id(files.side_file(PARTITION_METADATA_FILE))
            yield from self._meant(found)
            log_ends, found = self._partition(files)
            yield from self._meant(found)
            if files.partition is not None:
                ends[files.partition] = log_ends
                if topic_id is not None:
                    ids[files.partition] = files.side_file(PARTITION_METADATA_FILE), topic_id
        if self._directory.whole:
            yield from check_one_id_per_topic(ids)
            yield from self._checkpoints.check(ends)

    def _meant(self, found: list[Finding]) -> list[Finding]:
        """What concerns the files that were asked about: of one file, it and those that derive from it."""
        only = self._directory.only_file
        if only is None:
            return found
        file = segment_file(os.path.basename(only))
        if file is not None and file.kind == LOG_SUFFIX:
            stem = os.path.basename(only).removesuffix(LOG_SUFFIX)
            return [one for one in found if os.path.basename(one.path).startswith(stem)]
        return [one for one in found if os.path.basename(one.path) == os.path.basename(only)]

    # ---------------------------------------------------------------------------------- one partition

    def _partition(self, files: PartitionFiles) -> tuple[LogEnds, list[Finding]]:
        settled = self._checkpoints.clean and not self._live
        epoch_path = files.side_file(LEADER_EPOCH_FILE)
        epochs, found = check_epoch_file(epoch_path)
        open_transactions: dict[int, int] | None = None if files.bases and files.bases[0] else {}
        for offset in files.snapshots:
            producers, wrong = check_snapshot(files.file(offset, SNAPSHOT_SUFFIX), offset)
            found += wrong
            if producers is not None and files.bases and offset == files.bases[0]:
                open_transactions = {
                    p.producer_id: p.current_txn_first_offset for p in producers if p.current_txn_first_offset >= 0
                }
        log = LogVerification(
            epochs=epochs or None,
            compacted=self._checkpoints.compacts(files.partition),
            open_transactions=open_transactions,
            settled=settled,
            live=self._live,
            progress=self._progress,
        )
        indexes = self._segments(files, log)
        exact = not log.compacted and not log.unknown_transactions
        for base, one in indexes.items():
            growing = self._live and base == files.bases[-1]
            found += one.findings
            found += one.check_transactions(log.aborted[base], exact=exact, growing=growing, first_base=files.bases[0])
        ends = LogEnds(log.first_base, log.end_offset or 0)
        if epochs is not None and not log.misplaced_epochs:
            found += check_epoch_starts(
                epoch_path,
                epochs,
                log.epoch_starts,
                ends=ends,
                log_start=log_start_offset(files),
                compacted=log.compacted,
                settled=settled,
            )
        if not epochs and log.epoch_starts and settled and not found:
            what = "says nothing of the epochs that the batches have"
            found.append(Finding(epoch_path, what, None, log.first_base))
        return ends, log.finish() + found

    def _segments(self, files: PartitionFiles, log: LogVerification) -> dict[int, SegmentIndexes]:
        indexes: dict[int, SegmentIndexes] = {}
        for number, base in enumerate(files.bases):
            last = number + 1 == len(files.bases)
            try:
                one = SegmentIndexes(files.path, base)
                table = log.segment(files.file(base, LOG_SUFFIX), base, last=last)
            except FileNotFoundError:
                if self._live:
                    continue
                raise
            one.check(table, closed=not last)
            indexes[base] = one
            partitions, segments, size_bytes = self.verified
            self.verified = Verified(partitions + (number == 0), segments + 1, size_bytes + table.end)
        return indexes

"""Verifying what lies beside the segments: leader epochs, topic ids, producer snapshots, checkpoints.

Texts have no checksum. They are held against the logs, and against themselves: a file must be, byte for byte, what a
broker would write for what was read from it. What neither tells:
- the id in partition.metadata, where no other partition of the topic is in the directory;
- offsets in the checkpoints of a directory that was not closed in order, while they stay within the log;
- numbers in meta.properties.

Keeps true: reads only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pylog.checkpoint import (
    CLEANER_FILE,
    HIGH_WATERMARK_FILE,
    LOG_START_OFFSET_FILE,
    RECOVERY_POINT_FILE,
    OffsetCheckpoint,
    write_numbered_lines,
)
from pylog.data_dir import CLEAN_SHUTDOWN_FILE, clean_shutdown_epoch
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.files import CorruptFileError, read_file
from pylog.finding import Finding
from pylog.leader_epoch import EpochEntry, encode_leader_epochs, read_leader_epochs
from pylog.meta_properties import read_meta_properties
from pylog.partition_metadata import encode_partition_metadata, read_partition_metadata
from pylog.producer_snapshot import ProducerInfo, read_producer_snapshot
from pylog.types import TopicPartition

CHECKPOINTS = (RECOVERY_POINT_FILE, HIGH_WATERMARK_FILE, LOG_START_OFFSET_FILE, CLEANER_FILE)


class LogEnds(NamedTuple):
    """Of a partition, as its segments say."""

    first_base: int
    end_offset: int


# -------------------------------------------------------------------------------------------------- of a partition


def check_epoch_file(path: str) -> tuple[list[EpochEntry] | None, list[Finding]]:
    """The entries, None when they say nothing: no file, or a broken one."""
    try:
        entries = read_leader_epochs(path)
    except CorruptFileError as error:
        return None, [_line(error)]
    if entries is None:
        return None, []
    written = read_file(path)
    if written != encode_leader_epochs(entries) and (entries or written):
        return entries, [_not_canonical(path)]
    return entries, []


def check_epoch_starts(
    path: str,
    entries: Sequence[EpochEntry],
    seen: Sequence[tuple[int, int, int]],
    *,
    ends: LogEnds,
    log_start: int,
    compacted: bool,
    settled: bool,
) -> list[Finding]:
    """Hold the entries against where epochs begin in the batches: (epoch, first offset, last offset before).

    settled: the file was written last of all, so its first entry is cut where the log begins.
    """
    found = []
    starts = {epoch: (first, previous) for epoch, first, previous in seen}
    for number, (epoch, start) in enumerate(entries):
        if epoch not in starts:
            newest = number + 1 == len(entries) and (start == ends.end_offset or not settled)
            if not newest and not compacted and (settled or number):
                found.append(Finding(path, f"no batch is of epoch {epoch}, from offset {start} on", None, start, start))
            continue
        first, previous = starts[epoch]
        if start == first or (compacted and previous < start <= first):
            continue
        if number == 0 and (start == log_start if settled else start <= max(log_start, ends.first_base)):
            continue
        found.append(Finding(path, f"epoch {epoch} from offset {start} on, {first} in the batches", None, start, start))
    return found


def check_snapshot(path: str, offset: int) -> tuple[list[ProducerInfo] | None, list[Finding]]:
    """The producers of a snapshot taken at an offset; None when it is broken or gone."""
    try:
        producers = read_producer_snapshot(path)
    except FileNotFoundError:
        return None, []
    except KafkaError as error:
        return None, [Finding(path, error.message.removeprefix(f"{path}: "))]
    late = next((p for p in producers if p.last_offset >= offset), None)
    if late is not None:
        what = f"producer {late.producer_id} wrote offset {late.last_offset}, which is not below the snapshot's"
        return producers, [Finding(path, what)]
    return producers, []


def check_topic_id(path: str) -> tuple[bytes | None, list[Finding]]:
    """The topic id; None when there is no file or it is broken."""
    try:
        topic_id = read_partition_metadata(path)
    except CorruptFileError as error:
        return None, [_line(error)]
    written = read_file(path)
    if topic_id is not None and written is not None and written.rstrip(b"\n") != encode_partition_metadata(topic_id):
        return topic_id, [_not_canonical(path)]
    return topic_id, []


def check_one_id_per_topic(ids: Mapping[TopicPartition, tuple[str, bytes]]) -> list[Finding]:
    """ids: path of partition.metadata and topic id by partition. Partitions of a topic say the same."""
    by_topic: dict[str, dict[bytes, list[str]]] = {}
    for (topic, _), (path, topic_id) in ids.items():
        by_topic.setdefault(topic, {}).setdefault(topic_id, []).append(path)
    found = []
    for paths_by_id in by_topic.values():
        usual = max(paths_by_id.values(), key=len)
        for paths in paths_by_id.values():
            if paths is not usual:
                found += [Finding(path, f"another topic id than in {os.path.dirname(usual[0])}") for path in paths]
    return found


# -------------------------------------------------------------------------------------------------- of a data directory


class Checkpoints:
    """The checkpoints of a data directory, read before its logs: those have moved on since, not back."""

    __slots__ = ("_offsets", "clean", "findings", "path")

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self.path = path
        self.findings: list[Finding] = []
        self._offsets: dict[str, dict[TopicPartition, int]] = {}
        self.clean = self._read_marker()
        """The directory was closed in order."""
        for name in CHECKPOINTS:
            self._read(name)
        try:
            read_meta_properties(path)
        except CorruptFileError as error:
            self.findings.append(_line(error))

    def _read_marker(self) -> bool:
        path = os.path.join(self.path, CLEAN_SHUTDOWN_FILE)
        try:
            epoch = clean_shutdown_epoch(self.path)
        except CorruptFileError as error:
            self.findings.append(_line(error))
            return True
        written = read_file(path)
        if epoch is not None and written and written != b'{"version":0,"brokerEpoch":%d}' % epoch:
            self.findings.append(_not_canonical(path))
        return epoch is not None

    def _read(self, name: str) -> None:
        checkpoint = OffsetCheckpoint(self.path, name)
        written = read_file(checkpoint.path)
        if not written:
            return  # Kafka makes it empty, and writes it a minute later
        try:
            offsets = checkpoint.read()
        except CorruptFileError as error:
            self.findings.append(_line(error))
            return
        self._offsets[name] = offsets
        if written != write_numbered_lines([f"{topic} {partition} {at}" for (topic, partition), at in offsets.items()]):
            self.findings.append(_not_canonical(checkpoint.path))

    def compacts(self, partition: TopicPartition | None) -> bool:
        """Whether a cleaner has been at work on the topic."""
        return partition is not None and any(
            topic == partition.topic for topic, _ in self._offsets.get(CLEANER_FILE, ())
        )

    def check(self, logs: Mapping[TopicPartition, LogEnds]) -> list[Finding]:
        """Hold them against where the logs begin and end."""
        found = list(self.findings)
        for name, offsets in self._offsets.items():
            path = os.path.join(self.path, name)
            for partition, offset in offsets.items():
                ends = logs.get(partition)
                if ends is None:
                    what = self._unknown(partition, offsets, logs)
                else:
                    what = self._misplaced(name, offset, ends)
                if what is not None:
                    found.append(Finding(path, f"{partition} at offset {offset}: {what}", None, offset, offset))
        if self.clean and RECOVERY_POINT_FILE in self._offsets:
            path = os.path.join(self.path, RECOVERY_POINT_FILE)
            missing = sorted(logs.keys() - self._offsets[RECOVERY_POINT_FILE].keys())
            found += [Finding(path, f"{partition} is missing") for partition in missing]
        return found

    def _unknown(
        self, partition: TopicPartition, offsets: Mapping[TopicPartition, int], logs: Mapping[TopicPartition, LogEnds]
    ) -> str | None:
        """Until the directory is closed a checkpoint may still name what has been deleted; but a name that is one bit
        away from that of a partition which is missing says that this bit is wrong."""
        name = str(partition).encode()
        here = (str(one).encode() for one in logs.keys() - offsets.keys())
        if self.clean or any(_one_bit_apart(name, other) for other in here):
            return f"no {partition} is here"
        return None

    def _misplaced(self, name: str, offset: int, ends: LogEnds) -> str | None:
        if not 0 <= offset <= ends.end_offset:
            return f"the log ends at {ends.end_offset}"
        if self.clean and name == RECOVERY_POINT_FILE and offset != ends.end_offset:
            return f"the log was closed at {ends.end_offset}"
        if self.clean and name != CLEANER_FILE and offset < ends.first_base:
            return f"the log begins at {ends.first_base}"
        if self.clean and name == LOG_START_OFFSET_FILE and offset == ends.first_base:
            return "the log begins there anyway"
        return None


def _one_bit_apart(a: bytes, b: bytes) -> bool:
    return len(a) == len(b) and (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count() == 1


def _line(error: CorruptFileError) -> Finding:
    return Finding(error.path, f"line {error.line}: {error.what}")


def _not_canonical(path: str) -> Finding:
    return Finding(path, "not as a broker writes what it says")

"""One partition directory: the log that C keeps, and the policy around it.

Keeps true:
- The directory holds what a Kafka broker would leave there; its side files (leader epochs, topic id) are never ahead of
  the log, and the leader epochs are on disk before a recovery point past them is.
- One writer, the owner (log_owner.py): Python while `owner` is a LocalOwner, else the engine. Reading needs no owner.
- `_guard` is held by everything that takes long and by everything that ends the handle, so the maintenance thread can
  flush or retain while another thread deletes the topic. Plain reads and appends take no lock: whoever closes a log
  sees to it that nobody reads it any more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from sys import intern

from pylog._native import Log as NativeLog
from pylog._native import (
    LogInfo,
    LogSettings,
    OpenedDirectory,
    OpenReport,
    PreparedSettings,
    ProducerInfo,
    ScrubResult,
    SegmentInfo,
    SyncPoint,
    Sys,
    TimestampedOffset,
)
from pylog.config import LogConfig
from pylog.data_dir import DELETE_SUFFIX, FUTURE_SUFFIX, renamed_directory_name
from pylog.errors import ErrorCode, KafkaError
from pylog.files import (
    NO_ROOM,
    CorruptFileError,
    FlushError,
    put_in_place,
    read_file,
    sync_directory,
    sync_file,
    unlink_if_there,
)
from pylog.leader_epoch import (
    LEADER_EPOCH_FILE,
    EpochEntry,
    decode_leader_epochs,
    write_leader_epochs,
    write_leader_epochs_aside,
)
from pylog.log_owner import HostedOwner, LocalOwner, LogOwner
from pylog.logger import Logger
from pylog.partition_metadata import (
    PARTITION_METADATA_FILE,
    create_partition_metadata,
    read_partition_metadata,
    write_partition_metadata,
)
from pylog.segment import DELETED_SUFFIX, LOG_SUFFIX, segment_file_name, settle_directory
from pylog.typed import TYPE_CHECKING
from pylog.types import FOREVER, ZERO_TOPIC_ID, TopicPartition

if TYPE_CHECKING:
    from pylog._cleaning import NativeCleaning
    from pylog.retention import Deletion


def log_settings(config: LogConfig) -> LogSettings:
    """A topic's settings as C wants them."""
    return LogSettings(
        config.segment_bytes,
        min(config.segment_ms, config.max_compaction_lag_ms) if config.compact else config.segment_ms,
        min(config.segment_jitter_ms, config.segment_ms),
        config.segment_index_bytes,
        config.index_interval_bytes,
        config.flush_messages,
        config.preallocate,
    )


class Log:
    """The log of one partition in one directory. Opened by `open_log` or `create_log`, ended by `close` or
    `condemn`."""

    __slots__ = (
        "_closed",
        "_cut_bound",
        "_entry_synced",
        "_epochs_aside",
        "_epochs_on_disk",
        "_guard",
        "_on_change",
        "_rolled",
        "_segment_count",
        "config",
        "directory",
        "last_flush_ms",
        "native",
        "open_report",
        "owner",
        "partition",
        "path",
        "topic_id",
    )

    def __init__(
        self,
        partition: TopicPartition,
        path: str,
        native: NativeLog,
        *,
        config: LogConfig,
        topic_id: bytes | None,
        epochs_on_disk: Sequence[tuple[int, int]] | None,
        open_report: OpenReport,
        segment_count: int,
        entry_synced: bool,
        now_ms: int,
    ) -> None:
        """Takes the native log. now_ms: monotonic, as everywhere in this class but where wall time is said.

        epochs_on_disk: what leader-epoch-checkpoint says, None: nothing. entry_synced: the directory and its topic id
        are durable; else the first flush sees to it, since nothing in an unflushed log is.
        """
        self.partition = partition
        self.path = path
        self.directory = intern(path[: path.rindex("/")])
        self.native = native
        self.owner: LogOwner = LocalOwner(native)
        self.config = config
        self.topic_id = topic_id
        self.open_report = open_report
        self.last_flush_ms = now_ms
        self._epochs_on_disk = None if epochs_on_disk is None else tuple(epochs_on_disk)
        self._epochs_aside = False
        self._entry_synced = entry_synced
        self._rolled = False
        self._segment_count = max(segment_count - open_report.deleted_segments, 1)
        self._closed = False
        self._cut_bound: int | None = None
        self._guard = threading.RLock()
        self._on_change: Callable[[Log], None] | None = None

    # ---------------------------------------------------------------------------------- what it is. Any thread.

    def info(self) -> LogInfo:
        """Its ends and counts, as of now."""
        return self.native.info()

    def durable_ends(self) -> tuple[int, int, int] | None:
        """Log start offset, base offset of the first segment, recovery point: what checkpoints say. None when
        closed.

        The recovery point is not above the beginning of a leader epoch that is not in its file: a start would not look
        for it. While a cut is announced, none of them is above what will be left.
        """
        with self._guard:
            if self._closed:
                return None
            info = self.native.info()
            ends = info.log_start_offset, info.first_base_offset, min(info.recovery_point, self._epochs_known_to())
            if self._cut_bound is None:
                return ends
            start, first, recovery_point = ends
            return min(start, self._cut_bound), min(first, self._cut_bound), min(recovery_point, self._cut_bound)

    def _epochs_known_to(self) -> int:
        """Where the first leader epoch begins that leader-epoch-checkpoint does not know; FOREVER: it knows all."""
        known = self._epochs_on_disk or ()
        epochs = self.native.epochs()
        if tuple(epochs) == known:
            return FOREVER
        begins = dict(known)
        return min((start for epoch, start in epochs if begins.get(epoch, FOREVER) > start), default=FOREVER)

    def is_behind(self) -> bool:
        """Not all of it is durable."""
        info = self.native.info()
        return info.recovery_point < info.log_end_offset

    def end_offset(self) -> int | None:
        """Its log end offset, None when closed. For threads that cannot know whether it is."""
        with self._guard:
            return None if self._closed else self.native.info().log_end_offset

    def size_and_end(self) -> tuple[int, int] | None:
        """Bytes of its segments and its log end offset, None when closed. For threads that cannot know whether it
        is."""
        with self._guard:
            if self._closed:
                return None
            info = self.native.info()
            return info.size_bytes, info.log_end_offset

    def if_open(self, action: Callable[[], object]) -> bool:
        """Do something while nobody closes or renames it; False: it is closed, or action said False."""
        with self._guard:
            return not self._closed and action() is not False

    def segments(self) -> list[SegmentInfo]:
        """Its segments, oldest first."""
        return self.native.segments()

    def epochs(self) -> list[EpochEntry]:
        """Its leader epochs with records, oldest first."""
        return [EpochEntry(epoch, start_offset) for epoch, start_offset in self.native.epochs()]

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def hosted(self) -> bool:
        """The engine is its writer."""
        return not isinstance(self.owner, LocalOwner)

    # ---------------------------------------------------------------------------------- reading. Any thread.

    def read(self, offset: int, max_bytes: int, *, max_offset: int | None = None, check: bool = True) -> bytes:
        """Whole batches from the one that holds offset on, below max_offset (default: the end).

        At least one batch if there is one, however large. b"" at the end. Raises KafkaError OFFSET_OUT_OF_RANGE, and
        CORRUPT_MESSAGE when check is on and a CRC fails.
        """
        end = self.native.info().log_end_offset if max_offset is None else max_offset
        return self.native.read(offset, end, max_bytes, check)

    def offset_for_timestamp(self, timestamp: int, max_offset: int = FOREVER) -> TimestampedOffset | None:
        """The first record at or after timestamp and below max_offset, None when there is none."""
        return self.native.offset_for_timestamp(timestamp, max_offset)

    def max_timestamp(self) -> TimestampedOffset | None:
        """The record with the largest timestamp, the earliest of equals; None for an empty log."""
        return self.native.max_timestamp()

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """The largest epoch at or below epoch that has records, and the offset where it ends."""
        return self.native.end_offset_for_epoch(epoch)

    def producers(self) -> list[ProducerInfo]:
        """The idempotent and transactional producers it knows."""
        return self.native.producers()

    def aborted(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """(producer id, first offset, last offset) of the aborted transactions that overlap [start, end)."""
        return self.native.aborted(start, end)

    # ---------------------------------------------------------------------------------- writing by a library

    def append(self, batches: bytes, wall_ms: int) -> int:
        """Append batches that are stamped (offsets from the end on, leader epoch). Not while hosted; one thread only.

        Returns the last offset. Raises KafkaError, and then nothing was appended.
        """
        if self.hosted:
            raise RuntimeError(f"{self.path} is written by the engine")
        last = self.native.append(batches, wall_ms)
        info = self.native.info()
        if info.segment_count != self._segment_count:
            self._segment_count = info.segment_count
            self.note_rolled()
        known = self._epochs_on_disk
        if info.latest_epoch >= 0 and (not known or known[-1][0] != info.latest_epoch):
            self.note_epoch_started()
        return last

    # ---------------------------------------------------------------------------------- hosting

    def host(self, owner: LogOwner) -> None:
        """The engine has taken the native log: from now on changes go through it."""
        with self._guard:
            self.owner = owner

    def unhost(self) -> None:
        """The engine, which has ended, gives the native log back."""
        with self._guard:
            self.owner = LocalOwner(self.native)

    # ------------------------------------------------------------------------------ what happened to it. Any thread.

    def on_change(self, listener: Callable[[Log], None]) -> None:
        """listener is told when `catch_up` has something to do."""
        self._on_change = listener

    def note_rolled(self) -> None:
        """It has a new segment: the ones before are to be flushed in the background."""
        self._rolled = True
        self._changed()

    def note_epoch_started(self) -> None:
        """An epoch got its first record: the leader epochs are to be written in the background."""
        self._changed()

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change(self)

    def catch_up(self, now_ms: int) -> None:
        """Do what `note_rolled` and `note_epoch_started` asked for. Raises OSError."""
        if self._rolled:
            self._rolled = False
            self.flush(now_ms)
        else:
            self.write_epochs()

    # ---------------------------------------------------------------------------------- policy. Any thread.

    def configure(self, config: LogConfig) -> None:
        """Take up changed topic settings."""
        with self._guard:
            self.config = config
            if not self._closed:
                self.owner.configure(log_settings(config))

    def assign_topic_id(self, topic_id: bytes) -> None:
        """Note the topic id of a directory that had none. Raises INCONSISTENT_TOPIC_ID when it has another one."""
        if self.topic_id == topic_id or topic_id == ZERO_TOPIC_ID:
            return
        if self.topic_id is not None:
            raise KafkaError(ErrorCode.INCONSISTENT_TOPIC_ID, f"{self.path} belongs to another topic of this name")
        write_partition_metadata(os.path.join(self.path, PARTITION_METADATA_FILE), topic_id)
        self.topic_id = topic_id

    def write_epochs(self) -> None:
        """Bring leader-epoch-checkpoint up to date. Raises OSError."""
        with self._guard:
            if self._closed:
                return
            epochs = tuple(self.native.epochs())
            if epochs != self._epochs_on_disk:
                write_leader_epochs(os.path.join(self.path, LEADER_EPOCH_FILE), epochs)
                self._epochs_on_disk = epochs

    def flush(self, now_ms: int) -> None:
        """Make everything up to the present end durable, and the recovery point with it; nothing when it is closed.

        The leader epochs go first: what checkpoints say does not pass an epoch that only memory knows. Raises OSError;
        FlushError when the kernel could not write, and then what was to be flushed may be lost and is not tried again.
        """
        with self._guard:
            if self._closed:
                return
            self.write_epochs()
            try:
                self.native.flush()
                if not self._entry_synced:
                    sync_file(os.path.join(self.path, PARTITION_METADATA_FILE))
                    sync_directory(self.directory)
                    self._entry_synced = True
            except OSError as e:
                raise FlushError(e.errno, e.strerror, self.path) from e
            self.last_flush_ms = now_ms

    def before_shared_sync(self) -> SyncPoint | None:
        """What a sync of its file system that begins now makes durable, as `flush` would; None when it is closed.
        Raises OSError."""
        with self._guard:
            if self._closed:
                return None
            self.write_epochs()
            return self.native.sync_point()

    def after_shared_sync(self, durable: SyncPoint, now_ms: int) -> None:
        """It is durable."""
        with self._guard:
            if not self._closed:
                self.native.synced(durable)
                self._entry_synced = True
                self.last_flush_ms = now_ms

    def flush_if_due(self, now_ms: int) -> bool:
        """Flush when flush.ms has passed since the last one and something is not durable. Raises OSError."""
        with self._guard:
            if self._closed or now_ms - self.last_flush_ms < self.config.flush_ms:
                return False
            if not self.is_behind():
                return False
            self.flush(now_ms)
            return True

    def scrub(self, base_offset: int, position: int, most_bytes: int) -> ScrubResult | None:
        """Compare CRCs in a closed segment, from a position where a batch begins; None when it is not there (any more),
        or the log is closed. Raises OSError."""
        with self._guard:
            return None if self._closed else self.native.scrub(base_offset, position, most_bytes)

    def retain(self, wall_ms: int) -> Deletion | None:
        """Set aside the segments that retention or the log start offset lets go. Says what it did. Raises OSError."""
        with self._guard:
            if self._closed:
                return None
            from pylog.retention import Limits, segments_to_delete  # not before the first retention

            info = self.native.info()
            if rebuilt := self.native.take_rebuilt_indexes():
                _logger(self.partition, self.path).warn("indexes led astray, built anew", indexes=rebuilt)
            deletion = segments_to_delete(
                self.native.segments(),
                Limits(self.config.retention_ms, self.config.retention_bytes, self.config.delete),
                log_start=info.log_start_offset,
                high_watermark=self.owner.high_watermark(),
                now_ms=wall_ms,
            )
            if deletion is None:
                return None
            if deletion.roll_first and not self._roll_if_room(wall_ms):
                # the active segment has to stay, all others may go
                last = self.native.segments()[-1].base_offset
                start = min(deletion.start_offset, last)
                deletion = deletion._replace(segment_count=deletion.segment_count - 1, start_offset=start)
            if deletion.start_offset > info.log_start_offset:
                self.owner.set_start(deletion.start_offset)
            self.owner.delete_segments(deletion.start_offset)
            self._write_epochs_if_room()
            return deletion

    def _roll_if_room(self, wall_ms: int) -> bool:
        try:
            self.owner.roll(wall_ms)
        except OSError as e:
            if e.errno not in NO_ROOM:
                raise
            return False
        return True

    def _write_epochs_if_room(self) -> None:
        """Where the log only became shorter: a file that says more than is there does no harm, and deleting must not
        need room. It is written with the next flush."""
        try:
            self.write_epochs()
        except OSError as e:
            if e.errno not in NO_ROOM:
                raise

    def set_start(self, offset: int) -> int:
        """Raise the log start offset; returns where it is. Raises OFFSET_OUT_OF_RANGE above the high watermark.

        Epochs that ended below it are forgotten, so their file follows.
        """
        with self._guard:
            start = self.owner.set_start(offset)
            self._write_epochs_if_room()
            return start

    def announce_cut(self, offset: int, fully: bool) -> bool:
        """Until it is cut, or that is called off, `durable_ends` says no more than will be left when it is cut at
        offset. Says whether a checkpoint may say more, and has to be written before."""
        with self._guard:
            ends = self.durable_ends()
            if ends is None or (ends[2] <= offset and ends[0] <= min(ends[1], offset)):
                return False
            # the batch that holds offset goes as a whole; it is in one segment
            bases = () if fully else (segment.base_offset for segment in self.segments())
            self._cut_bound = max((base for base in bases if base <= offset), default=offset)
            return max(ends[0], ends[2]) > self._cut_bound

    def call_off_cut(self) -> None:
        """It is not cut."""
        with self._guard:
            self._cut_bound = None

    def is_cut(self, offset: int, fully: bool) -> bool:
        """Whether a cut was made, though something after it failed. One that was taken offline meanwhile is not cut."""
        if not self.is_open():
            return False
        info = self.info()
        return info.log_start_offset == offset if fully else info.log_end_offset <= offset

    def truncate(self, offset: int, wall_ms: int) -> None:
        """Cut everything at and above offset, as a follower does. Checkpoints that say more are lowered before, see
        `announce_cut`."""
        with self._guard:
            try:
                self.owner.truncate(offset, wall_ms)
            finally:
                self._cut_bound = None
            self.write_epochs()

    def truncate_fully(self, offset: int, wall_ms: int) -> None:
        """Drop everything and start empty at offset. Checkpoints that say more are lowered before, see
        `announce_cut`."""
        with self._guard:
            try:
                self.owner.truncate_fully(offset, wall_ms)
            finally:
                self._cut_bound = None
            self.write_epochs()

    def roll(self, wall_ms: int) -> None:
        """Start a new segment unless the active one is empty."""
        with self._guard:
            self.owner.roll(wall_ms)
            self._segment_count = self.native.info().segment_count

    def is_open(self) -> bool:
        """Nobody has closed it yet."""
        return not self._closed

    def replace_segments(self, cleaning: NativeCleaning) -> None:
        """Put what a pass of compaction has finished in its place. Raises OSError, KafkaError, and
        NativeError when the log has changed since."""
        with self._guard:
            self.owner.replace(cleaning)
            self._segment_count = self.native.info().segment_count

    def expire_producers(self, before_wall_ms: int) -> int:
        """Forget idempotent producers that wrote nothing since; how many. Without any the owner is not woken."""
        with self._guard:
            if self._closed or not self.native.info().producer_count:
                return 0
            return self.owner.expire_producers(before_wall_ms)

    def deleted_files(self) -> list[str]:
        """Paths of files set aside, to be unlinked after file.delete.delay.ms."""
        names = os.listdir(self.path)
        return [os.path.join(self.path, name) for name in names if name.endswith(DELETED_SUFFIX)]

    # ---------------------------------------------------------------------------------- in another directory

    def copy_from(self, source: Log, most_bytes: int, wall_ms: int) -> int | None:
        """Append what follows in source, of which this is a copy: how many bytes, None when either is closed. Raises
        OSError with the directory that failed as its filename, KafkaError."""
        with self._guard, source._guard:
            if self._closed or source._closed:
                return None
            copied = self.native.copy_from(source.native, most_bytes, wall_ms)
            rolled = self.native.info().segment_count
            if rolled != self._segment_count:
                self._segment_count = rolled
                self.note_rolled()
            return copied

    def take_place_of(self, source: Log, most_bytes: int, wall_ms: int) -> bool:
        """Be the partition's log from now on, hosted if source was, under the name that says so. False: more than
        most_bytes were missing, of which some were copied, or one of them is closed.

        The new name is the caller's to make durable. Raises OSError, KafkaError.
        """
        with self._guard, source._guard:
            if self._closed or source._closed:
                return False
            path = f"{self.directory}/{self.partition.directory_name}"
            owner = source.owner
            if not isinstance(owner, (LocalOwner, HostedOwner)):
                raise RuntimeError(f"{source.path} is written by an appender, which stays with it")
            if not owner.exchange(self.native, path, most_bytes, wall_ms):
                return False
            self.path = path
            if source.hosted:
                self.owner, source.owner = source.owner, LocalOwner(source.native)
            return True

    def take_name(self) -> None:
        """Be called as the partition's log is called. Not while hosted; the caller makes it durable. Raises OSError."""
        with self._guard:
            path = f"{self.directory}/{self.partition.directory_name}"
            self.native.rename(path)
            self.path = path

    # ---------------------------------------------------------------------------------- the end of it

    def close_waits(self) -> bool:
        """Whether a clean close would wait for the disk. Not while hosted."""
        return not self._closed and self.native.close_waits()

    def close(self, clean: bool, synced: bool = True) -> None:
        """Let go. clean: flush and leave the files so that the next open reads nothing; raises OSError when that fails.

        The entry in the data directory is the caller's to sync, once for all logs in it. synced False: so are all the
        files, by a sync of their file system, then `put_epochs` and, if that says so, another one.
        The handle is gone in either case. Nobody reads or appends any more; not while hosted.
        """
        with self._guard:
            if self._closed:
                return
            if self.hosted:
                raise RuntimeError(f"{self.path} is still hosted")
            try:
                if clean and not synced:
                    self._write_epochs_aside()
                elif clean:
                    self.write_epochs()
                    # of a log that never had a record nothing has to survive: the topic says its id again
                    if not self._entry_synced and self.native.info().log_end_offset:
                        sync_file(os.path.join(self.path, PARTITION_METADATA_FILE))
            finally:
                self._closed = True
                self.native.close(clean, synced)

    def _write_epochs_aside(self) -> None:
        epochs = tuple(self.native.epochs())
        if epochs != self._epochs_on_disk:
            write_leader_epochs_aside(os.path.join(self.path, LEADER_EPOCH_FILE), epochs)
            self._epochs_aside = True

    def put_epochs(self) -> bool:
        """Let leader-epoch-checkpoint be what an unsynced close wrote, which is durable now. Says whether there was
        anything. Raises OSError."""
        if self._epochs_aside:
            put_in_place(os.path.join(self.path, LEADER_EPOCH_FILE))
        return self._epochs_aside

    def condemn(self) -> str:
        """Close it and rename its directory for deletion. Returns the new path, which the caller makes durable, once
        for all logs of a data directory. Raises OSError."""
        with self._guard:
            self.close(clean=False)
            condemned = f"{self.directory}/{renamed_directory_name(self.partition, DELETE_SUFFIX)}"
            os.rename(self.path, condemned)
            return condemned


def unhost_all(logs: Sequence[Log], give_back: Callable[[], object]) -> None:
    """The engine gives native logs back: give_back asks it to, while no policy is at work on any of them.

    Nobody else holds more than one log's guard at a time, so the order in which these are taken does not matter.
    """
    taken = 0
    try:
        for log in logs:
            log._guard.acquire()
            taken += 1
        give_back()
        for log in logs:
            log.owner = LocalOwner(log.native)
    finally:
        for log in logs[:taken]:
            log._guard.release()


def create_log(
    sys: Sys,
    partition: TopicPartition,
    directory: str,
    *,
    config: LogConfig,
    topic_id: bytes | None,
    now_ms: int,
    wall_ms: int,
    future: bool = False,
) -> Log:
    """A new, empty log in a new directory below the data directory, under a name of its own when it is to be a copy of
    one that is somewhere else. Raises OSError, FileExistsError when it is there."""
    name = partition.directory_name
    path = f"{directory}/{renamed_directory_name(partition, FUTURE_SUFFIX) if future else name}"
    os.mkdir(path, 0o755)
    try:
        if topic_id == ZERO_TOPIC_ID:
            topic_id = None
        if topic_id is not None:
            create_partition_metadata(f"{path}/{PARTITION_METADATA_FILE}", topic_id)
        os.close(os.open(f"{path}/{LEADER_EPOCH_FILE}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        native, report = NativeLog.open(
            sys,
            path,
            log_settings(config),
            [],
            log_start=0,
            recovery_point=0,
            clean=True,
            epochs=[],
            now_ms=wall_ms,
        )
    except OSError:
        _remove_half_made(path)
        raise
    return Log(
        partition,
        path,
        native,
        config=config,
        topic_id=topic_id,
        epochs_on_disk=[],
        open_report=report,
        segment_count=1,
        entry_synced=False,
        now_ms=now_ms,
    )


def _remove_half_made(path: str) -> None:
    """A directory that a failed creation left must not stand in the way of the next try. No record was ever in it."""
    try:
        for name in os.listdir(path):
            unlink_if_there(os.path.join(path, name))
        os.rmdir(path)
    except OSError as e:
        Logger("Log").warn("half-made partition directory stays", path=path, error=e)


def open_log(
    sys: Sys,
    partition: TopicPartition,
    path: str,
    *,
    config: LogConfig,
    recovery_point: int,
    log_start: int,
    clean: bool,
    now_ms: int,
    wall_ms: int,
    prepared: PreparedSettings | None = None,
) -> Log:
    """Open the log in a partition directory, putting right what was left half done. Raises OSError, KafkaError.

    clean: the data directory was closed in order, so nothing is read. Otherwise everything at or past recovery_point is
    checked and the torn tail cut. A broken side file is told and made again from the log. prepared: of config, from who
    opens many.
    """
    try:
        if prepared is None:
            prepared = PreparedSettings(log_settings(config))
        found = NativeLog.open_directory(sys, path, prepared, log_start, recovery_point, clean, wall_ms)
        if found is None:
            found = _open_by_names(sys, partition, path, config, log_start, recovery_point, clean, wall_ms)
    except KafkaError as e:
        old = e.code == ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT
        what = (
            "holds messages from before Kafka 0.11, which pylog does not read"
            if old
            else f"cannot be opened: {e.message}"
        )
        raise KafkaError(e.code, f"{path} {what}") from e
    opened = Log(
        partition,
        path,
        found.log,
        config=config,
        topic_id=found.topic_id,
        epochs_on_disk=found.epochs,
        open_report=found.report,
        segment_count=found.segment_count,
        entry_synced=clean,
        now_ms=now_ms,
    )
    if found.log.epochs_changed or found.epochs is None:
        try:
            opened.write_epochs()
        except OSError:
            opened.close(clean=False)
            raise
    return opened


def _open_by_names(
    sys: Sys,
    partition: TopicPartition,
    path: str,
    config: LogConfig,
    log_start: int,
    recovery_point: int,
    clean: bool,
    now_ms: int,
) -> OpenedDirectory:
    """The same, whatever lies there: what was left half done is settled first. Raises OSError, KafkaError."""
    settled = settle_directory(path, _end_of_log_file)
    if settled.removed or settled.completed:
        _logger(partition, path).info(
            "leftovers settled", removed=len(settled.removed), completed=len(settled.completed)
        )
    bases = settled.base_offsets
    topic_id, epochs = _read_side_files(partition, path, bases)
    native, report = NativeLog.open(
        sys,
        path,
        log_settings(config),
        bases,
        log_start=log_start,
        recovery_point=recovery_point,
        clean=clean,
        epochs=epochs if epochs is not None or bases else [],
        now_ms=now_ms,
    )
    return OpenedDirectory(native, report, len(bases), topic_id, epochs)


def _end_of_log_file(path: str) -> int:
    """Only an interrupted compaction asks, so only it loads what reads records."""
    from pylog.records import end_of_log_file

    return end_of_log_file(path)


def _logger(partition: TopicPartition, path: str) -> Logger:
    return Logger(f"Log partition={partition}, dir={os.path.dirname(path)}")


def _read_side_files(
    partition: TopicPartition, path: str, bases: list[int]
) -> tuple[bytes | None, list[EpochEntry] | None]:
    """Topic id and leader epochs; None for what is missing or broken."""
    topic_id: bytes | None = None
    epochs: list[EpochEntry] | None = None
    try:
        topic_id = read_partition_metadata(f"{path}/{PARTITION_METADATA_FILE}")
    except CorruptFileError as e:
        _logger(partition, path).warn("topic id unreadable until the topic says it again", error=e)
    file = f"{path}/{LEADER_EPOCH_FILE}"
    try:
        data = read_file(file)
        if data is not None:
            epochs = decode_leader_epochs(file, data)
    except CorruptFileError as e:
        _logger(partition, path).warn("leader epochs unreadable, taken from the batches", error=e)
    else:
        # A file of 0 bytes is right until the first record; later there are entries, or it says that there are none.
        if not data and _has_records(path, bases):
            epochs = None
            _logger(partition, path).warn("leader epochs missing, taken from the batches", file=file)
    return topic_id, epochs


def _has_records(path: str, bases: list[int]) -> bool:
    return len(bases) > 1 or bool(bases and os.stat(f"{path}/{segment_file_name(bases[0], LOG_SUFFIX)}").st_size)

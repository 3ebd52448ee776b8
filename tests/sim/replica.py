"""One replica of a partition, real: csrc's log and partition on a disk in memory (native/replica.h).

What stays true: it outlives the process that hosts it; what a crash leaves is decided by the disk, and what was known
to be flushed is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pylog._engine import PartitionState, ReplicaInfo
from tests.sim.native.build import load

_native: Any = load()
_ffi: Any = _native.ffi
_lib: Any = _native.lib

KEEP_ALL, KEEP_NONE, KEEP_SIZES, KEEP_DATA, KEEP_SOME = range(5)
_BUFFER_BYTES = 1 << 16
_BATCHES = 4096
_FOLLOWERS = 16

_buffer = _ffi.new("uint8_t[]", _BUFFER_BYTES)
_info = _ffi.new("sim_info *")
_appended = _ffi.new("sim_appended *")
_fetched = _ffi.new("sim_fetched *")
_batches = _ffi.new("sim_batch[]", _BATCHES)
_followers = _ffi.new("sim_follower[]", _FOLLOWERS)
_i32 = _ffi.new("int32_t *")
_i64 = _ffi.new("int64_t *")


class Info(NamedTuple):
    role: int
    leader_epoch: int
    latest_epoch: int
    isr_count: int
    log_start: int
    log_end: int
    high_watermark: int


class Appended(NamedTuple):
    error: int
    base_offset: int
    last_offset: int
    duplicate: bool


class Fetched(NamedTuple):
    error: int
    diverging: bool
    diverging_epoch: int
    diverging_end: int
    high_watermark: int
    log_start: int
    records: bytes
    moved: bool


class Batch(NamedTuple):
    base_offset: int
    last_offset: int
    leader_epoch: int
    crc: int


class Replica:
    """recovery_point: what its data directory's checkpoint says is on the disk. told_replicas: of which brokers it was
    told last that they have the partition."""

    __slots__ = ("_pointer", "checked_end", "directory", "log_start", "recovery_point", "told_replicas", "topic_id")

    def __init__(self, segment_bytes: int, topic_id: bytes, directory: str) -> None:
        self._pointer = _lib.sim_open(segment_bytes)
        self.topic_id = topic_id
        self.directory = directory
        self.recovery_point = 0
        self.log_start = 0
        self.told_replicas: tuple[int, ...] = ()
        self.checked_end = 0
        """How far the checkers have compared it with what is committed."""

    def free(self) -> None:
        _lib.sim_close(self._pointer)
        self._pointer = None

    def crash(self, survivors: int, seed: int) -> None:
        rc = _lib.sim_crash(self._pointer, survivors, seed, self.log_start, self.recovery_point)
        assert rc == 0, f"the log does not open after a crash: {rc}"
        self.checked_end = 0

    def publish(self, broker_id: int, lag_max_ms: int, state: PartitionState, now_ms: int) -> int:
        self.told_replicas = tuple(state.replicas)
        replicas = _ffi.new("int32_t[]", list(state.replicas))
        isr = _ffi.new("int32_t[]", list(state.isr))
        joining = _ffi.new("int32_t[]", list(state.joining))
        published = _ffi.new(
            "sim_state *",
            (
                state.role,
                state.leader_epoch,
                state.leader_id,
                replicas,
                len(state.replicas),
                isr,
                len(state.isr),
                joining,
                len(state.joining),
                state.min_insync_replicas,
                state.high_watermark,
            ),
        )
        return int(_lib.sim_publish(self._pointer, broker_id, lag_max_ms, published, now_ms))

    def unhost(self) -> None:
        _lib.sim_unhost(self._pointer)

    # ------------------------------------------------------------------ as the leader

    def append(self, data: bytes, acks: int, now_ms: int) -> Appended:
        size = len(data)
        _ffi.memmove(_buffer, data, size)
        rc = _lib.sim_append(self._pointer, _buffer, size, acks, now_ms, _appended)
        return Appended(rc, _appended.base_offset, _appended.last_offset, bool(_appended.duplicate))

    def enough_replicas(self) -> int:
        return int(_lib.sim_enough_replicas(self._pointer))

    def fetch(
        self,
        replica_id: int,
        broker_epoch: int,
        current_epoch: int,
        last_epoch: int,
        offset: int,
        log_start: int,
        notes_progress: bool,
        now_ms: int,
    ) -> Fetched:
        out = _fetched
        _lib.sim_fetch(
            self._pointer,
            replica_id,
            broker_epoch,
            current_epoch,
            last_epoch,
            offset,
            log_start,
            notes_progress,
            now_ms,
            _buffer,
            _BUFFER_BYTES,
            out,
        )
        records = bytes(_ffi.buffer(_buffer, out.size_bytes)) if out.size_bytes else b""
        return Fetched(
            out.error,
            bool(out.diverging),
            out.diverging_epoch,
            out.diverging_end,
            out.high_watermark,
            out.log_start,
            records,
            bool(out.high_watermark_moved),
        )

    def check_lag(self, now_ms: int) -> None:
        _lib.sim_check_lag(self._pointer, now_ms)

    def take_isr_fact(self) -> tuple[int, bool] | None:
        broker_id = _lib.sim_take_isr_fact(self._pointer, _i32)
        return None if broker_id < 0 else (broker_id, bool(_i32[0]))

    def followers(self, now_ms: int) -> list[ReplicaInfo]:
        count = _lib.sim_followers(self._pointer, now_ms, _followers, _FOLLOWERS)
        return [
            ReplicaInfo(
                each.broker_id,
                bool(each.in_isr),
                bool(each.joining),
                each.log_end,
                each.log_start,
                each.lag_ms,
                each.broker_epoch,
            )
            for each in _followers[0:count]
        ]

    # ------------------------------------------------------------------ as a follower

    def append_follower(self, data: bytes, high_watermark: int, log_start: int) -> int:
        return int(_lib.sim_append_follower(self._pointer, data, len(data), high_watermark, log_start))

    def truncate(self, offset: int, fully: bool) -> int:
        self.checked_end = min(self.checked_end, 0 if fully else offset)
        self.recovery_point = min(self.recovery_point, offset)
        return int(_lib.sim_truncate(self._pointer, offset, fully))

    # ------------------------------------------------------------------ asking

    def info(self) -> Info:
        _lib.sim_info_read(self._pointer, _info)
        out = _info
        return Info(
            out.role,
            out.leader_epoch,
            out.latest_epoch,
            out.isr_count,
            out.log_start,
            out.log_end,
            out.high_watermark,
        )

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        _lib.sim_epoch_end(self._pointer, epoch, _i32, _i64)
        return _i32[0], _i64[0]

    def delete_records(self, offset: int) -> int:
        """Where the log starts then, or minus the error."""
        rc = _lib.sim_delete_records(self._pointer, offset, _i64)
        return -rc if rc else int(_i64[0])

    def flush(self) -> None:
        """A background flush, and the checkpoint of the recovery point after it."""
        rc = _lib.sim_flush(self._pointer, _i64)
        assert rc == 0, rc
        self.recovery_point = max(self.recovery_point, _i64[0])
        self.log_start = self.info().log_start

    def forget_producers(self) -> None:
        rc = _lib.sim_forget_producers(self._pointer)
        assert rc == 0, rc

    def batches(self, start: int, end: int) -> Sequence[Batch]:
        count = _lib.sim_batches(self._pointer, start, end, _batches, _BATCHES)
        assert count >= 0, f"cannot be read: {-count}"
        return [Batch(each.base_offset, each.last_offset, each.leader_epoch, each.crc) for each in _batches[0:count]]

    def has_hole(self) -> bool:
        """Offsets are missing between two batches, or between the last one and the end: of a segment that was full and
        not flushed nothing came back, but the next one did."""
        info = self.info()
        at = info.log_start
        for batch in self.batches(info.log_start, info.log_end):
            if batch.base_offset > at:
                return True
            at = batch.last_offset + 1
        return at < info.log_end

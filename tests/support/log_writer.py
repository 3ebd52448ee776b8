"""Writes a small data directory for tests of tools: one partition, as a broker of one replica leaves it."""

from pathlib import Path

from pylog._native import Sys
from pylog.clock import ManualClock
from pylog.compression import Codec
from pylog.config import LogConfig
from pylog.log_manager import LogManager, LogManagerConfig
from pylog.records import EndMarker, Header, NewRecord, RecordBatchBuilder
from pylog.types import TopicPartition

PARTITION = TopicPartition("t", 0)
TOPIC_ID = bytes(range(16))
NOW = 1_700_000_000_000
CONFIG = LogConfig(segment_bytes=500, index_interval_bytes=90, segment_index_bytes=48)
_PRODUCER = 7


class LogWriter:
    """A data directory that is held and written until `stop`. Record i has timestamp NOW + 10 i or a little more."""

    def __init__(self, path: Path, system: Sys, config: LogConfig = CONFIG) -> None:
        self.path = path
        self.manager = LogManager(
            LogManagerConfig((str(path),)), sys=system, clock=ManualClock(NOW), config_of=lambda topic: config
        )
        self.manager.load()
        self.log = self.manager.get(PARTITION) or self.manager.create(PARTITION, TOPIC_ID)
        self.builder = RecordBatchBuilder()
        self.sequence = 0

    @property
    def partition(self) -> Path:
        return self.path / str(PARTITION)

    @property
    def end(self) -> int:
        return self.log.info().log_end_offset

    def write(
        self,
        count: int,
        epoch: int = 0,
        *,
        transactional: bool = False,
        codec: Codec = Codec.NONE,
        value: bytes | None = None,
        headers: tuple[Header, ...] = (),
    ) -> None:
        """One batch; values are their offsets unless said otherwise."""
        records = [
            NewRecord(NOW + 10 * self.end + i, b"k", b"%d" % (self.end + i) if value is None else value, headers)
            for i in range(count)
        ]
        data = self.builder.build(
            records,
            base_offset=self.end,
            codec=codec,
            transactional=transactional,
            producer_id=_PRODUCER if transactional else -1,
            producer_epoch=0 if transactional else -1,
            base_sequence=self.sequence if transactional else -1,
            leader_epoch=epoch,
        )
        self.sequence += count if transactional else 0
        self.log.append(data, NOW)

    def end_transaction(self, epoch: int = 0, *, commit: bool) -> None:
        marker = self.builder.build_end_marker(
            EndMarker(commit, 0),
            timestamp=NOW + 10 * self.end,
            producer_id=_PRODUCER,
            producer_epoch=0,
            base_offset=self.end,
            leader_epoch=epoch,
        )
        self.log.append(marker, NOW)

    def stop(self, clean: bool = True) -> None:
        self.builder.close()
        self.manager.shutdown(clean)

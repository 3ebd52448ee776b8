"""One pass of compaction: 300,000 records of 100 bytes over 60,000 keys, three segments into one."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.micro.bench_batch import NOW_MS
from pylog._native import Sys
from pylog.cleanable import DirtySection
from pylog.cleaner import clean_log
from pylog.compaction import CleanerConfig
from pylog.config import LogConfig
from pylog.log import Log, create_log
from pylog.records import NewRecord, RecordBatchBuilder
from pylog.types import TopicPartition

RECORDS = 300_000
PER_BATCH = 150
KEYS = RECORDS // 5
CONFIG = LogConfig(segment_bytes=16 << 20, cleanup_policy=("compact",))


@pytest.fixture(scope="module")
def content() -> list[bytes]:
    builder = RecordBatchBuilder()
    chance = random.Random(1)
    made = []
    for base in range(0, RECORDS, PER_BATCH):
        records = [NewRecord(NOW_MS, b"key-%09d" % chance.randrange(KEYS), b"v" * 100) for _ in range(PER_BATCH)]
        made.append(builder.build(records, base_offset=base, leader_epoch=0))
    builder.close()
    return made


class Fresh:
    """The same log anew for every round."""

    def __init__(self, root: Path, content: list[bytes]) -> None:
        self._root = root
        self._content = content
        self._number = 0
        self.system = Sys()
        self._logs: list[Log] = []

    def make(self) -> tuple[tuple[Log, DirtySection], dict[str, object]]:
        self._number += 1
        directory = self._root / str(self._number)
        directory.mkdir()
        log = create_log(
            self.system,
            TopicPartition("keys", 0),
            str(directory),
            config=CONFIG,
            topic_id=None,
            now_ms=0,
            wall_ms=NOW_MS,
        )
        self._logs.append(log)
        for batch in self._content:
            log.append(batch, NOW_MS)
        log.roll(NOW_MS)
        return (log, DirtySection(0, RECORDS, 0, log.info().size_bytes, False)), {}

    def close(self) -> None:
        for log in self._logs:
            log.close(clean=False)
        self.system.close()


@pytest.fixture
def fresh(tmp_path: Path, content: list[bytes]) -> Iterator[Fresh]:
    made = Fresh(tmp_path, content)
    yield made
    made.close()


def bench_pass(benchmark: Any, fresh: Fresh) -> None:
    def run(log: Log, section: DirtySection) -> None:
        stats = clean_log(fresh.system, log, section, CleanerConfig(), NOW_MS)
        assert stats.next_dirty_offset == RECORDS and stats.records_kept < KEYS

    benchmark.extra_info["records"] = RECORDS
    benchmark.pedantic(run, setup=fresh.make, rounds=7, warmup_rounds=1)

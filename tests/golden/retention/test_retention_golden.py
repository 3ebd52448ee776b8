"""Which segments are left, and where new ones began: as Apache Kafka's log manager decided in the same cases."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylog._native import Sys
from pylog.config import LogConfig
from pylog.errors import ErrorCode, KafkaError
from pylog.log import Log, create_log
from pylog.types import TopicPartition
from tests.golden.retention.cases import ALL_KEPT, BATCH_BYTES, CASES, Left, batch_of

KAFKAS: dict[str, Left] = {
    topic: Left(*left) for topic, left in json.loads((Path(__file__).parent / "kafka39.json").read_text()).items()
}


@pytest.fixture
def system() -> Iterator[Sys]:
    table = Sys()
    yield table
    table.close()


def test_every_case_was_put_to_kafka() -> None:
    assert KAFKAS.keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_the_same_segments_are_left(name: str, tmp_path: Path, system: Sys) -> None:
    case, wanted = CASES[name], KAFKAS[name]
    now_ms = time.time_ns() // 1_000_000  # a segment without times is as old as its file
    writing = LogConfig().with_overrides(ALL_KEPT | case.writing)
    log = create_log(
        system, TopicPartition(name, 0), str(tmp_path), config=writing, topic_id=None, now_ms=0, wall_ms=now_ms
    )
    for number in range(len(case.ages_h)):
        batch = batch_of(case, number, now_ms, offset=number, leader_epoch=0)
        assert len(batch) == BATCH_BYTES
        log.append(batch, now_ms)
    if case.deleted is not None and wanted.error != ErrorCode.POLICY_VIOLATION:  # that is the broker's to say
        assert delete_records(log, case.deleted) == wanted.error
    log.configure(writing.with_overrides(ALL_KEPT | case.writing | case.then))
    while log.retain(now_ms + 5_000):
        pass
    info = log.info()
    assert (info.log_start_offset, [s.base_offset for s in log.segments()]) == (wanted.log_start, wanted.bases)
    assert info.log_end_offset == len(case.ages_h)
    log.close(clean=False)


def delete_records(log: Log, offset: int) -> int:
    try:
        log.set_start(log.owner.high_watermark() if offset == -1 else offset)
    except KafkaError as e:
        return e.code
    return 0

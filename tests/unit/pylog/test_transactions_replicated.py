"""Transactions while followers are behind: what is over on the leader only is not over for readers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pylog._engine import ROLE_FOLLOWER, ROLE_LEADER
from pylog.errors import ErrorCode, KafkaError
from pylog.records import EndMarker, RecordBatchBuilder
from tests.unit.pylog.engine_client import LEADER, WALL_MS, Client, Host, Hosted, batch

REPLICATED = LEADER._replace(replicas=(1, 2), isr=(1, 2), high_watermark=0)
FOLLOWER = LEADER._replace(role=ROLE_FOLLOWER, leader_id=2, replicas=(1, 2), isr=(1, 2), high_watermark=0)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path).start()
    yield host
    host.close()


@pytest.fixture
def builder() -> Iterator[RecordBatchBuilder]:
    made = RecordBatchBuilder()
    yield made
    made.close()


def stamped(builder: RecordBatchBuilder, offset: int, producer_id: int, ends: EndMarker | None) -> bytes:
    """What a leader of epoch 0 would have in its log: a record of a transaction, or its end."""
    if ends is not None:
        return builder.build_end_marker(
            ends, timestamp=WALL_MS, producer_id=producer_id, producer_epoch=0, base_offset=offset, leader_epoch=0
        )
    data = bytearray(batch([b"x"], producer=(producer_id, 0, -1), transactional=True))
    data[0:8] = offset.to_bytes(8, "big")
    data[12:16] = (0).to_bytes(4, "big")
    return bytes(data)


class Log:
    """A hosted log that is appended to as its role asks."""

    def __init__(self, host: Host, hosted: Hosted, builder: RecordBatchBuilder) -> None:
        self.host = host
        self.hosted = hosted
        self.builder = builder

    def append(self, producer_id: int, ends: EndMarker | None = None) -> None:
        info = self.host.engine.partition_info(self.hosted.number)
        data = stamped(self.builder, info.log_end_offset, producer_id, ends)
        if info.role == ROLE_LEADER:
            assert not self.host.engine.append(self.hosted.number, data, 0).committed
        else:
            self.host.engine.append_follower(self.hosted.number, data, 0, 0)

    def ends(self) -> tuple[int, int, int]:
        info = self.host.engine.partition_info(self.hosted.number)
        return info.last_stable_offset, info.high_watermark, info.log_end_offset


ABORT, COMMIT = EndMarker(False, 0), EndMarker(True, 0)
HISTORY: list[tuple[int, EndMarker | None]] = [(1, None), (2, None), (1, ABORT), (3, None), (2, COMMIT), (3, ABORT)]
# By high watermark: the first transaction that is open, or whose end is at or above it.
STABLE = [0, 0, 0, 1, 1, 3, 6]


def follower_has(client: Client, offset: int) -> None:
    assert client.fetch(offset, replica_id=2).error_code == 0


def test_a_leader_waits_for_followers(host: Host, builder: RecordBatchBuilder) -> None:
    log = Log(host, host.host(state=REPLICATED), builder)
    for producer_id, ends in HISTORY:
        log.append(producer_id, ends)
    with host.client() as client:
        for high_watermark, stable in enumerate(STABLE):
            follower_has(client, high_watermark)
            assert log.ends() == (stable, high_watermark, 6)
            part = client.fetch(0, isolation=1)
            assert part.last_stable_offset == stable
            assert (part.records == b"") == (stable == 0)


def test_a_follower_waits_for_its_leaders_high_watermark(host: Host, builder: RecordBatchBuilder) -> None:
    hosted = host.host(state=FOLLOWER)
    log = Log(host, hosted, builder)
    for producer_id, ends in HISTORY:
        log.append(producer_id, ends)
    for high_watermark, stable in enumerate(STABLE):
        host.engine.append_follower(hosted.number, b"", high_watermark, 0)
        assert log.ends() == (stable, high_watermark, 6)


@pytest.mark.parametrize("kept", range(7))
def test_truncated_the_end_of_a_transaction_is_taken_back(host: Host, builder: RecordBatchBuilder, kept: int) -> None:
    hosted = host.host(state=FOLLOWER)
    log = Log(host, hosted, builder)
    for producer_id, ends in HISTORY:
        log.append(producer_id, ends)
    host.engine.truncate(hosted.number, kept, False)
    opened: dict[int, int] = {}
    for offset, (producer_id, ends) in enumerate(HISTORY[:kept]):
        if ends is None:
            opened.setdefault(producer_id, offset)
        else:
            del opened[producer_id]
    host.engine.append_follower(hosted.number, b"", kept, 0)
    assert log.ends() == (min(opened.values(), default=kept), kept, kept)
    for producer_id, ends in HISTORY[kept:]:
        log.append(producer_id, ends)
    host.engine.append_follower(hosted.number, b"", 6, 0)
    assert log.ends() == (6, 6, 6)
    assert hosted.log.aborted(0, 6) == [(1, 0, 2), (3, 3, 5)]


def test_a_marker_of_an_older_coordinator_or_epoch_is_refused(host: Host, builder: RecordBatchBuilder) -> None:
    hosted = host.host()

    def mark(producer_epoch: int, coordinator_epoch: int) -> None:
        data = builder.build_end_marker(
            EndMarker(True, coordinator_epoch), timestamp=WALL_MS, producer_id=1, producer_epoch=producer_epoch
        )
        host.engine.append(hosted.number, data, 0)

    mark(2, 5)
    mark(2, 5)
    for producer_epoch, coordinator_epoch, code in (
        (2, 4, ErrorCode.TRANSACTION_COORDINATOR_FENCED),
        (1, 5, ErrorCode.INVALID_PRODUCER_EPOCH),
        (1, 4, ErrorCode.INVALID_PRODUCER_EPOCH),
    ):
        with pytest.raises(KafkaError) as caught:
            mark(producer_epoch, coordinator_epoch)
        assert caught.value.code == code
    mark(3, 5)
    assert hosted.log.info().log_end_offset == 3
    (known,) = hosted.log.producers()
    assert (known.producer_epoch, known.coordinator_epoch, known.last_timestamp) == (3, 5, WALL_MS)

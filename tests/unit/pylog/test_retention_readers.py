"""Deleting segments under readers, and what is left of transactions when their segments have gone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylog._native import INT64_MAX
from pylog.errors import ErrorCode, KafkaError
from pylog.log_owner import HostedOwner
from pylog.records import EndMarker, RecordBatchBuilder
from tests.unit.pylog.engine_client import SETTINGS, WALL_MS, Host, Hosted, batch, parts_of

VALUE = os.urandom(1_000_000)
SEGMENT_BYTES = 16_000_000  # more than a socket takes that nobody reads


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path).start()
    yield host
    host.close()


def fill(host: Host, count: int) -> None:
    with host.client() as client:
        for _ in range(count):
            assert client.produce(batch([VALUE])).error_code == 0


def drop_all(host: Host, hosted: Hosted) -> None:
    """What retention does when everything is too old, and the delay of its files has passed."""
    owner = HostedOwner(host.engine, hosted.number)
    owner.roll(WALL_MS)
    start = owner.set_start(-1)
    assert owner.delete_segments(start) > 1
    for path in Path(hosted.log.directory).glob("*.deleted"):
        path.unlink()
    assert [segment.size_bytes for segment in hosted.log.segments()] == [0]


def test_an_answer_under_way_is_finished_from_files_that_are_gone(host: Host) -> None:
    hosted = host.host(settings=SETTINGS._replace(segment_bytes=SEGMENT_BYTES))
    fill(host, 33)
    assert len(hosted.log.segments()) > 2
    wanted = Path(hosted.log.directory, f"{0:020d}.log").read_bytes()
    with host.client(receive_buffer_bytes=4096) as slow:
        slow.send_fetch({("t", 0): 0}, partition_max_bytes=50 << 20)
        slow.send_fetch({("t", 0): 0}, partition_max_bytes=50 << 20)  # asked for before; looked up after it
        head = slow.receive_exactly(1000)
        drop_all(host, hosted)
        assert host.engine.stats().bytes_out < len(wanted)
        slow._buffer[:0] = head
        (part,) = parts_of(slow.fetched()).values()
        assert (part.error_code, part.records) == (0, wanted)
        (part,) = parts_of(slow.fetched()).values()
        assert (part.error_code, part.records) in ((0, wanted), (ErrorCode.OFFSET_OUT_OF_RANGE, b""))
        assert slow.fetch(0).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        assert slow.fetch(33).error_code == 0


def test_a_fetch_that_waits_below_the_new_start_is_told(host: Host) -> None:
    hosted = host.host(settings=SETTINGS._replace(segment_bytes=2_500_000))
    fill(host, 20)
    with host.client() as below, host.client() as above:
        below.send_fetch({("t", 0): 19}, max_wait_ms=20_000, min_bytes=50 << 20)
        above.send_fetch({("t", 0): 20}, max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 2)
        drop_all(host, hosted)
        (part,) = parts_of(below.fetched()).values()
        assert part.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        fill(host, 1)
        (part,) = parts_of(above.fetched()).values()
        assert (part.error_code, part.log_start_offset, part.high_watermark) == (0, 20, 21)
        assert len(part.records) > len(VALUE)


def test_a_start_above_the_high_watermark_is_refused(host: Host) -> None:
    hosted = host.host()
    fill(host, 3)
    owner = HostedOwner(host.engine, hosted.number)
    assert owner.set_start(2) == 2
    assert owner.set_start(1) == 2, "it never goes back"
    for offset in (4, -2, INT64_MAX):
        with pytest.raises(KafkaError) as caught:
            owner.set_start(offset)
        assert caught.value.code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert owner.set_start(3) == 3


def test_what_is_left_of_transactions(host: Host) -> None:
    hosted = host.host(settings=SETTINGS._replace(segment_bytes=600))
    builder = RecordBatchBuilder()

    def write(producer_id: int) -> int:
        data = batch([b"x" * 100], producer=(producer_id, 0, -1), transactional=True)
        return host.engine.append(hosted.number, data, 0).base_offset

    def end(producer_id: int, committed: bool) -> None:
        marker = builder.build_end_marker(
            EndMarker(committed, 0), timestamp=WALL_MS, producer_id=producer_id, producer_epoch=0
        )
        host.engine.append(hosted.number, marker, 0)

    for producer_id in (1, 2, 3, 4):
        write(producer_id)
    for producer_id in (1, 2):
        end(producer_id, committed=False)
    for _ in range(6):
        write(4)
    end(3, committed=False)
    write(5)
    owner = HostedOwner(host.engine, hosted.number)
    directory = Path(hosted.log.directory)
    bases = [segment.base_offset for segment in hosted.log.segments()]
    start = bases[-1]
    with host.client() as client:
        assert client.fetch(0, isolation=1).last_stable_offset == 3
        owner.set_start(start)
        assert owner.delete_segments(start) == len(bases) - 1
        deleted = {path.name.removesuffix(".deleted") for path in directory.glob("*.deleted")}
        assert {f"{base:020d}{suffix}" for base in bases[1:-1] for suffix in (".log", ".snapshot")} <= deleted
        assert any(name.endswith(".txnindex") for name in deleted)
        assert not [
            path
            for path in directory.iterdir()
            if path.name[:20] < f"{start:020d}" and path.suffix != ".deleted" and path.name[0] == "0"
        ]
        # The oldest open transaction began in what is gone: readers of committed records stop where the log begins.
        part = client.fetch(start, isolation=1)
        assert (part.error_code, part.last_stable_offset, part.records) == (0, start, b"")
        end(4, committed=False)
        end(5, committed=True)
        part = client.fetch(start, isolation=1)
        assert part.last_stable_offset == part.high_watermark
        assert [txn.producer_id for txn in part.aborted_transactions] == [
            txn[0] for txn in hosted.log.aborted(start, part.high_watermark)
        ]
        assert 4 in [txn.producer_id for txn in part.aborted_transactions]
    builder.close()

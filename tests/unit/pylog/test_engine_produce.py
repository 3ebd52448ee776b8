"""Produce through real sockets: every version, acks, ordering, idempotence, what is refused and how, storage errors."""

import errno
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.protocol.messages import ProduceResponse
from pylog._engine import ROLE_FOLLOWER, ROLE_OFFLINE, UP_EPOCH, UP_STORAGE_ERROR
from pylog._native import crc32c
from pylog.compression import Codec
from pylog.errors import KafkaError
from pylog.records import EndMarker, NewRecord, RecordBatchBuilder, batches
from tests.unit.pylog.engine_client import LEADER, PRODUCE_VERSIONS, WALL_MS, Host, batch

REPLICATED = LEADER._replace(replicas=(1, 2), isr=(1, 2), high_watermark=0)
SYS_PWRITEV = 1


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path).start()
    yield host
    host.close()


@pytest.mark.parametrize("version", range(PRODUCE_VERSIONS[0], PRODUCE_VERSIONS[1] + 1))
def test_every_version_appends_and_tells_where(host: Host, version: int) -> None:
    hosted = host.host()
    with host.client() as client:
        for base in (0, 2):
            part = client.produce(batch([b"a", b"b"]), version=version)
            assert (part.error_code, part.base_offset, part.log_append_time_ms) == (0, base, -1)
            assert part.log_start_offset == (0 if version >= 5 else -1)
    assert host.engine.partition_info(hosted.number).high_watermark == 4
    assert host.next_upcall(UP_EPOCH).partition == hosted.number


@pytest.mark.parametrize("version", [0, 1, 2, 14, 99])
def test_other_versions_close_the_connection(host: Host, version: int) -> None:
    with host.client() as client:
        client.send(0, version, b"\0" * 40)
        client.expect_closed()


def test_many_partitions_in_one_request(host: Host) -> None:
    for topic in ("a", "b"):
        for index in range(3):
            host.host(topic, index)
    with host.client() as client:
        client.send_produce({(t, i): batch([b"x" * (i + 1)]) for t in ("a", "b", "nope") for i in range(4)})
        codes = [part.error_code for part in client.produced()]
        assert codes == [0, 0, 0, 3] * 2 + [3] * 4
        client.send_produce({("nope", 0): batch([b"x"]), ("b", 1): batch([b"y"])}, version=13)
        assert [part.error_code for part in client.produced(13)] == [100, 0]


def test_log_append_time(host: Host) -> None:
    host.host(state=LEADER._replace(timestamp_type=1))
    with host.client() as client:
        part = client.produce(batch([b"a", b"b"], timestamp=5))
        assert part.error_code == 0
        assert part.log_append_time_ms > WALL_MS
        (found,) = batches(client.fetch(0).records)
        assert found.header.max_timestamp == part.log_append_time_ms
        assert found.log_append_time


def test_acks_zero_has_no_answer(host: Host) -> None:
    host.host()
    with host.client() as client:
        client.send_produce({("t", 0): batch([b"a"])}, acks=0)
        assert client.produce(batch([b"b"])).base_offset == 1
        client.send_produce({("nope", 0): batch([b"a"])}, acks=0)
        client.expect_closed()


def test_requests_behind_acks_zero_see_its_records(host: Host) -> None:
    host.host()
    with host.client() as client:
        client.send_produce({("t", 0): batch([b"a"])}, acks=0)
        assert client.fetch(0).high_watermark == 1


def test_pipelined_answers_come_in_order(host: Host) -> None:
    hosted = host.host()
    with host.client() as client:
        for i in range(300):
            client.send_produce({("t", 0): batch([b"%d" % i])}, acks=-1 if i % 2 else 1)
        assert [client.produced()[0].base_offset for _ in range(300)] == list(range(300))
    (_, *_) = batches(hosted.log.read(0, 300, 1 << 20, True))


def test_many_connections_share_a_partition(host: Host) -> None:
    hosted = host.host()
    clients = [host.client() for _ in range(40)]
    for turn in range(5):
        for i, client in enumerate(clients):
            client.send_produce({("t", 0): batch([b"%d-%d" % (turn, i)])})
        for client in clients:
            assert client.produced()[0].error_code == 0
    values = [r.value for b in batches(hosted.log.read(0, 200, 1 << 20, True)) for r in b.records()]
    assert sorted(values) == sorted(b"%d-%d" % (t, i) for t in range(5) for i in range(40))
    for client in clients:
        client.close()


def test_large_batches(host: Host) -> None:
    hosted = host.host()
    values = [bytes([65 + i]) * (1 << 20) for i in range(8)]
    with host.client() as client, host.client() as other:
        for value in values[:4]:
            client.send_produce({("t", 0): batch([value])})
            other.send_produce({("t", 0): batch([value[:600_000]])})
        for _ in range(4):
            assert client.produced()[0].error_code == 0
            assert other.produced()[0].error_code == 0
    end = host.engine.partition_info(hosted.number).log_end_offset
    assert end == 8
    got = []
    at = 0
    while at < end:
        data = hosted.log.read(at, end, 2 << 20, True)
        for found in batches(data):
            got += [r.value for r in found.records()]
            at = found.next_offset
    assert sorted(len(v) for v in got) == [600_000] * 4 + [1 << 20] * 4


# -------------------------------------------------------------------------------------------------- acks=all


def follower_fetch(host: Host, offset: int, replica: int = 2) -> None:
    with host.client() as follower:
        part = follower.fetch(offset, replica_id=replica)
        assert part.error_code == 0


def test_acks_all_waits_for_the_followers(host: Host) -> None:
    hosted = host.host(state=REPLICATED)
    with host.client() as client, host.client() as reader:
        client.send_produce({("t", 0): batch([b"a"])}, acks=-1)
        client.send_produce({("t", 0): batch([b"b"])}, acks=-1)
        client.send_produce({("t", 0): batch([b"c"])}, acks=1)  # done at once, answered in its turn
        host.wait_for(lambda: host.engine.partition_info(hosted.number).log_end_offset == 3)
        assert reader.fetch(0).records == b""  # nothing is committed
        client.expect_silence()
        follower_fetch(host, 1)
        assert client.produced()[0].base_offset == 0
        assert reader.fetch(0).high_watermark == 1
        client.expect_silence()
        follower_fetch(host, 3)
        assert [client.produced()[0].base_offset for _ in range(2)] == [1, 2]
        assert host.engine.stats().delayed_now == 0


def test_acks_all_times_out(host: Host) -> None:
    host.host(state=REPLICATED)
    with host.client() as client:
        client.send_produce({("t", 0): batch([b"a"])}, acks=-1, timeout_ms=30)
        (part,) = client.produced()
        assert (part.error_code, part.base_offset) == (7, 0)
        assert host.engine.stats().delayed_now == 0


def test_too_few_in_sync_replicas(host: Host) -> None:
    hosted = host.host(state=REPLICATED._replace(min_insync_replicas=2, isr=(1,)))
    with host.client() as client:
        assert client.produce(batch([b"a"]), acks=-1).error_code == 19
        part = client.produce(batch([b"a"]), acks=1)
        assert (part.error_code, part.base_offset) == (0, 0)
    # Under the minimum the high watermark stands still.
    assert host.engine.partition_info(hosted.number).high_watermark == 0


def test_minimum_is_capped_at_the_replicas(host: Host) -> None:
    host.host(state=LEADER._replace(min_insync_replicas=2))
    with host.client() as client:
        assert client.produce(batch([b"a"]), acks=-1).error_code == 0


def test_loss_of_leadership_ends_the_wait(host: Host) -> None:
    hosted = host.host(state=REPLICATED)
    host.engine.publish_node(7, 2, "there", 9999, "r1")
    with host.client() as client:
        client.send_produce({("t", 0): batch([b"a"])}, acks=-1, version=10)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        host.engine.publish(hosted.number, REPLICATED._replace(role=ROLE_FOLLOWER, leader_epoch=1, leader_id=2))
        answer = client.decode(ProduceResponse, 0, 10)
        assert isinstance(answer, ProduceResponse)
        (part,) = answer.responses[0].partition_responses
        assert (part.error_code, part.base_offset) == (6, 0)
        assert (part.current_leader.leader_id, part.current_leader.leader_epoch) == (2, 1)
        (node,) = answer.node_endpoints
        assert (node.node_id, node.host, node.port, node.rack) == (2, "there", 9999, "r1")
        assert client.produce(batch([b"a"])).error_code == 6


def test_removal_ends_the_wait(host: Host) -> None:
    hosted = host.host(state=REPLICATED)
    with host.client() as client:
        client.send_produce({("t", 0): batch([b"a"])}, acks=-1)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        host.remove(hosted, 3)
        assert client.produced()[0].error_code == 3
        assert client.produce(batch([b"a"])).error_code == 3


def test_the_waiting_client_goes_away(host: Host) -> None:
    hosted = host.host(state=REPLICATED)
    with host.client() as client:
        client.send_produce({("t", 0): batch([b"a"])}, acks=-1)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
    host.wait_for(lambda: host.engine.stats().delayed_now == 0)
    follower_fetch(host, 1)
    assert host.engine.partition_info(hosted.number).high_watermark == 1


# -------------------------------------------------------------------------------------------------- refusals


def tampered(data: bytes, at: int, change: bytes) -> bytes:
    """With a good checksum."""
    changed = bytearray(data)
    changed[at : at + len(change)] = change
    changed[17:21] = struct.pack(">I", crc32c(bytes(changed[21:])))
    return bytes(changed)


GOOD = batch([b"a", b"b", b"c"])


def control_batch() -> bytes:
    builder = RecordBatchBuilder()
    data = builder.build_end_marker(EndMarker(True, 0), timestamp=WALL_MS, producer_id=9, producer_epoch=0)
    builder.close()
    return data


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(GOOD[:30] + b"\xff" + GOOD[31:], 2, id="bad CRC"),
        pytest.param(tampered(GOOD, 57, struct.pack(">i", 2)), 87, id="count is not the records"),
        pytest.param(tampered(GOOD, 23, struct.pack(">i", 7)), 87, id="last offset delta"),
        pytest.param(struct.pack(">q", 1000) + GOOD[8:], 87, id="base offset not 0"),
        pytest.param(GOOD + GOOD, 87, id="two batches"),
        pytest.param(b"", 87, id="empty"),
        pytest.param(None, 87, id="null"),
        pytest.param(GOOD[:-1], 87, id="truncated"),
        pytest.param(GOOD[:16] + b"\5" + GOOD[17:], 2, id="magic 5"),
        pytest.param(tampered(GOOD, 21, b"\0\7"), -1, id="codec 7"),
        pytest.param(control_batch(), 53, id="control batch"),
        pytest.param(batch([b"a"], producer=(5, 0, 0), transactional=True), 53, id="no transactional id"),
        pytest.param(batch([b"a" * (3 << 20)]), 10, id="too large"),
    ],
)
def test_bad_batches(host: Host, data: bytes | None, code: int) -> None:
    hosted = host.host()
    with host.client() as client:
        part = client.produce(data)
        assert (part.error_code, part.base_offset, part.log_append_time_ms) == (code, -1, -1)
        assert client.produce(GOOD).base_offset == 0  # the connection and the log go on
    assert host.engine.partition_info(hosted.number).log_end_offset == 3
    assert host.engine.stats().failed_produce == 1


def test_topic_rules(host: Host) -> None:
    host.host("compacted", state=LEADER._replace(compacted=True))
    host.host("bounded", state=LEADER._replace(timestamp_before_max_ms=60_000, timestamp_after_max_ms=60_000))
    host.host("inner", state=LEADER._replace(internal=True))
    host.host("offline", state=LEADER._replace(role=ROLE_OFFLINE))
    host.host("other", state=LEADER._replace(role=ROLE_FOLLOWER, leader_id=2))
    with host.client() as client:
        part = client.produce(batch([b"a", b"b"], key=None), "compacted", version=8)
        assert part.error_code == 87
        assert part.error_message
        assert [error.batch_index for error in part.record_errors] == [0]
        part = client.produce(batch([b"a"], timestamp=1000), "bounded", version=8)
        assert (part.error_code, part.log_start_offset) == (32, 0)
        assert client.produce(GOOD, "inner").error_code == 17
        assert client.produce(GOOD, "offline").error_code == 56
        assert client.produce(GOOD, "other").error_code == 6
        client.send_produce({("inner", 0): GOOD}, client_id=b"__admin_client")
        assert client.produced()[0].error_code == 0


@pytest.mark.parametrize("acks", [7, 2, -2])
def test_impossible_acks(host: Host, acks: int) -> None:
    host.host()
    with host.client() as client:
        client.send_produce({("t", 0): GOOD, ("nope", 0): GOOD}, acks=acks)
        assert [(p.error_code, p.base_offset) for p in client.produced()] == [(21, -1), (3, -1)]


def test_zstd_needs_version_7(host: Host) -> None:
    host.host()
    builder = RecordBatchBuilder()
    data = builder.build([NewRecord(WALL_MS, b"k", b"v" * 100)], codec=Codec.ZSTD)
    builder.close()
    with host.client() as client:
        assert client.produce(data, version=6).error_code == 76
        assert client.produce(data, version=7).error_code == 0


def test_malformed_requests_close_the_connection(host: Host) -> None:
    host.host()
    with host.client() as client:
        client.send_produce({("t", 0): GOOD}, version=7)
        client.produced(7)
    body = struct.pack(">hhi", -1, 1, 1000) + struct.pack(">i", 1) + struct.pack(">h", 1) + b"t" + struct.pack(">i", 1)
    shapes = [
        b"",
        struct.pack(">hhi", -1, 1, 1000) + struct.pack(">i", -1),
        struct.pack(">hhi", -1, 1, 1000) + struct.pack(">i", 1 << 30),
        body,
        body + struct.pack(">ii", 0, 1 << 30),
        body + struct.pack(">ii", 0, -2),
    ]
    for shape in shapes:
        with host.client() as client:
            client.send(0, 7, shape)
            client.expect_closed()
    assert host.engine.stats().malformed == len(shapes)


# -------------------------------------------------------------------------------------------------- idempotence


def test_idempotent_producer(host: Host) -> None:
    host.host()
    with host.client() as client:

        def send(epoch: int, sequence: int, count: int = 1) -> tuple[int, int]:
            part = client.produce(batch([b"x"] * count, producer=(7, epoch, sequence)), acks=-1)
            return part.error_code, part.base_offset

        assert send(0, 0) == (0, 0)
        assert send(0, 0) == (0, 0)  # the first answer once more
        assert send(0, 5) == (45, -1)
        for sequence in range(1, 8):
            assert send(0, sequence) == (0, sequence)
        assert send(0, 3) == (0, 3)  # one of the last five
        assert send(0, 1) == (45, -1)  # too old to be known
        assert send(1, 3) == (45, -1)
        assert send(1, 0) == (0, 8)
        assert send(0, 8) == (47, -1)
        part = client.produce(batch([b"x"], producer=(8, 0, 9)))
        assert (part.error_code, part.base_offset) == (0, 9)  # a producer never seen


def test_duplicate_within_one_turn(host: Host) -> None:
    hosted = host.host()
    with host.client() as client:
        one = batch([b"x"], producer=(7, 0, 0))
        two = batch([b"y"], producer=(7, 0, 1))
        for data in (one, one, two, two, one):
            client.send_produce({("t", 0): data}, acks=-1)
        assert [client.produced()[0].base_offset for _ in range(5)] == [0, 0, 1, 1, 0]
    assert host.engine.partition_info(hosted.number).log_end_offset == 2


def test_duplicate_waits_for_the_followers_too(host: Host) -> None:
    hosted = host.host(state=REPLICATED)
    data = batch([b"x"], producer=(7, 0, 0))
    with host.client() as client, host.client() as again:
        client.send_produce({("t", 0): data}, acks=-1)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        again.send_produce({("t", 0): data}, acks=-1)
        host.wait_for(lambda: host.engine.stats().delayed_now == 2)
        follower_fetch(host, 1)
        assert client.produced()[0].base_offset == 0
        assert again.produced()[0].base_offset == 0
    assert host.engine.partition_info(hosted.number).log_end_offset == 1


# -------------------------------------------------------------------------------------------------- storage errors


def test_full_disk_is_tried_again(host: Host) -> None:
    hosted = host.host()
    with host.client() as client:
        assert client.produce(GOOD).base_offset == 0
        host.sys.fault(SYS_PWRITEV, 1, errno.ENOSPC)
        part = client.produce(GOOD)
        assert (part.error_code, part.base_offset) == (56, -1)
        upcall = host.next_upcall(UP_STORAGE_ERROR)
        assert (upcall.partition, upcall.error) == (hosted.number, errno.ENOSPC)
        assert client.fetch(0).records  # reads go on
        assert client.produce(GOOD).base_offset == 3


def test_failed_disk_stops_appends_until_published(host: Host) -> None:
    hosted = host.host()
    other = host.host("u")
    with host.client() as client:
        assert client.produce(GOOD).base_offset == 0
        host.sys.fault(SYS_PWRITEV, 1, errno.EIO)
        assert client.produce(GOOD).error_code == 56
        assert host.next_upcall(UP_STORAGE_ERROR).error == errno.EIO
        assert client.produce(GOOD).error_code == 56  # not tried
        assert client.fetch(0).high_watermark == 3
        assert client.produce(GOOD, "u").error_code == 0
        host.engine.publish(hosted.number, LEADER)
        assert client.produce(GOOD).base_offset == 3
    assert host.engine.partition_info(other.number).log_end_offset == 3


def test_short_writes_are_continued(host: Host) -> None:
    host.host()
    with host.client() as client:
        host.sys.fault(SYS_PWRITEV, 1, 0, short_bytes=10, repeat=3)
        assert client.produce(GOOD).base_offset == 0
        (found,) = batches(client.fetch(0).records)
        assert found.check()


def test_failed_write_answers_everything_of_its_turn(host: Host) -> None:
    """Several requests staged together: all fail, none is lost, the log goes on where it was."""
    hosted = host.host()
    clients = [host.client() for _ in range(10)]
    host.sys.fault(SYS_PWRITEV, 1, errno.ENOSPC, repeat=3)
    for client in clients:
        client.send_produce({("t", 0): batch([b"x"], producer=(3, 0, 0))})
    codes = [client.produced()[0].error_code for client in clients]
    assert set(codes) <= {0, 56}
    host.sys.fault(SYS_PWRITEV, 1, 0, repeat=0)
    end = host.engine.partition_info(hosted.number).log_end_offset
    assert end == (1 if 0 in codes else 0)
    part = clients[0].produce(batch([b"x"], producer=(3, 0, 0)))  # tried again, as a client would
    assert (part.error_code, part.base_offset) == (0, 0)
    for client in clients:
        client.close()


def test_versions_served_are_bounded(host: Host) -> None:
    for api_key, low, high in ((0, 2, 9), (0, 3, 14), (1, 3, 12), (1, 4, 19)):
        with pytest.raises(KafkaError):
            host.engine.serve(api_key, low, high)
    with pytest.raises(OSError):
        host.engine.serve(3, 0, 9)

"""Fetch through real sockets: every version, limits, long polls, sessions, followers, epochs, refusals."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylog._engine import ROLE_FOLLOWER, ROLE_OFFLINE, UP_ISR
from pylog.records import EndMarker, RecordBatchBuilder, batches
from tests.unit.pylog.engine_client import (
    CONFIG,
    FETCH_VERSIONS,
    LEADER,
    WALL_MS,
    Client,
    Host,
    Hosted,
    batch,
    parts_of,
)

REPLICATED = LEADER._replace(replicas=(1, 2), isr=(1, 2), high_watermark=0)
SYS_PREAD = 3


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path).start()
    yield host
    host.close()


def fill(host: Host, values: list[bytes], topic: str = "t", index: int = 0) -> None:
    """One batch per value."""
    with host.client() as client:
        for value in values:
            client.send_produce({(topic, index): batch([value])})
        for _ in values:
            assert client.produced()[0].error_code == 0


def values_of(data: bytes) -> list[bytes | None]:
    """Of the whole batches; a torn one at the end is left out, as consumers do."""
    return [record.value for found in batches(whole(data)) for record in found.records()]


def whole(data: bytes) -> bytes:
    at = 0
    while at + 12 <= len(data):
        size = int.from_bytes(data[at + 8 : at + 12], "big") + 12
        if at + size > len(data):
            break
        at += size
    return data[:at]


@pytest.mark.parametrize("version", range(FETCH_VERSIONS[0], FETCH_VERSIONS[1] + 1))
def test_every_version_reads(host: Host, version: int) -> None:
    host.host()
    fill(host, [b"a", b"b", b"c"])
    with host.client() as client:
        part = client.fetch(1, version=version)
        assert (part.error_code, part.high_watermark, part.last_stable_offset) == (0, 3, 3)
        assert part.log_start_offset == (0 if version >= 5 else -1)
        assert part.aborted_transactions is None
        assert values_of(part.records) == [b"b", b"c"]
        assert client.fetch(0, version=version, isolation=1).aborted_transactions == []
        empty = client.fetch(3, version=version)
        assert (empty.error_code, empty.high_watermark, empty.records) == (0, 3, b"")
        topic = "nope"
        error = 100 if version >= 13 else 3
        missing = client.fetch(0, topic, version=version)
        assert (missing.error_code, missing.high_watermark, missing.last_stable_offset) == (error, -1, -1)
        assert client.fetch(0, "t", 5, version=version).error_code == 3, "its topic is known, by whatever it is called"


@pytest.mark.parametrize("version", [0, 3, 19, 99])
def test_other_versions_close_the_connection(host: Host, version: int) -> None:
    with host.client() as client:
        client.send(1, version, b"\0" * 60)
        client.expect_closed()


def test_offsets_out_of_range(host: Host) -> None:
    hosted = host.host()
    fill(host, [b"a", b"b", b"c"])
    with host.client() as client:
        for offset in (4, -1, 1000, -5):
            part = client.fetch(offset)
            assert (part.error_code, part.high_watermark, part.records) == (1, -1, b"")
        assert host.engine.delete_records(hosted.number, 2) == 2
        assert client.fetch(1).error_code == 1
        part = client.fetch(2)
        assert (part.error_code, part.log_start_offset) == (0, 2)


def test_roles_and_epochs(host: Host) -> None:
    host.host(state=LEADER._replace(leader_epoch=5))
    host.host("other", state=LEADER._replace(role=ROLE_FOLLOWER, leader_id=2, leader_epoch=5))
    host.host("offline", state=LEADER._replace(role=ROLE_OFFLINE))
    host.engine.publish_node(7, 2, "there", 9999, None)
    with host.client() as client:
        assert client.fetch(0, leader_epoch=5).error_code == 0
        assert client.fetch(0, leader_epoch=4).error_code == 74
        assert client.fetch(0, leader_epoch=6).error_code == 75
        assert client.fetch(0, "other", version=10).error_code == 6
        assert client.fetch(0, "other", version=11).error_code == 0  # consumers may read from followers
        assert client.fetch(0, "offline").error_code == 56
        assert client.fetch(0, "offline", version=5).error_code == 6
        assert client.fetch(0, replica_id=7).error_code == 6
        client.send_fetch({("other", 0): 0}, version=16, replica_id=2)
        answer = client.fetched(16)
        (part,) = parts_of(answer).values()
        assert part.error_code == 6
        assert (part.current_leader.leader_id, part.current_leader.leader_epoch) == (2, 5)
        (node,) = answer.node_endpoints
        assert (node.node_id, node.host, node.port, node.rack) == (2, "there", 9999, None)


# -------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_sizes(tmp_path: Path, mode: int) -> None:
    """Small answers are copied, large ones sent from the file, in every send mode; bytes arrive as they were sent."""
    host = Host(tmp_path, CONFIG._replace(send_mode=mode)).start()
    host.host()
    values = [bytes([i]) * (3000 * (i + 1)) for i in range(100)]  # 15 MB
    fill(host, values)
    with host.client() as client:
        for max_bytes in (1, 5000, 100_000, 3_000_000, 50 << 20):
            got: list[bytes | None] = []
            while len(got) < len(values):
                part = client.fetch(len(got), max_bytes=max_bytes, partition_max_bytes=50 << 20)
                more = values_of(part.records)
                assert more
                assert len(part.records) <= max(max_bytes, len(values[len(got)]) + 100)
                got += more
            assert got == values
    host.close()


def test_limits_of_partition_and_request(host: Host) -> None:
    for index in range(3):
        host.host(index=index)
        fill(host, [b"x" * 1000] * 10, index=index)
    with host.client() as client:
        client.send_fetch({("t", i): 0 for i in range(3)}, partition_max_bytes=2500)
        sizes = [len(p.records) for p in parts_of(client.fetched()).values()]
        assert sizes == [2500, 2500, 2500]  # cut anywhere, as Kafka cuts
        client.send_fetch({("t", i): 0 for i in range(3)}, max_bytes=3000, partition_max_bytes=2500)
        assert [len(p.records) for p in parts_of(client.fetched()).values()] == [2500, 500, 0]
        client.send_fetch({("t", 0): 10, ("t", 1): 0, ("t", 2): 0}, max_bytes=1, partition_max_bytes=1)
        parts = list(parts_of(client.fetched()).values())
        assert [len(values_of(p.records)) for p in parts] == [0, 1, 0]  # at least one batch, of the first that has one


def test_segments_are_crossed(host: Host) -> None:
    hosted = host.host()
    for i in range(5):
        fill(host, [b"%d" % i])
        host.engine.roll(hosted.number)
    with host.client() as client:
        got: list[bytes | None] = []
        while len(got) < 5:
            got += values_of(client.fetch(len(got)).records)
        assert got == [b"%d" % i for i in range(5)]


# -------------------------------------------------------------------------------------------------- long polls


def test_long_poll_wakes_with_the_record(host: Host) -> None:
    host.host()
    with host.client() as consumer, host.client() as producer:
        consumer.send_fetch({("t", 0): 0}, max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        producer.produce(batch([b"now"]))
        (part,) = parts_of(consumer.fetched()).values()
        assert values_of(part.records) == [b"now"]
        assert host.engine.stats().delayed_now == 0


def test_long_poll_ends_with_its_time(host: Host) -> None:
    host.host()
    with host.client() as client:
        part = client.fetch(0, max_wait_ms=20)
        assert (part.error_code, part.records) == (0, b"")


def test_min_bytes(host: Host) -> None:
    host.host()
    host.host("u")
    with host.client() as consumer, host.client() as producer:
        consumer.send_fetch({("t", 0): 0, ("u", 0): 0}, max_wait_ms=20_000, min_bytes=1000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        for topic in ("t", "u", "t"):
            producer.produce(batch([b"x" * 200]), topic)
        consumer.expect_silence()
        producer.produce(batch([b"x" * 200]), "u")
        parts = parts_of(consumer.fetched())
        assert [len(values_of(p.records)) for p in parts.values()] == [2, 2]


def test_many_wait_for_one_record(host: Host) -> None:
    host.host()
    clients = [host.client() for _ in range(50)]
    for client in clients:
        client.send_fetch({("t", 0): 0}, max_wait_ms=20_000)
    host.wait_for(lambda: host.engine.stats().delayed_now == 50)
    fill(host, [b"x"])
    for client in clients:
        (part,) = parts_of(client.fetched()).values()
        assert values_of(part.records) == [b"x"]
        client.close()


def test_requests_behind_a_parked_fetch_wait(host: Host) -> None:
    host.host()
    with host.client() as client, host.client() as other:
        client.send_fetch({("t", 0): 0}, max_wait_ms=20_000)
        client.send_produce({("t", 0): batch([b"mine"])})
        client.send(3, 9, b"\0\0\0\0")
        client.send_fetch({("t", 0): 0})
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        other.produce(batch([b"theirs"]))
        (part,) = parts_of(client.fetched()).values()
        assert values_of(part.records) == [b"theirs"]
        assert client.produced()[0].base_offset == 1
        upcall = host.next_upcall(1)
        assert upcall.body == b"\0\0\0\0\0"
        host.engine.answer(upcall.conn, upcall.slot, upcall.correlation_id.to_bytes(4, "big") + b"meta")
        assert client.receive() == (3, b"meta")
        (part,) = parts_of(client.fetched()).values()
        assert values_of(part.records) == [b"theirs", b"mine"]


def test_removal_wakes_the_waiters(host: Host) -> None:
    hosted = host.host()
    host.host("u")
    with host.client() as client:
        client.send_fetch({("t", 0): 0, ("u", 0): 0}, max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        host.remove(hosted, 3)
        parts = parts_of(client.fetched())
        assert {key: part.error_code for key, part in parts.items()} == {("t", 0): 3, ("u", 0): 0}
        # Unknown partitions do not end the wait of the others.
        client.send_fetch({("t", 0): 0, ("u", 0): 0}, max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        fill(host, [b"x"], "u")
        assert [p.error_code for p in parts_of(client.fetched()).values()] == [3, 0]


def test_new_role_wakes_the_waiters(host: Host) -> None:
    hosted = host.host()
    with host.client() as client:
        client.send_fetch({("t", 0): 0}, max_wait_ms=20_000, version=10)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        host.engine.publish(hosted.number, LEADER._replace(role=ROLE_FOLLOWER, leader_epoch=1, leader_id=2))
        (part,) = parts_of(client.fetched(10)).values()
        assert part.error_code == 6


def test_the_waiting_client_goes_away(host: Host) -> None:
    host.host()
    with host.client() as client:
        client.send_fetch({("t", 0): 0}, max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
    host.wait_for(lambda: host.engine.stats().delayed_now == 0)
    fill(host, [b"x"])


# -------------------------------------------------------------------------------------------------- sessions


def open_session(client: Client, offsets: dict[tuple[str, int], int], version: int = 12) -> int:
    client.send_fetch(offsets, session=(0, 0), version=version)
    answer = client.fetched(version)
    assert answer.error_code == 0
    assert answer.session_id > 0
    assert len(parts_of(answer)) == len(offsets)
    return answer.session_id


@pytest.mark.parametrize("version", [7, 12, 13, 18])
def test_incremental_session(host: Host, version: int) -> None:
    for index in range(3):
        host.host(index=index)
    with host.client() as client:
        session = open_session(client, {("t", i): 0 for i in range(3)}, version)
        client.send_fetch({}, session=(session, 1), version=version)
        answer = client.fetched(version)
        assert (answer.session_id, answer.responses) == (session, [])  # nothing is new
        fill(host, [b"x"], index=1)
        client.send_fetch({}, session=(session, 2), version=version)
        ((key, part),) = parts_of(client.fetched(version)).items()
        assert key[1] == 1
        assert values_of(part.records) == [b"x"]
        client.send_fetch({("t", 1): 1}, session=(session, 3), version=version)  # on from there
        assert client.fetched(version).responses == []
        fill(host, [b"y"], index=0)
        fill(host, [b"z"], index=2)
        client.send_fetch({}, session=(session, 4), forget=(("t", 0),), version=version)
        assert [key[1] for key in parts_of(client.fetched(version))] == [2]
        client.send_fetch({("t", 0): 0, ("t", 2): 1}, session=(session, 5), version=version)
        assert [key[1] for key in parts_of(client.fetched(version))] == [0]
        assert host.engine.stats().fetch_sessions_now == 1
        client.send_fetch({("t", 0): 1}, session=(session, -1), version=version)  # closes it
        assert client.fetched(version).session_id == 0
        assert host.engine.stats().fetch_sessions_now == 0


def test_session_errors(host: Host) -> None:
    host.host()
    with host.client() as client:

        def error(session: tuple[int, int], version: int = 12) -> int:
            client.send_fetch({("t", 0): 0}, session=session, version=version)
            answer = client.fetched(version)
            assert (answer.session_id, answer.responses) == (0, [])
            return answer.error_code

        session = open_session(client, {("t", 0): 0})
        assert error((session + 1, 1)) == 70
        assert error((0, 5)) == 70
        assert error((session, 2)) == 71
        assert error((session, 1), 13) == 106
        client.send_fetch({}, session=(session, 1))
        assert client.fetched().error_code == 0  # none of these moved its epoch


def test_session_serves_last_what_it_just_served(host: Host) -> None:
    for index in range(3):
        host.host(index=index)
        fill(host, [b"x" * 100] * 10, index=index)
    with host.client() as client:
        session = open_session(client, {("t", i): 10 for i in range(3)})
        client.send_fetch({("t", i): 0 for i in range(3)}, session=(session, 1), max_bytes=1)
        order = [key[1] for key in parts_of(client.fetched())]
        for epoch in range(2, 6):
            client.send_fetch({}, session=(session, epoch), max_bytes=1)
            order += [key[1] for key in parts_of(client.fetched())]
        assert order == [0, 1, 2, 0, 1]


def test_session_long_poll(host: Host) -> None:
    host.host()
    host.host("u")
    with host.client() as client:
        session = open_session(client, {("t", 0): 0, ("u", 0): 0})
        client.send_fetch({}, session=(session, 1), max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        fill(host, [b"x"], "u")
        assert list(parts_of(client.fetched())) == [("u", 0)]


def test_session_used_from_another_connection(host: Host) -> None:
    host.host()
    with host.client() as client, host.client() as other:
        session = open_session(client, {("t", 0): 0})
        client.send_fetch({}, session=(session, 1), max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        other.send_fetch({}, session=(session, 2))
        assert other.fetched().error_code == 0
        assert client.fetched().error_code == 71


def test_session_forgets_and_finds_topics(host: Host) -> None:
    """A topic that is deleted, and made again, under a session that goes on."""
    hosted = host.host()
    with host.client() as client:
        session = open_session(client, {("t", 0): 0})
        host.remove(hosted, 3)
        client.send_fetch({}, session=(session, 1))
        (part,) = parts_of(client.fetched()).values()
        assert (part.error_code, part.high_watermark) == (3, -1)
        Path(hosted.log.directory).rename(hosted.log.directory + ".old")
        host.host()
        client.send_fetch({}, session=(session, 2))
        (part,) = parts_of(client.fetched()).values()
        assert (part.error_code, part.high_watermark) == (0, 0)


def test_session_slots(tmp_path: Path) -> None:
    host = Host(tmp_path, CONFIG._replace(fetch_session_slots=2)).start()
    host.host()
    with host.client() as client:
        first = open_session(client, {("t", 0): 0})
        open_session(client, {("t", 0): 0})
        client.send_fetch({("t", 0): 0}, session=(0, 0))
        assert client.fetched().session_id == 0  # no room: served without one
        client.send_fetch({("t", 0): 0}, session=(first, 0))  # gives up its own
        assert client.fetched().session_id > 0
    host.close()


# -------------------------------------------------------------------------------------------------- followers


def test_follower_reads_to_the_end(host: Host) -> None:
    host.host(state=REPLICATED)
    fill(host, [b"a", b"b"])
    with host.client() as follower, host.client() as consumer:
        part = follower.fetch(0, replica_id=2, version=15)
        assert values_of(part.records) == [b"a", b"b"]
        assert part.high_watermark == 0
        assert consumer.fetch(0).records == b""
        consumer.send_fetch({("t", 0): 0}, max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        follower.send_fetch({("t", 0): 2}, replica_id=2, max_wait_ms=20_000)
        (part,) = parts_of(consumer.fetched()).values()
        assert values_of(part.records) == [b"a", b"b"]
        fill(host, [b"c"])  # wakes the follower, though nothing is committed
        (part,) = parts_of(follower.fetched()).values()
        assert values_of(part.records) == [b"c"]


def test_follower_joins_the_isr(host: Host) -> None:
    hosted = host.host(state=REPLICATED._replace(isr=(1,)))
    fill(host, [b"a", b"b"])
    with host.client() as follower:
        assert follower.fetch(0, replica_id=2).error_code == 0
        assert follower.fetch(2, replica_id=2).error_code == 0
    upcall = host.next_upcall(UP_ISR)
    assert (upcall.partition, upcall.a, upcall.b) == (hosted.number, 2, 1)
    # From now on it counts, though it is not in the set yet.
    fill(host, [b"c"])
    assert host.engine.partition_info(hosted.number).high_watermark == 2


def test_follower_falls_behind(tmp_path: Path) -> None:
    host = Host(tmp_path, CONFIG._replace(replica_lag_time_max_ms=50)).start()
    hosted = host.host(state=REPLICATED)
    fill(host, [b"a"])
    upcall = host.next_upcall(UP_ISR)
    assert (upcall.partition, upcall.a, upcall.b) == (hosted.number, 2, 0)
    host.engine.publish(hosted.number, REPLICATED._replace(isr=(1,)))
    assert host.engine.partition_info(hosted.number).high_watermark == 1
    host.close()


def test_divergence(host: Host) -> None:
    hosted = host.host(state=REPLICATED._replace(leader_epoch=1))
    fill(host, [b"a", b"b"])
    host.engine.publish(hosted.number, REPLICATED._replace(leader_epoch=4))
    fill(host, [b"c"])
    with host.client() as follower:
        part = follower.fetch(2, replica_id=2, last_epoch=1)
        assert part.diverging_epoch.epoch == -1
        assert values_of(part.records) == [b"c"]
        part = follower.fetch(3, replica_id=2, last_epoch=1)  # its epoch 1 goes on where ours ended
        assert (part.error_code, part.diverging_epoch.epoch, part.diverging_epoch.end_offset) == (0, 1, 2)
        assert part.records == b""
        part = follower.fetch(3, replica_id=2, last_epoch=3)  # an epoch we have nothing of
        assert (part.diverging_epoch.epoch, part.diverging_epoch.end_offset) == (1, 2)
        assert host.engine.partition_info(hosted.number).high_watermark == 2
        assert follower.fetch(3, replica_id=2, last_epoch=4).diverging_epoch.epoch == -1
        assert host.engine.partition_info(hosted.number).high_watermark == 3
        # a leader that has written nothing yet, elected without the records that the follower has of epoch 6
        host.engine.publish(hosted.number, REPLICATED._replace(leader_epoch=7))
        part = follower.fetch(5, replica_id=2, last_epoch=6)
        assert (part.error_code, part.diverging_epoch.epoch, part.diverging_epoch.end_offset) == (0, 4, 3)
        assert follower.fetch(3, replica_id=2, last_epoch=8).error_code == 1  # out of range


def test_append_follower(host: Host) -> None:
    leader = host.host("lead")
    fill(host, [b"a", b"b", b"c"], "lead")
    data = leader.log.read(0, 3, 1 << 20, True)
    hosted = host.host("copy", state=LEADER._replace(role=ROLE_FOLLOWER, replicas=(1, 2), isr=(1, 2), high_watermark=0))
    assert host.engine.append_follower(hosted.number, data, 2, 0) == 2
    info = host.engine.partition_info(hosted.number)
    assert (info.log_end_offset, info.high_watermark) == (3, 2)
    with host.client() as client:
        part = client.fetch(0, "copy")
        assert values_of(part.records) == [b"a", b"b"]
    assert host.engine.append_follower(hosted.number, b"", 3, 1) == 2
    info = host.engine.partition_info(hosted.number)
    assert (info.log_start_offset, info.high_watermark) == (1, 3)
    host.engine.truncate(hosted.number, 2, False)
    info = host.engine.partition_info(hosted.number)
    assert (info.log_end_offset, info.high_watermark) == (2, 2)


# -------------------------------------------------------------------------------------------------- transactions


def append_marker(host: Host, hosted: Hosted, producer_id: int, committed: bool) -> None:
    builder = RecordBatchBuilder()
    data = builder.build_end_marker(
        EndMarker(committed, 0), timestamp=WALL_MS, producer_id=producer_id, producer_epoch=0
    )
    builder.close()
    assert host.engine.append(hosted.number, data, 0).committed


def test_read_committed(host: Host) -> None:
    hosted = host.host()
    fill(host, [b"plain"])
    for producer in (7, 8):
        data = batch([b"of %d" % producer], producer=(producer, 0, 0), transactional=True)
        host.engine.append(hosted.number, data, 0)
    with host.client() as client:
        part = client.fetch(0, isolation=1)
        assert (part.high_watermark, part.last_stable_offset) == (3, 1)
        assert values_of(part.records) == [b"plain"]
        assert len(values_of(client.fetch(0).records)) == 3
        append_marker(host, hosted, 7, committed=False)
        assert client.fetch(0, isolation=1).last_stable_offset == 2
        client.send_fetch({("t", 0): 2}, isolation=1, max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        append_marker(host, hosted, 8, committed=True)
        (part,) = parts_of(client.fetched()).values()
        assert part.last_stable_offset == 5
        part = client.fetch(0, isolation=1)
        assert [(t.producer_id, t.first_offset) for t in part.aborted_transactions] == [(7, 1)]


# -------------------------------------------------------------------------------------------------- trouble


def test_malformed_requests_close_the_connection(host: Host) -> None:
    head = b"\xff\xff\xff\xff" + b"\0" * 12 + b"\0" + b"\0" * 4 + b"\xff" * 4
    shapes = [b"", head, head + b"\x7f\xff\xff\xff", head + b"\xff\xff\xff\xff", head + b"\0\0\0\1\0\1t"]
    for shape in shapes:
        with host.client() as client:
            client.send(1, 7, shape)
            client.expect_closed()
    assert host.engine.stats().malformed == len(shapes)


def test_slow_reader_holds_up_nobody(host: Host) -> None:
    """A client that asks for much and reads nothing: its requests wait in its socket, the others go on."""
    host.host()
    fill(host, [b"x" * 900_000] * 10)
    fetches = 700  # more than a connection may have unanswered, however many of them come at once
    with host.client(receive_buffer_bytes=4096) as slow, host.client() as quick:
        slow.socket.settimeout(None)
        for _ in range(fetches):  # 6 GB are asked for
            slow.send_fetch({("t", 0): 0}, partition_max_bytes=9 << 20)
        for _ in range(50):
            assert quick.fetch(0, partition_max_bytes=100).error_code == 0
            assert quick.produce(batch([b"y"])).error_code == 0
        assert host.engine.stats().buffer_bytes_now < 8 << 20
        assert host.engine.stats().fetch_requests < fetches
        for _ in range(3):
            (part,) = parts_of(slow.fetched()).values()
            assert len(part.records) > 8 << 20
        assert slow.socket.fileno() >= 0


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_cold_data(tmp_path: Path, mode: int) -> None:
    """What is not in the page cache is read by other threads, also for clients that leave meanwhile."""
    host = Host(tmp_path, CONFIG._replace(send_mode=mode)).start()
    hosted = host.host()
    values = [bytes([i]) * 500_000 for i in range(20)]
    fill(host, values)
    hosted.log.flush()
    for leaves in (True, False):
        for path in Path(hosted.log.directory).glob("*.log"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with host.client() as client:
            client.send_fetch({("t", 0): 0}, partition_max_bytes=50 << 20)
            if leaves:
                client.receive_exactly(1)
                continue
            seen: list[bytes | None] = []
            while True:  # an answer holds what has been compared with its CRCs so far, whole batches
                (part,) = parts_of(client.fetched()).values()
                got = values_of(part.records)
                assert got and part.error_code == 0
                seen += got
                if len(seen) == len(values):
                    break
                client.send_fetch({("t", 0): len(seen)}, partition_max_bytes=50 << 20)
            assert seen == values
    host.close()


def test_file_cut_below_a_slice_closes_the_connection(host: Host) -> None:
    hosted = host.host()
    fill(host, [b"x" * 900_000] * 4)
    with host.client(receive_buffer_bytes=4096) as client:
        client.send_fetch({("t", 0): 0}, partition_max_bytes=9 << 20)
        client.receive_exactly(1)
        host.engine.truncate(hosted.number, 1, False)
        with pytest.raises((ConnectionError, socket.timeout)):
            client.receive_exactly(3_600_000)


def test_read_errors_are_told(host: Host) -> None:
    """A batch that cannot be read answers KAFKA_STORAGE_ERROR or closes, and later reads go on."""
    hosted = host.host()
    fill(host, [b"x" * 10_000] * 30)
    host.engine.roll(hosted.number)
    with host.client() as client:
        host.sys.fault(SYS_PREAD, 1, errno.EIO, repeat=1)
        try:
            code = client.fetch(3).error_code
        except ConnectionError:
            code = 56
        assert code in (0, 56)
    with host.client() as client:
        assert client.fetch(3).error_code == 0

"""Connections, upcalls, the answer cache, life and limits of a real engine, through real sockets."""

import errno
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylog._engine import (
    ROLE_FOLLOWER,
    UP_CLOSED,
    UP_COMMITTED,
    UP_EPOCH,
    UP_REQUEST,
    UP_ROLLED,
    Appended,
    Appending,
    Engine,
    Hosting,
    Upcall,
)
from pylog._native import Log, Sys
from pylog.errors import ErrorCode, KafkaError
from pylog.records import batches
from tests.unit.pylog.engine_client import CONFIG, LEADER, SETTINGS, TIMEOUT_MS, WALL_MS, Client, Host, batch, topic_id

REPLICATED = LEADER._replace(replicas=(1, 2), isr=(1, 2), high_watermark=0)
METADATA = 3
SYS_RECV, SYS_SEND, SYS_ACCEPT = 12, 13, 14


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path).start()
    yield host
    host.close()


def reply(host: Host, upcall: Upcall, text: bytes, cacheable: bool = False) -> None:
    data = struct.pack(">i", upcall.correlation_id) + text
    host.engine.answer(upcall.conn, upcall.slot, data, cacheable, upcall.generation)


def next_request(host: Host) -> Upcall:
    return host.next_upcall(UP_REQUEST)


# -------------------------------------------------------------------------------------------------- upcalls


def test_requests_are_handed_over_and_answered_in_order(host: Host) -> None:
    with host.client() as client:
        for i in range(3):
            client.send(METADATA, 8, b"body %d" % i, client_id=b"me" if i else None)
        upcalls = [next_request(host) for _ in range(3)]
        assert [(u.slot, u.body, u.client_id) for u in upcalls] == [
            (0, b"body 0", None),
            (1, b"body 1", b"me"),
            (2, b"body 2", b"me"),
        ]
        assert {(u.api_key, u.api_version, u.listener_id) for u in upcalls} == {(METADATA, 8, 7)}
        peer = host.engine.peer(upcalls[0].conn)
        assert peer == ("127.0.0.1", client.socket.getsockname()[1], "127.0.0.1", host.port)
        for upcall in reversed(upcalls):
            reply(host, upcall, b"answer %d" % upcall.slot)
        assert [client.receive() for _ in range(3)] == [(i + 1, b"answer %d" % i) for i in range(3)]
    assert host.next_upcall(UP_CLOSED).conn == upcalls[0].conn
    with pytest.raises(KafkaError):
        host.engine.peer(upcalls[0].conn)
    reply(host, upcalls[0], b"too late")  # dropped
    host.engine.disconnect(upcalls[0].conn)
    host.engine.throttle(upcalls[0].conn, 10)


def test_flexible_header_tags_are_part_of_the_body(host: Host) -> None:
    with host.client() as client:
        client.send(METADATA, 12, b"rest")
        assert next_request(host).body == b"\0rest"


def test_produce_behind_an_upcall_waits_for_its_answer(host: Host) -> None:
    """CreateTopics, then Produce to the new topic, without waiting in between."""
    with host.client() as client:
        client.send(METADATA, 4, b"create")
        client.send_produce({("t", 0): batch([b"x"])})
        client.send(METADATA, 4, b"after")
        upcall = next_request(host)
        host.host()
        reply(host, upcall, b"created")
        assert client.receive() == (1, b"created")
        assert client.produced()[0].error_code == 0
        reply(host, next_request(host), b"done")
        assert client.receive() == (3, b"done")


def test_upcall_behind_an_unanswered_produce_waits(host: Host) -> None:
    host.host(state=REPLICATED)
    with host.client() as client:
        client.send_produce({("t", 0): batch([b"x"])}, acks=-1)
        client.send(METADATA, 4, b"list offsets")
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        assert host.engine.stats().upcalls == 0
        with host.client() as follower:
            assert follower.fetch(1, replica_id=2).error_code == 0
        assert client.produced()[0].error_code == 0
        reply(host, next_request(host), b"1")
        assert client.receive() == (2, b"1")


def test_skipped_requests_have_no_answer(host: Host) -> None:
    with host.client() as client:
        client.send(METADATA, 4, b"a")
        client.send(METADATA, 4, b"b")
        first, second = next_request(host), next_request(host)
        host.engine.skip(first.conn, first.slot)
        reply(host, second, b"b")
        assert client.receive() == (2, b"b")


@pytest.mark.parametrize("count", [1, 15, 16, 40])
def test_answers_of_a_turn_go_out_with_the_next_poll(host: Host, count: int) -> None:
    with host.client() as client:
        correlations = [client.send(3, 9, b"") for _ in range(count)]
        upcalls = [host.next_upcall(UP_REQUEST) for _ in correlations]
        for upcall in upcalls:
            host.engine.answer_soon(upcall.conn, upcall.slot, upcall.correlation_id.to_bytes(4, "big") + b"soon")
        told = count // 16 * 16  # each sixteenth has those before it told of
        assert [client.receive() for _ in range(told)] == [(each, b"soon") for each in correlations[:told]]
        host.engine.poll(0, 1)
        assert [client.receive() for _ in range(count - told)] == [(each, b"soon") for each in correlations[told:]]
    host.engine.stop(0)
    host.engine.answer_soon(upcalls[0].conn, upcalls[0].slot, b"nobody hears it")


def test_large_answers(host: Host) -> None:
    with host.client() as client:
        text = bytes(range(256)) * 20_000
        for _ in range(3):
            client.send(METADATA, 4, text)
            upcall = next_request(host)
            assert upcall.body == text
            reply(host, upcall, upcall.body)
            assert client.receive()[1] == text


def test_poll_waits_wakes_and_stops(host: Host) -> None:
    assert host.engine.poll(0, 10) == []
    assert host.engine.poll(5, 10) == []
    waker = threading.Thread(target=host.engine.wake)
    waker.start()
    assert host.engine.poll(TIMEOUT_MS, 10) == []
    waker.join()
    stopper = threading.Thread(target=host.engine.stop, args=(0,))
    stopper.start()
    assert host.engine.poll(-1, 10) == []
    stopper.join()
    assert host.engine.poll(-1, 10) == []


def test_capacity_bounds_a_poll(host: Host) -> None:
    with host.client() as client:
        for _ in range(7):
            client.send(METADATA, 4, b"x")
        host.wait_for(lambda: host.engine.stats().upcalls == 7 or bool(host._seen))
        seen = host._seen[:]
        host._seen.clear()
        while len(seen) < 7:
            more = host.engine.poll(TIMEOUT_MS, 3)
            assert 1 <= len(more) <= 3
            seen += more
        assert [u.slot for u in seen] == list(range(7))


# -------------------------------------------------------------------------------------------------- the answer cache


def ask(client: Client, body: bytes = b"topics", version: int = 8) -> bytes:
    correlation = client.send(METADATA, version, body)
    got, text = client.receive()
    assert got == correlation
    return text


def test_cacheable_answers_are_given_by_c(host: Host) -> None:
    with host.client() as client, host.client() as other:
        client.send(METADATA, 8, b"topics")
        upcall = next_request(host)
        reply(host, upcall, b"truth 1", cacheable=True)
        assert client.receive() == (1, b"truth 1")
        for _ in range(3):
            assert ask(client) == b"truth 1"
            assert ask(other) == b"truth 1"
        assert host.engine.stats().cached_answers == 6
        host.engine.invalidate()
        client.send(METADATA, 8, b"topics")
        reply(host, next_request(host), b"truth 2", cacheable=True)
        assert client.receive()[1] == b"truth 2"
        assert ask(other) == b"truth 2"


def test_only_the_same_question_gets_it(host: Host) -> None:
    with host.client() as client:
        client.send(METADATA, 8, b"topics")
        reply(host, next_request(host), b"truth", cacheable=True)
        assert client.receive()[1] == b"truth"
        for key, version, body in ((METADATA, 7, b"topics"), (METADATA, 8, b"topicz"), (22, 1, b"topics")):
            client.send(key, version, body)
            upcall = next_request(host)
            assert (upcall.api_key, upcall.api_version, upcall.body) == (key, version, body)
            reply(host, upcall, b"other")
            assert client.receive()[1] == b"other"


def test_an_answer_older_than_a_change_is_not_kept(host: Host) -> None:
    with host.client() as client:
        client.send(METADATA, 8, b"topics")
        upcall = next_request(host)
        host.engine.invalidate()  # the truth changed while the answer was made
        reply(host, upcall, b"old", cacheable=True)
        assert client.receive()[1] == b"old"
        client.send(METADATA, 8, b"topics")
        reply(host, next_request(host), b"new")
        assert client.receive()[1] == b"new"


def test_cached_answer_does_not_pass_an_unanswered_request(host: Host) -> None:
    with host.client() as client:
        client.send(METADATA, 8, b"topics")
        reply(host, next_request(host), b"before", cacheable=True)
        assert client.receive()[1] == b"before"
        client.send(19, 4, b"create")
        client.send(METADATA, 8, b"topics")
        create, metadata = next_request(host), next_request(host)
        host.engine.invalidate()
        reply(host, create, b"created")
        reply(host, metadata, b"after")
        assert [client.receive()[1] for _ in range(2)] == [b"created", b"after"]


# -------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack(">i", -1),
        struct.pack(">i", 0),
        struct.pack(">i", -(1 << 31)),
        struct.pack(">i", (100 << 20) + 1),
        struct.pack(">ihhih", 11, 3, 1, 1, 5) + b"a",
        struct.pack(">ihhih", 10, 3, 1, 1, -7),
        struct.pack(">i", 7) + b"\0" * 7,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_garbage_closes_the_connection(host: Host, data: bytes) -> None:
    with host.client() as client, host.client() as neighbour:
        client.socket.sendall(data)
        client.expect_closed()
        neighbour.send(METADATA, 4, b"still here")
        reply(host, next_request(host), b"yes")
        assert neighbour.receive() == (1, b"yes")
    assert host.engine.stats().malformed == 1


def test_frames_in_single_bytes(host: Host) -> None:
    host.host()
    with host.client() as client:
        frame = client.frame(METADATA, 4, b"slow")
        for i in range(len(frame)):
            client.socket.sendall(frame[i : i + 1])
        reply(host, next_request(host), b"ok")
        assert client.receive() == (1, b"ok")


def test_connection_lost_in_the_middle_of_a_frame(host: Host) -> None:
    hosted = host.host()
    for size in (1, 3, 10, 5000, 700_000):
        client = host.client()
        client.socket.sendall(struct.pack(">ihhih", 1_000_000, 0, 9, 1, -1) + b"\0" * size)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    host.wait_for(lambda: host.engine.stats().connections_now == 0)
    host.wait_for(lambda: host.engine.stats().buffer_bytes_now <= (1 << 20) + 8192)
    assert host.engine.partition_info(hosted.number).log_end_offset == 0


def test_announced_size_takes_no_memory(host: Host) -> None:
    clients = [host.client() for _ in range(100)]
    for client in clients:
        client.socket.sendall(struct.pack(">ihhih", 100 << 20, 0, 9, 1, -1) + b"\0" * 1000)
    host.wait_for(lambda: host.engine.stats().bytes_in == 100 * 1014)
    assert host.engine.stats().buffer_bytes_now < 100 * 80_000 + (2 << 20)
    for client in clients:
        client.close()


def test_failing_system_calls_lose_one_connection_at_most(host: Host) -> None:
    host.host()
    for call in (SYS_RECV, SYS_SEND):
        with host.client() as client:
            assert client.produce(batch([b"x"])).error_code == 0
            host.sys.fault(call, 1, errno.ECONNRESET)
            client.send_produce({("t", 0): batch([b"y"])})
            client.expect_closed()
    for _ in range(3):
        host.sys.fault(SYS_ACCEPT, 1, errno.EMFILE)
        with host.client() as client:  # waits in the kernel's queue for a moment
            assert client.produce(batch([b"z"])).error_code == 0
    host.sys.fault(SYS_SEND, 1, 0, short_bytes=3, repeat=40)
    with host.client() as client:
        assert client.produce(batch([b"out in small bites"])).error_code == 0


# -------------------------------------------------------------------------------------------------- limits


def test_max_connections(tmp_path: Path) -> None:
    host = Host(tmp_path, CONFIG._replace(max_connections=2)).start()
    host.host()
    with host.client() as one, host.client() as two:
        assert one.produce(batch([b"x"])).error_code == 0
        assert two.produce(batch([b"x"])).error_code == 0
        with host.client() as three:  # in the kernel's queue until one goes
            three.send_produce({("t", 0): batch([b"x"])})
            assert one.produce(batch([b"x"])).error_code == 0
            three.expect_silence()
            assert host.engine.stats().connections == 2
            one.close()
            assert three.produced()[0].error_code == 0
    host.close()


def test_max_connections_per_ip(tmp_path: Path) -> None:
    host = Host(tmp_path, CONFIG._replace(max_connections_per_ip=1)).start()
    host.host()
    with host.client() as one, host.client() as two:
        two.expect_closed()
        assert one.produce(batch([b"x"])).error_code == 0
    host.close()


def test_idle_connections_are_closed(tmp_path: Path) -> None:
    host = Host(tmp_path, CONFIG._replace(connections_max_idle_ms=100)).start()
    host.host()
    with host.client() as idle, host.client() as parked:
        parked.send_fetch({("t", 0): 0}, max_wait_ms=400)
        idle.expect_closed()
        assert parked.fetched().error_code == 0  # it waited for us: not idle
        parked.expect_closed()
    assert host.engine.stats().connections_now == 0
    host.close()


def test_back_pressure_of_upcalls(tmp_path: Path) -> None:
    """Requests that Python has not answered are bounded in bytes; the rest waits in the sockets."""
    host = Host(tmp_path, CONFIG._replace(max_upcall_bytes=100_000)).start()
    with host.client() as client, host.client() as other:
        for _ in range(50):
            client.send(METADATA, 4, b"x" * 10_000)
        handed: list[Upcall] = [next_request(host) for _ in range(10)]
        other.send(METADATA, 4, b"y")
        assert host.engine.poll(20, 64) == []
        for _ in range(41):
            reply(host, handed.pop(0), b"ok")
            handed.append(next_request(host))
            assert len(handed) <= 10
        assert sum(u.body == b"y" for u in handed) <= 1
        for upcall in handed:
            reply(host, upcall, b"ok")
        for _ in range(50):
            assert client.receive()[1] == b"ok"
        assert other.receive()[1] == b"ok"
    host.close()


def test_stalled_connection_is_closed_meanwhile(tmp_path: Path) -> None:
    host = Host(tmp_path, CONFIG._replace(max_upcall_bytes=1000)).start()
    with host.client() as client, host.client() as stalled:
        client.send(METADATA, 4, b"x" * 2000)
        upcall = next_request(host)
        stalled.send(METADATA, 4, b"a")
        host.wait_for(lambda: host.engine.stats().bytes_in >= 2000)
        stalled.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stalled.close()
        host.wait_for(lambda: host.engine.stats().connections_now == 1)
        reply(host, upcall, b"ok")
        assert client.receive()[1] == b"ok"
        client.send(METADATA, 4, b"y")
        reply(host, next_request(host), b"ok")
        assert client.receive()[1] == b"ok"
    host.close()


def test_connection_that_ends_before_its_first_service_is_closed(tmp_path: Path) -> None:
    """Bytes and reset are told by one event: nothing more comes of it when Python has no room."""
    host = Host(tmp_path, CONFIG._replace(max_upcall_bytes=1000)).start()
    with host.client() as client:
        client.send(METADATA, 4, b"x" * 2000)
        upcall = next_request(host)
        for _ in range(100):
            with host.client() as passing:
                passing.send(METADATA, 4, b"a")
                passing.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        host.wait_for(lambda: host.engine.stats().connections == 101)
        host.wait_for(lambda: host.engine.stats().connections_now == 1)
        reply(host, upcall, b"ok")
        assert client.receive()[1] == b"ok"
    host.close()


def test_throttled_connection_is_not_read(host: Host) -> None:
    with host.client() as client:
        client.send(METADATA, 4, b"a")
        upcall = next_request(host)
        host.engine.throttle(upcall.conn, 60)
        client.send(METADATA, 4, b"b")
        reply(host, upcall, b"a")
        assert client.receive()[1] == b"a"
        assert host.engine.stats().upcalls == 1
        second = next_request(host)
        assert second.received_ms - upcall.received_ms >= 50
        reply(host, second, b"b")
        assert client.receive()[1] == b"b"


def test_disconnect(host: Host) -> None:
    with host.client() as client:
        client.send(METADATA, 4, b"a")
        upcall = next_request(host)
        host.engine.disconnect(upcall.conn)
        client.expect_closed()
    assert host.next_upcall(UP_CLOSED).conn == upcall.conn


# -------------------------------------------------------------------------------------------------- partitions


def test_append_of_the_coordinators(host: Host) -> None:
    hosted = host.host()
    first = host.engine.append(hosted.number, batch([b"a", b"b"]), 1)
    assert first == (0, 1, True)
    replicated = host.host("r", state=REPLICATED)
    assert host.engine.append(replicated.number, batch([b"a"]), 5) == (0, 0, False)
    assert host.engine.append(replicated.number, batch([b"a"]), 6) == (1, 1, False)
    with host.client() as follower:
        assert follower.fetch(1, "r", replica_id=2).error_code == 0
        upcall = host.next_upcall(UP_COMMITTED)
        assert (upcall.partition, upcall.token, upcall.offset, upcall.error) == (replicated.number, 5, 0, 0)
    host.engine.publish(replicated.number, REPLICATED._replace(role=ROLE_FOLLOWER, leader_epoch=1, leader_id=2))
    upcall = host.next_upcall(UP_COMMITTED)
    assert (upcall.token, upcall.error) == (6, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    with pytest.raises(KafkaError) as raised:
        host.engine.append(replicated.number, batch([b"a"]), 7)
    assert raised.value.code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_appends_of_one_turn(host: Host) -> None:
    """In order, each for itself, however many; and what is refused does not hold up the others."""
    one, other = host.host("u"), host.host("v", state=REPLICATED)
    items = [Appending([one, other][i % 2].number, batch([b"%d" % i, b"x"]), i) for i in range(200)]
    gone = Appending(other.number + 1000, batch([b"a"]), 1)
    damaged = Appending(one.number, batch([b"a"])[:-1] + b"?", 2)
    found = host.engine.append_all([gone, damaged, *items])
    refused, malformed = found[:2]
    assert isinstance(refused, KafkaError)
    assert refused.code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert isinstance(malformed, KafkaError)
    assert malformed.code == ErrorCode.CORRUPT_MESSAGE
    assert found[2:] == [Appended(at, at + 1, at_once) for at in range(0, 200, 2) for at_once in (True, False)]
    values = [record.value for each in batches(one.log.read(0, 200, 1 << 20, True)) for record in each.records()]
    assert values == [value for i in range(0, 200, 2) for value in (b"%d" % i, b"x")]
    assert host.engine.append_all([]) == []


def test_facts_of_the_log(host: Host) -> None:
    small = SETTINGS._replace(segment_bytes=1000)
    hosted = host.host(settings=small)
    with host.client() as client:
        for i in range(8):
            assert client.produce(batch([b"x" * 300])).base_offset == i
        upcall = host.next_upcall(UP_ROLLED)
        assert upcall.partition == hosted.number
        assert 1 <= upcall.offset <= 3
        assert host.next_upcall(UP_EPOCH).partition == hosted.number
        bases = [segment.base_offset for segment in hosted.log.segments()]
        assert len(bases) > 2
        assert host.engine.delete_segments(hosted.number, bases[1]) == 1
        host.engine.configure_log(hosted.number, SETTINGS)
        for i in range(8, 20):
            assert client.produce(batch([b"x" * 300])).base_offset == i
        assert len(hosted.log.segments()) == len(bases) - 1
        host.engine.truncate(hosted.number, 10, False)
        assert host.engine.partition_info(hosted.number).high_watermark == 10
        host.engine.truncate(hosted.number, 100, True)
        info = host.engine.partition_info(hosted.number)
        assert (info.log_start_offset, info.log_end_offset, info.high_watermark) == (100, 100, 100)
        assert client.produce(batch([b"x"])).base_offset == 100


def test_numbers_are_never_used_again(host: Host) -> None:
    seen = set()
    for i in range(5):
        hosted = host.host(f"t{i}")
        host.remove(hosted, 3)
        seen.add(hosted.number)
        for call in (
            lambda n=hosted.number: host.engine.partition_info(n),
            lambda n=hosted.number: host.engine.publish(n, LEADER),
            lambda n=hosted.number: host.engine.append(n, b"", 0),
            lambda n=hosted.number: host.engine.remove_partition(n, 3),
        ):
            with pytest.raises(KafkaError) as raised:
                call()
            assert raised.value.code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert len(seen) == 5


def test_names_and_ids_agree(host: Host) -> None:
    hosted = host.host()
    log = open_log(host, "spare")
    for name, id_of, index, code in (
        ("t", "other", 1, ErrorCode.INCONSISTENT_TOPIC_ID),
        ("other", "t", 0, ErrorCode.INCONSISTENT_TOPIC_ID),
        ("t", "t", 0, ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("t", "t", -1, ErrorCode.INVALID_TOPIC_EXCEPTION),
        ("", "t", 0, ErrorCode.INVALID_TOPIC_EXCEPTION),
    ):
        with pytest.raises(KafkaError) as raised:
            host.engine.add_partition(name, topic_id(id_of), index, log, LEADER)
        assert raised.value.code == code
    assert host.engine.add_partition("t", topic_id("t"), 1, log, LEADER) != hosted.number


def open_log(host: Host, name: str) -> Log:
    directory = host.directory / name
    directory.mkdir()
    log, _ = Log.open(
        host.sys, str(directory), SETTINGS, [], log_start=0, recovery_point=0, clean=False, epochs=(), now_ms=WALL_MS
    )
    return log


@pytest.mark.parametrize("started", [False, True])
def test_many_are_hosted_and_given_back_in_one_call(tmp_path: Path, started: bool) -> None:
    """More than one command takes, and states that are shared and states that are not."""
    host = Host(tmp_path)
    if started:
        host.start()
    count = 300
    later = LEADER._replace(leader_epoch=9)
    logs = [open_log(host, f"m-{index}") for index in range(count)]
    hostings = [
        Hosting("m", topic_id("m"), index, log, later if index % 3 else LEADER) for index, log in enumerate(logs)
    ]
    numbers = [n for n in host.engine.add_partitions(hostings) if isinstance(n, int)]
    assert len(set(numbers)) == count
    for index, number in enumerate(numbers):
        assert host.engine.partition_info(number).leader_epoch == (9 if index % 3 else LEADER.leader_epoch)
    gone = max(numbers) + 1000
    one_by_one = [host.engine.partition_info(number) for number in numbers]
    told = host.engine.partition_infos([*numbers, gone])
    assert told.roles.pop() < 0
    assert list(zip(*[column[:count] for column in told], strict=True)) == [
        (role, *figures) for role, _, *figures in one_by_one
    ]
    assert host.engine.partition_infos([]) == ([], [], [], [], [], [])
    client = host.client() if started else None
    if client is not None:
        assert client.produce(batch([b"x"]), topic="m", index=count - 1).error_code == 0
        client.close()
    assert host.engine.remove_partitions(numbers, 3) == logs
    for log in logs:
        log.close(clean=False)
    assert host.engine.add_partitions([]) == []
    assert host.engine.remove_partitions([], 3) == []
    host.close()


def test_one_of_many_that_is_refused_concerns_itself_alone(host: Host) -> None:
    taken = host.host("m", 1)
    logs = [open_log(host, f"more-{index}") for index in range(3)]
    hostings = [Hosting("m", topic_id("m"), index, log, LEADER) for index, log in enumerate(logs)]
    first, refused, last = host.engine.add_partitions(hostings)
    assert isinstance(refused, KafkaError) and refused.code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert isinstance(first, int) and isinstance(last, int)
    logs[1].close(clean=False)
    with pytest.raises(KafkaError) as raised:
        host.engine.remove_partitions([first, 12345, last], 3)
    assert raised.value.code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    logs[0].close(clean=False)
    logs[2].close(clean=False)
    assert host.engine.partition_info(taken.number).log_end_offset == 0


def test_many_threads_ask_at_once(host: Host) -> None:
    hosted = [host.host("t", i) for i in range(4)]
    data = batch([b"x"])
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            number = hosted[index % 4].number
            for i in range(30):
                host.engine.append(number, data, i)
                host.engine.publish(number, LEADER)
                info = host.engine.partition_info(number)
                assert info.log_end_offset >= info.high_watermark
                host.engine.stats()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(host.engine.partition_info(h.number).log_end_offset for h in hosted) == 8 * 30


# -------------------------------------------------------------------------------------------------- life


def test_everything_works_before_start_and_after_stop(tmp_path: Path) -> None:
    host = Host(tmp_path)
    hosted = host.host()
    assert host.engine.append(hosted.number, batch([b"early"]), 0).base_offset == 0
    host.start()
    with host.client() as client:
        assert client.produce(batch([b"x"])).base_offset == 1
        host.engine.stop(0)
        client.expect_closed()
    with pytest.raises(OSError):
        host.client()
    assert host.engine.append(hosted.number, batch([b"late"]), 0).base_offset == 2
    host.remove(hosted, 3)
    host.close()


def test_stop_sends_what_is_ready(tmp_path: Path) -> None:
    host = Host(tmp_path).start()
    host.host()
    with host.client(receive_buffer_bytes=4096) as client:
        for _ in range(5):
            assert client.produce(batch([b"x" * 1_000_000])).error_code == 0
        client.send_fetch({("t", 0): 0}, partition_max_bytes=6 << 20)
        client.receive_exactly(1)
        stopper = threading.Thread(target=host.engine.stop, args=(TIMEOUT_MS,))
        stopper.start()
        client._buffer[:0] = b"\0"  # the byte taken above
        (part,) = client.fetched().responses[0].partitions
        assert len(part.records) > 5_000_000
        stopper.join()
    host.close()


def test_closed_engine_refuses(tmp_path: Path) -> None:
    system = Sys()
    engine = Engine(system, CONFIG)
    engine.close()
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.start()
    system.close()


def test_addresses(tmp_path: Path) -> None:
    host = Host(tmp_path).start()
    host.host()
    both = host.engine.listen("", 0, 1)
    with socket.create_connection(("127.0.0.1", both)) as sock:
        sock.sendall(struct.pack(">ihhih", 10, METADATA, 4, 1, -1))
        upcall = next_request(host)
        assert upcall.listener_id == 1
        assert host.engine.peer(upcall.conn).local_address == "127.0.0.1"
    for address, port in (("nowhere", 0), ("127.0.0.1", 70000), ("127.0.0.1", host.port)):
        with pytest.raises(OSError):
            host.engine.listen(address, port, 1)
    host.close()


def test_idle_engine_does_nothing(host: Host) -> None:
    host.host()
    with host.client() as client:
        assert client.produce(batch([b"x"])).error_code == 0
        for _ in range(20):  # the turn that answered may not have ended when its answer came
            before = host.engine.stats().turns
            host.engine.poll(100, 64)
            if host.engine.stats().turns == before:
                return
        raise AssertionError("it never rests")

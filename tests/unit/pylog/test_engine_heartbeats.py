"""Heartbeats that C answers for members that Python published, through real sockets, and those that it hands over."""

import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.protocol.messages import HeartbeatRequest, HeartbeatResponse
from pylog._engine import GRANT_READ, RESOURCE_GROUP, UP_REQUEST
from tests.unit.pylog.engine_client import Client, Host

HEARTBEAT = 12
METADATA = 3
GONE_ERROR = 25


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path).start()
    yield host
    host.close()


def beat(
    client: Client, member: str, epoch: int = 1, instance: str | None = None, group: str = "g", version: int = 4
) -> None:
    request = HeartbeatRequest(group_id=group, generation_id=epoch, member_id=member)
    if version >= 3:
        request.group_instance_id = instance
    client.send(HEARTBEAT, version, request.encode(version))


def answer(client: Client, version: int = 4) -> int:
    response = client.decode(HeartbeatResponse, HEARTBEAT, version)
    assert isinstance(response, HeartbeatResponse)
    assert response.throttle_time_ms == 0
    return response.error_code


def refuse(host: Host, version: int = 4, before: Callable[[], None] = lambda: None) -> None:
    """A heartbeat comes up; say to it what C never says."""
    upcall = host.next_upcall(UP_REQUEST)
    before()
    assert (upcall.api_key, upcall.api_version) == (HEARTBEAT, version)
    body = HeartbeatResponse(error_code=GONE_ERROR).encode(version)
    header = struct.pack(">i", upcall.correlation_id) + (b"\0" if version >= 4 else b"")
    host.engine.answer(upcall.conn, upcall.slot, header + body)


def goes_up(host: Host, client: Client, *args: object, **kwargs: object) -> bool:
    beat(client, *args, **kwargs)  # type: ignore[arg-type]
    version = kwargs.get("version", 4)
    assert isinstance(version, int)
    refuse(host, version)
    return answer(client, version) == GONE_ERROR


@pytest.mark.parametrize("version", range(5))
def test_what_was_published_is_answered_in_every_version(host: Host, version: int) -> None:
    host.engine.publish_members("g", 7, [("a", None), ("b", "i")])
    with host.client() as client:
        for member in ("a", "b"):
            beat(client, member, 7, version=version)
            assert answer(client, version) == 0
    stats = host.engine.stats()
    assert (stats.heartbeats, stats.upcalls, stats.requests) == (2, 0, 2)


def test_what_differs_in_anything_goes_up(host: Host) -> None:
    host.engine.publish_members("g", 7, [("a", None), ("b", "i")])
    with host.client() as client:
        assert goes_up(host, client, "a", 6)
        assert goes_up(host, client, "c", 7)
        assert goes_up(host, client, "a", 7, "i")
        assert goes_up(host, client, "b", 7, "j")
        assert goes_up(host, client, "a", 7, group="h")
        beat(client, "b", 7, "i")
        assert answer(client) == 0
    assert host.engine.stats().heartbeats == 1


def test_withdrawn_members_go_up_and_it_stays_known_when_they_were_heard(host: Host) -> None:
    host.engine.publish_members("g", 1, [("a", None), ("b", None)])
    assert host.engine.member_heard("g", "a") is None
    with host.client() as client:
        beat(client, "a")
        assert answer(client) == 0
        ago = host.engine.member_heard("g", "a")
        assert ago is not None
        assert 0 <= ago < 60_000
        host.engine.withdraw_members("g", ["a"], forget=False)
        assert goes_up(host, client, "a")
        assert host.engine.member_heard("g", "a") is not None
        beat(client, "b")
        assert answer(client) == 0
        host.engine.publish_members("g", 2, [("a", None)])
        assert host.engine.member_heard("g", "a") is not None
        assert goes_up(host, client, "a", 1)
        beat(client, "a", 2)
        assert answer(client) == 0
        host.engine.withdraw_members("g", ["a", "b", "nobody"], forget=True)
        assert host.engine.member_heard("g", "a") is None
        assert goes_up(host, client, "a", 2)


def test_answers_keep_the_order_of_the_requests(host: Host) -> None:
    """A heartbeat behind a request that Python has not answered is Python's too: what that request does comes first."""
    host.engine.publish_members("g", 1, [("a", None)])
    with host.client() as client:
        client.send(METADATA, 8, b"topics")
        beat(client, "a")
        first = host.next_upcall(UP_REQUEST)
        refuse(host)
        client.expect_silence()
        host.engine.answer(first.conn, first.slot, struct.pack(">i", first.correlation_id) + b"topics")
        assert client.receive() == (1, b"topics")
        assert answer(client) == GONE_ERROR
        beat(client, "a")
        assert answer(client) == 0


def test_only_who_may_read_the_group_is_answered(tmp_path: Path) -> None:
    host = Host(tmp_path, authorizer=True).start()
    try:
        host.engine.publish_members("g", 1, [("a", None)])
        with host.client() as client:
            assert goes_up(host, client, "a")
            host.engine.publish_grant(0, RESOURCE_GROUP, b"g", 0)
            assert goes_up(host, client, "a")
            host.engine.publish_grant(0, RESOURCE_GROUP, b"g", GRANT_READ)
            beat(client, "a")
            assert answer(client) == 0
            host.engine.revoke_grants()
            assert goes_up(host, client, "a")
    finally:
        host.close()


def test_each_withdrawal_brings_one_heartbeat_up(host: Host) -> None:
    """A client asks all the time: the first heartbeat after a withdrawal is Python's."""
    rounds, stop = 300, threading.Event()
    answered: list[int] = []

    def ask() -> None:
        with host.client() as client:
            while not stop.is_set():
                beat(client, "a")
                answered.append(answer(client))

    def publish() -> None:
        host.engine.publish_members("g", 1, [("a", None)])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(rounds):
            host.engine.withdraw_members("g", ["a"], forget=False)
            refuse(host, before=publish)
            before = host.engine.stats().heartbeats
            host.wait_for(lambda before=before: host.engine.stats().heartbeats > before)  # type: ignore[misc]
    finally:
        stop.set()
        publish()
        thread.join()
    assert set(answered) == {0, GONE_ERROR}
    assert answered.count(GONE_ERROR) == rounds

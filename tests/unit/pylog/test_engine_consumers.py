"""Heartbeats that C answers for members of the consumer protocol that Python published, through real sockets: as Python
would, to the byte; and those that it hands over."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.protocol.messages import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    HeartbeatRequest,
    OffsetCommitRequest,
)
from pylog._engine import GRANT_READ, RESOURCE_GROUP, UP_REQUEST, ConsumerTerms
from tests.unit.pylog.engine_client import Client, Host

CONSUMER_HEARTBEAT, HEARTBEAT, OFFSET_COMMIT, METADATA = 68, 12, 8, 3
NO_OFFSETS = -1
TERMS = ConsumerTerms(4, 5_000, 9, NO_OFFSETS, 2)
UPSTAIRS = b"upstairs"
Request = ConsumerGroupHeartbeatRequest


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path).start()
    host.engine.topics_changed(2)
    yield host
    host.close()


def publish(
    host: Host, member: str = "a", instance: str | None = None, terms: ConsumerTerms = TERMS, **where: str
) -> None:
    who = (member, instance, where.get("client", "me"), where.get("address", "127.0.0.1"))
    host.engine.publish_consumer(where.get("group", "g"), who, terms)


def beat(
    client: Client, version: int = 1, name: bytes | None = b"me", member: str = "a", epoch: int = 4, **says: object
) -> None:
    request = Request(**({"group_id": "g", "member_id": member, "member_epoch": epoch} | says))  # type: ignore[arg-type]
    client.send(CONSUMER_HEARTBEAT, version, request.encode(version), name)


def is_answered(host: Host, client: Client, **says: object) -> bool:
    """By C; else it came up, and is answered here."""
    before = host.engine.stats()
    beat(client, **says)  # type: ignore[arg-type]
    host.wait_for(lambda: host.engine.stats().requests > before.requests)
    if host.engine.stats().upcalls == before.upcalls:
        client.receive()
        return True
    upcall = host.next_upcall(UP_REQUEST)
    assert upcall.api_key == CONSUMER_HEARTBEAT
    host.engine.answer(upcall.conn, upcall.slot, struct.pack(">i", upcall.correlation_id) + b"\0" + UPSTAIRS)
    assert client.receive()[1] == b"\0" + UPSTAIRS
    return False


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    version=st.integers(0, 1),
    group=st.text(min_size=1, max_size=30),
    member=st.text(min_size=1, max_size=63),
    instance=st.none() | st.text(min_size=1, max_size=20),
    name=st.text(max_size=20),
    epoch=st.integers(1, 2**31 - 1),
    interval_ms=st.integers(0, 2**31 - 1),
)
def test_an_answer_is_pythons_to_the_byte(
    host: Host,
    version: int,
    group: str,
    member: str,
    instance: str | None,
    name: str,
    epoch: int,
    interval_ms: int,
) -> None:
    terms = TERMS._replace(epoch=epoch, heartbeat_interval_ms=interval_ms)
    publish(host, member, instance, terms, client=name, group=group)
    response = ConsumerGroupHeartbeatResponse(member_id=member, member_epoch=epoch, heartbeat_interval_ms=interval_ms)
    with host.client() as client:
        raw = name.encode() if name or epoch % 2 else None
        beat(client, version, raw, member, epoch, group_id=group, instance_id=instance)
        assert client.receive()[1] == b"\0" + response.encode(version)
    assert host.engine.stats().upcalls == 0


SAYS_MORE: list[dict[str, object]] = [
    {"rack_id": "r"},
    {"rack_id": ""},
    {"rebalance_timeout_ms": 0},
    {"rebalance_timeout_ms": 60_000},
    {"subscribed_topic_names": []},
    {"subscribed_topic_names": ["t"]},
    {"subscribed_topic_regex": ""},
    {"subscribed_topic_regex": "t.*"},
    {"server_assignor": "uniform"},
    {"topic_partitions": []},
    {"topic_partitions": [Request.TopicPartitions(topic_id=b"t" * 16, partitions=[1])]},
]


@pytest.mark.parametrize("says", SAYS_MORE)
def test_who_says_more_goes_up(host: Host, says: dict[str, object]) -> None:
    publish(host)
    with host.client() as client:
        assert is_answered(host, client)
        assert not is_answered(host, client, **says)
        assert is_answered(host, client)


def test_what_differs_in_anything_goes_up(host: Host) -> None:
    publish(host)
    publish(host, "s", "i")
    publish(host, "far", address="127.0.0.2")
    publish(host, "six", address="::1")
    publish(host, "mute", client="")
    with host.client() as client:
        assert not is_answered(host, client, epoch=3)
        assert not is_answered(host, client, epoch=5)
        assert not is_answered(host, client, epoch=0)
        assert not is_answered(host, client, epoch=-1)
        assert not is_answered(host, client, member="b")
        assert not is_answered(host, client, group_id="h")
        assert not is_answered(host, client, name=b"you")
        assert not is_answered(host, client, name=None)
        assert not is_answered(host, client, instance_id="i")
        assert not is_answered(host, client, member="s", instance_id="j")
        assert not is_answered(host, client, member="far")
        assert not is_answered(host, client, member="six")
        assert host.engine.member_heard("g", "a") is None
        assert is_answered(host, client, member="s", instance_id="i")
        assert is_answered(host, client, member="s")
        assert is_answered(host, client, member="mute", name=None)
        assert is_answered(host, client, member="mute", name=b"")
        assert host.engine.member_heard("g", "s") is not None


def test_a_change_of_the_topics_brings_them_up(host: Host) -> None:
    publish(host)
    with host.client() as client:
        assert is_answered(host, client)
        host.engine.topics_changed(3)
        assert not is_answered(host, client)
        publish(host)  # decided before
        assert not is_answered(host, client)
        publish(host, terms=TERMS._replace(topics=3, epoch=5))
        assert is_answered(host, client, epoch=5)


def test_withdrawn_members_go_up_and_it_stays_known_when_they_were_heard(host: Host) -> None:
    publish(host)
    with host.client() as client:
        assert is_answered(host, client)
        host.engine.withdraw_members("g", ["a"], forget=False)
        assert not is_answered(host, client)
        assert host.engine.member_heard("g", "a") is not None
        host.engine.withdraw_members("g", ["a"], forget=True)
        assert host.engine.member_heard("g", "a") is None


def test_the_other_protocols_heartbeats_go_up(host: Host) -> None:
    publish(host)
    host.engine.publish_members("g", 4, [("b", None)])
    with host.client() as client:
        assert not is_answered(host, client, member="b")
        client.send(HEARTBEAT, 4, HeartbeatRequest(group_id="g", generation_id=4, member_id="a").encode(4))
        assert host.next_upcall(UP_REQUEST).api_key == HEARTBEAT


def test_behind_a_request_that_python_has_it_is_pythons_too(host: Host) -> None:
    publish(host)
    with host.client() as client:
        client.send(METADATA, 8, b"topics")
        beat(client)
        assert [host.next_upcall(UP_REQUEST).api_key for _ in range(2)] == [METADATA, CONSUMER_HEARTBEAT]


def test_offsets_below_the_version_are_pythons(host: Host) -> None:
    """Those that are taken: test_engine_offsets.py."""
    publish(host, terms=TERMS._replace(offsets=0))
    entry = OffsetCommitRequest.OffsetCommitRequestPartition(partition_index=0, committed_offset=1)
    topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="t", partitions=[entry])
    request = OffsetCommitRequest(group_id="g", generation_id_or_member_epoch=4, member_id="a", topics=[topic])
    with host.client() as client:
        client.send(OFFSET_COMMIT, 8, request.encode(8))
        assert host.next_upcall(UP_REQUEST).api_key == OFFSET_COMMIT


def test_only_who_may_read_the_group_is_answered(tmp_path: Path) -> None:
    host = Host(tmp_path, authorizer=True).start()
    try:
        host.engine.topics_changed(2)
        publish(host)
        with host.client() as client:
            assert not is_answered(host, client)
            host.engine.publish_grant(0, RESOURCE_GROUP, b"g", GRANT_READ)
            assert is_answered(host, client)
            host.engine.revoke_grants()
            assert not is_answered(host, client)
    finally:
        host.close()


@pytest.mark.parametrize("address", ["", "localhost", "1.2.3", "::1%lo", "1" * 60])
def test_what_is_no_address_is_refused(host: Host, address: str) -> None:
    with pytest.raises(OSError, match=r"[Ii]nvalid"):
        publish(host, address=address)

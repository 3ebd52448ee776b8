"""Offset commits that C takes of members that Python published, through real sockets: what is written, answered and
told; and those that it hands over."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.coordinator.group_records import OffsetCommitted, decode, encode
from cluster.protocol.messages import HeartbeatRequest, OffsetCommitRequest, OffsetCommitResponse
from pylog._engine import (
    GRANT_READ,
    RESOURCE_GROUP,
    ROLE_FOLLOWER,
    UP_COMMITTED,
    UP_OFFSETS,
    UP_REQUEST,
    Appended,
    Appending,
    PartitionState,
    Upcall,
)
from pylog._native import batch_records
from pylog.errors import ErrorCode, KafkaError
from tests.unit.pylog.engine_client import LEADER, Client, Host, Hosted, parts_of, topic_id

HEARTBEAT, OFFSET_COMMIT = 12, 8
TIMEOUT_MS, METADATA_MAX = 20_000, 20
OFFSETS = "__consumer_offsets"
KEEPER = LEADER._replace(internal=True, compacted=True, leader_epoch=4)
REPLICATED = KEEPER._replace(replicas=(1, 2), isr=(1, 2), high_watermark=0)
ALONE = REPLICATED._replace(replicas=(1,), isr=(1,))
GONE_ERROR = 25
T = [("t", 0, 5), ("t", 1, 6)]


class World(Host):
    """`keeper`: the partition that keeps the offsets of group g, whose member a is published in generation 7."""

    keeper: Hosted

    def begin(self, state: PartitionState = KEEPER, timeout_ms: int = TIMEOUT_MS) -> "World":
        self.engine.take_offsets(timeout_ms, METADATA_MAX)
        self.host("t", 0)
        self.host("t", 1)
        self.host("u", 3)
        self.keeper = self.host(OFFSETS, 0, state)
        self.engine.publish_members("g", 7, [("a", None), ("s", "i")], self.keeper.number)
        self.start()
        return self

    def told(self) -> tuple[Upcall, list[OffsetCommitted]]:
        """The next that C took: what is told of it, as facts."""
        upcall = self.next_upcall(UP_OFFSETS)
        assert upcall.partition == self.keeper.number
        facts, at = [], 0
        while at < len(upcall.body):
            parts = []
            for _ in range(2):
                (size,) = struct.unpack_from(">i", upcall.body, at)
                parts.append(upcall.body[at + 4 : at + 4 + size])
                at += 4 + size
            fact = decode(parts[0], parts[1])
            assert isinstance(fact, OffsetCommitted)
            assert encode(fact) == (parts[0], parts[1]), "as Python writes it, to the byte"
            facts.append(fact)
        assert upcall.a == len(facts)
        return upcall, facts


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def body(
    version: int,
    offsets: list[tuple[str, int, int]],
    *,
    group: str = "g",
    member: str = "a",
    epoch: int = 7,
    instance: str | None = None,
    metadata: str | None = "",
    retention_ms: int = -1,
) -> bytes:
    request = OffsetCommitRequest(group_id=group, generation_id_or_member_epoch=epoch, member_id=member)
    if version >= 7:
        request.group_instance_id = instance
    if version <= 4:
        request.retention_time_ms = retention_ms
    topic = None
    for name, index, offset in offsets:
        if topic is None or topic[0] != name:
            made = OffsetCommitRequest.OffsetCommitRequestTopic(name=name, topic_id=topic_id(name))
            request.topics.append(made)
            topic = (name, made)
        entry = OffsetCommitRequest.OffsetCommitRequestPartition(
            partition_index=index, committed_offset=offset, committed_metadata=metadata
        )
        if version >= 6:
            entry.committed_leader_epoch = 2
        topic[1].partitions.append(entry)
    return request.encode(version)


def commit(client: Client, offsets: list[tuple[str, int, int]] = T, version: int = 9, **who: object) -> None:
    client.send(OFFSET_COMMIT, version, body(version, offsets, **who))  # type: ignore[arg-type]


def answer(client: Client, version: int = 9) -> list[tuple[str, int, int]]:
    """Topic, partition and error of each."""
    response = client.decode(OffsetCommitResponse, OFFSET_COMMIT, version)
    assert isinstance(response, OffsetCommitResponse)
    names = {topic_id(name): name for name in "tu"}
    return [
        (names[topic.topic_id] if version >= 10 else topic.name, each.partition_index, each.error_code)
        for topic in response.topics
        for each in topic.partitions
    ]


def goes_up(world: World, client: Client, offsets: list[tuple[str, int, int]] = T, **who: object) -> bool:
    """Whether Python is asked; it says what C never does."""
    version = who.pop("version", 9)
    assert isinstance(version, int)
    commit(client, offsets, version, **who)
    upcall = world.next_upcall(UP_REQUEST)
    assert (upcall.api_key, upcall.api_version) == (OFFSET_COMMIT, version)
    topic = OffsetCommitResponse.OffsetCommitResponseTopic(name="t", topic_id=topic_id("t"))
    topic.partitions.append(OffsetCommitResponse.OffsetCommitResponsePartition(error_code=GONE_ERROR))
    header = struct.pack(">i", upcall.correlation_id) + (b"\0" if version >= 8 else b"")
    response = OffsetCommitResponse(topics=[topic])
    world.engine.answer(upcall.conn, upcall.slot, header + response.encode(version))
    return answer(client, version) == [("t", 0, GONE_ERROR)]


def log_of(client: Client) -> bytes:
    client.send_fetch({(OFFSETS, 0): 0})
    (part,) = parts_of(client.fetched()).values()
    assert part.records is not None
    return bytes(part.records)


@pytest.mark.parametrize("version", range(2, 11))
def test_what_a_member_commits_is_written_told_and_answered_in_every_version(world: World, version: int) -> None:
    world.begin()
    with world.client() as client:
        commit(client, [*T, ("u", 3, 9)], version, metadata="é".encode().hex())
        assert answer(client, version) == [("t", 0, 0), ("t", 1, 0), ("u", 3, 0)]
        upcall, facts = world.told()
        assert (upcall.offset, upcall.slot, upcall.b) == (0, 4, 3)
        epoch = 2 if version >= 6 else -1
        commit_ms = facts[0].commit_ms
        assert facts == [OffsetCommitted("g", *at, epoch, "c3a9", commit_ms) for at in [*T, ("u", 3, 9)]]
        records = batch_records(log_of(client), 1 << 20)
        assert [(each.key, each.value) for each in records] == [encode(fact) for fact in facts]
    stats = world.engine.stats()
    assert (stats.offset_commits, stats.upcalls) == (1, 0)
    assert world.engine.member_heard("g", "a") is not None


def test_what_is_not_plain_goes_up(world: World) -> None:
    world.begin()
    with world.client() as client:
        assert goes_up(world, client, epoch=6)
        assert goes_up(world, client, member="b")
        assert goes_up(world, client, group="h")
        assert goes_up(world, client, instance="i")
        assert goes_up(world, client, member="s", instance="j")
        assert goes_up(world, client, member="", epoch=-1)
        assert goes_up(world, client, [("t", 2, 1)]), "there is no such partition"
        assert goes_up(world, client, [("v", 0, 1)])
        assert goes_up(world, client, [("t", 0, 1), ("t", 0, 2)])
        assert goes_up(world, client, [("t", 0, 1), ("u", 3, 1), ("t", 1, 2)])
        assert goes_up(world, client, [("t", 0, 1), ("t", 7, 2)])
        assert goes_up(world, client, [])
        assert goes_up(world, client, metadata="x" * (METADATA_MAX + 1))
        assert goes_up(world, client, metadata="é")
        assert goes_up(world, client, version=2, retention_ms=1_000)
        assert world.engine.stats().offset_commits == 0
        assert world.engine.member_heard("g", "a") is None
        commit(client, member="s", instance="i", metadata=None)
        assert answer(client) == [("t", 0, 0), ("t", 1, 0)]
        assert world.told()[1][0].metadata == ""
        world.engine.withdraw_members("g", ["s"], forget=False)
        assert goes_up(world, client, member="s", instance="i")
        world.engine.publish_members("g", 7, [("s", "i")])
        assert goes_up(world, client, member="s", instance="i")


def test_only_where_everybody_may_read_every_group(tmp_path: Path) -> None:
    world = World(tmp_path, authorizer=True).begin()
    try:
        world.engine.publish_grant(0, RESOURCE_GROUP, b"g", GRANT_READ)
        with world.client() as client:
            assert goes_up(world, client)
    finally:
        world.close()


def test_commits_that_come_together_are_one_batch_and_answered_in_order(world: World) -> None:
    world.begin()
    with world.client() as client:
        frames = [client.frame(OFFSET_COMMIT, 9, body(9, [("t", 0, number)])) for number in range(5)]
        client.socket.sendall(b"".join(frames))
        for _ in frames:
            assert answer(client) == [("t", 0, 0)]
        _, facts = world.told()
        assert [fact.offset for fact in facts] == list(range(5))
        assert len(batch_records(log_of(client), 1 << 20)) == 5


def test_behind_a_request_that_python_has_it_is_pythons_too(world: World) -> None:
    world.begin()
    with world.client() as client:
        client.send(HEARTBEAT, 3, HeartbeatRequest(group_id="h", generation_id=1, member_id="x").encode(3))
        first = world.next_upcall(UP_REQUEST)
        commit(client)
        second = world.next_upcall(UP_REQUEST)
        assert (first.api_key, second.api_key) == (HEARTBEAT, OFFSET_COMMIT)
        assert world.engine.stats().offset_commits == 0


# ----------------------------------------------------------------------------------------------------- replicas


def test_it_is_told_when_it_is_written_and_answered_when_it_is_committed(world: World) -> None:
    world.begin(REPLICATED)
    with world.client() as client:
        commit(client)
        upcall, _ = world.told()
        assert (upcall.offset, upcall.b) == (0, 0)
        client.expect_silence()
        world.engine.publish(world.keeper.number, ALONE)
        assert answer(client) == [("t", 0, 0), ("t", 1, 0)]
        assert world.next_upcall(UP_COMMITTED).offset == 1


def test_what_cannot_be_committed_is_not_written(world: World) -> None:
    world.begin(REPLICATED._replace(isr=(1,), min_insync_replicas=2))
    with world.client() as client:
        commit(client)
        assert answer(client) == [(topic, index, ErrorCode.COORDINATOR_NOT_AVAILABLE) for topic, index, _ in T]
        world.engine.publish(world.keeper.number, KEEPER)
        commit(client, [("t", 1, 8)])
        assert answer(client) == [("t", 1, 0)]
        upcall, facts = world.told()
        assert (upcall.offset, facts[0].offset) == (0, 8)


def test_who_waits_when_the_leader_goes_is_told_to_look_for_it(world: World) -> None:
    world.begin(REPLICATED)
    with world.client() as client:
        commit(client)
        world.told()
        follower = REPLICATED._replace(role=ROLE_FOLLOWER, leader_epoch=5, leader_id=2)
        world.engine.publish(world.keeper.number, follower)
        assert answer(client) == [("t", 0, ErrorCode.NOT_COORDINATOR), ("t", 1, ErrorCode.NOT_COORDINATOR)]
        commit(client, version=10)
        assert answer(client, 10) == [("t", 0, ErrorCode.NOT_COORDINATOR), ("t", 1, ErrorCode.NOT_COORDINATOR)]


def test_who_has_waited_too_long_is_told_so_and_it_is_committed_all_the_same(world: World) -> None:
    world.begin(REPLICATED, timeout_ms=1)
    with world.client() as client:
        commit(client, version=2)
        assert answer(client, 2) == [("t", 0, ErrorCode.REQUEST_TIMED_OUT), ("t", 1, ErrorCode.REQUEST_TIMED_OUT)]
        world.engine.publish(world.keeper.number, ALONE)
        assert world.next_upcall(UP_COMMITTED).offset == 1


def test_a_client_that_went_leaves_what_it_committed(world: World) -> None:
    world.begin(REPLICATED)
    with world.client() as client:
        commit(client)
        world.told()
    world.wait_for(lambda: world.engine.stats().connections_now == 0)
    world.engine.publish(world.keeper.number, ALONE)
    assert world.next_upcall(UP_COMMITTED).offset == 1


def test_a_deletion_is_written_only_by_who_has_heard_of_everything(world: World) -> None:
    world.begin()
    with world.client() as client:
        commit(client)
        assert answer(client)
        batch = log_of(client)
        number = world.keeper.number
        appends = [Appending(number, batch, 1, 1), Appending(number, batch, 1, 2), Appending(number, batch, 1)]
        refused, *rest = world.engine.append_all(appends)
        assert isinstance(refused, KafkaError)
        assert refused.code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        assert rest == [Appended(2, 3, True), Appended(4, 5, True)]

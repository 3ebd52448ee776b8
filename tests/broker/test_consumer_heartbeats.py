"""A member of the consumer protocol and a broker: who answers its heartbeats changes nothing of what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.broker.broker import Broker
from cluster.config import load
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.broker.raw import Raw

GROUP_RESOURCE = 32
Request = m.ConsumerGroupHeartbeatRequest


class Member:
    """The only one of group g, which reads topic t."""

    def __init__(self, broker: Broker) -> None:
        self.engine = broker.engine
        port = int(broker.ready_line().split("127.0.0.1:")[1].split()[0])
        self.raw = Raw(port)
        self.epoch = 0
        self.create("t", 3)
        coordinator = m.FindCoordinatorRequest(key_type=0, coordinator_keys=["g"])
        assert self.raw.ask(coordinator, 4).coordinators[0].error_code == 0
        self.say(rebalance_timeout_ms=10_000, subscribed_topic_names=["t"], topic_partitions=[])
        self.say()

    def create(self, name: str, partitions: int) -> None:
        topic = m.CreateTopicsRequest.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
        assert self.raw.ask(m.CreateTopicsRequest(topics=[topic], timeout_ms=10_000), 5).topics[0].error_code == 0

    def say(self, **says: object) -> m.ConsumerGroupHeartbeatResponse:
        request = Request(group_id="g", member_id="m", member_epoch=self.epoch, **says)  # type: ignore[arg-type]
        answer: m.ConsumerGroupHeartbeatResponse = self.raw.ask(request, 1)
        assert answer.error_code == 0
        self.epoch = answer.member_epoch
        return answer

    def is_answered_below(self) -> bool:
        """Whether a heartbeat that says nothing is, by the data plane."""
        before = self.engine.stats().heartbeats
        assert self.say().assignment is None
        return self.engine.stats().heartbeats > before

    def set_interval(self, interval_ms: int) -> None:
        config = m.IncrementalAlterConfigsRequest.AlterableConfig(
            name="consumer.heartbeat.interval.ms", config_operation=0, value=str(interval_ms)
        )
        resource = m.IncrementalAlterConfigsRequest.AlterConfigsResource(
            resource_type=GROUP_RESOURCE, resource_name="g", configs=[config]
        )
        answer = self.raw.ask(m.IncrementalAlterConfigsRequest(resources=[resource]), 1)
        assert answer.responses[0].error_code == 0

    def commit(self, offset: int, version: int = 9) -> ErrorCode:
        entry = m.OffsetCommitRequest.OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
        topic = m.OffsetCommitRequest.OffsetCommitRequestTopic(name="t", partitions=[entry])
        request = m.OffsetCommitRequest(
            group_id="g", generation_id_or_member_epoch=self.epoch, member_id="m", topics=[topic]
        )
        return ErrorCode(self.raw.ask(request, version).topics[0].partitions[0].error_code)


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    settings = {"log.dirs": str(tmp_path / "data"), "listeners": "PLAINTEXT://127.0.0.1:0"}
    settings |= {"offsets.topic.num.partitions": "2", "group.consumer.assignment.interval.ms": "0"}
    broker = Broker(load(None, settings))
    broker.start()
    try:
        found = Member(broker)
        yield found
        found.raw.close()
    finally:
        broker.stop()


def test_topics_and_settings_that_change_are_told_at_once(member: Member) -> None:
    assert member.is_answered_below()
    member.create("u", 1)
    assert not member.is_answered_below()
    assert member.is_answered_below()
    member.set_interval(7_000)
    assert [member.say().heartbeat_interval_ms for _ in range(2)] == [7_000, 7_000]
    assert member.is_answered_below()
    member.set_interval(5_000)
    assert member.say().heartbeat_interval_ms == 5_000
    more = m.CreatePartitionsRequest.CreatePartitionsTopic(name="t", count=5, assignments=None)
    assert member.raw.ask(m.CreatePartitionsRequest(topics=[more], timeout_ms=10_000), 3).results[0].error_code == 0
    before = member.epoch
    told = member.say().assignment
    assert told is not None
    assert sorted(told.topic_partitions[0].partitions) == [0, 1, 2, 3, 4]
    assert member.epoch == before + 1


def test_offsets_are_taken_in_the_members_epoch(member: Member) -> None:
    assert member.commit(5) == ErrorCode.NONE
    assert member.engine.stats().offset_commits == 1
    assert member.commit(6, version=8) == ErrorCode.UNSUPPORTED_VERSION
    member.epoch += 1
    assert member.commit(6) == ErrorCode.STALE_MEMBER_EPOCH
    assert member.engine.stats().offset_commits == 1
    topic = m.OffsetFetchRequest.OffsetFetchRequestTopics(name="t", partition_indexes=[0])
    group = m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id="g", topics=[topic])
    (fetched,) = member.raw.ask(m.OffsetFetchRequest(groups=[group]), 9).groups
    assert fetched.topics[0].partitions[0].committed_offset == 5

"""A group of the consumer protocol under random clients, time, slow and failing writes, failovers and new topics.

Invariants, checked after every step:
  - a partition is at most one member's, to have or to give up, and what a client of the group believes to have is its;
  - the group's epoch never falls, nor does that of a member, but where it joins again;
  - nobody is answered twice (the driver checks), and after the shard is lost nobody is left waiting;
  - a coordinator that reads the log comes to the same group;
  - clients that go on heartbeating are all served in the end.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from cluster.coordinator.consumer_group import ConsumerGroup
from cluster.coordinator.context import ConsumerConfig, GroupConfig
from cluster.coordinator.group_coordinator import GroupCoordinator
from cluster.coordinator.group_state import GroupState
from cluster.effects import Shard
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import OFFSETS, Driver
from tests.unit.cluster.coordinator.shard_machine import ShardMachine

Partition = tuple[bytes, int]
TOPICS = ("t", "u")
EXPECTED = {
    ErrorCode.NONE,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.FENCED_MEMBER_EPOCH,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.UNRELEASED_INSTANCE_ID,
    ErrorCode.FENCED_INSTANCE_ID,
    ErrorCode.GROUP_ID_NOT_FOUND,
}


class Client:
    """A consumer: what it was told it has, and what it still holds of what it is to give up."""

    def __init__(self, number: int, instance: str | None) -> None:
        self.number = number
        self.instance = instance
        self.lives = 0
        self.epoch = 0
        self.topics = ["t"]
        self.held: set[Partition] = set()
        self.told: set[Partition] = set()
        self.waits_for: tuple[str, int] | None = None

    @property
    def member(self) -> str:
        return f"m{self.number}-{self.lives}"

    def start_again(self) -> None:
        """Everything is given up before it joins again."""
        self.epoch = 0
        self.held.clear()
        self.told.clear()


class ConsumerGroupMachine(ShardMachine):
    driver: Driver

    def __init__(self) -> None:
        super().__init__()
        consumer = ConsumerConfig(assignment_interval_ms=1_000)
        self.driver = Driver(GroupConfig(offsets_topic_partitions=1, consumer=consumer))
        self.clients = [Client(number, None if number < 3 else f"static{number}") for number in range(5)]
        self.requests = 0
        self.epoch_seen = 0

    @property
    def group(self) -> ConsumerGroup | None:
        machine = self.driver.runtime._hosted[Shard(OFFSETS, 0)].machine
        assert isinstance(machine, GroupCoordinator)
        found = machine._groups.get("g")
        assert found is None or isinstance(found, ConsumerGroup)
        return found

    # Clients ------------------------------------------------------------------------------------------------------

    def send(self, client: Client, epoch: int) -> None:
        self.requests += 1
        client.waits_for = ("beat", self.requests)
        is_joining = epoch == 0
        held: dict[bytes, list[int]] = {}
        for topic_id, index in sorted(client.held):
            held.setdefault(topic_id, []).append(index)
        entry = m.ConsumerGroupHeartbeatRequest.TopicPartitions
        request = m.ConsumerGroupHeartbeatRequest(
            group_id="g",
            member_id=client.member,
            member_epoch=epoch,
            instance_id=client.instance,
            rebalance_timeout_ms=60_000 if is_joining else -1,
            subscribed_topic_names=client.topics if is_joining or epoch > 0 else None,
            topic_partitions=[entry(topic_id=topic_id, partitions=of) for topic_id, of in held.items()],
        )
        self.driver.send(client.waits_for, request, 1)

    @rule(number=st.integers(0, 4))
    def beat(self, number: int) -> None:
        client = self.clients[number]
        if client.waits_for is None:
            self.send(client, client.epoch)

    @rule(number=st.integers(0, 4))
    def give_up(self, number: int) -> None:
        """It commits and lets go of what it is not to have any more."""
        client = self.clients[number]
        client.held &= client.told

    @rule(number=st.integers(0, 4), topics=st.sampled_from([["t"], ["u"], ["t", "u"]]))
    def subscribe(self, number: int, topics: list[str]) -> None:
        self.clients[number].topics = topics

    @rule(number=st.integers(0, 4), for_a_while=st.booleans())
    def leave(self, number: int, for_a_while: bool) -> None:
        client = self.clients[number]
        if client.waits_for is None and client.epoch > 0:
            client.held.clear()
            client.told.clear()
            self.send(client, -2 if for_a_while and client.instance is not None else -1)
            self.take_answers()
            client.waits_for = None
            client.start_again()
            client.lives += 1

    @rule(number=st.integers(0, 4))
    def crash(self, number: int) -> None:
        """It starts as another member; the coordinator finds out by itself."""
        client = self.clients[number]
        client.waits_for = None
        client.start_again()
        client.lives += 1

    # The world ----------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 500, 1_000, 10_000, 46_000]))
    def time(self, ms: int) -> None:
        self.driver.advance(ms)

    @rule(topic=st.sampled_from(TOPICS))
    def more_partitions(self, topic: str) -> None:
        if self.driver.topics.counts[topic] < 7:
            self.driver.topics.put(topic, self.driver.topics.counts[topic] + 1)

    @rule()
    def failover(self) -> None:
        self.fail_over()
        self.epoch_seen = 0 if self.group is None else min(self.epoch_seen, self.group.epoch)

    # What was promised --------------------------------------------------------------------------------------------

    @invariant()
    def take_answers(self) -> None:
        for client in self.clients:
            if client.waits_for not in self.driver.answers:
                continue
            assert client.waits_for is not None
            answer = self.driver.answer(client.waits_for, m.ConsumerGroupHeartbeatResponse)
            client.waits_for = None
            assert answer.error_code in EXPECTED, answer
            if answer.error_code in (ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR):
                continue
            if answer.error_code:
                client.start_again()
                continue
            assert client.epoch <= answer.member_epoch or answer.member_epoch < 0, "a member's epoch fell"
            client.epoch = max(answer.member_epoch, 0)
            if answer.assignment is not None:
                client.told = {
                    (each.topic_id, index) for each in answer.assignment.topic_partitions for index in each.partitions
                }
                client.held |= client.told

    @invariant()
    def a_partition_has_one_owner(self) -> None:
        group = self.group
        if group is None:
            return
        owners: dict[Partition, str] = {}
        for member in group.members.values():
            assert member.epoch <= group.epoch
            for topic_id, partitions in member.owned().items():
                assert not member.assigned.get(topic_id, {}).keys() & member.revoking.get(topic_id, {}).keys()
                for partition in partitions:
                    before = owners.setdefault((topic_id, partition), member.member_id)
                    assert before == member.member_id, f"{partition} is of {before} and {member.member_id}"
        for client in self.clients:
            known = group.members.get(client.member)
            if known is not None and client.epoch > 0:
                mine = {partition for partition, owner in owners.items() if owner == client.member}
                assert client.held <= mine, f"{client.member} holds {client.held - mine}"

    @invariant()
    def the_epoch_does_not_fall(self) -> None:
        if self.group is not None:
            assert self.epoch_seen <= self.group.epoch
            assert self.group.assignment_epoch <= self.group.epoch
            self.epoch_seen = self.group.epoch

    @invariant()
    def it_is_stable_when_all_are(self) -> None:
        group = self.group
        if group is None or group.is_dead or not group.members or group.epoch > group.assignment_epoch:
            return
        all_are = all(member.is_reconciled_to(group.assignment_epoch) for member in group.members.values())
        assert group.state is (GroupState.STABLE if all_are else GroupState.RECONCILING)

    @invariant()
    def the_log_says_the_same(self) -> None:
        if self.requests % 5:
            return
        other = Driver(self.driver.config, host=False)
        high = self.driver.high
        other.logs = {shard: records[: high.get(shard, 0)] for shard, records in self.driver.logs.items()}
        other.load()
        machine = other.runtime._hosted[Shard(OFFSETS, 0)].machine
        assert isinstance(machine, GroupCoordinator)
        read, group = machine._groups.get("g"), self.group
        if group is None:
            assert read is None
            return
        assert isinstance(read, ConsumerGroup)
        assert (read.epoch, read.assignment_epoch, read.metadata_hash) == (
            group.epoch,
            group.assignment_epoch,
            group.metadata_hash,
        )
        assert (read.members, read.targets, read._owners) == (group.members, group.targets, group._owners)
        assert (read.topic_readers, read._static) == (group.topic_readers, group._static)

    @precondition(lambda self: self.requests % 3 == 0)
    @rule()
    def converge(self) -> None:
        """Everything works, everybody goes on: in the end all that is read has an owner, and is held by it."""
        self.driver.write_error = None
        self.driver.commits = True
        self.driver.commit()
        self.driver.advance(1_000)  # a write that had taken too long is settled
        alive = [client for client in self.clients if client.instance is None][:2]
        self.driver.advance(46_000)
        for _ in range(12):
            for client in alive:
                self.take_answers()
                client.waits_for = None
                client.held &= client.told
                self.send(client, client.epoch)
                self.take_answers()
            self.driver.advance(1_100)
        group = self.group
        assert group is not None and group.state is GroupState.STABLE, group
        assert set(group.members) == {client.member for client in alive}
        read = {topic for client in alive for topic in client.topics}
        wanted = {
            (self.driver.topics.topic_id(topic), index)
            for topic in read
            for index in range(self.driver.topics.counts[topic])
        }
        assert {partition for client in alive for partition in client.held} == wanted

    def teardown(self) -> None:
        self.driver.unload()
        waiting = self.driver.asked.keys() - self.driver.answers.keys()
        assert not waiting, f"left waiting: {waiting}"


TestConsumerGroupMachine = ConsumerGroupMachine.TestCase
TestConsumerGroupMachine.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)

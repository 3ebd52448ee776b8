"""A member of the consumer protocol in the simulator: it heartbeats, gives up, takes, reads and commits.

What stays true: it has one request out at a time. What it is to give up it commits first and drops then, and says so in
its next heartbeat; what it is given it owns when it has been told where to begin. Whenever an answer did not come it
says all about itself anew. Fenced, it drops everything and joins again, under its name and with nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.coordinator.consumer_records import CurrentDeleted, CurrentStored, GroupEpoch, MemberDeleted
from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_records import Fact
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.sim.group_caller import OF_A_MOVE, US_PER_MS, Answered, Caller
from tests.sim.group_host import TOPIC, GroupHost, OneTopic
from tests.sim.group_member import Books
from tests.sim.world import Violation, World

SESSION_MS = 6_000
REBALANCE_MS = 9_000
_HEARTBEAT_MS = 1_500
_FENCED = {ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH}


class ConsumerHost(GroupHost):
    """`owned`: what the committed log says that a member has, be it to give up. `epoch`: of the group. `members`: who
    believe to be such, and whoever is in the log under their ids has all that they believe to have."""

    def __init__(self, world: World, config: GroupConfig) -> None:
        self.owned: dict[str, set[int]] = {}
        self.epoch = 0
        self.members: list[ConsumerMember] = []
        super().__init__(world, config)

    def noted(self, fact: Fact | None) -> None:
        if isinstance(fact, CurrentStored):
            held = (fact.assigned, fact.revoking)
            self.owned[fact.member_id] = {index for owned in held for each in owned.values() for index in each}
        elif isinstance(fact, CurrentDeleted | MemberDeleted):
            self.owned.pop(fact.member_id, None)
        elif isinstance(fact, GroupEpoch):
            if fact.epoch < self.epoch:
                raise Violation(f"the group's epoch went from {self.epoch} back to {fact.epoch}")
            self.epoch = fact.epoch

    def _check(self) -> None:
        super()._check()
        owners: dict[int, str] = {}
        for member_id, partitions in self.owned.items():
            for partition in partitions:
                owner = owners.setdefault(partition, member_id)
                if owner != member_id:
                    raise Violation(f"{TOPIC}-{partition} is both {owner}'s and {member_id}'s in the log")
        for member in self.members:
            member.check_owned()


class ConsumerMember(Caller):
    """One life of a process; its name is its member id. `instance`: its group.instance.id. `positions`: by partition
    that it owns."""

    def __init__(
        self, name: str, world: World, host: ConsumerHost, books: Books, instance: str | None, loss: float
    ) -> None:
        super().__init__(name, world, host, loss)
        self.instance = instance
        self.epoch = 0
        self.positions: dict[int, int] = {}
        self.target: set[int] = set()
        self.is_fenced = False
        self._log = host
        self._books = books
        self._says_all = True
        host.members.append(self)
        world.after(world.random.randrange(2_000 * US_PER_MS), self.process, self._beat)

    @property
    def is_settled(self) -> bool:
        return self.epoch > 0 and self.positions.keys() == self.target

    def check_owned(self) -> None:
        """Whoever is in the log has all that it believes to have."""
        known = self._log.owned.get(self.name)
        if known is not None and self.epoch > 0 and not self.positions.keys() <= known:
            raise Violation(f"{self.name} reads {sorted(self.positions)}, and in the log it has {sorted(known)}")

    def _impatient(self, number: int, request: Message, version: int, then: Answered, patience_ms: int) -> None:
        """Whether it was heard is not known."""
        if number == self._waiting:
            self._waiting += 1
            self._connection += 1
            self._says_all = True
            self._beat()

    # The group ----------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        says_all = self._says_all or self.epoch == 0
        topic_id = OneTopic().topic_id(TOPIC)
        assert topic_id is not None
        owned = [m.ConsumerGroupHeartbeatRequest.TopicPartitions(topic_id=topic_id, partitions=sorted(self.positions))]
        request = m.ConsumerGroupHeartbeatRequest(
            group_id="g",
            member_id=self.name,
            member_epoch=self.epoch,
            instance_id=self.instance,
            rebalance_timeout_ms=REBALANCE_MS if says_all else -1,
            subscribed_topic_names=[TOPIC] if says_all else None,
            topic_partitions=owned if self.positions else [],
        )
        self._ask(request, 1, self._beaten)

    def _beaten(self, answer: Message) -> None:
        assert isinstance(answer, m.ConsumerGroupHeartbeatResponse)
        if answer.error_code:
            self._refused(answer.error_code)
            return
        if answer.member_epoch < self.epoch:
            raise Violation(f"{self.name} was in epoch {self.epoch}, and is told {answer.member_epoch}")
        self._says_all = False
        self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self.target = {index for each in answer.assignment.topic_partitions for index in each.partitions}
        self._books.owns(self.instance or self.name, self.epoch, [*self.positions])
        self._reconcile()

    def _reconcile(self) -> None:
        gone = {partition: offset for partition, offset in self.positions.items() if partition not in self.target}
        new = sorted(self.target - self.positions.keys())
        if gone:
            self._commit(gone, lambda: self._drop(gone))
        elif new:
            self._fetch(new)
        else:
            self._later(self._read, _HEARTBEAT_MS)

    def _drop(self, gone: dict[int, int]) -> None:
        self._world.say(self.name, "gives up", sorted(gone))
        for partition in gone:
            del self.positions[partition]
        self._beat()

    def _refused(self, code: int) -> None:
        if code == ErrorCode.FENCED_INSTANCE_ID:
            self.positions.clear()
            self.is_fenced = True
        elif code in _FENCED:
            self.positions.clear()
            self.target.clear()
            self.epoch = 0
            self._later(self._beat)
        elif code in _TRY_AGAIN:
            self._says_all = True
            self._later(self._beat)
        else:
            raise Violation(f"{self.name} hears {ErrorCode(code).name}")

    # Offsets ------------------------------------------------------------------------------------------------------

    def _fetch(self, partitions: list[int]) -> None:
        asked = m.OffsetFetchRequest.OffsetFetchRequestTopics(name=TOPIC, partition_indexes=partitions)
        group = m.OffsetFetchRequest.OffsetFetchRequestGroup(
            group_id="g", member_id=self.name, member_epoch=self.epoch, topics=[asked]
        )
        before = dict(self._books.acknowledged)

        def fetched(answer: Message) -> None:
            assert isinstance(answer, m.OffsetFetchResponse)
            found = [each for topic in answer.groups[0].topics for each in topic.partitions]
            codes = {answer.groups[0].error_code, *(each.error_code for each in found)} - {0}
            if codes:
                self._refused(codes.pop())
                return
            for each in found:
                offset = max(each.committed_offset, 0)
                told = before.get(each.partition_index, 0)
                self._books.reads(self.name, each.partition_index, offset, "", told)
                self.positions[each.partition_index] = offset
            self._world.say(self.name, "owns", self.epoch, sorted(self.positions))
            self._books.owns(self.instance or self.name, self.epoch, [*self.positions])
            self.check_owned()
            self._beat()

        self._ask(m.OffsetFetchRequest(groups=[group], require_stable=True), 9, fetched)

    def _read(self) -> None:
        """Some records more of each partition; then they are committed."""
        for partition in self.positions:
            self.positions[partition] += self._world.between(0, 5)
        if self.positions:
            self._commit(dict(self.positions), self._beat)
        else:
            self._beat()

    def _commit(self, offsets: dict[int, int], then: Callable[[], None]) -> None:
        entry = m.OffsetCommitRequest.OffsetCommitRequestPartition
        topic = m.OffsetCommitRequest.OffsetCommitRequestTopic(
            name=TOPIC,
            partitions=[entry(partition_index=each, committed_offset=offset) for each, offset in offsets.items()],
        )
        request = m.OffsetCommitRequest(
            group_id="g",
            generation_id_or_member_epoch=self.epoch,
            member_id=self.name,
            group_instance_id=self.instance,
            topics=[topic],
        )

        def committed(answer: Message) -> None:
            assert isinstance(answer, m.OffsetCommitResponse)
            code = answer.topics[0].partitions[0].error_code
            if code:
                self._refused(code)
                return
            for partition, offset in offsets.items():
                self._books.commits(partition, offset)
            then()

        self._ask(request, 9, committed)


_TRY_AGAIN = OF_A_MOVE | {
    ErrorCode.UNRELEASED_INSTANCE_ID,
    ErrorCode.STALE_MEMBER_EPOCH,
    ErrorCode.UNSTABLE_OFFSET_COMMIT,
}

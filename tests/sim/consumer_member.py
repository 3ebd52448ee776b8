"""A member of the consumer protocol in the simulator: it heartbeats, gives up, takes, reads and commits.

What stays true: it has one request out at a time. What it is to give up it commits first and drops then, and says so in
its next heartbeat; what it is given it owns when it has been told where to begin. Whenever an answer did not come it
says all about itself anew. Fenced, it drops everything and joins again, under its name and with nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.sim.consumer import HEARTBEAT_MS, Books, Consumer
from tests.sim.consumer_host import ConsumerHost
from tests.sim.group_caller import OF_A_MOVE, REBALANCE_MS, US_PER_MS, Answered
from tests.sim.group_host import TOPIC, OneTopic
from tests.sim.world import Violation, World

_VERSION = 1
_LEAVING, _LEAVING_FOR_A_WHILE = -1, -2


class ConsumerMember(Consumer):
    """Its name is its member id. `fencing`: the errors after which it has nothing."""

    fetch_version = 9
    commit_version = 9
    fencing: ClassVar[frozenset[ErrorCode]] = frozenset({ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH})

    def __init__(
        self, name: str, world: World, host: ConsumerHost, books: Books, instance: str | None, loss: float
    ) -> None:
        super().__init__(name, world, host, books, instance, loss)
        self.target: set[int] = set()
        self._log = host
        self._says_all = True
        self._said: set[int] | None = None  # what it has, as the coordinator was told last; None: that is in doubt
        host.members.append(self)
        world.after(world.random.randrange(2_000 * US_PER_MS), self.process, self._beat)

    @property
    def member_id(self) -> str:
        return self.name

    @property
    def is_settled(self) -> bool:
        return self.epoch > 0 and self.positions.keys() == self.target

    def _impatient(self, number: int, request: Message, version: int, then: Answered, patience_ms: int) -> None:
        """Whether it was heard is not known."""
        if number == self._waiting:
            self._waiting += 1
            self._connection += 1
            self._says_all = True
            self._beat()

    # The group ----------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """For good; a static one perhaps only for a while."""
        epoch = _LEAVING if self.instance is None or self._world.chance(0.3) else _LEAVING_FOR_A_WHILE
        request = m.ConsumerGroupHeartbeatRequest(
            group_id="g", member_id=self.name, member_epoch=epoch, instance_id=self.instance, topic_partitions=[]
        )
        self._send(request, _VERSION, lambda _: None, 0)
        self._stop()

    def _beat(self) -> None:
        says_all = self._says_all or self.epoch == 0
        topic_id = OneTopic().topic_id(TOPIC)
        assert topic_id is not None
        has = set(self.positions)
        says_own = says_all or has != self._said
        self._said = None
        owned = [m.ConsumerGroupHeartbeatRequest.TopicPartitions(topic_id=topic_id, partitions=sorted(self.positions))]
        request = m.ConsumerGroupHeartbeatRequest(
            group_id="g",
            member_id=self.name,
            member_epoch=self.epoch,
            instance_id=self.instance,
            rebalance_timeout_ms=REBALANCE_MS if says_all else -1,
            subscribed_topic_names=[TOPIC] if says_all else None,
            topic_partitions=(owned if has else []) if says_own else None,
        )
        self._ask(request, _VERSION, lambda answer: self._beaten(answer, has))

    def _beaten(self, answer: Message, has: set[int]) -> None:
        assert isinstance(answer, m.ConsumerGroupHeartbeatResponse)
        if answer.error_code:
            self._refused(answer.error_code)
            return
        if answer.member_epoch < self.epoch:
            raise Violation(f"{self.name} was in epoch {self.epoch}, and is told {answer.member_epoch}")
        self._says_all = False
        self._said = has
        self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self.target = {index for each in answer.assignment.topic_partitions for index in each.partitions}
        self._owns([*self.positions])
        self._reconcile()

    def _reconcile(self) -> None:
        gone = {partition: offset for partition, offset in self.positions.items() if partition not in self.target}
        new = sorted(self.target - self.positions.keys())
        if gone:
            self._commit(gone, lambda: self._drop(gone))
        elif new:
            self._fetch(new, self._begun)
        else:
            self._later(self._read, HEARTBEAT_MS)

    def _begun(self) -> None:
        self._owns([*self.positions])
        self._log.check_owned(self)
        self._beat()

    def _drop(self, gone: dict[int, int]) -> None:
        self._world.say(self.name, "gives up", sorted(gone))
        for partition in gone:
            del self.positions[partition]
        self._beat()

    def _refused(self, code: int) -> None:
        if code == ErrorCode.FENCED_INSTANCE_ID:
            self.positions.clear()
            self.is_fenced = True
        elif code in self.fencing:
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

    def _asked_of(self, topics: list[m.OffsetFetchRequest.OffsetFetchRequestTopics]) -> m.OffsetFetchRequest:
        request = super()._asked_of(topics)
        request.groups[0].member_id, request.groups[0].member_epoch = self.name, self.epoch
        return request

    def _cannot_fetch(self, code: int, again: Callable[[], None]) -> None:
        self._refused(code)

    def _cannot_commit(self, code: int, again: Callable[[], None], then: Callable[[], None]) -> None:
        self._refused(code)


_TRY_AGAIN = OF_A_MOVE | {
    ErrorCode.UNRELEASED_INSTANCE_ID,
    ErrorCode.STALE_MEMBER_EPOCH,
    ErrorCode.UNSTABLE_OFFSET_COMMIT,
}

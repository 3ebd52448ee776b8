"""A worker of the exactly-once story: a member of a group of the consumer protocol, which reads what the group gives
it, and sends the offsets in its transactions as the member that it was when each of them began.

What stays true: the thread that heartbeats and the one that works are two, as in Kafka's consumer. What is to be given
up is given up between two transactions, and so is everything after it was fenced; until then the one that works knows
nothing of it. Whatever it is given it begins with where the group's stable offsets end.
"""

from __future__ import annotations

from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.sim.transaction_host import BUMPING, DataPartition, ShardHost, call
from tests.sim.transaction_story import Topics
from tests.sim.transaction_worker import GROUP, INPUT, Books, Worker
from tests.sim.world import Violation, World

SESSION_MS = 2_500
REBALANCE_MS = 3_000
_HEARTBEAT_US = 400_000
_FENCED = {ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.GROUP_ID_NOT_FOUND}
_TRY_AGAIN = {
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
}


class GroupWorker(Worker):
    """`transactional_id`: perhaps one of its own, so that nothing but the group fences it. `held`: what it may read,
    and the number of the time when it got that."""

    def __init__(
        self,
        name: str,
        transactional_id: str,
        world: World,
        coordinator: ShardHost,
        group: ShardHost,
        outputs: list[DataPartition],
        books: Books,
        *,
        version: int,
        inputs: int,
        loss: float,
    ) -> None:
        self.held: dict[int, int] = {}
        self._epoch = 0
        self._target: set[int] = set()
        self._reports: set[int] = set()  # what it says that it has
        self._says_all = True
        self._is_lost = False  # it was fenced, and the one that works has not noticed
        self._gains = 0
        self._since = 0  # when it got the input of the transaction that runs
        topic_id = Topics(inputs).topic_id(INPUT)
        assert topic_id is not None
        self._topic_id = topic_id
        super().__init__(name, 0, world, coordinator, group, outputs, books, bumping=version >= BUMPING, loss=loss)
        self._id = transactional_id
        world.after(world.random.randrange(_HEARTBEAT_US), self.process, self._beat)

    # The thread that heartbeats -----------------------------------------------------------------------------------

    def _beat(self) -> None:
        says_all = self._says_all or self._epoch == 0
        entry = m.ConsumerGroupHeartbeatRequest.TopicPartitions
        owned = [entry(topic_id=self._topic_id, partitions=sorted(self._reports))] if self._reports else []
        request = m.ConsumerGroupHeartbeatRequest(
            group_id=GROUP,
            member_id=self.name,
            member_epoch=self._epoch,
            rebalance_timeout_ms=REBALANCE_MS if says_all else -1,
            subscribed_topic_names=[INPUT] if says_all else None,
            topic_partitions=owned,
        )

        def then(answer: Message | None) -> None:
            self._says_all = answer is None
            if isinstance(answer, m.ConsumerGroupHeartbeatResponse):
                self._beaten(answer)
            self._world.after(_HEARTBEAT_US, self.process, self._beat)

        call(self._world, self._group, self.process, request, 1, then, self.loss)

    def _beaten(self, answer: m.ConsumerGroupHeartbeatResponse) -> None:
        if answer.error_code in _TRY_AGAIN:
            self._says_all = True
        elif answer.error_code in _FENCED:
            self._epoch = 0
            self._is_lost = True
            self._target.clear()
            self._reports.clear()
        elif answer.error_code:
            raise Violation(f"{self.name} hears {ErrorCode(answer.error_code).name}")
        else:
            self._epoch = answer.member_epoch
            if answer.assignment is not None:
                self._target = {index for each in answer.assignment.topic_partitions for index in each.partitions}

    # The thread that works ----------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """It notices what has become of its membership."""
        if self._is_lost:
            self._is_lost = False
            self.held.clear()
        for index in [*self.held]:
            if index not in self._target:
                del self.held[index]
        for index in sorted(self._target - self.held.keys()):
            self._gains += 1
            self.held[index] = self._gains
        self._reports = {*self.held}

    def _fetch(self) -> None:
        self._settle()
        if not self.held or self._epoch <= 0:
            self._again(self._fetch)
            return
        self._input = self._world.random.choice(sorted(self.held))
        self._since = self.held[self._input]
        self.who = self.name, self._epoch
        super()._fetch()

    def _next(self) -> None:
        self._settle()
        if self.held.get(self._input) != self._since or self._epoch <= 0:
            self._fetch()
            return
        self.who = self.name, self._epoch
        super()._next()

"""The world of a leader's IsrKeeper, played: a data plane that tells of followers, a controller that answers when it is
told to, and the turns of a control loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cluster.broker.isr_keeper import TIMER, IsrKeeper, OnAnswer, PublishedIsr
from cluster.broker.loop import Timers
from cluster.protocol import messages as m
from cluster.replication.isr import LedPartition
from pylog.types import TopicPartition

ME = 1
LAG_MS = 30_000
ORDERS = TopicPartition("orders", 0)
EVENTS = TopicPartition("events", 4)
IDS = {"orders": b"o" * 16, "events": b"e" * 16}


class Replica(NamedTuple):
    broker_id: int
    log_end: int = 9
    lag_ms: int = 0
    joining: int = 0


BEHIND = LAG_MS + 1


class LeaderWorld:
    """Everything around the keeper. `turn` is a turn of the control loop."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self.alive = {1, 2, 3}
        self.seen: dict[TopicPartition, list[Replica]] = {}
        self.published: list[tuple[TopicPartition, PublishedIsr]] = []
        self.requests: list[tuple[m.AlterPartitionRequest, OnAnswer]] = []
        self.sent = 0
        self.inbox: list[Callable[[], None]] = []
        self.timers = Timers()
        self.keeper = IsrKeeper(
            ME,
            LAG_MS,
            send=self.send,
            publish=self.published.extend,
            replicas=lambda partitions: [self.seen.get(partition, []) for partition in partitions],
            may_join=lambda broker_id: broker_id in self.alive,
            broker_epoch=lambda: 42,
            now_ms=lambda: self.now_ms,
            timers=self.timers,
            post=self.inbox.append,
        )

    def send(self, request: m.AlterPartitionRequest, on_answer: OnAnswer) -> None:
        self.requests.append((request, on_answer))
        self.sent += 1

    def lead(self, partition: TopicPartition, *isr: int, leader_epoch: int = 5, partition_epoch: int = 7) -> None:
        state = LedPartition(partition, IDS[partition.topic], leader_epoch, partition_epoch, isr)
        assert self.keeper.lead(state) == PublishedIsr(isr, ())

    def tell(self, partition: TopicPartition, *replicas: Replica) -> None:
        self.seen[partition] = [Replica(ME), *replicas]
        for each in replicas:
            if each.joining or each.lag_ms > LAG_MS:
                self.keeper.upcall(partition, each.broker_id, bool(each.joining))

    def turn(self, advance_ms: int = 0) -> None:
        self.now_ms += advance_ms
        while self.inbox:
            self.inbox.pop(0)()
        while (key := self.timers.due(self.now_ms)) is not None:
            assert key == TIMER
            self.keeper.timer()

    def asked(self) -> dict[TopicPartition, tuple[int, ...]]:
        """The ISRs that the one request under way asks for."""
        assert len(self.requests) == 1
        return {
            TopicPartition(topic.topic_name, each.partition_index): tuple(
                state.broker_id for state in each.new_isr_with_epochs
            )
            for topic in self.requests[0][0].topics
            for each in topic.partitions
        }

    def answer(
        self,
        error: int = 0,
        *,
        of: set[int] | None = None,
        partition_epoch: int | None = None,
        top: int = 0,
        silence: bool = False,
    ) -> None:
        """The controller does what is asked of it, but for an error that it says of these indexes, or of everything."""
        (request, on_answer) = self.requests.pop()
        said = m.AlterPartitionResponse
        topics = [
            said.TopicData(
                topic_id=topic.topic_id,
                partitions=[
                    said.PartitionData(
                        partition_index=each.partition_index,
                        error_code=error if of is None or each.partition_index in of else 0,
                        leader_id=ME,
                        leader_epoch=each.leader_epoch,
                        isr=[state.broker_id for state in each.new_isr_with_epochs],
                        partition_epoch=each.partition_epoch + 1 if partition_epoch is None else partition_epoch,
                    )
                    for each in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        on_answer(None if silence else said(error_code=top, topics=[] if top else topics))
        self.turn()

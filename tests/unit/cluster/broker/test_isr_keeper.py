"""The driver of ISRs, between a data plane and a controller that are played."""

from collections.abc import Callable
from typing import NamedTuple

from cluster.broker.isr_keeper import RECHECK_MS, TIMER, IsrKeeper, OnAnswer, PublishedIsr
from cluster.broker.loop import Timers
from cluster.protocol import messages as m
from cluster.replication.alter_partition import RETRY_MS
from cluster.replication.isr import LedPartition
from pylog.errors import ErrorCode
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


class World:
    """Everything around the keeper. `turn` is a turn of the control loop."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self.alive = {1, 2, 3}
        self.seen: dict[TopicPartition, list[Replica]] = {}
        self.published: list[tuple[TopicPartition, PublishedIsr]] = []
        self.requests: list[tuple[m.AlterPartitionRequest, OnAnswer]] = []
        self.inbox: list[Callable[[], None]] = []
        self.timers = Timers()
        self.keeper = IsrKeeper(
            ME,
            LAG_MS,
            send=lambda request, on_answer: self.requests.append((request, on_answer)),
            publish=lambda partition, isr: self.published.append((partition, isr)),
            replicas=lambda partition: self.seen.get(partition, []),
            may_join=lambda broker_id: broker_id in self.alive,
            broker_epoch=lambda: 42,
            now_ms=lambda: self.now_ms,
            timers=self.timers,
            post=self.inbox.append,
        )

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

    def answer(self, error: int = 0, partition_epoch: int = 8, top: int = 0, silence: bool = False) -> None:
        """The controller does what is asked of it, or says the same error of everything."""
        (request, on_answer) = self.requests.pop()
        said = m.AlterPartitionResponse
        topics = [
            said.TopicData(
                topic_id=topic.topic_id,
                partitions=[
                    said.PartitionData(
                        partition_index=each.partition_index,
                        error_code=error,
                        leader_id=ME,
                        leader_epoch=each.leader_epoch,
                        isr=[state.broker_id for state in each.new_isr_with_epochs],
                        partition_epoch=partition_epoch,
                    )
                    for each in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        on_answer(None if silence else said(error_code=top, topics=[] if top else topics))
        self.turn()


def test_a_follower_that_fell_behind_leaves_when_the_controller_agrees() -> None:
    world = World()
    world.lead(ORDERS, 1, 2, 3)
    world.tell(ORDERS, Replica(2, log_end=4, lag_ms=BEHIND), Replica(3))
    assert world.requests == [], "what a turn tells is looked at together"
    world.turn()
    assert world.asked() == {ORDERS: (1, 3)}
    assert world.published == [], "until then it counts"
    world.answer()
    assert world.published == [(ORDERS, PublishedIsr((1, 3), ()))]
    assert world.keeper.published(ORDERS) == PublishedIsr((1, 3), ())
    assert world.keeper.partition_epoch(ORDERS) == 8


def test_a_follower_that_caught_up_counts_before_the_controller_is_asked() -> None:
    world = World()
    world.lead(ORDERS, 1)
    world.tell(ORDERS, Replica(2, joining=1))
    world.turn()
    assert world.published == [(ORDERS, PublishedIsr((1,), (2,)))]
    assert world.asked() == {ORDERS: (1, 2)}
    assert world.keeper.published(ORDERS) == PublishedIsr((1,), (2,)), "and so in publishes for other reasons"
    world.answer()
    assert world.published[1:] == [(ORDERS, PublishedIsr((1, 2), ()))]


def test_what_several_partitions_tell_in_a_turn_is_one_request() -> None:
    world = World()
    world.lead(ORDERS, 1, 2, 3)
    world.lead(EVENTS, 1, 2)
    for partition in (ORDERS, EVENTS):
        world.tell(partition, Replica(2, log_end=4, lag_ms=BEHIND), Replica(3, log_end=0, lag_ms=BEHIND))
        world.keeper.upcall(partition, 2, False)
    world.turn()
    assert world.asked() == {ORDERS: (1,), EVENTS: (1,)}


def test_news_of_a_pending_partition_wait_for_its_answer_and_others_for_the_request() -> None:
    world = World()
    world.lead(ORDERS, 1, 2, 3)
    world.lead(EVENTS, 1, 2)
    world.tell(ORDERS, Replica(2, log_end=4, lag_ms=BEHIND), Replica(3))
    world.turn()
    world.tell(ORDERS, Replica(2, log_end=4, lag_ms=BEHIND), Replica(3, log_end=4, lag_ms=BEHIND))
    world.tell(EVENTS, Replica(2, log_end=4, lag_ms=BEHIND))
    world.turn()
    assert world.asked() == {ORDERS: (1, 3)}
    world.answer()
    assert world.asked() == {EVENTS: (1,)}, "it goes with the next request"
    assert world.published == [(ORDERS, PublishedIsr((1, 3), ()))], "after which the data plane tells again"


def test_an_outdated_fact_asks_for_nothing_and_is_cleared() -> None:
    world = World()
    world.lead(ORDERS, 1, 2)
    world.tell(ORDERS, Replica(2))
    world.keeper.upcall(ORDERS, 2, False)
    world.turn()
    assert world.requests == [] and world.published == []
    world.turn(RECHECK_MS)
    assert world.published == [(ORDERS, PublishedIsr((1, 2), ()))], (
        "now the data plane tells when it falls behind again"
    )
    world.turn(RECHECK_MS)
    assert len(world.published) == 1


def test_a_broker_that_is_not_alive_does_not_join_until_it_is() -> None:
    world = World()
    world.lead(ORDERS, 1, 2)
    world.alive.discard(3)
    world.tell(ORDERS, Replica(2), Replica(3, joining=1))
    world.turn()
    assert world.requests == []
    world.alive.add(3)
    world.keeper.brokers_changed()
    assert world.published == [(ORDERS, PublishedIsr((1, 2), ()))], "it need not count, and is told of again"
    world.tell(ORDERS, Replica(2), Replica(3, joining=1))
    world.turn()
    assert world.asked() == {ORDERS: (1, 2, 3)}


def test_a_refused_follower_counts_a_while_and_is_looked_at_again() -> None:
    world = World()
    world.lead(ORDERS, 1)
    world.tell(ORDERS, Replica(2, joining=1))
    world.turn()
    world.answer(error=int(ErrorCode.INELIGIBLE_REPLICA))
    assert len(world.published) == 1
    world.turn(RECHECK_MS - 1)
    assert len(world.published) == 1 and world.requests == []
    world.turn(1)
    assert world.published[1:] == [(ORDERS, PublishedIsr((1,), ()))]


def test_what_the_controller_knows_better_waits_for_it() -> None:
    world = World()
    world.lead(ORDERS, 1)
    world.tell(ORDERS, Replica(2, joining=1))
    world.turn()
    world.answer(error=int(ErrorCode.INVALID_UPDATE_VERSION))
    world.tell(ORDERS, Replica(2, joining=1))
    world.turn(RECHECK_MS)
    assert world.requests == [] and world.keeper.published(ORDERS) == PublishedIsr((1,), (2,))
    world.lead(ORDERS, 1, 2, leader_epoch=6, partition_epoch=9)
    world.tell(ORDERS, Replica(2, log_end=0, lag_ms=BEHIND))
    world.turn()
    assert world.asked() == {ORDERS: (1,)}


def test_errors_are_retried_after_a_while() -> None:
    world = World()
    world.lead(ORDERS, 1, 2)
    world.tell(ORDERS, Replica(2, log_end=0, lag_ms=BEHIND))
    world.turn()
    for again in (
        {"error": int(ErrorCode.NOT_CONTROLLER)},
        {"top": int(ErrorCode.STALE_BROKER_EPOCH)},
        {"silence": True},
    ):
        world.answer(**again)
        assert world.requests == []
        world.turn(RETRY_MS)
        assert world.asked() == {ORDERS: (1,)}
    world.answer()
    assert world.published == [(ORDERS, PublishedIsr((1,), ()))]


def test_a_second_answer_changes_nothing() -> None:
    world = World()
    world.lead(ORDERS, 1, 2)
    world.lead(EVENTS, 1, 2)
    world.tell(ORDERS, Replica(2, log_end=0, lag_ms=BEHIND))
    world.turn()
    _, on_answer = world.requests[0]
    world.answer()
    world.tell(EVENTS, Replica(2, log_end=0, lag_ms=BEHIND))
    world.turn()
    on_answer(None)
    world.turn(RETRY_MS)
    assert world.asked() == {EVENTS: (1,)}
    world.answer()
    assert world.published[-1] == (EVENTS, PublishedIsr((1,), ()))


def test_what_we_lead_no_more_is_forgotten() -> None:
    world = World()
    world.lead(ORDERS, 1, 2)
    world.tell(ORDERS, Replica(2, log_end=0, lag_ms=BEHIND))
    world.turn()
    world.keeper.cease(ORDERS)
    world.answer()
    world.tell(ORDERS, Replica(2, log_end=0, lag_ms=BEHIND))
    world.turn(RECHECK_MS)
    assert world.published == [] and world.requests == []
    assert world.keeper.published(ORDERS) is None and world.keeper.partition_epoch(ORDERS) is None


def test_a_state_older_than_an_answer_is_not_taken_up() -> None:
    world = World()
    world.lead(ORDERS, 1, 2)
    world.tell(ORDERS, Replica(2, log_end=0, lag_ms=BEHIND))
    world.turn()
    world.answer()
    assert world.keeper.lead(LedPartition(ORDERS, IDS["orders"], 5, 7, (1, 2))) is None
    assert world.keeper.published(ORDERS) == PublishedIsr((1,), ())


def test_a_new_state_replaces_what_was_asked_for() -> None:
    world = World()
    world.lead(ORDERS, 1, 2)
    world.tell(ORDERS, Replica(2, log_end=0, lag_ms=BEHIND))
    world.turn()
    world.lead(ORDERS, 1, 2, 3, leader_epoch=6, partition_epoch=9)
    world.tell(ORDERS, Replica(2), Replica(3, log_end=0, lag_ms=BEHIND))
    world.turn()
    assert world.asked() == {ORDERS: (1,)}
    world.answer(partition_epoch=8)
    assert world.published == [], "the answer was to what was asked before"
    assert world.asked() == {ORDERS: (1, 2)}
    world.answer(partition_epoch=10)
    assert world.published == [(ORDERS, PublishedIsr((1, 2), ()))]

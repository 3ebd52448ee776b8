"""The driver of ISRs, between a data plane and a controller that are played."""

from cluster.broker.isr_keeper import RECHECK_MS, PublishedIsr
from cluster.replication.alter_partition import RETRY_MS
from cluster.replication.isr import LedPartition
from pylog.errors import ErrorCode
from tests.support.leader_world import BEHIND, EVENTS, IDS, ORDERS, LeaderWorld, Replica


def test_a_follower_that_fell_behind_leaves_when_the_controller_agrees() -> None:
    world = LeaderWorld()
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
    assert (world.keeper.shrinks, world.keeper.expands) == (1, 0)


def test_a_follower_that_caught_up_counts_before_the_controller_is_asked() -> None:
    world = LeaderWorld()
    world.lead(ORDERS, 1)
    world.tell(ORDERS, Replica(2, joining=1))
    world.turn()
    assert world.published == [(ORDERS, PublishedIsr((1,), (2,)))]
    assert world.asked() == {ORDERS: (1, 2)}
    assert world.keeper.published(ORDERS) == PublishedIsr((1,), (2,)), "and so in publishes for other reasons"
    world.answer()
    assert world.published[1:] == [(ORDERS, PublishedIsr((1, 2), ()))]
    assert (world.keeper.shrinks, world.keeper.expands) == (0, 1)


def test_what_several_partitions_tell_in_a_turn_is_one_request() -> None:
    world = LeaderWorld()
    world.lead(ORDERS, 1, 2, 3)
    world.lead(EVENTS, 1, 2)
    for partition in (ORDERS, EVENTS):
        world.tell(partition, Replica(2, log_end=4, lag_ms=BEHIND), Replica(3, log_end=0, lag_ms=BEHIND))
        world.keeper.upcall(partition, 2, False)
    world.turn()
    assert world.asked() == {ORDERS: (1,), EVENTS: (1,)}


def test_news_of_a_pending_partition_wait_for_its_answer_and_others_for_the_request() -> None:
    world = LeaderWorld()
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
    world = LeaderWorld()
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
    world = LeaderWorld()
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
    world = LeaderWorld()
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
    world = LeaderWorld()
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
    world = LeaderWorld()
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
    world = LeaderWorld()
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
    world = LeaderWorld()
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
    world = LeaderWorld()
    world.lead(ORDERS, 1, 2)
    world.tell(ORDERS, Replica(2, log_end=0, lag_ms=BEHIND))
    world.turn()
    world.answer()
    assert world.keeper.lead(LedPartition(ORDERS, IDS["orders"], 5, 7, (1, 2))) is None
    assert world.keeper.published(ORDERS) == PublishedIsr((1,), ())


def test_a_new_state_replaces_what_was_asked_for() -> None:
    world = LeaderWorld()
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

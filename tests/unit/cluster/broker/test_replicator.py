"""The driver of following, between a data plane, logs and leaders that are played."""

from collections.abc import Callable, Sequence

import pytest

from cluster.broker.leader_offsets import OffsetAnswer, OffsetQuestion
from cluster.broker.loop import Timers
from cluster.broker.replicator import FetcherAddress, Followed, FollowedLog, Replicator
from cluster.replication.follower import EARLIEST, LATEST
from cluster.replication.placement import fetcher_of
from cluster.replication.truncation import EpochEnd, OwnLog
from pylog.errors import ErrorCode, KafkaError
from pylog.types import TopicPartition

BACKOFF_MS = 1_000
ORDERS = TopicPartition("orders", 0)
EVENTS = TopicPartition("events", 4)
NONE = EpochEnd(-1, -1)
OUT_OF_RANGE = int(ErrorCode.OFFSET_OUT_OF_RANGE)
FENCED = int(ErrorCode.FENCED_LEADER_EPOCH)


class PlayedLog:
    """`epochs`: where each begins."""

    def __init__(self, end: int = 20, high_watermark: int = 8, epochs: Sequence[tuple[int, int]] = ((4, 0),)) -> None:
        self.end = end
        self.high_watermark = high_watermark
        self.epochs = list(epochs)
        self.start = 0
        self.fails: Exception | None = None

    def own(self) -> OwnLog:
        return OwnLog(self.end, self.high_watermark, self.epochs[-1][0] if self.epochs else -1)

    def epoch_end(self, epoch: int) -> EpochEnd:
        at = [each for each in self.epochs if each[0] <= epoch]
        above = [start for each, start in self.epochs if each > epoch]
        return EpochEnd(at[-1][0], above[0] if above else self.end) if at else NONE

    def truncate(self, offset: int) -> None:
        if self.fails is not None:
            raise self.fails
        self.end = offset
        self.epochs = [each for each in self.epochs if each[1] < offset]

    def truncate_fully(self, offset: int) -> None:
        self.truncate(0)
        self.start = self.end = offset


class World:
    """Everything around the replicator; `said` is what it told the data plane, in order."""

    def __init__(self, fetchers: int = 1) -> None:
        self.now_ms = 1_000
        self.places: dict[int, tuple[str, int]] = {2: ("b2", 9092), 3: ("b3", 9092)}
        self.logs: dict[TopicPartition, PlayedLog] = {ORDERS: PlayedLog(), EVENTS: PlayedLog()}
        self.said: list[str] = []
        self.fetching: dict[int, int] = {}
        self.failed: list[TopicPartition] = []
        self.questions: list[tuple[OffsetQuestion, Callable[[OffsetAnswer], None]]] = []
        self.closed_leaders = False
        self.inbox: list[Callable[[], None]] = []
        self.timers = Timers()
        self.opened = 0
        self.replicator = Replicator(
            1,
            self,
            fetchers=fetchers,
            backoff_ms=BACKOFF_MS,
            addresses=self.places.get,
            logs=self.log_of,
            open_fetcher=self.open_fetcher,
            configure_fetcher=self.configure_fetcher,
            log_failed=lambda partition, _: self.failed.append(partition),
            leaders=lambda: self,
            now_ms=lambda: self.now_ms,
            timers=self.timers,
            post=self.inbox.append,
        )

    def log_of(self, partition: TopicPartition) -> FollowedLog | None:
        return self.logs.get(partition)

    # The data plane -------------------------------------------------------------------------------------------------

    def open_fetcher(self, address: FetcherAddress) -> int:
        self.opened += 1
        self.said.append(
            f"open {self.opened}: {address.client_id} to {address.leader} at {address.host}:{address.port}"
        )
        return self.opened

    def configure_fetcher(self, fetcher: int, address: FetcherAddress) -> None:
        self.said.append(f"configure {fetcher}: {address.host}:{address.port}")

    def close_fetcher(self, fetcher: int) -> None:
        assert fetcher not in self.fetching.values(), "nobody's partitions are dropped unasked"
        self.said.append(f"close {fetcher}")

    def follow(self, fetcher: int, partitions: Sequence[int]) -> None:
        self.fetching.update(dict.fromkeys(partitions, fetcher))
        self.said.append(f"follow {fetcher}: {sorted(partitions)}")

    def unfollow(self, partitions: Sequence[int]) -> None:
        for each in partitions:
            self.fetching.pop(each, None)
        self.said.append(f"unfollow {sorted(partitions)}")

    # Leaders --------------------------------------------------------------------------------------------------------

    def ask(self, question: OffsetQuestion, on_answer: Callable[[OffsetAnswer], None]) -> None:
        self.questions.append((question, on_answer))

    def close(self) -> None:
        self.closed_leaders = True

    # What happens ---------------------------------------------------------------------------------------------------

    def follow_orders(self, leader: int = 2, leader_epoch: int = 5, number: int = 70) -> None:
        self.replicator.follow({ORDERS: Followed(leader, leader_epoch, number)})
        self.turn()

    def tell(
        self, error: int = 0, diverging: EpochEnd = NONE, fetcher: int = 1, leader_epoch: int = 5, paused: bool = True
    ) -> None:
        """UP_FOLLOW about the orders."""
        if paused:
            self.fetching.pop(70, None)
        self.replicator.told_partition(70, fetcher, leader_epoch, error, paused, diverging)
        self.turn()

    def answer(self, timestamp: int, offset: int, error: int = 0) -> None:
        question, on_answer = self.questions.pop()
        assert (question.partition, question.leader_epoch, question.timestamp) == (ORDERS, 5, timestamp)
        on_answer(OffsetAnswer(error, offset))
        self.turn()

    def turn(self, advance_ms: int = 0) -> None:
        self.now_ms += advance_ms
        while self.inbox or (key := self.timers.due(self.now_ms)) is not None:
            if self.inbox:
                self.inbox.pop(0)()
            else:
                assert self.replicator.timer(key)

    def heard(self) -> list[str]:
        said, self.said = self.said, []
        return said


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def following(world: World) -> World:
    world.follow_orders()
    world.heard()
    return world


def test_the_first_partition_of_a_leader_opens_a_fetcher(world: World) -> None:
    wanted = {ORDERS: Followed(2, 5, 70), EVENTS: Followed(2, 3, 71)}
    world.replicator.follow(wanted)
    assert world.heard() == ["open 1: broker-1-fetcher-0 to 2 at b2:9092", "follow 1: [70, 71]"]
    world.replicator.follow(wanted)
    assert world.heard() == [], "nothing is new"


def test_partitions_are_spread_over_the_fetchers_of_a_leader() -> None:
    world = World(fetchers=3)
    names = [TopicPartition("orders", index) for index in range(3)]
    world.logs.update({name: PlayedLog() for name in names})
    world.replicator.follow({name: Followed(2, 5, 70 + name.partition) for name in names})
    opened = {each.split()[2] for each in world.said if each.startswith("open")}
    assert opened == {f"broker-1-fetcher-{fetcher_of(name, 3)}" for name in names} and len(opened) == 3


def test_a_new_leader_epoch_is_followed_anew_through_the_same_fetcher(following: World) -> None:
    following.follow_orders(leader_epoch=6)
    assert following.heard() == ["unfollow [70]", "follow 1: [70]"]


def test_a_new_leader_gets_a_fetcher_and_the_old_one_ends(following: World) -> None:
    following.follow_orders(leader=3, leader_epoch=6)
    assert following.heard() == [
        "unfollow [70]",
        "open 2: broker-1-fetcher-0 to 3 at b3:9092",
        "follow 2: [70]",
        "close 1",
    ]


def test_a_fetcher_outlives_a_stop_that_is_followed_by_another_epoch(following: World) -> None:
    following.replicator.stop([ORDERS, EVENTS])
    following.replicator.follow({ORDERS: Followed(2, 6, 70)})
    following.turn()
    assert following.heard() == ["unfollow [70]", "follow 1: [70]"]
    following.replicator.stop([ORDERS])
    following.turn()
    assert following.heard() == ["unfollow [70]", "close 1"]


def test_without_epochs_the_log_is_cut_before_anything_is_fetched(world: World) -> None:
    world.logs[ORDERS] = PlayedLog(end=20, high_watermark=8, epochs=())
    world.follow_orders()
    assert world.logs[ORDERS].end == 8 and world.fetching == {70: 1}


def test_where_the_leader_differs_the_log_is_cut_and_fetched_on(following: World) -> None:
    following.logs[ORDERS].epochs = [(1, 0), (3, 10), (4, 15)]
    following.tell(diverging=EpochEnd(3, 14))
    assert following.logs[ORDERS].end == 14 and following.heard() == ["follow 1: [70]"]


@pytest.mark.parametrize("other", [{"fetcher": 9}, {"leader_epoch": 4}], ids=["fetcher", "epoch"])
def test_news_of_another_time_cut_nothing(following: World, other: dict[str, int]) -> None:
    following.tell(diverging=EpochEnd(4, 3), **other)  # type: ignore[arg-type]
    following.tell(error=FENCED, **other)  # type: ignore[arg-type]
    assert following.logs[ORDERS].end == 20 and following.heard() == []


def test_news_of_what_is_not_followed_any_more_cut_nothing(following: World) -> None:
    following.replicator.stop([ORDERS])
    following.tell(diverging=EpochEnd(4, 3))
    assert following.logs[ORDERS].end == 20 and following.fetching == {}


def test_what_the_data_plane_retries_is_left_to_it(following: World) -> None:
    following.tell(error=int(ErrorCode.NOT_LEADER_OR_FOLLOWER), paused=False)
    assert following.heard() == [] and following.fetching == {70: 1}


def test_a_fenced_partition_waits_for_another_leader_epoch(following: World) -> None:
    following.tell(error=FENCED)
    assert following.heard() == ["unfollow [70]", "close 1"]
    following.replicator.brokers_changed()
    following.follow_orders()
    assert following.heard() == []
    following.follow_orders(leader_epoch=6)
    assert following.fetching == {70: 2}


def test_a_log_that_cannot_be_cut_fails_and_is_reported(following: World) -> None:
    following.logs[ORDERS].fails = KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
    following.tell(diverging=EpochEnd(4, 3))
    assert following.failed == [ORDERS] and following.heard() == ["unfollow [70]", "close 1"]


def test_out_of_range_behind_the_leaders_end(following: World) -> None:
    following.tell(error=OUT_OF_RANGE)
    assert following.questions[0][0] == OffsetQuestion("b2", 9092, ORDERS, 5, LATEST)
    assert following.heard() == []
    following.answer(LATEST, 11)
    assert following.logs[ORDERS].end == 11 and following.heard() == ["follow 1: [70]"]


def test_out_of_range_before_the_leaders_start(following: World) -> None:
    following.tell(error=OUT_OF_RANGE)
    following.answer(LATEST, 90)
    following.answer(EARLIEST, 70)
    assert (following.logs[ORDERS].start, following.logs[ORDERS].end) == (70, 70)
    assert following.heard() == ["follow 1: [70]"]


def test_a_leader_that_does_not_answer_is_asked_after_the_back_off(following: World) -> None:
    following.tell(error=OUT_OF_RANGE)
    following.answer(LATEST, -1, error=int(ErrorCode.NETWORK_EXCEPTION))
    assert following.questions == []
    following.turn(BACKOFF_MS)
    following.places.pop(2)
    following.answer(LATEST, -1, error=int(ErrorCode.NETWORK_EXCEPTION))
    following.turn(BACKOFF_MS)
    assert following.questions == [], "nobody knows where it is"
    following.places[2] = ("b2", 9093)
    following.turn(BACKOFF_MS)
    assert following.questions[0][0].port == 9093
    following.answer(LATEST, 11)
    assert following.fetching == {70: 1}


def test_the_answer_of_a_leader_that_is_none_any_more_is_not_used(following: World) -> None:
    following.tell(error=OUT_OF_RANGE)
    following.follow_orders(leader=3, leader_epoch=6)
    following.answer(LATEST, 3)
    assert following.logs[ORDERS].end == 20 and following.fetching == {70: 2}


def test_a_back_off_ends_with_the_leader_epoch(following: World) -> None:
    following.tell(error=OUT_OF_RANGE)
    following.answer(LATEST, -1, error=int(ErrorCode.NETWORK_EXCEPTION))
    following.follow_orders(leader_epoch=6)
    following.turn(BACKOFF_MS)
    assert following.questions == []


def test_a_leader_whose_address_is_not_known_is_followed_when_it_is(world: World) -> None:
    place = world.places.pop(2)
    world.follow_orders()
    assert world.heard() == []
    world.replicator.brokers_changed()
    assert world.heard() == []
    world.places[2] = place
    world.replicator.brokers_changed()
    assert world.heard() == ["open 1: broker-1-fetcher-0 to 2 at b2:9092", "follow 1: [70]"]


def test_a_leader_that_moved_is_asked_elsewhere(following: World) -> None:
    following.places[2] = ("b2", 9099)
    following.replicator.brokers_changed()
    assert following.heard() == ["configure 1: b2:9099"]
    following.places.pop(2)
    following.replicator.brokers_changed()
    assert following.heard() == [], "it is asked where it was last"


def test_another_number_of_fetchers_spreads_anew() -> None:
    world = World(fetchers=3)
    world.follow_orders()
    world.heard()
    world.replicator.resize(3)
    assert world.heard() == []
    world.replicator.resize(1)
    world.turn()
    assert world.fetching == {70: 2} and world.heard()[-1] == "close 1"


def test_closing_ends_everything(following: World) -> None:
    following.tell(error=OUT_OF_RANGE)
    following.replicator.close()
    following.turn()
    assert following.heard() == ["unfollow [70]", "close 1"] and following.closed_leaders


def test_foreign_timers_are_not_ours(world: World) -> None:
    assert not world.replicator.timer(("isr-keeper",))
    assert not world.replicator.timer("replicator")

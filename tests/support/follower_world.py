"""The world of a follower's Replicator, played: a data plane that notes what it is told, logs that know where they end,
leaders that answer when they are told to, and the turns of a control loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.broker.leader_offsets import OffsetAnswer, OffsetQuestion
from cluster.broker.loop import Timers
from cluster.broker.replicator import FetcherAddress, Followed, FollowedLog, Replicator
from cluster.replication.truncation import EpochEnd, OwnLog
from pylog.types import TopicPartition

BACKOFF_MS = 1_000
ORDERS = TopicPartition("orders", 0)
EVENTS = TopicPartition("events", 4)
NONE = EpochEnd(-1, -1)


class PlayedLog:
    """`epochs`: where each begins."""

    def __init__(self, end: int = 20, high_watermark: int = 8, epochs: Sequence[tuple[int, int]] = ((4, 0),)) -> None:
        self.end = end
        self.high_watermark = high_watermark
        self.epochs = list(epochs)
        self.start = 0
        self.fails: Exception | None = None
        self.changes: list[str] = []

    def own(self) -> OwnLog:
        return OwnLog(self.end, self.high_watermark, self.epochs[-1][0] if self.epochs else -1)

    def epoch_end(self, epoch: int) -> EpochEnd:
        at = [each for each in self.epochs if each[0] <= epoch]
        above = [start for each, start in self.epochs if each > epoch]
        return EpochEnd(at[-1][0], above[0] if above else self.end) if at else NONE

    def truncate(self, offset: int) -> None:
        if self.fails is not None:
            raise self.fails
        self.changes.append(f"cut at {offset}")
        self.end = offset
        self.epochs = [each for each in self.epochs if each[1] < offset]

    def truncate_fully(self, offset: int) -> None:
        if self.fails is not None:
            raise self.fails
        self.changes.append(f"empty and start at {offset}")
        self.epochs.clear()
        self.start = self.end = offset


class FollowerWorld:
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

    def follow(self, fetcher: int, partitions: Sequence[int]) -> list[int]:
        self.fetching.update(dict.fromkeys(partitions, fetcher))
        self.said.append(f"follow {fetcher}: {sorted(partitions)}")
        return []

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

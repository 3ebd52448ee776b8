"""Follows partitions that others lead: which fetcher of the data plane fetches what from whom, and what is done when a
leader answers with something else than records.

What stays true:
- a partition is fetched by one fetcher, from the leader of the newest leader epoch we were told; while its log is cut
  it is not fetched, and what the data plane told of it under another fetcher or leader epoch is not listened to;
- there is a fetcher for a leader while something is followed from it, and no longer than the turn in which it ends;
- a partition whose leader's address is not known waits until it is; one whose log cannot be cut, until it can; one that
  has failed, for another leader epoch.

The data plane fetches, appends, backs off and connects again by itself. Control thread; answers of leaders about
offsets come in by `post`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial

from cluster.broker.grouped_log import GroupedLog
from cluster.replication.follower import (
    FETCHING,
    Action,
    Ask,
    AskLater,
    CutLater,
    Fail,
    Fetch,
    Follower,
    StartAt,
    Truncate,
)
from cluster.replication.placement import fetcher_of
from cluster.replication.truncation import EpochEnd, OwnLog
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final, Protocol
from pylog.types import TopicPartition

if TYPE_CHECKING:
    from cluster.broker.leader_offsets import OffsetAnswer, OffsetQuestion

_TIMER: Final = "replicator"
_LONGEST_BACKOFF_MS: Final = 30_000
#: What brokers say that have heard of an election, a creation or a deletion later, or earlier, than we did.
_DURING_ELECTIONS: Final = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
    }
)


class Followed(NamedTuple):
    """A partition to follow. number: what the data plane calls it, where it is published as a follower already."""

    leader: int
    leader_epoch: int
    number: int


class FetcherAddress(NamedTuple):
    """Whom a fetcher is to ask, and as whom."""

    leader: int
    host: str
    port: int
    client_id: str


class FollowedLog(Protocol):
    """The log of a partition that we follow. Changes raise KafkaError and OSError as the log does."""

    def own(self) -> OwnLog: ...
    def epoch_end(self, epoch: int) -> EpochEnd: ...
    def truncate(self, offset: int) -> None: ...
    def truncate_fully(self, offset: int) -> None: ...


class FollowingEngine(Protocol):
    """The engine's functions for following; see pylog/_engine.py."""

    def close_fetcher(self, fetcher: int) -> None: ...
    def follow(self, fetcher: int, partitions: Sequence[int]) -> Sequence[int]:
        """Returns those that are not hosted as followers."""

    def unfollow(self, partitions: Sequence[int]) -> None: ...


class Leaders(Protocol):
    """Asks leaders for offsets (`leader_offsets.py`). Answers on any thread, at most once per question."""

    def ask(self, question: OffsetQuestion, on_answer: Callable[[OffsetAnswer], None]) -> None: ...
    def close(self) -> None: ...


class Timers(Protocol):
    """The control loop's."""

    def set(self, key: Hashable, deadline_ms: int) -> None: ...
    def cancel(self, key: Hashable) -> None: ...


class _Fetcher:
    __slots__ = ("address", "number", "partitions")

    def __init__(self, number: int, address: FetcherAddress) -> None:
        self.number = number
        self.address = address
        self.partitions: set[TopicPartition] = set()


class Replicator:
    """fetchers: num.replica.fetchers. addresses: where brokers reach one another, None for one that is not alive. logs:
    of what we host. open_fetcher: a fetcher of the data plane; its number. configure_fetcher: it is to ask elsewhere.
    log_failed: a log could not be cut. leaders: made when the first leader has to be asked for an offset."""

    def __init__(
        self,
        broker_id: int,
        engine: FollowingEngine,
        *,
        fetchers: int,
        backoff_ms: int,
        addresses: Callable[[int], tuple[str, int] | None],
        logs: Callable[[TopicPartition], FollowedLog | None],
        open_fetcher: Callable[[FetcherAddress], int],
        configure_fetcher: Callable[[int, FetcherAddress], None],
        log_failed: Callable[[TopicPartition, Exception], None],
        leaders: Callable[[], Leaders],
        now_ms: Callable[[], int],
        timers: Timers,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._broker_id = broker_id
        self._engine = engine
        self._per_leader = fetchers
        self._backoff_ms = backoff_ms
        self._addresses = addresses
        self._logs = logs
        self._open_fetcher = open_fetcher
        self._configure_fetcher = configure_fetcher
        self._log_failed = log_failed
        self._make_leaders = leaders
        self._leaders: Leaders | None = None
        self._now_ms = now_ms
        self._timers = timers
        self._post = post
        self._followed: dict[TopicPartition, Follower] = {}
        self._names: dict[int, TopicPartition] = {}
        self._fetchers: dict[tuple[int, int], _Fetcher] = {}
        self._idle_check = False
        self._log = Logger(f"Replicator broker={broker_id}")
        self._lines = GroupedLog(f"Replicator broker={broker_id}", post)

    # ------------------------------------------------------------------------------------------------- what is followed

    def follow(self, wanted: Mapping[TopicPartition, Followed]) -> None:
        """Follow these from now on. One that is followed in this leader epoch already is left alone."""
        fresh = {}
        for partition, (leader, leader_epoch, number) in wanted.items():
            known = self._followed.get(partition)
            if known is None or (known.leader_epoch, known.number) != (leader_epoch, number):
                fresh[partition] = Follower(leader, leader_epoch, number)
        self.stop([partition for partition in fresh if partition in self._followed])
        ready = []
        for partition, follower in fresh.items():
            self._followed[partition] = follower
            self._names[follower.number] = partition
            log = self._logs(partition)
            if log is not None and self._carry_out(partition, follower, follower.begin(log.own())):
                ready.append(partition)
        self._fetch(ready)

    def stop(self, partitions: Iterable[TopicPartition]) -> None:
        """Follow them no more: when this returns nothing more is appended to them. Harmless for others."""
        gone = [partition for partition in partitions if partition in self._followed]
        followers = [self._followed.pop(partition) for partition in gone]
        if not gone:
            return
        self._engine.unfollow([follower.number for follower in followers])
        for partition, follower in zip(gone, followers, strict=True):
            del self._names[follower.number]
            self._timers.cancel((_TIMER, partition))
        self._let_go(gone)

    def brokers_changed(self) -> None:
        """Brokers came, went or moved, or we registered anew: fetchers ask where leaders are now."""
        for (leader, _), fetcher in self._fetchers.items():
            place = self._addresses(leader)
            if place is not None:
                fetcher.address = fetcher.address._replace(host=place[0], port=place[1])
                self._configure_fetcher(fetcher.number, fetcher.address)
        placed = set().union(*(fetcher.partitions for fetcher in self._fetchers.values()))
        self._fetch(
            [each for each, follower in self._followed.items() if follower.state == FETCHING and each not in placed]
        )

    def resize(self, fetchers: int) -> None:
        """num.replica.fetchers is another one."""
        if fetchers == self._per_leader:
            return
        self._per_leader = fetchers
        self._engine.unfollow([follower.number for follower in self._followed.values()])
        self._let_go(self._followed)
        self._fetch([each for each, follower in self._followed.items() if follower.state == FETCHING])

    def close(self) -> None:
        """Follow nothing any more."""
        self.stop(list(self._followed))
        self._close_idle()
        if self._leaders is not None:
            self._leaders.close()

    # ------------------------------------------------------------------------------------------------- news

    def told_partition(
        self, number: int, fetcher: int, leader_epoch: int, error: int, paused: bool, diverging: EpochEnd
    ) -> None:
        """UP_FOLLOW: what a leader answered. `diverging` holds when there is no error; paused: it is not fetched until
        we say so."""
        partition = self._names.get(number)
        follower = None if partition is None else self._followed[partition]
        if partition is None or follower is None or follower.leader_epoch != leader_epoch:
            return
        if not any(each.number == fetcher and partition in each.partitions for each in self._fetchers.values()):
            return
        if not paused and error:
            say = self._lines.info if error in _DURING_ELECTIONS else self._lines.warn
            say("leader cannot give records", partition, leader=follower.leader, error=_name(error))
            return
        log = self._logs(partition)
        if log is None:
            return
        if error:
            actions = follower.refused(error)
        else:
            actions = follower.diverged(diverging, log.own(), log.epoch_end(diverging.epoch))
        self._act(partition, follower, actions)

    def told_fetcher(self, fetcher: int, connected: bool, reason: str) -> None:
        """UP_FETCHER: a connection to a leader was made or lost."""
        found = next((each for each in self._fetchers.values() if each.number == fetcher), None)
        if found is None:
            return
        leader, host, port, _ = found.address
        if connected:
            self._log.info("connected to leader", leader=leader, host=host, port=port)
        else:
            self._log.warn("no connection to leader", leader=leader, host=host, port=port, why=reason)

    def timer(self, key: Hashable) -> bool:
        """A timer is due. False: it is not ours."""
        if not (isinstance(key, tuple) and len(key) == 2 and key[0] == _TIMER):
            return False
        follower = self._followed.get(key[1])
        if follower is not None:
            self._act(key[1], follower, follower.try_again())
        return True

    # ------------------------------------------------------------------------------------------------- doing

    def _act(self, partition: TopicPartition, follower: Follower, actions: Sequence[Action]) -> None:
        if self._carry_out(partition, follower, actions):
            self._fetch([partition])

    def _carry_out(self, partition: TopicPartition, follower: Follower, actions: Sequence[Action]) -> bool:
        """Do what is to be done before fetching. True: the partition is to be fetched."""
        fetches = False
        for done, action in enumerate(actions):
            if isinstance(action, Truncate | StartAt):
                if not self._cut(partition, action):
                    return self._carry_out(partition, follower, follower.cut_failed(actions[done:]))
            elif isinstance(action, Ask):
                self._ask(partition, follower, action.timestamp)
            elif isinstance(action, AskLater):
                self._timers.set((_TIMER, partition), self._now_ms() + self._backoff_ms)
            elif isinstance(action, CutLater):
                backoff_ms = min(self._backoff_ms << min(action.failed - 1, 16), _LONGEST_BACKOFF_MS)
                self._timers.set((_TIMER, partition), self._now_ms() + backoff_ms)
                self._engine.unfollow([follower.number])
                self._let_go([partition])
            elif isinstance(action, Fail):
                say = self._lines.info if action.passes else self._lines.warn
                say(
                    "not followed until there is another leader epoch",
                    partition,
                    leader_epoch=follower.leader_epoch,
                    why=action.reason,
                )
                self._engine.unfollow([follower.number])
                self._let_go([partition])
            elif isinstance(action, Fetch):
                fetches = True
        return fetches

    def _cut(self, partition: TopicPartition, action: Truncate | StartAt) -> bool:
        """False: it is as long as it was."""
        log = self._logs(partition)
        if log is None:
            return False
        try:
            if isinstance(action, Truncate):
                own = log.own()
                say = self._log.warn if action.offset < own.high_watermark else self._log.info
                say(
                    "cutting the log",
                    partition=partition,
                    offset=action.offset,
                    end=own.end_offset,
                    high_watermark=own.high_watermark,
                    why=action.reason,
                )
                log.truncate(action.offset)
            else:
                self._log.warn(
                    "the leader's log begins above ours, starting anew", partition=partition, offset=action.offset
                )
                log.truncate_fully(action.offset)
        except (KafkaError, OSError) as error:
            self._log.error("log cannot be cut yet", partition=partition, why=error)
            self._log_failed(partition, error)
            return False
        return True

    def _fetch(self, partitions: Iterable[TopicPartition]) -> None:
        """Have the data plane fetch; those whose leader cannot be reached wait for `brokers_changed`."""
        by_fetcher: dict[int, list[int]] = {}
        for partition in partitions:
            follower = self._followed[partition]
            fetcher = self._open(partition, follower)
            if fetcher is None:
                self._lines.warn("leader is not known to be alive", partition, leader=follower.leader)
                continue
            fetcher.partitions.add(partition)
            by_fetcher.setdefault(fetcher.number, []).append(follower.number)
        for number, numbers in by_fetcher.items():
            for refused in self._engine.follow(number, numbers):
                self._lines.warn("not hosted as a follower", self._names[refused])

    def _open(self, partition: TopicPartition, follower: Follower) -> _Fetcher | None:
        """The fetcher for it; None: the leader's address is not known."""
        key = (follower.leader, fetcher_of(partition, self._per_leader))
        fetcher = self._fetchers.get(key)
        if fetcher is None:
            place = self._addresses(follower.leader)
            if place is None:
                return None
            address = FetcherAddress(follower.leader, *place, f"broker-{self._broker_id}-fetcher-{key[1]}")
            fetcher = self._fetchers[key] = _Fetcher(self._open_fetcher(address), address)
        return fetcher

    def _let_go(self, partitions: Iterable[TopicPartition]) -> None:
        """No fetcher has them any more. Fetchers without partitions end with the turn, for mostly another leader epoch
        comes before that."""
        gone = set(partitions)
        for fetcher in self._fetchers.values():
            fetcher.partitions -= gone
        if not self._idle_check and any(not fetcher.partitions for fetcher in self._fetchers.values()):
            self._idle_check = True
            self._post(self._close_idle)

    def _close_idle(self) -> None:
        self._idle_check = False
        for key in [key for key, fetcher in self._fetchers.items() if not fetcher.partitions]:
            self._engine.close_fetcher(self._fetchers.pop(key).number)

    # ------------------------------------------------------------------------------------------------- asking leaders

    def _ask(self, partition: TopicPartition, follower: Follower, timestamp: int) -> None:
        from cluster.broker.leader_offsets import OffsetAnswer, OffsetQuestion  # sockets and threads, seldom needed

        place = self._addresses(follower.leader)
        on_answer = partial(self._pass_on, partition, follower, timestamp)
        if place is None:
            on_answer(OffsetAnswer(int(ErrorCode.BROKER_NOT_AVAILABLE), -1))
            return
        if self._leaders is None:
            self._leaders = self._make_leaders()
        self._leaders.ask(OffsetQuestion(*place, partition, follower.leader_epoch, timestamp), on_answer)

    def _pass_on(self, partition: TopicPartition, follower: Follower, timestamp: int, answer: OffsetAnswer) -> None:
        """Any thread."""
        self._post(partial(self._answered, partition, follower, timestamp, answer))

    def _answered(self, partition: TopicPartition, follower: Follower, timestamp: int, answer: OffsetAnswer) -> None:
        log = self._logs(partition)
        if self._followed.get(partition) is not follower or log is None:
            return
        if answer.error:
            self._lines.info("leader does not tell its offset", partition, error=_name(answer.error))
            actions = follower.not_told(timestamp, answer.error)
        else:
            actions = follower.told(timestamp, answer.offset, log.own())
        self._act(partition, follower, actions)


def _name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)

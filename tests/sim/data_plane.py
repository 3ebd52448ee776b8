"""The data plane of one broker's life: what csrc's reactor does with sockets, done over the simulated network.

What stays true: appends, reads and what they decide are the real C partition's; here is who is woken when, and what a
fetcher does with an answer (`take_partition` of fetcher.c). A fetcher has one request under way; whoever is not hosted
or not followed any more when an answer comes is passed over; a produce is answered once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pylog._engine import (
    ROLE_FOLLOWER,
    ROLE_LEADER,
    UP_FETCHER,
    UP_FOLLOW,
    UP_ISR,
    EnginePartitionInfo,
    FetcherConfig,
    Hosting,
    PartitionState,
    ReplicaInfo,
    Upcall,
)
from pylog.errors import ErrorCode
from pylog.types import TopicPartition
from tests.sim.network import Answer
from tests.sim.replica import Fetched, Replica
from tests.sim.world import US_PER_MS

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker

_MAX_WAIT_MS = 400
_REQUEST_TIMEOUT_MS = 1_500
_BACKOFF_MS = 100
_UPCALL_US = 100  # all the same, for they stay in order
ACKS_ALL = -1
READY, ASKED, PAUSED, DELAYED = range(4)


class Waiting:
    """A produce with acks=all that is not committed."""

    __slots__ = ("answer", "base_offset", "epoch", "offset")

    def __init__(self, offset: int, base_offset: int, epoch: int, answer: Answer) -> None:
        self.offset = offset
        self.base_offset = base_offset
        self.epoch = epoch
        self.answer = answer


class Hosted:
    __slots__ = ("name", "number", "parked", "replica", "state", "topic_id", "waiting")

    def __init__(self, number: int, name: TopicPartition, topic_id: bytes, replica: Replica | None) -> None:
        self.number = number
        self.name = name
        self.topic_id = topic_id
        self.replica = replica
        self.state: PartitionState | None = None
        self.waiting: list[Waiting] = []
        self.parked: list[Parked] = []


class Question(NamedTuple):
    """What a follower asks about a partition. known: the high watermark that this leader told it last."""

    name: TopicPartition
    topic_id: bytes
    leader_epoch: int
    last_epoch: int
    offset: int
    log_start: int
    known: int


class Parked:
    """A follower's fetch for which there was nothing."""

    __slots__ = ("answer", "broker_epoch", "questions", "replica_id")

    def __init__(self, replica_id: int, broker_epoch: int, questions: Sequence[Question], answer: Answer) -> None:
        self.replica_id = replica_id
        self.broker_epoch = broker_epoch
        self.questions = questions
        self.answer: Answer | None = answer


class Followed:
    __slots__ = ("known", "question", "reported", "state")

    def __init__(self) -> None:
        self.state = READY
        self.question: Question | None = None
        self.reported = 0
        self.known = -1


class Fetcher:
    __slots__ = ("config", "connected", "number", "partitions", "under_way")

    def __init__(self, number: int, config: FetcherConfig) -> None:
        self.number = number
        self.config = config
        self.partitions: dict[int, Followed] = {}
        self.under_way = False
        self.connected = False


class DataPlane:
    """What ReplicaManager, Replicator and Replication ask of an engine."""

    def __init__(self, broker: SimBroker, lag_max_ms: int) -> None:
        self._broker = broker
        self._world = broker.world
        self._lag_max_ms = lag_max_ms
        self._hosted: dict[int, Hosted] = {}
        self._by_name: dict[TopicPartition, Hosted] = {}
        self._fetchers: dict[int, Fetcher] = {}
        self._numbers = 0
        self._after(lag_max_ms // 2, self._check_lag)

    def _after(self, delay_ms: int, what: Callable[..., object], *arguments: object) -> None:
        self._world.after(delay_ms * US_PER_MS, self._broker.process, what, *arguments)

    def _now_ms(self) -> int:
        return self._broker.now_ms()

    # ------------------------------------------------------------------ hosting

    def add_partitions(self, hostings: Sequence[Hosting]) -> list[int]:
        return [self._add(hosting) for hosting in hostings]

    def _add(self, hosting: Hosting) -> int:
        self._numbers += 1
        name = TopicPartition(hosting.topic, hosting.partition)
        assert name not in self._by_name, f"{name} is hosted twice"
        replica: Replica | None = hosting.log  # type: ignore[assignment]
        hosted = Hosted(self._numbers, name, hosting.topic_id, replica)
        self._hosted[hosted.number] = self._by_name[name] = hosted
        if replica is not None:
            self.publish(hosted.number, hosting.state)
        return hosted.number

    def publish_all(self, states: Sequence[tuple[int, PartitionState]]) -> None:
        for number, state in states:
            self.publish(number, state)

    def publish(self, number: int, state: PartitionState) -> None:
        hosted = self._hosted[number]
        assert hosted.replica is not None
        assert hosted.state is None or state.leader_epoch >= hosted.state.leader_epoch, "an older epoch is published"
        before = hosted.state
        rc = hosted.replica.publish(self._broker.broker_id, self._lag_max_ms, state, self._now_ms())
        assert rc == 0, rc
        hosted.state = state
        ceased = before is not None and before.role == ROLE_LEADER
        if ceased and (state.role != ROLE_LEADER or before is None or before.leader_epoch != state.leader_epoch):
            self._fail_waiting(hosted, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if before is None or before.leader_epoch != state.leader_epoch:
            self._broker.cluster.checkers.took_up(self._broker, hosted.name, hosted.replica, state)
        self._moved(hosted)

    def remove_partitions(self, numbers: Sequence[int], error: int) -> list[object]:
        for number in numbers:
            hosted = self._drop(number)
            self._fail_waiting(hosted, ErrorCode(error))
            if hosted.replica is not None:
                hosted.replica.unhost()
        return []

    def take_offline(self, numbers: Sequence[int]) -> list[object]:
        for number in numbers:
            hosted = self._hosted[number]
            self.unfollow([number])
            self._fail_waiting(hosted, ErrorCode.KAFKA_STORAGE_ERROR)
            assert hosted.replica is not None
            hosted.replica.unhost()
            hosted.replica = None
        return []

    def forget_offline(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._drop(number)

    def _drop(self, number: int) -> Hosted:
        self.unfollow([number])
        hosted = self._hosted.pop(number)
        del self._by_name[hosted.name]
        return hosted

    def replica_of(self, number: int) -> Replica:
        replica = self._hosted[number].replica
        assert replica is not None
        return replica

    def find(self, name: TopicPartition) -> Hosted | None:
        return self._by_name.get(name)

    def role(self, name: TopicPartition) -> int:
        hosted = self._by_name.get(name)
        return -1 if hosted is None or hosted.state is None else hosted.state.role

    def hosted(self) -> list[Hosted]:
        return list(self._hosted.values())

    def partition_info(self, number: int) -> EnginePartitionInfo:
        info = self.replica_of(number).info()
        return EnginePartitionInfo(
            info.role,
            info.leader_epoch,
            info.log_start,
            info.log_end,
            info.high_watermark,
            info.high_watermark,
            0,
        )

    def replicas_of(self, numbers: Sequence[int]) -> list[list[ReplicaInfo] | None]:
        replicas = [self.replica_of(number) for number in numbers]
        return [each.followers(self._now_ms()) if each.info().role == ROLE_LEADER else None for each in replicas]

    # What a cluster of one rack without quotas does not use.

    def select_by_rack(self, _: bool) -> None:
        raise AssertionError("no racks here")

    def throttle_replication(self, leader_rate: int, follower_rate: int) -> None:
        raise AssertionError("no throttles here")

    def mark_throttled(self, partitions: Sequence[int], *, leading: bool, following: bool) -> None:
        raise AssertionError("no throttles here")

    # ------------------------------------------------------------------ the high watermark may have moved

    def _moved(self, hosted: Hosted) -> None:
        replica = hosted.replica
        assert replica is not None
        high_watermark = replica.info().high_watermark
        self._broker.cluster.checkers.touched(self._broker, hosted.name, replica)
        if hosted.waiting:
            done = [each for each in hosted.waiting if each.offset <= high_watermark]
            if done:
                hosted.waiting = [each for each in hosted.waiting if each.offset > high_watermark]
                error = replica.enough_replicas()
                for each in done:
                    each.answer((error, each.base_offset, each.epoch))
        if hosted.parked:
            parked, hosted.parked = hosted.parked, []
            for fetch in parked:
                if fetch.answer is not None and not self._answer_parked(fetch):
                    hosted.parked.append(fetch)

    def _fail_waiting(self, hosted: Hosted, error: ErrorCode) -> None:
        waiting, hosted.waiting = hosted.waiting, []
        for each in waiting:
            each.answer((int(error), -1, -1))

    def _report(self, hosted: Hosted) -> None:
        """News about followers."""
        assert hosted.replica is not None
        while (fact := hosted.replica.take_isr_fact()) is not None:
            self._upcall(UP_ISR, hosted.number, a=fact[0], b=int(fact[1]))

    def _check_lag(self) -> None:
        now_ms = self._now_ms()
        for hosted in self.hosted():
            if hosted.replica is not None and hosted.state is not None and hosted.state.role == ROLE_LEADER:
                hosted.replica.check_lag(now_ms)
                self._report(hosted)
        self._after(self._lag_max_ms // 2, self._check_lag)

    def _upcall(
        self, kind: int, partition: int, *, error: int = 0, slot: int = -1, token: int = -1, a: int = -1, b: int = -1
    ) -> None:
        upcall = Upcall(kind, error, -1, slot, partition, -1, token, a, b, 0, 0, 0, 0, 0, None, b"", 0)
        self._world.after(_UPCALL_US, self._broker.process, self._broker.replication.upcall, upcall)

    # ------------------------------------------------------------------ clients

    def produce(self, name: TopicPartition, data: bytes, acks: int, timeout_ms: int, answer: Answer) -> None:
        """Answers (error, base offset, leader epoch)."""
        hosted = self._by_name.get(name)
        if hosted is None:
            answer((int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), -1, -1))
            return
        if hosted.replica is None:
            answer((int(ErrorCode.KAFKA_STORAGE_ERROR), -1, -1))
            return
        appended = hosted.replica.append(data, acks, self._now_ms())
        if appended.error:
            answer((appended.error, -1, -1))
            return
        assert hosted.state is not None
        epoch = hosted.state.leader_epoch
        if acks == ACKS_ALL:
            waiting = Waiting(appended.last_offset + 1, appended.base_offset, epoch, answer)
            hosted.waiting.append(waiting)
            self._after(timeout_ms, self._give_up, hosted, waiting)
        self._moved(hosted)
        if acks != ACKS_ALL:
            answer((0, appended.base_offset, epoch))

    def _give_up(self, hosted: Hosted, waiting: Waiting) -> None:
        if waiting in hosted.waiting:
            hosted.waiting.remove(waiting)
            waiting.answer((int(ErrorCode.REQUEST_TIMED_OUT), -1, -1))

    def consume(self, name: TopicPartition, offset: int, epoch: int, answer: Answer) -> None:
        """Answers (error, batches, high watermark, leader epoch), of what a consumer may see."""
        hosted = self._by_name.get(name)
        if hosted is None or hosted.replica is None:
            answer((int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), (), -1, -1))
            return
        info = hosted.replica.info()
        if info.role != ROLE_LEADER or info.leader_epoch != epoch:
            answer((int(ErrorCode.NOT_LEADER_OR_FOLLOWER), (), -1, -1))
        elif not info.log_start <= offset <= info.log_end:
            answer((int(ErrorCode.OFFSET_OUT_OF_RANGE), (), info.high_watermark, info.leader_epoch))
        else:
            batches = hosted.replica.batches(offset, info.high_watermark) if offset < info.high_watermark else ()
            answer((0, batches, info.high_watermark, info.leader_epoch))

    # ------------------------------------------------------------------ followers fetch from us

    def serve_fetch(
        self, replica_id: int, broker_epoch: int, questions: Sequence[Question], wait: bool, answer: Answer
    ) -> None:
        """Answers the questions, by name, where there is something to say; waits a little when there is nothing."""
        found = self._read(replica_id, broker_epoch, questions, notes_progress=True)
        if found or not wait:
            answer(found)
            return
        parked = Parked(replica_id, broker_epoch, questions, answer)
        for question in questions:
            hosted = self._by_name.get(question.name)
            if hosted is not None:
                hosted.parked = [each for each in hosted.parked if each.answer is not None]
                hosted.parked.append(parked)
        self._after(_MAX_WAIT_MS, self._end_wait, parked)

    def _read(
        self, replica_id: int, broker_epoch: int, questions: Sequence[Question], *, notes_progress: bool
    ) -> dict[TopicPartition, Fetched]:
        found: dict[TopicPartition, Fetched] = {}
        for question in questions:
            hosted = self._by_name.get(question.name)
            if hosted is None or hosted.topic_id != question.topic_id:
                found[question.name] = _failed(ErrorCode.UNKNOWN_TOPIC_ID)
                continue
            if hosted.replica is None:
                found[question.name] = _failed(ErrorCode.KAFKA_STORAGE_ERROR)
                continue
            read = hosted.replica.fetch(
                replica_id,
                broker_epoch,
                question.leader_epoch,
                question.last_epoch,
                question.offset,
                question.log_start,
                notes_progress,
                self._now_ms(),
            )
            if not read.error:
                own_epoch = hosted.replica.info().leader_epoch
                self._broker.cluster.checkers.served(self._broker, hosted.name, question.leader_epoch, own_epoch)
            if notes_progress:
                self._report(hosted)
                if read.moved:
                    self._moved(hosted)
            if read.error or read.diverging or read.records or read.high_watermark != question.known:
                found[question.name] = read
        return found

    def _answer_parked(self, parked: Parked) -> bool:
        found = self._read(parked.replica_id, parked.broker_epoch, parked.questions, notes_progress=False)
        if found and parked.answer is not None:
            answer, parked.answer = parked.answer, None
            answer(found)
        return bool(found)

    def _end_wait(self, parked: Parked) -> None:
        if parked.answer is not None:
            answer, parked.answer = parked.answer, None
            answer({})

    # ------------------------------------------------------------------ we fetch

    def open_fetcher(self, config: FetcherConfig) -> int:
        self._numbers += 1
        self._fetchers[self._numbers] = Fetcher(self._numbers, config)
        return self._numbers

    def close_fetcher(self, number: int) -> None:
        self._fetchers.pop(number, None)

    def configure_fetcher(self, number: int, host: str, port: int, broker_epoch: int) -> None:
        fetcher = self._fetchers[number]
        fetcher.config = fetcher.config._replace(host=host, port=port, broker_epoch=broker_epoch)

    def follow(self, number: int, partitions: Sequence[int]) -> list[int]:
        fetcher = self._fetchers[number]
        refused = []
        for each in partitions:
            hosted = self._hosted.get(each)
            if hosted is None or hosted.replica is None or hosted.replica.info().role != ROLE_FOLLOWER:
                refused.append(each)
                continue
            if each in fetcher.partitions:
                fetcher.partitions[each].state = READY
                continue
            self.unfollow([each])
            fetcher.partitions[each] = Followed()
        self._after(0, self._ask, fetcher)
        return refused

    def unfollow(self, partitions: Sequence[int]) -> None:
        for fetcher in self._fetchers.values():
            for each in partitions:
                fetcher.partitions.pop(each, None)

    def _ask(self, fetcher: Fetcher) -> None:
        if fetcher.under_way or self._fetchers.get(fetcher.number) is not fetcher:
            return
        asked: dict[int, Followed] = {}
        for number, followed in fetcher.partitions.items():
            if followed.state in (READY, ASKED):
                hosted = self._hosted[number]
                assert hosted.replica is not None
                info = hosted.replica.info()
                followed.state = ASKED
                followed.question = Question(
                    hosted.name,
                    hosted.topic_id,
                    info.leader_epoch,
                    info.latest_epoch,
                    info.log_end,
                    info.log_start,
                    followed.known,
                )
                asked[number] = followed
        if not asked:
            return
        fetcher.under_way = True
        questions = tuple([followed.question for followed in asked.values() if followed.question is not None])
        config = fetcher.config

        def serve(answer: Answer) -> None:
            leader = self._broker.cluster.broker_at(config.port)
            leader.data_plane.serve_fetch(config.replica_id, config.broker_epoch, questions, True, answer)

        self._broker.cluster.network.request(
            self._broker.broker_id,
            self._broker.process,
            config.port,
            serve,
            lambda found: self._answered(fetcher, asked, found),
            _REQUEST_TIMEOUT_MS,
        )

    def _answered(self, fetcher: Fetcher, asked: dict[int, Followed], found: object) -> None:
        fetcher.under_way = False
        if self._fetchers.get(fetcher.number) is not fetcher:
            return
        if (found is not None) != fetcher.connected:
            fetcher.connected = found is not None
            self._upcall(
                UP_FETCHER, -1, error=0 if fetcher.connected else 111, token=fetcher.number, a=int(fetcher.connected)
            )
        if found is None:
            self._after(_BACKOFF_MS, self._ask, fetcher)
            return
        assert isinstance(found, dict)
        for number, followed in asked.items():
            current = fetcher.partitions.get(number)
            if current is followed and followed.state == ASKED and followed.question is not None:
                answer = found.get(followed.question.name)
                if answer is not None:
                    self._take(fetcher, number, followed, followed.question, answer)
        self._ask(fetcher)

    def _take(self, fetcher: Fetcher, number: int, followed: Followed, question: Question, answer: Fetched) -> None:
        hosted = self._hosted[number]
        assert hosted.replica is not None
        info = hosted.replica.info()
        if question.leader_epoch != info.leader_epoch or question.offset != info.log_end:
            return
        if answer.error in (ErrorCode.OFFSET_OUT_OF_RANGE, ErrorCode.FENCED_LEADER_EPOCH):
            self._pause(fetcher, number, followed, answer.error, 1, 0)
        elif answer.error:
            self._delay(fetcher, number, followed, answer.error)
        elif answer.diverging:
            self._pause(fetcher, number, followed, 0, answer.diverging_epoch, answer.diverging_end)
        else:
            rc = hosted.replica.append_follower(answer.records, answer.high_watermark, answer.log_start)
            if rc:
                self._delay(fetcher, number, followed, rc)
                return
            followed.reported = 0
            followed.known = answer.high_watermark
            self._moved(hosted)

    def _pause(self, fetcher: Fetcher, number: int, followed: Followed, error: int, a: int, b: int) -> None:
        followed.state = PAUSED
        self._tell(fetcher, number, followed, error, a, b)

    def _delay(self, fetcher: Fetcher, number: int, followed: Followed, error: int) -> None:
        followed.state = DELAYED
        self._after(_BACKOFF_MS, self._go_on, fetcher, number, followed)
        if followed.reported != error:
            self._tell(fetcher, number, followed, error, 0, 0)
        followed.reported = error

    def _tell(self, fetcher: Fetcher, number: int, followed: Followed, error: int, a: int, b: int) -> None:
        assert followed.question is not None
        epoch = followed.question.leader_epoch
        self._upcall(UP_FOLLOW, number, error=error, slot=epoch, token=fetcher.number, a=a, b=b)

    def _go_on(self, fetcher: Fetcher, number: int, followed: Followed) -> None:
        if followed.state == DELAYED and fetcher.partitions.get(number) is followed:
            followed.state = READY
            self._ask(fetcher)


def _failed(error: ErrorCode) -> Fetched:
    return Fetched(int(error), False, -1, -1, -1, -1, b"", False)

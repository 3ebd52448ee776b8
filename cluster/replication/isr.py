"""The in-sync replicas of one partition that we lead: those that are committed, and those that are asked for.

What stays true:
- one change at a time is asked for; what the data plane tells meanwhile is let go, for it tells again after the next
  publish whatever is still so;
- while a replica is asked to join it counts for the high watermark already: if the controller has taken it in and we do
  not know yet, nothing is committed that it lacks. While one is asked to leave, it still counts;
- after an answer that leaves open whether the change was made, nothing is asked until the controller tells the state;
- an ISR keeps its order, whoever joins comes last, and we are always in it.

Kafka's Partition does the same; what its error codes mean for a change is said in `answered`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from cluster.model import NO_BROKER
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.typed import Final, Protocol
from pylog.types import TopicPartition

#: What an answer leads to.
COMMITTED: Final = "committed"  # the ISR is another one: publish it
REFUSED: Final = "refused"  # surely not made: the committed ISR holds
RETRIED: Final = "retried"  # the same is to be asked again
GIVEN_UP: Final = "given up"  # it may have been made: wait for the controller's LeaderAndIsr
IGNORED: Final = "ignored"  # about a change that is not asked for any more

_NOT_MADE: Final = frozenset({ErrorCode.INELIGIBLE_REPLICA, ErrorCode.OPERATION_NOT_ATTEMPTED})
_WAIT_FOR_CONTROLLER: Final = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.INVALID_UPDATE_VERSION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.NEW_LEADER_ELECTED,
    }
)


class LedPartition(NamedTuple):
    """A partition that we lead, as the controller told it. `partition_epoch`: the version of its state's znode."""

    partition: TopicPartition
    topic_id: bytes
    leader_epoch: int
    partition_epoch: int
    isr: tuple[int, ...]


class IsrChange(NamedTuple):
    """The ISR that the controller is asked for, provided that leader epoch and partition epoch are still these.
    `joins`: who is new in it, or NO_BROKER."""

    partition: TopicPartition
    topic_id: bytes
    leader_epoch: int
    partition_epoch: int
    isr: tuple[int, ...]
    joins: int


class IsrAnswer(NamedTuple):
    """What the controller said to a change: an error, or the state as it is now."""

    error: int
    leader_epoch: int = -1
    partition_epoch: int = -1
    isr: tuple[int, ...] = ()


class Replica(Protocol):
    """A replica as its leader sees it."""

    @property
    def broker_id(self) -> int: ...
    @property
    def joining(self) -> int:
        """Not 0: it has all that is committed and of this leader epoch, and counts for the high watermark."""

    @property
    def log_end(self) -> int: ...
    @property
    def lag_ms(self) -> int:
        """Since it had everything; -1: it has not fetched in this leader epoch."""


class Isr:
    """`committed`: in sync, as the controller has written it. `pending`: what it is asked for."""

    __slots__ = ("_broker_id", "_lag_max_ms", "_since_ms", "committed", "pending", "state")

    def __init__(self, broker_id: int, lag_max_ms: int, state: LedPartition, now_ms: int) -> None:
        """lag_max_ms: replica.lag.time.max.ms."""
        self._broker_id = broker_id
        self._lag_max_ms = lag_max_ms
        self._since_ms = now_ms
        self.state = state
        self.committed = state.isr
        self.pending: IsrChange | None = None

    @property
    def joining(self) -> tuple[int, ...]:
        """Who counts for the high watermark without being in the ISR as it is committed."""
        return () if self.pending is None or self.pending.joins == NO_BROKER else (self.pending.joins,)

    def takes(self, state: LedPartition) -> bool:
        """Whether what the controller tells is as new as what we know; a change's answer may have overtaken it."""
        return state.partition_epoch >= self.state.partition_epoch or state.leader_epoch > self.state.leader_epoch

    def shrink(self, replicas: Sequence[Replica], told_behind: Container[int], now_ms: int) -> IsrChange | None:
        """Ask for an ISR without those that have been behind for too long. None: nobody is, or a change is pending.

        told_behind: of whom the data plane has just said so, maybe in an earlier leader epoch. It is believed of those
        that have not fetched since: when they had everything last nobody knows, and the time counts from our leading.
        """
        end = next((each.log_end for each in replicas if each.broker_id == self._broker_id), -1)
        led_for_long = now_ms - self._since_ms > self._lag_max_ms // 2
        out = {
            each.broker_id
            for each in replicas
            if each.log_end != end
            and (each.lag_ms > self._lag_max_ms or (each.lag_ms < 0 and led_for_long and each.broker_id in told_behind))
        } - {self._broker_id}
        if self.pending is not None or not out.intersection(self.committed):
            return None
        return self._ask(tuple(each for each in self.committed if each not in out), int(NO_BROKER))

    def expand(self, replicas: Sequence[Replica], may_join: Callable[[int], bool]) -> IsrChange | None:
        """Ask for an ISR with the first that has caught up and may join; the others after it, one by one, as with
        Kafka: the controller refuses a change whole. None: nobody, or a change is pending."""
        if self.pending is not None:
            return None
        for each in replicas:
            broker_id = each.broker_id
            if each.joining and broker_id not in self.committed and may_join(broker_id):
                return self._ask((*self.committed, broker_id), broker_id)
        return None

    def _ask(self, isr: tuple[int, ...], joins: int) -> IsrChange:
        partition, topic_id, leader_epoch, partition_epoch, _ = self.state
        self.pending = IsrChange(partition, topic_id, leader_epoch, partition_epoch, isr, joins)
        return self.pending

    def answered(self, change: IsrChange, answer: IsrAnswer) -> str:
        """Take up an answer; COMMITTED, REFUSED, RETRIED, GIVEN_UP or IGNORED."""
        if change is not self.pending:
            return IGNORED
        error = answer.error
        if error == ErrorCode.NONE:
            return self._commit(answer)
        if error in _NOT_MADE:
            # The controller that says so knew the partition at our epochs, so no other can have made the change.
            self.pending = None
            return REFUSED
        return GIVEN_UP if error in _WAIT_FOR_CONTROLLER else RETRIED

    def _commit(self, answer: IsrAnswer) -> str:
        """A success tells the state; with our own partition epoch when it was so already."""
        known = self.state
        if answer.leader_epoch != known.leader_epoch or answer.partition_epoch < known.partition_epoch:
            return GIVEN_UP
        self.pending = None
        self.committed = answer.isr
        self.state = known._replace(partition_epoch=answer.partition_epoch, isr=answer.isr)
        return COMMITTED

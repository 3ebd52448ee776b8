"""Keeps the ISRs of the partitions that we lead: what the data plane tells about followers becomes requests to the
controller, and its answers become what is published.

What stays true:
- what the data plane tells is a reason to look, not a fact to act on: it may be of an older publish. A follower is
  asked to join only while the data plane counts it for the high watermark; from then on every publish says so;
- whatever is not acted on is followed by a publish, after which the data plane tells anew what is still so: when a
  change is answered, when the controller tells the state, or after RECHECK_MS. The latter also bounds how long a
  follower that may not join holds back the high watermark, and how often the controller is asked in vain;
- facts of one turn make one change: all followers that fell behind leave together.

Control thread; `send` may call its `on_answer` on any.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

from cluster.broker.grouped_log import GroupedLog
from cluster.model import NO_BROKER
from cluster.replication.alter_partition import AlterPartitions
from cluster.replication.isr import COMMITTED, GIVEN_UP, REFUSED, RETRIED, Isr, IsrAnswer, IsrChange, LedPartition
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final, Protocol
from pylog.types import TopicPartition

if TYPE_CHECKING:
    from cluster.protocol import messages as m
    from cluster.replication.isr import Replica

RECHECK_MS: Final = 500
TIMER: Final = ("isr-keeper",)

OnAnswer = Callable[["m.AlterPartitionResponse | None"], None]


class Timers(Protocol):
    """The control loop's."""

    def set(self, key: Hashable, deadline_ms: int) -> None: ...
    def cancel(self, key: Hashable) -> None: ...


class PublishedIsr(NamedTuple):
    """What the data plane is to know of a partition's ISR in every publish. `joining`: not in it, and counted for the
    high watermark like those that are."""

    isr: tuple[int, ...]
    joining: tuple[int, ...]


class IsrKeeper:
    """lag_max_ms: replica.lag.time.max.ms. send: pass a request on to the controller, in a version that it knows
    (`alter_partition.newest_version`, `in_version`), and call `on_answer` once, with None when there will be no answer.
    publish: tell the data plane, also when nothing has changed. replicas: of each partition as the data plane sees
    them; none when it is not led there. may_join: the broker is alive as far as we know."""

    def __init__(
        self,
        broker_id: int,
        lag_max_ms: int,
        *,
        send: Callable[[m.AlterPartitionRequest, OnAnswer], None],
        publish: Callable[[Sequence[tuple[TopicPartition, PublishedIsr]]], None],
        replicas: Callable[[Sequence[TopicPartition]], Sequence[Sequence[Replica]]],
        may_join: Callable[[int], bool],
        broker_epoch: Callable[[], int],
        now_ms: Callable[[], int],
        timers: Timers,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._broker_id = broker_id
        self._lag_max_ms = lag_max_ms
        self._send = send
        self._publish_all = publish
        self._replicas = replicas
        self._may_join = may_join
        self._broker_epoch = broker_epoch
        self._now_ms = now_ms
        self._timers = timers
        self._post = post
        self._changes = AlterPartitions(broker_id)
        self._led: dict[TopicPartition, Isr] = {}
        self._told_behind: dict[TopicPartition, set[int]] = {}  # of all partitions to be looked at this turn
        self._recheck: dict[TopicPartition, int] = {}
        self._unpublished: dict[
            TopicPartition, PublishedIsr
        ] = {}  # nothing is asked for, and no turn ends, before they are
        self._requests = 0
        self.shrinks = self.expands = 0  # that were committed
        self._log = Logger(f"IsrKeeper broker={broker_id}")
        self._lines = GroupedLog(f"IsrKeeper broker={broker_id}", post)

    # ------------------------------------------------------------------------------------------------- leadership

    def lead(self, state: LedPartition) -> PublishedIsr | None:
        """We lead the partition (still, or from now on), as the controller says. Returns what is to be published with
        it; None: a newer state is known, nothing is to be done."""
        partition = state.partition
        known = self._led.get(partition)
        if known is not None and not known.takes(state):
            return None
        self.cease(partition)
        self._led[partition] = Isr(self._broker_id, self._lag_max_ms, state, self._now_ms())
        return self.published(partition)

    def cease(self, partition: TopicPartition) -> None:
        """We do not lead it any more, or do not host it. Harmless when we did not."""
        self._led.pop(partition, None)
        self._told_behind.pop(partition, None)
        self._recheck.pop(partition, None)
        self._unpublished.pop(partition, None)
        self._changes.drop(partition)

    def published(self, partition: TopicPartition) -> PublishedIsr | None:
        """What is to be said of the ISR in any publish of a partition that we lead; None: we do not."""
        isr = self._led.get(partition)
        return None if isr is None else PublishedIsr(isr.committed, isr.joining)

    def partition_epoch(self, partition: TopicPartition) -> int | None:
        """As far as it is known here; None: we do not lead it."""
        isr = self._led.get(partition)
        return None if isr is None else isr.state.partition_epoch

    # ------------------------------------------------------------------------------------------------- facts

    def upcall(self, partition: TopicPartition, broker_id: int, caught_up: bool) -> None:
        """UP_ISR: a follower caught up or fell behind."""
        if partition not in self._led:
            return
        if not self._told_behind:
            self._post(self._look)
        behind = self._told_behind.setdefault(partition, set())
        if not caught_up:
            behind.add(broker_id)

    def brokers_changed(self) -> None:
        """Brokers came or went: those that could not join may be able to now."""
        for partition in list(self._recheck):
            self._tell_anew(partition)
        self._publish_changed()
        self._arm()

    def timer(self) -> None:
        """The timer TIMER is due."""
        now_ms = self._now_ms()
        for partition in [each for each, deadline_ms in self._recheck.items() if deadline_ms <= now_ms]:
            self._tell_anew(partition)
        self._send_changes()

    def _look(self) -> None:
        """At all that this turn has told of."""
        told, self._told_behind = self._told_behind, {}
        led = [self._led[partition] for partition in told if partition in self._led]
        free = [isr for isr in led if isr.pending is None]
        all_replicas = self._replicas([isr.state.partition for isr in free])
        for isr, replicas in zip(free, all_replicas, strict=True):
            self._look_at(isr, replicas, told[isr.state.partition])
        self._send_changes()

    def _look_at(self, isr: Isr, replicas: Sequence[Replica], told_behind: set[int]) -> None:
        partition = isr.state.partition
        change = isr.shrink(replicas, told_behind, self._now_ms()) or isr.expand(replicas, self._may_join)
        if change is None:
            self._recheck.setdefault(partition, self._now_ms() + RECHECK_MS)
            return
        self._recheck.pop(partition, None)
        self._lines.info("asking for another ISR", partition, isr=isr.committed, wanted=change.isr)
        if isr.joining:
            self._publish(isr)
        self._changes.submit(change)

    # ------------------------------------------------------------------------------------------------- answers

    def _send_changes(self) -> None:
        self._publish_changed()
        request = self._changes.request(self._broker_epoch(), self._now_ms())
        if request is not None:
            self._requests += 1
            self._send(request, partial(self._pass_on, self._requests))
        self._arm()

    def _pass_on(self, number: int, response: m.AlterPartitionResponse | None) -> None:
        """Any thread."""
        self._post(partial(self._answered, number, response))

    def _answered(self, number: int, response: m.AlterPartitionResponse | None) -> None:
        if number != self._requests:
            return  # a second answer to a request that had one
        self._requests += 1
        if response is not None and response.error_code:
            self._log.warn("AlterPartition refused, trying again", error=_name(response.error_code))
        for change, answer in self._changes.answered(response, self._now_ms()):
            self._settle(change, answer)
        self._send_changes()

    def _settle(self, change: IsrChange, answer: IsrAnswer) -> None:
        partition = change.partition
        isr = self._led.get(partition)
        if isr is None:
            return
        outcome = isr.answered(change, answer)
        log = self._lines
        if outcome == COMMITTED:
            log.info("ISR updated", partition, isr=isr.committed)
            if change.joins == NO_BROKER:
                self.shrinks += 1
            else:
                self.expands += 1
            self._publish(isr)
        elif outcome == REFUSED:
            log.info("ISR refused", partition, wanted=change.isr, error=_name(answer.error))
            self._recheck[partition] = self._now_ms() + RECHECK_MS
        elif outcome == RETRIED:
            log.warn("ISR not updated, trying again", partition, error=_name(answer.error))
            self._changes.retry(change, self._now_ms())
        elif outcome == GIVEN_UP:
            log.info("ISR not updated, the controller knows better", partition, error=_name(answer.error))

    def _tell_anew(self, partition: TopicPartition) -> None:
        """Have the data plane tell again what is still so; an answer that is waited for will do that too."""
        self._recheck.pop(partition, None)
        isr = self._led.get(partition)
        if isr is not None and isr.pending is None:
            self._publish(isr)

    def _publish(self, isr: Isr) -> None:
        self._unpublished[isr.state.partition] = PublishedIsr(isr.committed, isr.joining)

    def _publish_changed(self) -> None:
        changed, self._unpublished = self._unpublished, {}
        if changed:
            self._publish_all(list(changed.items()))

    def _arm(self) -> None:
        due_ms = self._changes.due_ms()
        deadlines = [*self._recheck.values(), *([] if due_ms is None else [due_ms])]
        if deadlines:
            self._timers.set(TIMER, min(deadlines))
        else:
            self._timers.cancel(TIMER)


def _name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)

"""What the control thread knows of the broker, looked at there and told about on another thread.

What stays true: the control thread is held for a slice at a time, however many groups there are, and has its other work
between slices; what a snapshot holds does not change any more, but for hosted partitions: of those only what may be
read on any thread is read.
"""

from __future__ import annotations

import threading
import time

from cluster.coordinator.group_figures import GroupSeen, look_at
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.metadata_cache import TopicMetadata
    from cluster.broker.replica_manager import Directory, HostedPartition
    from cluster.coordinator.group_coordinator import AnyGroup
    from cluster.coordinator.transaction_records import TransactionStored

#: Groups in a slice: some hundred microseconds.
_GROUPS_AT_ONCE: Final = 200


class GroupTotals(NamedTuple):
    """Since the broker started. `rebalances`: that began, by the kind of their cause."""

    rebalances: dict[str, int]
    rebalances_ended: int
    rebalance_ms: int
    offsets_committed: int


class Snapshot(NamedTuple):
    """`waited_s`: for the control thread to begin. `isr_changes`: shrinks and expands of ISRs led here; None: nothing
    is replicated. `group_totals`: None without any group since the start."""

    now_ms: int
    waited_s: float
    hosted: list[HostedPartition]
    topics: list[TopicMetadata]
    directories: list[Directory]
    brokers: int
    is_controller: bool
    isr_changes: tuple[int, int] | None
    failures: int
    groups: list[GroupSeen]
    group_totals: GroupTotals | None
    transactions: list[TransactionStored]


def take(broker: Broker, timeout_s: float) -> Snapshot:
    """Not on the control thread. Raises TimeoutError when that does not come to it in time."""
    taking = _Taking(broker)
    broker.loop.post(taking.begin)
    snapshot = taking.wait(timeout_s)
    if snapshot is None:
        raise TimeoutError(f"the control thread has been busy for {timeout_s:g} s")
    return snapshot


class _Taking:
    """Everything but `wait` on the control thread."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._posted_s = time.monotonic()
        self._waited_s = 0.0
        self._left: list[AnyGroup] = []
        self._groups: list[GroupSeen] = []
        self._snapshot: Snapshot | None = None
        self._done = threading.Event()
        self._given_up = False

    def wait(self, timeout_s: float) -> Snapshot | None:
        if not self._done.wait(timeout_s):
            self._given_up = True
        return self._snapshot

    def begin(self) -> None:
        self._waited_s = time.monotonic() - self._posted_s
        coordinators = self._broker.coordinators_in_use
        if coordinators is not None:
            self._left = coordinators.all_groups()
        self._go_on()

    def _go_on(self) -> None:
        if self._given_up:
            return
        self._groups += look_at(self._left[-_GROUPS_AT_ONCE:])
        del self._left[-_GROUPS_AT_ONCE:]
        if self._left:
            self._broker.loop.post(self._go_on)
            return
        self._snapshot = self._whole()
        self._done.set()

    def _whole(self) -> Snapshot:
        broker = self._broker
        member, coordinators = broker.member, broker.coordinators_in_use
        keeper = None if member is None else member.replication.keeper
        totals = None
        if coordinators is not None:
            counts = coordinators.group_counts
            totals = GroupTotals(dict(counts.begun), counts.ended, counts.took_ms, counts.offsets_committed)
        return Snapshot(
            now_ms=broker.now_ms(),
            waited_s=self._waited_s,
            hosted=broker.replicas.hosted(),
            topics=list(broker.metadata.topics.values()),
            directories=broker.replicas.directories(),
            brokers=len(broker.metadata.brokers),
            is_controller=member is None or member.is_controller,
            isr_changes=None if keeper is None else (keeper.shrinks, keeper.expands),
            failures=broker.loop.failures + broker.apis.failures,
            groups=self._groups,
            group_totals=totals,
            transactions=[] if coordinators is None else coordinators.all_transactions(),
        )

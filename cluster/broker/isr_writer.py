"""Writes ISRs into the tree itself, where leaders do that: inter.broker.protocol.version before 2.7.

What stays true:
- a state is written over the version that the change is about, or not at all; a write whose outcome was not told is
  done again, and one that finds its own data there was done;
- controllers hear of what was written by a notice in /isr_change_notification, some seconds later and many at once, as
  with Kafka: after LINGER_MS without another change, at the latest MAX_DELAY_MS after the last notice.

It takes the place of the controller for IsrKeeper: the request is AlterPartition's, and so is the answer. `alter` on
the control thread; the tree is read and written by `on_tree`, on threads that may wait.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

from cluster.metadata import paths
from cluster.metadata.store import BadVersion, NoNode, SetData, Stat, Store, StoreError
from cluster.model import LeaderAndIsr
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final, Protocol
from pylog.types import TopicPartition

if TYPE_CHECKING:
    from cluster.broker.isr_keeper import OnAnswer

CHECK_MS: Final = 2_500
LINGER_MS: Final = 5_000
MAX_DELAY_MS: Final = 60_000
TIMER: Final = ("isr-writer",)

_PARTITIONS_PER_NOTICE: Final = 2_000  # far below what a node may hold
_RECOVERED: Final = 0


class Timers(Protocol):
    """The control loop's."""

    def set(self, key: Hashable, deadline_ms: int) -> None: ...


class IsrWriter:
    """store: of the session there is now. controller_epoch: of the controller that we obey."""

    def __init__(
        self,
        broker_id: int,
        *,
        store: Callable[[], Store],
        controller_epoch: Callable[[], int],
        on_tree: Callable[[Callable[[], None]], None],
        now_ms: Callable[[], int],
        timers: Timers,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._broker_id = broker_id
        self._store = store
        self._controller_epoch = controller_epoch
        self._on_tree = on_tree
        self._now_ms = now_ms
        self._timers = timers
        self._post = post
        self._changed: dict[TopicPartition, None] = {}
        self._last_change_ms = self._last_notice_ms = now_ms()
        self._log = Logger(f"IsrWriter broker={broker_id}")

    def alter(self, request: m.AlterPartitionRequest, on_answer: OnAnswer) -> None:
        """Write what is asked for. `on_answer` on any thread; None: it is not known what was written."""
        self._on_tree(partial(self._write, _wanted(request, self._controller_epoch()), on_answer))

    def timer(self) -> None:
        """The timer TIMER is due: leave a notice, unless more is likely to come."""
        if not self._changed:
            return
        now_ms = self._now_ms()
        if self._last_change_ms + LINGER_MS < now_ms or self._last_notice_ms + MAX_DELAY_MS < now_ms:
            changed, self._changed = list(self._changed), {}
            self._last_notice_ms = now_ms
            self._on_tree(partial(self._leave_notices, changed))
        else:
            self._timers.set(TIMER, now_ms + CHECK_MS)

    # Threads of the tree ---------------------------------------------------------------------------------------------

    def _write(self, wanted: Sequence[tuple[TopicPartition, LeaderAndIsr]], on_answer: OnAnswer) -> None:
        writes = [
            [SetData(paths.partition_state(*name), paths.encode_partition_state(state), state.version)]
            for name, state in wanted
        ]
        try:
            written = self._store().multi_many(writes)
            states = [self._outcome(*each, result) for each, result in zip(wanted, written, strict=True)]
        except StoreError as error:
            self._log.warn("ISRs are not known to be written", why=error)
            on_answer(None)
            return
        changed = [name for (name, _), state in zip(wanted, states, strict=True) if state is not None]
        self._post(partial(self._note, changed))
        on_answer(_response([(name, state) for (name, _), state in zip(wanted, states, strict=True)]))

    def _outcome(
        self, name: TopicPartition, wanted: LeaderAndIsr, result: Sequence[object] | StoreError
    ) -> LeaderAndIsr | None:
        """The state as it was written; None: somebody else has written another one. Raises StoreError."""
        if isinstance(result, NoNode):
            return None
        if isinstance(result, BadVersion):
            try:
                data, stat = self._store().get(paths.partition_state(*name))
                found = paths.decode_partition_state(data, stat.version)
            except (NoNode, ValueError):
                return None
            return found if found == wanted._replace(version=found.version) else None
        if isinstance(result, StoreError):
            raise result
        (done,) = result
        assert isinstance(done, Stat)
        return wanted._replace(version=done.version)

    def _leave_notices(self, changed: Sequence[TopicPartition]) -> None:
        done = 0
        try:
            while done < len(changed):
                some = changed[done : done + _PARTITIONS_PER_NOTICE]
                notice = paths.IsrChange(tuple((name, index) for name, index in some))
                self._store().create(paths.ISR_CHANGE_PREFIX, notice.encode(), sequential=True)
                done += len(some)
        except StoreError as error:
            self._log.warn("controller is not told of changed ISRs yet", why=error)
            self._post(partial(self._note, changed[done:]))

    # The control thread ----------------------------------------------------------------------------------------------

    def _note(self, changed: Sequence[TopicPartition]) -> None:
        """The controller is to hear of these."""
        if not changed:
            return
        if not self._changed:
            self._timers.set(TIMER, self._now_ms() + CHECK_MS)
        self._changed.update(dict.fromkeys(changed))
        self._last_change_ms = self._now_ms()


def _wanted(request: m.AlterPartitionRequest, controller_epoch: int) -> list[tuple[TopicPartition, LeaderAndIsr]]:
    return [
        (
            TopicPartition(topic.topic_name, each.partition_index),
            LeaderAndIsr(
                request.broker_id,
                each.leader_epoch,
                tuple(state.broker_id for state in each.new_isr_with_epochs),
                controller_epoch,
                each.partition_epoch,
            ),
        )
        for topic in request.topics
        for each in topic.partitions
    ]


def _response(states: Sequence[tuple[TopicPartition, LeaderAndIsr | None]]) -> m.AlterPartitionResponse:
    said = m.AlterPartitionResponse
    topics: dict[str, list[m.AlterPartitionResponse.PartitionData]] = {}
    for name, state in states:
        if state is None:
            told = said.PartitionData(partition_index=name.partition, error_code=int(ErrorCode.INVALID_UPDATE_VERSION))
        else:
            told = said.PartitionData(
                partition_index=name.partition,
                leader_id=state.leader,
                leader_epoch=state.leader_epoch,
                isr=list(state.isr),
                leader_recovery_state=_RECOVERED,
                partition_epoch=state.version,
            )
        topics.setdefault(name.topic, []).append(told)
    return said(topics=[said.TopicData(topic_name=name, partitions=told) for name, told in topics.items()])

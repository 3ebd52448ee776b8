"""Which replicas are throttled, and how far: `leader.` and `follower.replication.throttled.replicas` of topics, and the
rates of the broker.

What stays true: the data plane has the marks of every hosted partition that was told of here; it is told only what has
changed. Rates bind marked partitions and nothing else. Control thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from cluster.replication.placement import is_throttled
from pylog.typed import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pylog.config import LogConfig

_NO_LIMIT: Final = -1
_NEITHER: Final = (False, False)


class ThrottlingEngine(Protocol):
    """The engine's functions for throttling; see pylog/_engine.py."""

    def mark_throttled(self, partitions: Sequence[int], *, leading: bool, following: bool) -> None: ...
    def throttle_replication(self, leader_rate: int, follower_rate: int) -> None: ...


class ReplicationThrottle:
    def __init__(self, broker_id: int, engine: ThrottlingEngine) -> None:
        self._broker_id = broker_id
        self._engine = engine
        self._rates = (_NO_LIMIT, _NO_LIMIT)
        self._marks: dict[int, tuple[bool, bool]] = {}  # of those that are marked, by the engine's number

    def limit(self, leader_rate: int | None, follower_rate: int | None) -> None:
        """`leader.` and `follower.replication.throttled.rate`, bytes per second; None: no limit."""
        rates = (
            _NO_LIMIT if leader_rate is None else leader_rate,
            _NO_LIMIT if follower_rate is None else follower_rate,
        )
        if rates != self._rates:
            self._rates = rates
            self._engine.throttle_replication(*rates)

    def configure(self, config: LogConfig, hosted: Iterable[tuple[int, int]]) -> None:
        """What a topic says of its partitions. hosted: index and engine's number of those that are here."""
        leading, following = (
            config.leader_replication_throttled_replicas,
            config.follower_replication_throttled_replicas,
        )
        changed: dict[tuple[bool, bool], list[int]] = {}
        for index, number in hosted:
            named = partial(is_throttled, partition=index, broker_id=self._broker_id)
            marks = (named(leading), named(following)) if leading or following else _NEITHER
            if marks != self._marks.get(number, _NEITHER):
                changed.setdefault(marks, []).append(number)
                self._marks[number] = marks
                if marks == _NEITHER:
                    del self._marks[number]
        for marks, numbers in changed.items():
            self._engine.mark_throttled(numbers, leading=marks[0], following=marks[1])

    def forget(self, numbers: Iterable[int]) -> None:
        """These are not hosted any more."""
        for number in numbers:
            self._marks.pop(number, None)

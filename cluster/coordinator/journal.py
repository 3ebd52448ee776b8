"""What a group went through lately: its rebalances with when, why, who and how long.

What stays true:
  - it is soft state: nothing of it is written anywhere, and the next coordinator begins with an empty one;
  - it costs nothing per heartbeat, and per group no more than `KEPT` rebalances with `KEPT_CAUSES` causes each; the
    oldest rebalance goes first, while of the causes the first ones stay, since they say why it began;
  - at most one rebalance is under way, and it is the last one.

    begin --> (happened ...) --> joined --> end      STABLE or EMPTY
      ^                                      |
      +---- another `begin`: the one under way is INTERRUPTED
"""

from __future__ import annotations

from collections.abc import Container

from cluster.protocol import messages as m
from pylog.facts import NamedTuple

KEPT = 32
KEPT_CAUSES = 8

# How a rebalance ended; while it is under way it has not.
UNDER_WAY = ""
STABLE = "stable"
EMPTY = "empty"
INTERRUPTED = "interrupted"

_NOT_YET = -1
_LONGEST_MS = 0x7FFFFFFF


class Cause(NamedTuple):
    """Why a rebalance began, or what happened in its course. `kind`: one word of those below, to count by; `text`:
    the whole sentence, for the log. The next fields say who, and are empty when it was nobody in particular; `reason`:
    what that one gave for it, if anything."""

    kind: str
    text: str
    member_id: str = ""
    client_id: str = ""
    client_host: str = ""
    reason: str = ""


JOINED = "joined"
LEFT = "left"
EXPIRED = "expired"
LEADER_REJOINED = "leader-rejoined"
SUBSCRIPTION_CHANGED = "subscription-changed"
STATIC_REPLACED = "static-replaced"
NOT_JOINED = "not-joined"
NOT_SYNCED = "not-synced"
NOT_REVOKED = "not-revoked"
TOPICS_CHANGED = "topics-changed"
CONVERTED = "converted"
NOT_STORED = "not-stored"
TOO_LARGE = "too-large"


class Rebalance:
    """One rebalance. `generation` and `members`: what it led to, or has led to so far. `joined_ms`: when everybody had
    joined; `ended_ms`: when the group had its assignment; -1: not yet. `omitted`: causes that found no room."""

    __slots__ = ("begun_ms", "causes", "ended_ms", "generation", "joined_ms", "members", "omitted", "outcome")

    def __init__(self, generation: int, members: int, now_ms: int) -> None:
        self.begun_ms = now_ms
        self.joined_ms = _NOT_YET
        self.ended_ms = _NOT_YET
        self.outcome = UNDER_WAY
        self.generation = generation
        self.members = members
        self.causes: list[tuple[int, Cause]] = []
        self.omitted = 0

    @property
    def took_ms(self) -> int:
        return _between(self.begun_ms, self.ended_ms)

    @property
    def joining_ms(self) -> int:
        """How long it waited for the members to join."""
        return _between(self.begun_ms, self.joined_ms)

    def add(self, cause: Cause, now_ms: int) -> None:
        if len(self.causes) < KEPT_CAUSES:
            self.causes.append((now_ms, cause))
        else:
            self.omitted += 1


class GroupCounts:
    """Of all groups of a coordinator since it started. Rebalances: `begun`, by the kind of the first cause; `ended`;
    `took_ms`, what these took all together. `offsets_committed`: answered so by the coordinator, or written by the data
    plane."""

    __slots__ = ("begun", "ended", "offsets_committed", "took_ms")

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.offsets_committed = 0
        self.ended = 0
        self.took_ms = 0


class Journal:
    """The rebalances of one group, oldest first."""

    __slots__ = ("_counts", "_kept")

    def __init__(self, counts: GroupCounts) -> None:
        self._counts = counts
        self._kept: list[Rebalance] = []

    def begin(self, cause: Cause, generation: int, members: int, now_ms: int) -> None:
        """A rebalance begins."""
        self.interrupt(now_ms)
        rebalance = Rebalance(generation, members, now_ms)
        rebalance.add(cause, now_ms)
        if len(self._kept) == KEPT:
            del self._kept[0]
        self._kept.append(rebalance)
        self._counts.begun[cause.kind] = self._counts.begun.get(cause.kind, 0) + 1

    def happened(self, cause: Cause, now_ms: int) -> None:
        """Something that would have begun a rebalance, had none been under way."""
        running = self._running()
        if running is not None:
            running.add(cause, now_ms)

    def joined(self, generation: int, members: int, now_ms: int) -> None:
        """Everybody has joined who will: a generation begins."""
        running = self._running()
        if running is not None:
            running.joined_ms = now_ms
            running.generation, running.members = generation, members

    def end(self, outcome: str, now_ms: int) -> Rebalance | None:
        """The rebalance under way is over. None: there is none."""
        running = self._running()
        if running is not None:
            running.ended_ms, running.outcome = now_ms, outcome
            self._counts.ended += 1
            self._counts.took_ms += running.took_ms
        return running

    def interrupt(self, now_ms: int) -> None:
        """If one is under way, nothing is to come of it."""
        running = self._running()
        if running is not None:
            running.ended_ms, running.outcome = now_ms, INTERRUPTED

    def told(self, most: int) -> list[m.DescribeGroupsResponse.Rebalance]:
        """The last `most` rebalances in the words of DescribeGroups, oldest first."""
        return [_told(each) for each in self._kept[max(0, len(self._kept) - most) :]]

    def _running(self) -> Rebalance | None:
        return self._kept[-1] if self._kept and self._kept[-1].outcome == UNDER_WAY else None


class Journals:
    """Those of the groups of a shard. A group that becomes one of the other protocol keeps its own."""

    __slots__ = ("_by_group", "counts")

    def __init__(self, counts: GroupCounts) -> None:
        self.counts = counts
        self._by_group: dict[str, Journal] = {}

    def of(self, group_id: str) -> Journal:
        kept = self._by_group.get(group_id)
        if kept is None:
            kept = self._by_group[group_id] = Journal(self.counts)
        return kept

    def retain(self, groups: Container[str]) -> None:
        """Forget those of groups that are no more."""
        self._by_group = {group_id: kept for group_id, kept in self._by_group.items() if group_id in groups}


def _told(rebalance: Rebalance) -> m.DescribeGroupsResponse.Rebalance:
    return m.DescribeGroupsResponse.Rebalance(
        begun_ms=rebalance.begun_ms,
        joining_ms=rebalance.joining_ms,
        took_ms=rebalance.took_ms,
        outcome=rebalance.outcome,
        generation=rebalance.generation,
        members=rebalance.members,
        omitted=rebalance.omitted,
        causes=[
            m.DescribeGroupsResponse.RebalanceCause(
                at_ms=at_ms,
                kind=cause.kind,
                member_id=cause.member_id,
                client_id=cause.client_id,
                client_host=cause.client_host,
                reason=cause.reason,
            )
            for at_ms, cause in rebalance.causes
        ],
    )


def _between(first_ms: int, last_ms: int) -> int:
    return _NOT_YET if last_ms == _NOT_YET else min(max(0, last_ms - first_ms), _LONGEST_MS)

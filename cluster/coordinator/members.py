"""Who is in a group: its members, their protocols, the static ones, the leader.

What stays true:
  - a static member's instance id maps to exactly one member, and that member carries it;
  - `_support` counts for each protocol name the members that offer it, so a protocol everyone offers is found without
    walking the group;
  - `joining_count` is the number of members with a parked JoinGroup;
  - a group with members has a leader, one without has none. Members keep the order in which they came, and where Kafka
    picks any member (a new leader, the winner of a tied vote) this picks the first.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.coordinator.context import RequestContext
from pylog.facts import NamedTuple


class Attempt(NamedTuple):
    """A JoinGroup as every version of it says it. `protocols`: name -> metadata, the one liked best first."""

    ctx: RequestContext
    member_id: str
    instance_id: str | None
    protocol_type: str
    protocols: dict[str, bytes]
    rebalance_timeout_ms: int
    session_timeout_ms: int
    reason: str


class Member:
    """One member. `deadline_ms`: when its session ends; `armed_ms`: when its timer fires, never later; 0: no timer."""

    __slots__ = (
        "armed_ms",
        "assignment",
        "client_host",
        "client_id",
        "deadline_ms",
        "instance_id",
        "is_new",
        "joining",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "syncing",
    )

    def __init__(
        self,
        *,
        member_id: str,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: dict[str, bytes],
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        self.assignment = assignment
        self.joining: RequestContext | None = None
        self.syncing: RequestContext | None = None
        self.is_new = False  # has not yet been in a generation, so it cannot heartbeat
        self.deadline_ms = 0
        self.armed_ms = 0

    def offers(self, protocols: dict[str, bytes]) -> bool:
        """Whether these are its protocols as they stand, in the same order of preference."""
        return list(self.protocols.items()) == list(protocols.items())

    def vote(self, candidates: set[str]) -> str:
        return next(name for name in self.protocols if name in candidates)


class Members:
    __slots__ = ("_by_id", "_static", "_support", "joining_count", "leader")

    def __init__(self) -> None:
        self._by_id: dict[str, Member] = {}
        self._static: dict[str, str] = {}
        self._support: dict[str, int] = {}
        self.joining_count = 0
        self.leader: str | None = None

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._by_id.values()))

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._by_id

    def get(self, member_id: str) -> Member | None:
        return self._by_id.get(member_id)

    def static_id(self, instance_id: str) -> str | None:
        """The member that holds an instance id now."""
        return self._static.get(instance_id)

    def add(self, member: Member) -> None:
        assert member.member_id not in self._by_id
        if member.instance_id is not None:
            assert member.instance_id not in self._static
            self._static[member.instance_id] = member.member_id
        self._by_id[member.member_id] = member
        self._count(member.protocols, 1)
        if self.leader is None:
            self.leader = member.member_id

    def remove(self, member: Member) -> None:
        """Take a member out. Its parked requests must have been answered."""
        assert member.joining is None
        assert member.syncing is None
        del self._by_id[member.member_id]
        self._count(member.protocols, -1)
        if member.instance_id is not None:
            del self._static[member.instance_id]
        if self.leader == member.member_id:
            self.leader = next(iter(self._by_id), None)

    def rename(self, member: Member, new_id: str) -> None:
        """A static member came back under a new member id; its place, and the lead if it had it, go along."""
        assert member.instance_id is not None
        old_id = member.member_id
        assert new_id not in self._by_id
        member.member_id = new_id
        self._by_id = {m.member_id: m for m in self._by_id.values()}
        self._static[member.instance_id] = new_id
        if self.leader == old_id:
            self.leader = new_id

    def update(
        self, member: Member, protocols: dict[str, bytes], *, rebalance_timeout_ms: int, session_timeout_ms: int
    ) -> None:
        self._count(member.protocols, -1)
        member.protocols = protocols
        self._count(protocols, 1)
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms

    def park_join(self, member: Member, ctx: RequestContext) -> RequestContext | None:
        """Hold a JoinGroup back. Returns the one it takes the place of: that must be answered too."""
        superseded = member.joining
        if superseded is None:
            self.joining_count += 1
        member.joining = ctx
        return superseded

    def take_join(self, member: Member) -> RequestContext | None:
        parked = member.joining
        if parked is not None:
            member.joining = None
            self.joining_count -= 1
        return parked

    def have_all_joined(self) -> bool:
        return self.joining_count == len(self._by_id)

    def elect_joined_leader(self) -> bool:
        """Keep the leader if it has joined, else take the first member that has. False: nobody has."""
        if self.leader is None:
            return False
        if self._by_id[self.leader].joining is None:
            joined = next((m.member_id for m in self._by_id.values() if m.joining is not None), None)
            if joined is None:
                return False
            self.leader = joined
        return True

    def support(self, protocols: dict[str, bytes]) -> bool:
        """Whether one of these protocols is offered by every member there is."""
        return any(self._support.get(name, 0) == len(self._by_id) for name in protocols)

    def vote(self) -> str:
        """The protocol that most members like best, of those that all of them offer."""
        candidates = {name for name, count in self._support.items() if count == len(self._by_id)}
        votes: dict[str, int] = {}
        for member in self._by_id.values():
            name = member.vote(candidates)
            votes[name] = votes.get(name, 0) + 1
        return max(votes, key=votes.__getitem__)

    def rebalance_timeout_ms(self) -> int:
        """How long a rebalance waits for its slowest member."""
        return max((m.rebalance_timeout_ms for m in self._by_id.values()), default=0)

    def _count(self, protocols: dict[str, bytes], delta: int) -> None:
        for name in protocols:
            count = self._support.get(name, 0) + delta
            if count:
                self._support[name] = count
            else:
                del self._support[name]

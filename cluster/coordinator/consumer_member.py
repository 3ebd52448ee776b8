"""One member of a group of the consumer protocol (KIP-848): a fact that is replaced, never changed.

What stays true: `assigned` and `revoking` share no partition; together they are what nobody else may be given. A member
of the classic protocol in such a group carries what its JoinGroup said in `classic`.
"""

from __future__ import annotations

from enum import IntEnum

from pylog.facts import NamedTuple
from pylog.typed import TypeAlias

Target: TypeAlias = dict[bytes, frozenset[int]]
"""Topic id -> partitions that a member is to have. Records list them in the order of the dict: in Kafka's, of what the
assignor made."""

Owned: TypeAlias = dict[bytes, dict[int, int]]
"""Topic id -> partition -> the epoch at which the member got it."""

JOINING_EPOCH = 0
LEAVING_EPOCH = -1
LEAVING_FOR_A_WHILE_EPOCH = -2
"""Of a static member: it left, its instance id is expected back, its partitions stay its own."""


class MemberState(IntEnum):
    STABLE = 0  # it has all it is to have, at its epoch
    UNREVOKED_PARTITIONS = 1  # it has been told to give partitions up, and did not say yet that it has
    UNRELEASED_PARTITIONS = 2  # it waits for partitions that others have not given up yet
    UNKNOWN = 127  # written by a later version


class ClassicProtocols(NamedTuple):
    """What a member of the classic protocol brought along; `protocols`: name and metadata, the one liked best first."""

    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]


class ConsumerMember(NamedTuple):
    """`topic_regex`: "" none. `assignor`: None: whatever the group takes. `rebalance_timeout_ms`: -1 not known yet."""

    member_id: str
    epoch: int = 0
    previous_epoch: int = -1
    instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    client_id: str = ""
    client_host: str = ""
    topics: frozenset[str] = frozenset()
    topic_regex: str = ""
    assignor: str | None = None
    state: MemberState = MemberState.STABLE
    assigned: Owned = {}
    revoking: Owned = {}
    classic: ClassicProtocols | None = None

    def moved(
        self, epoch: int, previous_epoch: int, state: MemberState, assigned: Owned, revoking: Owned
    ) -> ConsumerMember:
        """The same somewhere else on its way."""
        _, _, _, instance_id, rack_id, timeout_ms, client_id, host, topics, regex, assignor, _, _, _, classic = self
        return ConsumerMember(
            self.member_id,
            epoch,
            previous_epoch,
            instance_id,
            rack_id,
            timeout_ms,
            client_id,
            host,
            topics,
            regex,
            assignor,
            state,
            assigned,
            revoking,
            classic,
        )

    def at_epoch(self, epoch: int, state: MemberState, assigned: Owned, revoking: Owned) -> ConsumerMember:
        """The same after a step; it remembers the epoch before."""
        return self.moved(epoch, self.epoch, state, assigned, revoking)

    def is_reconciled_to(self, epoch: int) -> bool:
        return self.state is MemberState.STABLE and self.epoch == epoch

    def owned(self) -> Owned:
        """All that nobody else may be given."""
        return {
            topic_id: self.assigned.get(topic_id, {}) | self.revoking.get(topic_id, {})
            for topic_id in (*self.assigned, *self.revoking)
        }

    def since(self, topic_id: bytes, partition: int) -> int | None:
        """The epoch at which it got a partition that it has or is giving up; None: it is not its own."""
        epoch = self.assigned.get(topic_id, {}).get(partition)
        return self.revoking.get(topic_id, {}).get(partition) if epoch is None else epoch

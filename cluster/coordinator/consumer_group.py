"""One group of the consumer protocol (KIP-848): what its records say, and what follows from them.

What stays true:
  - everything here but `offsets` comes from records, through `apply`; requests are decided upon in
    `consumer_heartbeat.py` and `consumer_classic.py`, which change nothing;
  - `epoch` >= `assignment_epoch` >= the epoch of each member that is not joining or gone for a while;
  - a partition has one owner: the member that has it or is giving it up. While a shard is loaded compacted records may
    say otherwise for a moment; the last one counts.

The state follows from the members:

    Empty        no members
    Assigning    the group's epoch is ahead of the target assignments
    Reconciling  some member has not all it is to have
    Stable       everybody has
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from cluster.coordinator.consumer_member import LEAVING_EPOCH, ConsumerMember, MemberState, Target
from cluster.coordinator.consumer_records import (
    ConsumerFact,
    CurrentDeleted,
    CurrentStored,
    GroupEpoch,
    GroupEpochDeleted,
    MemberDeleted,
    MemberStored,
    PartitionsKnown,
    PartitionsKnownDeleted,
    RegexDeleted,
    RegexResolved,
    TargetDeleted,
    TargetEpoch,
    TargetEpochDeleted,
    TargetStored,
    current_of,
)
from cluster.coordinator.group_state import GroupState
from cluster.coordinator.hash_order import grown_table, hash_order, string_hash
from cluster.coordinator.offsets import Offsets
from cluster.coordinator.subscription import CONSUMER_PROTOCOL_TYPE
from pylog.errors import ErrorCode
from pylog.typed import TypeVar

Name = TypeVar("Name")

_NOTHING: Target = {}
_NOBODY: Mapping[int, str] = {}
EPOCHS_SINCE = 9  # of OffsetCommit
_FIRST_EPOCH = 1  # 0 is that of members who join


class ConsumerGroup:
    """`topic_readers`, `regex_readers`, `assignor_users`: how many members name each. `verified`: the version of the
    metadata for which `metadata_hash` is known to be right, with the epoch at which that was found; -1: none."""

    __slots__ = (
        "_owners",
        "_stable",
        "_static",
        "_target_owners",
        "assignment_epoch",
        "assignment_ms",
        "assignor_users",
        "classic_count",
        "classic_protocols",
        "epoch",
        "group_id",
        "has_partitions_record",
        "is_dead",
        "members",
        "metadata_hash",
        "offsets",
        "regex_readers",
        "regexes",
        "targets",
        "topic_readers",
        "verified",
    )
    protocol_type = CONSUMER_PROTOCOL_TYPE

    def __init__(self, group_id: str, offsets: Offsets | None = None) -> None:
        self.group_id = group_id
        self.offsets = Offsets() if offsets is None else offsets
        self.epoch = _FIRST_EPOCH
        self.metadata_hash = 0
        self.has_partitions_record = False
        self.assignment_epoch = _FIRST_EPOCH
        self.assignment_ms = 0
        self.members: dict[str, ConsumerMember] = {}
        self.targets: dict[str, Target] = {}
        self.regexes: dict[str, RegexResolved] = {}
        self.topic_readers: dict[str, int] = {}
        self.regex_readers: dict[str, int] = {}
        self.assignor_users: dict[str, int] = {}
        self.classic_count = 0
        self.classic_protocols: dict[str, int] = {}
        self.verified = (-1, 0)
        self.is_dead = False
        self._stable: dict[int, int] = {}  # by epoch, how many members in it are stable
        self._static: dict[str, str] = {}
        self._owners: dict[tuple[bytes, int], str] = {}
        self._target_owners: dict[bytes, dict[int, str]] = {}  # topics of which nobody is to have anything are not kept

    def copy(self) -> ConsumerGroup:
        """One that goes its own way by what is applied to it; offsets are not copied."""
        other = ConsumerGroup(self.group_id, self.offsets)
        other.epoch = self.epoch
        other.metadata_hash = self.metadata_hash
        other.has_partitions_record = self.has_partitions_record
        other.assignment_epoch = self.assignment_epoch
        other.assignment_ms = self.assignment_ms
        other.members = self.members.copy()
        other.targets = self.targets.copy()
        other.regexes = self.regexes.copy()
        other.topic_readers = self.topic_readers.copy()
        other.regex_readers = self.regex_readers.copy()
        other.assignor_users = self.assignor_users.copy()
        other.classic_count = self.classic_count
        other.classic_protocols = self.classic_protocols.copy()
        other.verified = self.verified
        other.is_dead = self.is_dead
        other._stable = self._stable.copy()
        other._static = self._static.copy()
        other._owners = self._owners.copy()
        other._target_owners = {topic_id: owners.copy() for topic_id, owners in self._target_owners.items()}
        return other

    # What follows -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> GroupState:
        if self.is_dead:
            return GroupState.DEAD
        if not self.members:
            return GroupState.EMPTY
        if self.epoch > self.assignment_epoch:
            return GroupState.ASSIGNING
        return (
            GroupState.STABLE
            if self._stable.get(self.assignment_epoch) == len(self.members)
            else GroupState.RECONCILING
        )

    @property
    def subscribed(self) -> frozenset[str]:
        """The topics that are read, by name or because they match."""
        names = set(self.topic_readers)
        for regex in self.regex_readers:
            if regex in self.regexes:
                names |= self.regexes[regex].topics
        return frozenset(names)

    def reads(self, topic: str) -> bool:
        return topic in self.subscribed

    def static_member(self, instance_id: str | None) -> ConsumerMember | None:
        member_id = None if instance_id is None else self._static.get(instance_id)
        return None if member_id is None else self.members.get(member_id)

    def is_owned(self, topic_id: bytes, partition: int) -> bool:
        return (topic_id, partition) in self._owners

    def owner(self, topic_id: bytes, partition: int) -> str | None:
        return self._owners.get((topic_id, partition))

    def targeted(self, topic_id: bytes) -> Mapping[int, str]:
        """The partitions that somebody is to have."""
        return self._target_owners.get(topic_id, _NOBODY)

    def target(self, member: ConsumerMember) -> Target:
        """What a member is to have; for a static one that came back, what its predecessor was to have."""
        found = self.targets.get(member.member_id)
        if found is None:
            before = self.static_member(member.instance_id)
            found = None if before is None else self.targets.get(before.member_id)
        return _NOTHING if found is None else found

    def preferred_assignor(self, default: str, users: dict[str, int] | None = None) -> str:
        """What most members ask for."""
        counts = self.assignor_users if users is None else users
        best, most = default, 0
        for name in hash_order(counts, string_hash, grown_table(len(counts))):
            if counts[name] > most:
                best, most = name, counts[name]
        return best

    def supports_classic(self, protocol_type: str, names: list[str]) -> bool:
        """Whether somebody of the classic protocol may join with these."""
        if protocol_type != CONSUMER_PROTOCOL_TYPE:
            return False
        if not self.members:
            return bool(names)
        return any(self.classic_protocols.get(name, 0) == self.classic_count for name in names)

    def waits_for_others(self, member: ConsumerMember) -> bool:
        """Whether some of what a member is still to get is somebody's."""
        if member.state is not MemberState.UNRELEASED_PARTITIONS:
            return False
        return any(
            partition not in member.assigned.get(topic_id, ()) and self.is_owned(topic_id, partition)
            for topic_id, partitions in self.targets.get(member.member_id, _NOTHING).items()
            for partition in partitions
        )

    def tombstones(self) -> list[ConsumerFact]:
        """What makes it go; in this order."""
        group_id = self.group_id
        facts: list[ConsumerFact] = [CurrentDeleted(group_id, member_id) for member_id in self.members]
        facts += [TargetDeleted(group_id, member_id) for member_id in self.members]
        facts.append(TargetEpochDeleted(group_id))
        facts += [MemberDeleted(group_id, member_id) for member_id in self.members]
        facts += [RegexDeleted(group_id, regex) for regex in self.regexes]
        facts += [PartitionsKnownDeleted(group_id), GroupEpochDeleted(group_id)]
        return facts

    def records(self) -> list[ConsumerFact]:
        """What makes it be."""
        group_id = self.group_id
        facts: list[ConsumerFact] = [MemberStored(group_id, member) for member in self.members.values()]
        facts.append(GroupEpoch(group_id, self.epoch, self.metadata_hash))
        facts += [TargetStored(group_id, each, self.targets.get(each, _NOTHING)) for each in self.members]
        facts.append(TargetEpoch(group_id, self.assignment_epoch, self.assignment_ms))
        facts += [current_of(group_id, member) for member in self.members.values()]
        return facts

    # As any group -------------------------------------------------------------------------------------------------

    def is_idle(self) -> bool:
        return not self.members

    def mark_deleted(self) -> None:
        self.is_dead = True

    def unmark_deleted(self) -> None:
        """The deletion was not written."""
        self.is_dead = False

    def check_commit(
        self, epoch: int, member_id: str, instance_id: str | None, *, api_version: int, transactional: bool = False
    ) -> ErrorCode:
        """Whether this sender may commit offsets now; with an epoch behind the member's, perhaps (`check_since`)."""
        if self.is_dead:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        if epoch < 0 and not self.members:
            return ErrorCode.NONE
        if transactional and epoch == -1 and not member_id and instance_id is None:
            return ErrorCode.NONE
        member = self.members.get(member_id)
        if member is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if member.classic is None and not transactional and api_version < EPOCHS_SINCE:
            return ErrorCode.UNSUPPORTED_VERSION
        return self._stale(member, transactional=transactional) if epoch > member.epoch else ErrorCode.NONE

    def check_since(
        self, epoch: int, member_id: str, partitions: Iterable[tuple[bytes | None, int]], *, transactional: bool = False
    ) -> ErrorCode:
        """Whether all of these have been the member's since the epoch that it names, or longer."""
        member = self.members.get(member_id)
        if member is None or epoch >= member.epoch:
            return ErrorCode.NONE
        for topic_id, partition in partitions:
            since = None if topic_id is None else member.since(topic_id, partition)
            if since is None or epoch < since:
                return self._stale(member, transactional=transactional)
        return ErrorCode.NONE

    def check_fetch(self, epoch: int, member_id: str | None) -> ErrorCode:
        """Whether this sender may be told offsets. Who names no member may."""
        if member_id is None and epoch < 0:
            return ErrorCode.NONE
        member = None if member_id is None else self.members.get(member_id)
        if member is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.NONE if epoch == member.epoch else self._stale(member)

    @staticmethod
    def _stale(member: ConsumerMember, *, transactional: bool = False) -> ErrorCode:
        is_classic = member.classic is not None or transactional
        return ErrorCode.ILLEGAL_GENERATION if is_classic else ErrorCode.STALE_MEMBER_EPOCH

    # Records ------------------------------------------------------------------------------------------------------

    def apply(self, fact: ConsumerFact) -> None:
        """One record of this group but the one that deletes it."""
        _APPLY[type(fact)](self, fact)

    def _epoch(self, fact: GroupEpoch) -> None:
        self.epoch = fact.epoch
        self.metadata_hash = fact.metadata_hash

    def _partitions_known(self, fact: PartitionsKnown) -> None:
        self.has_partitions_record = True

    def _partitions_known_deleted(self, fact: PartitionsKnownDeleted) -> None:
        self.has_partitions_record = False

    def _member(self, fact: MemberStored) -> None:
        told = fact.member
        member = self.members.get(told.member_id, ConsumerMember(told.member_id))
        self.put(
            told._replace(
                epoch=member.epoch,
                previous_epoch=member.previous_epoch,
                state=member.state,
                assigned=member.assigned,
                revoking=member.revoking,
            )
        )

    def _member_deleted(self, fact: MemberDeleted) -> None:
        member = self.members.pop(fact.member_id, None)
        if member is None:
            return
        self._count(member, -1)
        self._disown(member)
        if member.instance_id is not None and self._static.get(member.instance_id) == member.member_id:
            del self._static[member.instance_id]

    def _target_epoch(self, fact: TargetEpoch) -> None:
        self.set_assignment(fact.epoch, fact.made_ms)

    def _target_epoch_deleted(self, fact: TargetEpochDeleted) -> None:
        self.set_assignment(_FIRST_EPOCH, 0)

    def _target(self, fact: TargetStored) -> None:
        self._drop_target(fact.member_id)
        self.targets[fact.member_id] = fact.partitions
        for topic_id, partitions in fact.partitions.items():
            self._target_owners.setdefault(topic_id, {}).update(dict.fromkeys(partitions, fact.member_id))

    def _target_deleted(self, fact: TargetDeleted) -> None:
        self._drop_target(fact.member_id)

    def _current(self, fact: CurrentStored) -> None:
        member = self.members.get(fact.member_id)
        if member is None:
            self.put(
                ConsumerMember(
                    fact.member_id,
                    fact.epoch,
                    fact.previous_epoch,
                    state=fact.state,
                    assigned=fact.assigned,
                    revoking=fact.revoking,
                )
            )
            return
        after = member.moved(fact.epoch, fact.previous_epoch, fact.state, fact.assigned, fact.revoking)
        self.members[fact.member_id] = after
        for each, delta in ((member, -1), (after, 1)):
            if each.state is MemberState.STABLE:
                add(self._stable, each.epoch, delta)
        self._disown(member)
        self._own(after)

    def _current_deleted(self, fact: CurrentDeleted) -> None:
        member = self.members.get(fact.member_id)
        if member is not None:
            gone = member._replace(epoch=LEAVING_EPOCH, previous_epoch=LEAVING_EPOCH, assigned={}, revoking={})
            self.put(gone)

    def _regex(self, fact: RegexResolved) -> None:
        self.regexes[fact.regex] = fact

    def _regex_deleted(self, fact: RegexDeleted) -> None:
        self.regexes.pop(fact.regex, None)

    # Parts --------------------------------------------------------------------------------------------------------

    def set_assignment(self, epoch: int, made_ms: int) -> None:
        """What the targets are of."""
        self.assignment_epoch = epoch
        self.assignment_ms = made_ms

    def put(self, member: ConsumerMember) -> None:
        before = self.members.get(member.member_id)
        if before is not None:
            self._count(before, -1)
            self._disown(before)
        self.members[member.member_id] = member
        self._count(member, 1)
        self._own(member)
        if member.instance_id is not None:
            self._static[member.instance_id] = member.member_id

    def _own(self, member: ConsumerMember) -> None:
        for owned in (member.assigned, member.revoking):
            for topic_id, partitions in owned.items():
                for partition in partitions:
                    self._owners[topic_id, partition] = member.member_id

    def _disown(self, member: ConsumerMember) -> None:
        for owned in (member.assigned, member.revoking):
            for topic_id, partitions in owned.items():
                for partition in partitions:
                    if self._owners.get((topic_id, partition)) == member.member_id:
                        del self._owners[topic_id, partition]

    def _drop_target(self, member_id: str) -> None:
        for topic_id, partitions in self.targets.pop(member_id, _NOTHING).items():
            owners = self._target_owners.get(topic_id, {})
            for partition in partitions:
                if owners.get(partition) == member_id:
                    del owners[partition]
            if not owners:
                self._target_owners.pop(topic_id, None)

    def _count(self, member: ConsumerMember, delta: int) -> None:
        if member.state is MemberState.STABLE:
            add(self._stable, member.epoch, delta)
        for topic in member.topics:
            add(self.topic_readers, topic, delta)
        if member.topic_regex:
            add(self.regex_readers, member.topic_regex, delta)
        if member.assignor is not None:
            add(self.assignor_users, member.assignor, delta)
        if member.classic is not None:
            self.classic_count += delta
            for name, _ in member.classic.protocols:
                add(self.classic_protocols, name, delta)


def add(counts: dict[Name, int], name: Name, delta: int) -> None:
    """Count a name; one that nobody uses is not kept."""
    count = counts.get(name, 0) + delta
    if count:
        counts[name] = count
    else:
        counts.pop(name, None)


_APPLY: dict[type, Callable[..., None]] = {
    GroupEpoch: ConsumerGroup._epoch,
    PartitionsKnown: ConsumerGroup._partitions_known,
    PartitionsKnownDeleted: ConsumerGroup._partitions_known_deleted,
    MemberStored: ConsumerGroup._member,
    MemberDeleted: ConsumerGroup._member_deleted,
    TargetEpoch: ConsumerGroup._target_epoch,
    TargetEpochDeleted: ConsumerGroup._target_epoch_deleted,
    TargetStored: ConsumerGroup._target,
    TargetDeleted: ConsumerGroup._target_deleted,
    CurrentStored: ConsumerGroup._current,
    CurrentDeleted: ConsumerGroup._current_deleted,
    RegexResolved: ConsumerGroup._regex,
    RegexDeleted: ConsumerGroup._regex_deleted,
}

"""Who is to have what: the target assignments of a group for its next epoch.

What stays true: only members whose target changed get a record, and the record of the epoch comes last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cluster.coordinator.assignor import MemberSpec, Spec
from cluster.coordinator.consumer_env import Change, ConsumerEnv
from cluster.coordinator.consumer_group import ConsumerGroup, add
from cluster.coordinator.consumer_member import ConsumerMember, Target
from cluster.coordinator.consumer_records import TargetEpoch, TargetStored
from cluster.coordinator.hash_order import grown_table, hash_order, string_hash
from pylog.errors import ErrorCode, KafkaError

_NOTHING: Target = {}


def topic_ids(env: ConsumerEnv, group: ConsumerGroup, member: ConsumerMember) -> Mapping[bytes, None]:
    """The ids of what a member reads, by name or because it matches its pattern, as far as there are such topics: a set
    in order."""
    known = env.topic_ids(member.topics)
    resolved = group.regexes.get(member.topic_regex) if member.topic_regex else None
    if resolved is None:
        return known
    found = (env.topics.topic_id(name) for name in sorted(resolved.topics) if name not in member.topics)
    return {**known, **{topic_id: None for topic_id in found if topic_id is not None}}


def is_uniform(topic_readers: dict[str, int], regex_readers: dict[str, int], group: ConsumerGroup, count: int) -> bool:
    """Whether all members read the same, as far as the numbers of readers tell."""
    if not regex_readers:
        return all(readers == count for readers in topic_readers.values())
    if next(iter(regex_readers.values())) != count or topic_readers:
        return False
    by_regex: dict[str, int] = {}
    for regex in regex_readers:
        for name in group.regexes[regex].topics if regex in group.regexes else ():
            add(by_regex, name, 1)
    return all(matches == 1 for matches in by_regex.values())


def may_assign(env: ConsumerEnv, group: ConsumerGroup, now_ms: int) -> bool:
    """Whether the last assignment is old enough for another: members that come together cost one, not one each."""
    interval_ms = env.config.consumer.assignment_interval_ms
    return group.assignment_ms == 0 or interval_ms == 0 or now_ms >= group.assignment_ms + interval_ms


def assign(
    env: ConsumerEnv,
    group: ConsumerGroup,
    before: ConsumerMember,
    member: ConsumerMember,
    epoch: int,
    uniform: bool,
    now_ms: int,
    change: Change,
) -> Target:
    """Make the assignments of an epoch, as if `member` stood in the place of `before`; returns the member's own.
    Raises KafkaError."""
    users = dict(group.assignor_users)
    if before.assignor is not None:
        add(users, before.assignor, -1)
    if member.assignor is not None:
        add(users, member.assignor, 1)
    name = group.preferred_assignor(env.default_assignor, users)
    members = dict(group.members)
    replaced = group.static_member(member.instance_id)
    if replaced is not None and replaced.member_id != member.member_id:
        members.pop(replaced.member_id, None)
    members[member.member_id] = member
    known = group.targets
    targets: Mapping[str, Target] = known
    if replaced is not None and member.member_id not in known:
        targets = {**known, member.member_id: group.target(member)}
    spec = Spec(
        _Members(env, group, members),
        targets,
        uniform,
        lambda topic_id: env.topics.partition_count(env.topics.topic_name(topic_id) or ""),
        group.targeted,
    )
    try:
        made = env.assignors[name](spec)
    except KafkaError as error:
        text = f"Failed to compute a new target assignment for epoch {epoch}: {error.message}"
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, text) from error
    changed = [member_id for member_id in members if known.get(member_id) != made.get(member_id, _NOTHING)]
    for member_id in hash_order(changed, string_hash, grown_table(len(members))):
        change.facts.append(TargetStored(group.group_id, member_id, made.get(member_id, {})))
    change.facts.append(TargetEpoch(group.group_id, epoch, now_ms))
    return made.get(member.member_id, {})


class _Members(Mapping[str, MemberSpec]):
    """The members as assignors see them, each when it is looked at: `uniform` looks at one. What many read is looked up
    once."""

    def __init__(self, env: ConsumerEnv, group: ConsumerGroup, members: dict[str, ConsumerMember]) -> None:
        self._env = env
        self._group = group
        self._members = members
        self._read: dict[tuple[frozenset[str], str], Mapping[bytes, None]] = {}
        self._made: dict[str, MemberSpec] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, member_id: str) -> MemberSpec:
        made = self._made.get(member_id)
        if made is None:
            member = self._members[member_id]
            topics = self._read.get((member.topics, member.topic_regex))
            if topics is None:
                topics = topic_ids(self._env, self._group, member)
                self._read[member.topics, member.topic_regex] = topics
            made = MemberSpec(member.instance_id, topics, self._group.target(member))
            self._made[member_id] = made
        return made

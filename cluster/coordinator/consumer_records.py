"""The records of groups of the consumer protocol: facts to key and value, and back.

What stays true: the bytes are Kafka 4's. Values that only older brokers write are read: the partitions of topics
(key 4, up to 4.0), of which no more is remembered than that the record is to be removed. A fact whose class ends in
Deleted is a tombstone.

    key 3   GroupEpoch         the group, its epoch, a hash of the topics it reads
    key 4   PartitionsKnown    superseded by that hash
    key 5   MemberStored       who a member is and what it subscribes to
    key 6   TargetEpoch        for which epoch of the group the target assignments were made
    key 7   TargetStored       what a member is to have
    key 8   CurrentStored      what a member has, and where it stands on its way to the target
    key 16  RegexResolved      the topics that match a pattern
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cluster.coordinator import consumer_record_bytes as record_bytes
from cluster.coordinator.consumer_member import ClassicProtocols, ConsumerMember, MemberState, Owned, Target
from cluster.coordinator.hash_order import grown_table, hash_order, int_order, uuid_hash
from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.message import Message
from cluster.protocol.records import VERSION_BYTES, encode_versioned, read_version
from pylog.facts import NamedTuple
from pylog.typed import TypeAlias

_VALUE_VERSION = 0


class GroupEpoch(NamedTuple):
    group_id: str
    epoch: int
    metadata_hash: int


class GroupEpochDeleted(NamedTuple):
    group_id: str


class PartitionsKnown(NamedTuple):
    group_id: str


class PartitionsKnownDeleted(NamedTuple):
    group_id: str


class MemberStored(NamedTuple):
    """`member`: its epochs, state and partitions are not part of this fact."""

    group_id: str
    member: ConsumerMember


class MemberDeleted(NamedTuple):
    group_id: str
    member_id: str


class TargetEpoch(NamedTuple):
    """`made_ms`: when the assignments were made; 0 in records of old."""

    group_id: str
    epoch: int
    made_ms: int


class TargetEpochDeleted(NamedTuple):
    group_id: str


class TargetStored(NamedTuple):
    group_id: str
    member_id: str
    partitions: Target


class TargetDeleted(NamedTuple):
    group_id: str
    member_id: str


class CurrentStored(NamedTuple):
    group_id: str
    member_id: str
    epoch: int
    previous_epoch: int
    state: MemberState
    assigned: Owned
    revoking: Owned


class CurrentDeleted(NamedTuple):
    group_id: str
    member_id: str


class RegexResolved(NamedTuple):
    """`version`: of the metadata that were looked at; `made_ms`: when."""

    group_id: str
    regex: str
    topics: frozenset[str]
    version: int
    made_ms: int


class RegexDeleted(NamedTuple):
    group_id: str
    regex: str


ConsumerFact: TypeAlias = (
    GroupEpoch
    | GroupEpochDeleted
    | PartitionsKnown
    | PartitionsKnownDeleted
    | MemberStored
    | MemberDeleted
    | TargetEpoch
    | TargetEpochDeleted
    | TargetStored
    | TargetDeleted
    | CurrentStored
    | CurrentDeleted
    | RegexResolved
    | RegexDeleted
)


def current_of(group_id: str, member: ConsumerMember) -> CurrentStored:
    """Where a member stands, as a fact."""
    return CurrentStored(
        group_id,
        member.member_id,
        member.epoch,
        member.previous_epoch,
        member.state,
        member.assigned,
        member.revoking,
    )


def encode(fact: ConsumerFact) -> tuple[bytes, bytes | None]:
    """Raises EncodeError."""
    packed = _packed(fact)
    return encode_by_message(fact) if packed is None else packed


def _packed(fact: ConsumerFact) -> tuple[bytes, bytes] | None:
    """Records of which there are as many as members, or as epochs."""
    value: bytes | None
    if isinstance(fact, CurrentStored):
        value = record_bytes.current(fact.epoch, fact.previous_epoch, fact.state, fact.assigned, fact.revoking)
        key = record_bytes.key(_KEY_VERSION[CurrentStored], fact.group_id, fact.member_id)
    elif isinstance(fact, TargetStored):
        value = record_bytes.target(fact.partitions)
        key = record_bytes.key(_KEY_VERSION[TargetStored], fact.group_id, fact.member_id)
    elif isinstance(fact, (GroupEpoch, TargetEpoch)):
        value = record_bytes.epoch(fact.epoch, fact[2])
        key = record_bytes.group_key(_KEY_VERSION[type(fact)], fact.group_id)
    else:
        return None
    return None if key is None or value is None else (key, value)


def encode_by_message(fact: ConsumerFact) -> tuple[bytes, bytes | None]:
    """Raises EncodeError."""
    key, value = _ENCODERS[type(fact)](fact)
    return encode_versioned(key, _KEY_VERSION[type(fact)]), (
        None if value is None else encode_versioned(value, _VALUE_VERSION)
    )


def decode(key: bytes, value: bytes | None) -> ConsumerFact | None:
    """The fact in a record whose key is of a version above. Raises DecodeError."""
    version = read_version(key)
    if value is not None and read_version(value) != _VALUE_VERSION:
        raise DecodeError(f"unknown version {read_version(value)} of a value with key {version}")
    return _DECODERS[version](key, version, value)


# Facts to records -----------------------------------------------------------------------------------------------------


def _encode_epoch(fact: GroupEpoch) -> tuple[Message, Message | None]:
    key = m.ConsumerGroupMetadataKey(group_id=fact.group_id)
    return key, m.ConsumerGroupMetadataValue(epoch=fact.epoch, metadata_hash=fact.metadata_hash)


def _encode_member(fact: MemberStored) -> tuple[Message, Message | None]:
    member = fact.member
    value = m.ConsumerGroupMemberMetadataValue(
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=sorted(member.topics, key=utf16),
        subscribed_topic_regex=member.topic_regex,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        server_assignor=member.assignor,
    )
    value.classic_member_metadata = None  # said so: what is left out is read as an empty one
    if member.classic is not None:
        value.classic_member_metadata = m.ConsumerGroupMemberMetadataValue.ClassicMemberMetadata(
            session_timeout_ms=member.classic.session_timeout_ms,
            supported_protocols=[
                m.ConsumerGroupMemberMetadataValue.ClassicProtocol(name=name, metadata=metadata)
                for name, metadata in member.classic.protocols
            ],
        )
    return m.ConsumerGroupMemberMetadataKey(group_id=fact.group_id, member_id=member.member_id), value


def _encode_target(fact: TargetStored) -> tuple[Message, Message | None]:
    value = m.ConsumerGroupTargetAssignmentMemberValue(
        topic_partitions=[
            m.ConsumerGroupTargetAssignmentMemberValue.TopicPartition(
                topic_id=topic_id, partitions=in_order(partitions)
            )
            for topic_id, partitions in fact.partitions.items()
        ]
    )
    key = m.ConsumerGroupTargetAssignmentMemberKey(group_id=fact.group_id, member_id=fact.member_id)
    return key, value


def _encode_current(fact: CurrentStored) -> tuple[Message, Message | None]:
    value = m.ConsumerGroupCurrentMemberAssignmentValue(
        member_epoch=fact.epoch,
        previous_member_epoch=fact.previous_epoch,
        state=fact.state,
        assigned_partitions=_encode_owned(fact.assigned),
        partitions_pending_revocation=_encode_owned(fact.revoking),
    )
    key = m.ConsumerGroupCurrentMemberAssignmentKey(group_id=fact.group_id, member_id=fact.member_id)
    return key, value


def _encode_owned(owned: Owned) -> list[m.ConsumerGroupCurrentMemberAssignmentValue.TopicPartitions]:
    entries = []
    for topic_id in topics_in_order(owned):
        epochs = owned[topic_id]
        partitions = in_order(epochs)
        entries.append(
            m.ConsumerGroupCurrentMemberAssignmentValue.TopicPartitions(
                topic_id=topic_id,
                partitions=partitions,
                assignment_epochs=[epochs[partition] for partition in partitions],
            )
        )
    return entries


def _encode_target_epoch(fact: TargetEpoch) -> tuple[Message, Message | None]:
    value = m.ConsumerGroupTargetAssignmentMetadataValue(assignment_epoch=fact.epoch, assignment_timestamp=fact.made_ms)
    return m.ConsumerGroupTargetAssignmentMetadataKey(group_id=fact.group_id), value


def _encode_regex(fact: RegexResolved) -> tuple[Message, Message | None]:
    value = m.ConsumerGroupRegularExpressionValue(
        topics=sorted(fact.topics, key=utf16), version=fact.version, timestamp=fact.made_ms
    )
    return m.ConsumerGroupRegularExpressionKey(group_id=fact.group_id, regular_expression=fact.regex), value


_ENCODERS: dict[type, Callable[..., tuple[Message, Message | None]]] = {
    GroupEpoch: _encode_epoch,
    GroupEpochDeleted: lambda fact: (m.ConsumerGroupMetadataKey(group_id=fact.group_id), None),
    PartitionsKnownDeleted: lambda fact: (m.ConsumerGroupPartitionMetadataKey(group_id=fact.group_id), None),
    MemberStored: _encode_member,
    MemberDeleted: lambda fact: (
        m.ConsumerGroupMemberMetadataKey(group_id=fact.group_id, member_id=fact.member_id),
        None,
    ),
    TargetEpoch: _encode_target_epoch,
    TargetEpochDeleted: lambda fact: (m.ConsumerGroupTargetAssignmentMetadataKey(group_id=fact.group_id), None),
    TargetStored: _encode_target,
    TargetDeleted: lambda fact: (
        m.ConsumerGroupTargetAssignmentMemberKey(group_id=fact.group_id, member_id=fact.member_id),
        None,
    ),
    CurrentStored: _encode_current,
    CurrentDeleted: lambda fact: (
        m.ConsumerGroupCurrentMemberAssignmentKey(group_id=fact.group_id, member_id=fact.member_id),
        None,
    ),
    RegexResolved: _encode_regex,
    RegexDeleted: lambda fact: (
        m.ConsumerGroupRegularExpressionKey(group_id=fact.group_id, regular_expression=fact.regex),
        None,
    ),
}

_KEY_VERSION: dict[type, int] = {
    GroupEpoch: 3,
    GroupEpochDeleted: 3,
    PartitionsKnownDeleted: 4,
    MemberStored: 5,
    MemberDeleted: 5,
    TargetEpoch: 6,
    TargetEpochDeleted: 6,
    TargetStored: 7,
    TargetDeleted: 7,
    CurrentStored: 8,
    CurrentDeleted: 8,
    RegexResolved: 16,
    RegexDeleted: 16,
}


# Records to facts -----------------------------------------------------------------------------------------------------


def _decode_epoch(key: bytes, version: int, value: bytes | None) -> ConsumerFact:
    group_id = m.ConsumerGroupMetadataKey.decode(key, version, VERSION_BYTES).group_id
    if value is None:
        return GroupEpochDeleted(group_id)
    stored = m.ConsumerGroupMetadataValue.decode(value, _VALUE_VERSION, VERSION_BYTES)
    return GroupEpoch(group_id, stored.epoch, stored.metadata_hash)


def _decode_partitions(key: bytes, version: int, value: bytes | None) -> ConsumerFact:
    group_id = m.ConsumerGroupPartitionMetadataKey.decode(key, version, VERSION_BYTES).group_id
    return PartitionsKnownDeleted(group_id) if value is None else PartitionsKnown(group_id)


def _decode_member(key: bytes, version: int, value: bytes | None) -> ConsumerFact:
    named = m.ConsumerGroupMemberMetadataKey.decode(key, version, VERSION_BYTES)
    if value is None:
        return MemberDeleted(named.group_id, named.member_id)
    stored = m.ConsumerGroupMemberMetadataValue.decode(value, _VALUE_VERSION, VERSION_BYTES)
    classic = stored.classic_member_metadata
    member = ConsumerMember(
        named.member_id,
        instance_id=stored.instance_id,
        rack_id=stored.rack_id,
        rebalance_timeout_ms=stored.rebalance_timeout_ms,
        client_id=stored.client_id,
        client_host=stored.client_host,
        topics=frozenset(stored.subscribed_topic_names),
        topic_regex=stored.subscribed_topic_regex or "",
        assignor=stored.server_assignor,
        classic=None
        if classic is None
        else ClassicProtocols(
            classic.session_timeout_ms, tuple((each.name, each.metadata) for each in classic.supported_protocols)
        ),
    )
    return MemberStored(named.group_id, member)


def _decode_target_epoch(key: bytes, version: int, value: bytes | None) -> ConsumerFact:
    group_id = m.ConsumerGroupTargetAssignmentMetadataKey.decode(key, version, VERSION_BYTES).group_id
    if value is None:
        return TargetEpochDeleted(group_id)
    stored = m.ConsumerGroupTargetAssignmentMetadataValue.decode(value, _VALUE_VERSION, VERSION_BYTES)
    return TargetEpoch(group_id, stored.assignment_epoch, stored.assignment_timestamp)


def _decode_target(key: bytes, version: int, value: bytes | None) -> ConsumerFact:
    named = m.ConsumerGroupTargetAssignmentMemberKey.decode(key, version, VERSION_BYTES)
    if value is None:
        return TargetDeleted(named.group_id, named.member_id)
    stored = m.ConsumerGroupTargetAssignmentMemberValue.decode(value, _VALUE_VERSION, VERSION_BYTES)
    partitions = {each.topic_id: frozenset(each.partitions) for each in stored.topic_partitions}
    return TargetStored(named.group_id, named.member_id, partitions)


def _decode_current(key: bytes, version: int, value: bytes | None) -> ConsumerFact:
    named = m.ConsumerGroupCurrentMemberAssignmentKey.decode(key, version, VERSION_BYTES)
    if value is None:
        return CurrentDeleted(named.group_id, named.member_id)
    stored = m.ConsumerGroupCurrentMemberAssignmentValue.decode(value, _VALUE_VERSION, VERSION_BYTES)
    known = (MemberState.STABLE, MemberState.UNREVOKED_PARTITIONS, MemberState.UNRELEASED_PARTITIONS)
    return CurrentStored(
        named.group_id,
        named.member_id,
        stored.member_epoch,
        stored.previous_member_epoch,
        MemberState(stored.state) if stored.state in known else MemberState.UNKNOWN,
        _decode_owned(stored.assigned_partitions, stored.member_epoch),
        _decode_owned(stored.partitions_pending_revocation, stored.member_epoch),
    )


def _decode_owned(
    entries: list[m.ConsumerGroupCurrentMemberAssignmentValue.TopicPartitions], member_epoch: int
) -> Owned:
    """Records without epochs of their own are of partitions as old as the member's."""
    owned: Owned = {}
    for each in entries:
        epochs = each.assignment_epochs
        if epochs is None or len(epochs) != len(each.partitions):
            owned[each.topic_id] = dict.fromkeys(each.partitions, member_epoch)
        else:
            owned[each.topic_id] = dict(zip(each.partitions, epochs, strict=True))
    return owned


def _decode_regex(key: bytes, version: int, value: bytes | None) -> ConsumerFact:
    named = m.ConsumerGroupRegularExpressionKey.decode(key, version, VERSION_BYTES)
    if value is None:
        return RegexDeleted(named.group_id, named.regular_expression)
    stored = m.ConsumerGroupRegularExpressionValue.decode(value, _VALUE_VERSION, VERSION_BYTES)
    topics = frozenset(stored.topics)
    return RegexResolved(named.group_id, named.regular_expression, topics, stored.version, stored.timestamp)


_DECODERS: dict[int, Callable[[bytes, int, bytes | None], ConsumerFact]] = {
    3: _decode_epoch,
    4: _decode_partitions,
    5: _decode_member,
    6: _decode_target_epoch,
    7: _decode_target,
    8: _decode_current,
    16: _decode_regex,
}


# The order in which Kafka lists things --------------------------------------------------------------------------------


def utf16(text: str) -> bytes:
    """What to sort by so that texts come in Java's order."""
    return text.encode("utf-16-be", "surrogatepass")


def topics_in_order(partitions: Mapping[bytes, object]) -> list[bytes]:
    return hash_order(partitions, uuid_hash, grown_table(len(partitions)))


def in_order(partitions: frozenset[int] | dict[int, int]) -> list[int]:
    return int_order(partitions, grown_table(len(partitions)))

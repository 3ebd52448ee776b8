"""The records of `__consumer_offsets`: facts to key and value, and back.

What stays true: the bytes are Kafka's. Keys are written as version 1 (an offset) and 2 (a group), values as version 3,
an offset with an expiry of its own as version 1, the only one that has room for it; values of every version are read.
A value of None deletes what its key names.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError

from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.records import VERSION_BYTES, encode_versioned, read_version
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING, TypeAlias

OFFSETS_TOPIC = "__consumer_offsets"

_OFFSET_KEY_VERSION = 1
_GROUP_KEY_VERSION = 2
_CONSUMER_KEY_VERSIONS = (3, 4, 5, 6, 7, 8, 16)  # of groups of the consumer protocol: consumer_records.py
_VALUE_VERSION = 3
_VALUE_VERSION_WITH_EXPIRY = 1
_NEWEST_VALUE_VERSION = 4

_TWO_SHORTS = Struct(">hh")  # a key's version, the size of its group id
_SHORT = Struct(">h")
_INT = Struct(">i")
_LONG = Struct(">q")
_VALUE_HEAD = Struct(">hqih")  # version, offset, leader epoch, the size of the metadata


class OffsetCommitted(NamedTuple):
    """`leader_epoch`: -1 unknown. `expire_ms`: -1 as long as the group's retention says; else the moment itself."""

    group_id: str
    topic: str
    partition: int
    offset: int
    leader_epoch: int
    metadata: str
    commit_ms: int
    expire_ms: int = -1


class OffsetDeleted(NamedTuple):
    group_id: str
    topic: str
    partition: int


class MemberStored(NamedTuple):
    """A member as the record of its group shows it. `subscription`: its metadata for the group's protocol."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


#: In place of a time: whoever finds the group in its last record so is to rebalance it. To Kafka it is a time long ago.
OVERTAKEN = -2


class GroupStored(NamedTuple):
    """A generation. `protocol` and `leader` are None when it has no members. `state_ms`: -1 in records of old,
    OVERTAKEN in that of a generation whose members are to join again at once."""

    group_id: str
    protocol_type: str
    generation: int
    protocol: str | None
    leader: str | None
    state_ms: int
    members: tuple[MemberStored, ...]


class GroupDeleted(NamedTuple):
    group_id: str


if TYPE_CHECKING:
    from cluster.coordinator.consumer_records import ConsumerFact

Fact: TypeAlias = "OffsetCommitted | OffsetDeleted | GroupStored | GroupDeleted | ConsumerFact"


def encode(fact: Fact) -> tuple[bytes, bytes | None]:
    """Raises EncodeError."""
    if isinstance(fact, OffsetCommitted):
        return _offset_key(fact.group_id, fact.topic, fact.partition), _offset_value(fact)
    if isinstance(fact, OffsetDeleted):
        return _offset_key(fact.group_id, fact.topic, fact.partition), None
    if isinstance(fact, GroupStored):
        return _group_key(fact.group_id), _group_value(fact)
    if isinstance(fact, GroupDeleted):
        return _group_key(fact.group_id), None
    # Only groups of the consumer protocol pay for it, once; from a package it would cost a call for each fact.
    from cluster.coordinator.consumer_records import encode as encode_consumer

    return encode_consumer(fact)


def decode(key: bytes, value: bytes | None) -> Fact | None:
    """The fact in a record, or None when the key is of a kind that this coordinator does not keep."""
    if value is not None:
        usual = _read_usual_offset(key, value)
        if usual is not None:
            return usual
    version = read_version(key)
    if version in (0, _OFFSET_KEY_VERSION):
        offset_key = m.OffsetCommitKey.decode(key, version, VERSION_BYTES)
        if value is None:
            return OffsetDeleted(offset_key.group, offset_key.topic, offset_key.partition)
        committed = m.OffsetCommitValue.decode(value, _value_version(value), VERSION_BYTES)
        return OffsetCommitted(
            offset_key.group,
            offset_key.topic,
            offset_key.partition,
            committed.offset,
            committed.leader_epoch,
            committed.metadata,
            committed.commit_timestamp,
            committed.expire_timestamp,
        )
    if version == _GROUP_KEY_VERSION:
        group_id = m.GroupMetadataKey.decode(key, version, VERSION_BYTES).group
        return GroupDeleted(group_id) if value is None else _read_group(group_id, value)
    if version in _CONSUMER_KEY_VERSIONS:
        from cluster.coordinator.consumer_records import decode as decode_consumer

        return decode_consumer(key, value)
    return None


def _read_usual_offset(key: bytes, value: bytes) -> OffsetCommitted | None:
    """An offset as all are written now, to the byte. A million of them are loaded at a time, and this is quicker than
    the tables. None: it is something else, or not whole; the tables say what."""
    try:
        version, size = _TWO_SHORTS.unpack_from(key)
        if version != _OFFSET_KEY_VERSION or size < 0:
            return None
        topic_at = 6 + size
        topic_end = topic_at + _SHORT.unpack_from(key, topic_at - 2)[0]
        version, offset, leader_epoch, metadata_size = _VALUE_HEAD.unpack_from(value)
        metadata_end = 16 + metadata_size
        is_whole = topic_at <= topic_end == len(key) - 4 and metadata_size >= 0 and metadata_end == len(value) - 8
        if version != _VALUE_VERSION or not is_whole:
            return None
        return OffsetCommitted(
            key[4 : topic_at - 2].decode(),
            key[topic_at:topic_end].decode(),
            _INT.unpack_from(key, topic_end)[0],
            offset,
            leader_epoch,
            value[16:metadata_end].decode(),
            _LONG.unpack_from(value, metadata_end)[0],
        )
    except (StructError, UnicodeDecodeError):
        return None


def _value_version(value: bytes) -> int:
    version = read_version(value)
    if not 0 <= version <= _NEWEST_VALUE_VERSION:
        raise DecodeError(f"unknown version {version} of a value in {OFFSETS_TOPIC}")
    return version


def _read_group(group_id: str, value: bytes) -> GroupStored:
    version = _value_version(value)
    stored = m.GroupMetadataValue.decode(value, version, VERSION_BYTES)
    return GroupStored(
        group_id,
        stored.protocol_type,
        stored.generation,
        stored.protocol,
        stored.leader,
        stored.current_state_timestamp,
        tuple(
            MemberStored(
                member.member_id,
                member.group_instance_id,
                member.client_id,
                member.client_host,
                member.rebalance_timeout if version > 0 else member.session_timeout,
                member.session_timeout,
                member.subscription,
                member.assignment,
            )
            for member in stored.members
        ),
    )


def _offset_key(group_id: str, topic: str, partition: int) -> bytes:
    return encode_versioned(m.OffsetCommitKey(group=group_id, topic=topic, partition=partition), _OFFSET_KEY_VERSION)


def _offset_value(fact: OffsetCommitted) -> bytes:
    value = m.OffsetCommitValue(
        offset=fact.offset,
        leader_epoch=fact.leader_epoch,
        metadata=fact.metadata,
        commit_timestamp=fact.commit_ms,
        expire_timestamp=fact.expire_ms,
    )
    return encode_versioned(value, _VALUE_VERSION if fact.expire_ms == -1 else _VALUE_VERSION_WITH_EXPIRY)


def _group_key(group_id: str) -> bytes:
    return encode_versioned(m.GroupMetadataKey(group=group_id), _GROUP_KEY_VERSION)


def _group_value(fact: GroupStored) -> bytes:
    value = m.GroupMetadataValue(
        protocol_type=fact.protocol_type,
        generation=fact.generation,
        protocol=fact.protocol,
        leader=fact.leader,
        current_state_timestamp=fact.state_ms,
        members=[
            m.GroupMetadataValue.MemberMetadata(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout=member.rebalance_timeout_ms,
                session_timeout=member.session_timeout_ms,
                subscription=member.subscription,
                assignment=member.assignment,
            )
            for member in fact.members
        ],
    )
    return encode_versioned(value, _VALUE_VERSION)

"""The records that a rebalance writes for each of its members and epochs, packed at once.

What stays true: the bytes are those that the messages' encoders write (test_consumer_records.py holds them against each
other). They are packed here because a rebalance of many members is little else than these: building a message for each
key, value and list of partitions costs several times as much. What is longer than its field can say is left to the
encoders, whose error says what it is: `None`.
"""

from __future__ import annotations

from struct import Struct

from cluster.coordinator.consumer_member import Owned, Target
from cluster.coordinator.hash_order import grown_table, hash_order, int_order, uuid_hash

_KEY = Struct(">hh")
_LENGTH = Struct(">h")
_EPOCH = Struct(">hi")
_NUMBER_TAG = Struct(">3sq")
_CURRENT = Struct(">hiib")
_LONGEST_STRING = 0x7FFF
_MOST_PACKED = 126  # of a list whose length, and one more, is one byte
_EMPTY_LIST, _NO_TAGS = b"\x01", b"\x00"
_EPOCHS_TAG = b"\x01\x00"  # one tagged field, the first
_EIGHT_BYTES_TAG = b"\x01\x00\x08"


def key(version: int, group_id: str, member_id: str) -> bytes | None:
    """Of a record about a member."""
    group, member = group_id.encode(), member_id.encode()
    if len(group) > _LONGEST_STRING or len(member) > _LONGEST_STRING:
        return None
    return b"".join((_KEY.pack(version, len(group)), group, _LENGTH.pack(len(member)), member))


def group_key(version: int, group_id: str) -> bytes | None:
    """Of a record about the group as a whole."""
    group = group_id.encode()
    return None if len(group) > _LONGEST_STRING else _KEY.pack(version, len(group)) + group


def epoch(number: int, more: int) -> bytes:
    """The value of an epoch, of a group with a hash of its topics, or of targets with the time of their making."""
    return _EPOCH.pack(0, number) + (_NUMBER_TAG.pack(_EIGHT_BYTES_TAG, more) if more else _NO_TAGS)


def target(partitions: Target) -> bytes | None:
    """The value of what a member is to have."""
    if len(partitions) > _MOST_PACKED:
        return None
    parts = [b"\x00\x00", _size(len(partitions))]
    for topic_id, found in partitions.items():
        if len(found) > _MOST_PACKED:
            return None
        numbers = int_order(found, grown_table(len(found)))
        parts += (topic_id, _size(len(numbers)), _numbers(numbers), _NO_TAGS)
    parts.append(_NO_TAGS)
    return b"".join(parts)


def current(epoch: int, previous_epoch: int, state: int, assigned: Owned, revoking: Owned) -> bytes | None:
    """The value of what a member has."""
    has, gives_up = _owned(assigned), _owned(revoking)
    if has is None or gives_up is None:
        return None
    return b"".join((_CURRENT.pack(0, epoch, previous_epoch, state), has, gives_up, _NO_TAGS))


def _owned(owned: Owned) -> bytes | None:
    if not owned:
        return _EMPTY_LIST
    if len(owned) > _MOST_PACKED:
        return None
    parts = [_size(len(owned))]
    for topic_id in hash_order(owned, uuid_hash, grown_table(len(owned))):
        epochs = owned[topic_id]
        if 4 * len(epochs) > _MOST_PACKED:
            return None
        numbers = int_order(epochs, grown_table(len(epochs)))
        since = _numbers([epochs[number] for number in numbers])
        size = _size(len(numbers))
        parts += (topic_id, size, _numbers(numbers), _EPOCHS_TAG, bytes((1 + len(since),)), size, since)
    return b"".join(parts)


def _size(count: int) -> bytes:
    return bytes((count + 1,))


def _numbers(numbers: list[int]) -> bytes:
    return b"".join([number.to_bytes(4, "big", signed=True) for number in numbers])

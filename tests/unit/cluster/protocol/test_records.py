"""Coordinator records and the consumer protocol, with their version in front."""

import pytest

from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError, EncodeError
from cluster.protocol.records import VERSION_BYTES, encode_versioned, read_version


def test_a_key_carries_its_record_type() -> None:
    key = encode_versioned(m.GroupMetadataKey(group="g"), 2)
    assert key == b"\x00\x02\x00\x01g"
    assert read_version(key) == m.GroupMetadataKey.api_key == 2
    assert m.GroupMetadataKey.decode(key, 2, VERSION_BYTES).group == "g"
    for name in m.names():
        if name.endswith("Key") and name != "OffsetCommitKey":
            made = m.message_class(name)
            assert made.valid_versions == (made.api_key, made.api_key), name


def test_an_offset_commit_as_kafka_writes_it() -> None:
    key = encode_versioned(m.OffsetCommitKey(group="g", topic="t", partition=3), 1)
    assert key == b"\x00\x01" + b"\x00\x01g" + b"\x00\x01t" + b"\x00\x00\x00\x03"
    value = encode_versioned(m.OffsetCommitValue(offset=7, leader_epoch=2, metadata="m", commit_timestamp=9), 3)
    assert value == b"\x00\x03" + (7).to_bytes(8) + (2).to_bytes(4) + b"\x00\x01m" + (9).to_bytes(8)
    assert m.OffsetCommitKey.valid_versions == (0, 1)
    assert m.OffsetCommitValue.valid_versions == (0, 4)


def test_a_subscription() -> None:
    subscription = m.ConsumerProtocolSubscription(topics=["t"], user_data=None, generation_id=4)
    data = encode_versioned(subscription, 3)
    assert read_version(data) == 3
    assert m.ConsumerProtocolSubscription.decode(data, 3, VERSION_BYTES) == subscription


def test_refusals() -> None:
    with pytest.raises(EncodeError):
        encode_versioned(m.GroupMetadataKey(), 0)
    with pytest.raises(DecodeError):
        read_version(b"\x00")

"""Records of `__consumer_offsets`: Kafka's bytes read as Kafka reads them, and written again without a difference."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.coordinator import group_records
from cluster.coordinator.group_records import (
    OFFSETS_TOPIC,
    GroupDeleted,
    GroupStored,
    MemberStored,
    OffsetCommitted,
    OffsetDeleted,
    decode,
    encode,
)
from cluster.coordinator.subscription import subscribed_topics
from cluster.effects import Shard
from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from tests.transcripts.group_driver import Driver

GOLDEN = Path(__file__).parents[3] / "golden" / "consumer_offsets" / "records.jsonl"
ENTRIES: list[dict[str, Any]] = [json.loads(line) for line in GOLDEN.read_text("utf-8").splitlines()]
RECORDS = [entry for entry in ENTRIES if "marker" not in entry]


def raw(entry: dict[str, Any]) -> tuple[bytes, bytes | None]:
    return bytes.fromhex(entry["key"]), None if entry["value"] is None else bytes.fromhex(entry["value"])


@pytest.mark.parametrize("entry", RECORDS, ids=lambda entry: f"{entry['partition']}-{entry['offset']}")
def test_kafkas_bytes_survive_decode_and_encode(entry: dict[str, Any]) -> None:
    fact = decode(*raw(entry))
    assert fact is not None
    assert encode(fact) == raw(entry)


@pytest.mark.parametrize("entry", RECORDS, ids=lambda entry: f"{entry['partition']}-{entry['offset']}")
def test_a_record_means_what_kafkas_dump_says(entry: dict[str, Any]) -> None:
    fact = decode(*raw(entry))
    key, value = entry["kafka_key"]["data"], entry["kafka_value"]
    if entry["kafka_key"]["type"] == "2":
        assert isinstance(fact, GroupStored)
        said = value["data"]
        assert fact.group_id == key["group"]
        assert (fact.protocol_type, fact.generation) == (said["protocolType"], said["generation"])
        assert (fact.protocol, fact.leader) == (said["protocol"], said["leader"])
        assert fact.state_ms == said["currentStateTimestamp"]
        assert len(fact.members) == len(said["members"])
        for member, theirs in zip(fact.members, said["members"], strict=True):
            check_member(member, theirs)
    elif value is None:
        assert fact == OffsetDeleted(key["group"], key["topic"], key["partition"])
    else:
        said = value["data"]
        assert fact == OffsetCommitted(
            key["group"],
            key["topic"],
            key["partition"],
            said["offset"],
            said["leaderEpoch"],
            said["metadata"],
            said["commitTimestamp"],
        )


def check_member(member: MemberStored, said: dict[str, Any]) -> None:
    assert member.member_id == said["memberId"]
    assert member.instance_id == said["groupInstanceId"]
    assert (member.client_id, member.client_host) == (said["clientId"], said["clientHost"])
    assert member.rebalance_timeout_ms == said["rebalanceTimeout"]
    assert member.session_timeout_ms == said["sessionTimeout"]
    assert subscribed_topics([member.subscription]) == set(said["subscription"]["topics"])
    assignment = m.ConsumerProtocolAssignment.decode(member.assignment, 0, 2, exact=False)
    assert {each.topic: each.partitions for each in assignment.assigned_partitions} == {
        each["topic"]: each["partitions"] for each in said["assignment"]["assignedPartitions"]
    }
    user_data = said["subscription"]["userData"]
    if user_data is not None:
        assert base64.b64decode(user_data) in member.subscription


def load_golden() -> Driver:
    driver = Driver(partitions=5, host=False)
    driver.topics.counts |= {"a_Topic1": 3, "txn": 2, "overrides": 2}
    for partition in range(5):
        assert driver.runtime.load_start(OFFSETS_TOPIC, partition, 0)
    for entry in ENTRIES:
        partition = entry["partition"]
        if "marker" in entry:
            is_commit = entry["marker"] == "commit"
            driver.runtime.replay_marker(OFFSETS_TOPIC, partition, entry["producer"], commit=is_commit)
        else:
            driver.runtime.replay(OFFSETS_TOPIC, partition, *raw(entry), entry["offset"], entry["producer"])
    for partition in range(5):
        driver.carry_out(driver.runtime.load_done(OFFSETS_TOPIC, partition, driver.now_ms))
    return driver


def test_a_coordinator_that_loads_kafkas_log_knows_what_kafka_knew() -> None:
    driver = load_golden()
    listed = driver.ask(m.ListGroupsRequest(), 5, m.ListGroupsResponse)
    assert {(each.group_id, each.group_state, each.protocol_type) for each in listed.groups} == {
        ("g1", "Empty", "consumer"),
        ("g2", "Empty", "consumer"),
        ("g-rc", "Empty", "consumer"),
        ("g-txn", "Empty", ""),
    }
    assert driver.fetch(group="g1") == {("a_Topic1", 0): 104, ("a_Topic1", 1): 103, ("a_Topic1", 2): 93}
    assert driver.fetch(group="g-rc") == {("txn", 0): 0, ("txn", 1): 0}
    assert driver.fetch(("a_Topic1", 1), group="g-deleted") == {("a_Topic1", 1): -1}
    assert driver.fetch(group="g-txn") == {("a_Topic1", 0): 7}, "the aborted transaction said 9"
    assert len(driver.fetch(group="g2")) == 5


def test_a_generation_found_in_kafkas_log_goes_on() -> None:
    """Up to generation 3 of g2: two static members, who heartbeat and fetch their assignment as if nothing happened."""
    driver = Driver(partitions=5, host=False)
    entries = [entry for entry in RECORDS if entry["partition"] == 3 and entry["offset"] <= 10]
    driver.logs[Shard(OFFSETS_TOPIC, 3)] = [raw(entry) for entry in entries]
    driver.load(3)
    described = driver.describe("g2")
    assert (described.group_state, described.protocol_data) == ("Stable", "cooperative-sticky")
    said = entries[-1]["kafka_value"]["data"]
    assert [each.member_id for each in described.members] == [each["memberId"] for each in said["members"]]
    for member in said["members"]:
        instance = member["groupInstanceId"]
        assert driver.heartbeat(member["memberId"], 3, group="g2", instance=instance) == 0
        who = driver.sync(instance, group="g2", member=member["memberId"], generation=3, instance=instance)
        read = m.ConsumerProtocolAssignment.decode(driver.synced(who).assignment, 0, 2, exact=False)
        assert [(each.topic, each.partitions) for each in read.assigned_partitions] == [
            (each["topic"], each["partitions"]) for each in member["assignment"]["assignedPartitions"]
        ]


def test_an_offset_with_its_own_expiry_is_written_as_version_1() -> None:
    fact = OffsetCommitted("g", "t", 3, 77, -1, "x", 1_000, 5_000)
    _, value = encode(fact)
    assert value is not None
    assert value[:2] == b"\x00\x01"
    assert decode(*encode(fact)) == fact


def test_values_of_old_versions_are_read() -> None:
    key = b"\x00\x00\x00\x01g\x00\x01t\x00\x00\x00\x03"
    value = b"\x00\x00" + (77).to_bytes(8, "big") + b"\x00\x01x" + (1_000).to_bytes(8, "big")
    assert decode(key, value) == OffsetCommitted("g", "t", 3, 77, -1, "x", 1_000)
    member = m.GroupMetadataValue.MemberMetadata(
        member_id="a", client_id="c", client_host="/h", session_timeout=9, subscription=b"s", assignment=b"a"
    )
    stored = m.GroupMetadataValue(protocol_type="consumer", generation=4, protocol="p", leader="a", members=[member])
    fact = decode(b"\x00\x02\x00\x01g", b"\x00\x00" + stored.encode(0))
    assert isinstance(fact, GroupStored)
    assert fact.state_ms == -1
    assert fact.members[0].rebalance_timeout_ms == 9, "version 0 has one timeout for both"


def test_a_version_4_value_of_a_newer_kafka_is_read() -> None:
    value = m.OffsetCommitValue(offset=5, leader_epoch=2, metadata="", commit_timestamp=9, topic_id=b"i" * 16)
    key, _ = encode(OffsetDeleted("g", "t", 0))
    assert decode(key, b"\x00\x04" + value.encode(4)) == OffsetCommitted("g", "t", 0, 5, 2, "", 9)


def test_keys_of_other_coordinators_are_left_alone() -> None:
    assert decode(b"\x00\x0b\x00\x01g", b"\x00\x00whatever") is None


@pytest.mark.parametrize("key", [b"", b"\x00", b"\x00\x01\x00\x05g", b"\x00\x02\xff\xff"])
def test_damaged_keys_raise(key: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(key, b"\x00\x03")


@pytest.mark.parametrize("value", [b"", b"\x00\x05aaaaaaaa", b"\xff\xff", b"\x00\x03\x00"])
def test_damaged_values_raise(value: bytes) -> None:
    for fact in (OffsetDeleted("g", "t", 0), GroupDeleted("g")):
        with pytest.raises(DecodeError):
            decode(encode(fact)[0], value)


names = st.text(max_size=5)
int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
offsets = st.builds(OffsetCommitted, names, names, int32, int64, int32, names, int64, st.just(-1))
expiring = st.builds(OffsetCommitted, names, names, int32, int64, st.just(-1), names, int64, int64)
members = st.builds(
    MemberStored, names, st.none() | names, names, names, int32, int32, st.binary(max_size=9), st.binary(max_size=9)
)
groups = st.builds(
    GroupStored,
    names,
    names,
    int32,
    st.none() | names,
    st.none() | names,
    int64,
    st.lists(members, max_size=3).map(tuple),
)


@given(offsets | expiring | groups | st.builds(OffsetDeleted, names, names, int32) | st.builds(GroupDeleted, names))
def test_what_is_written_is_read(fact: Any) -> None:
    assert decode(*encode(fact)) == fact


def outcome(key: bytes, value: bytes) -> object:
    """The fact, or that there is none to be had."""
    try:
        return decode(key, value)
    except DecodeError:
        return DecodeError


@given(
    st.text(max_size=5),
    st.text(max_size=5),
    st.integers(-1, 7),
    st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 255)), max_size=3),
    st.integers(0, 3),
)
def test_an_offset_read_by_hand_is_what_the_tables_read(
    group: str, topic: str, number: int, spoilt: list[tuple[bool, int, int]], cut: int
) -> None:
    key, value = encode(OffsetCommitted(group, topic, number, number * 3, number, topic + group, 77))
    assert value is not None
    data = [bytearray(key), bytearray(value)]
    for in_value, at, byte in spoilt:
        part = data[in_value]
        part[at % len(part)] = byte
    spoilt_key, spoilt_value = bytes(data[0]), bytes(data[1][: len(value) - cut])
    found = outcome(spoilt_key, spoilt_value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_records, "_read_usual_offset", lambda key, value: None)
        assert outcome(spoilt_key, spoilt_value) == found

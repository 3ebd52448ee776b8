"""Server-side assignors: the same targets as Kafka's for the same groups, and what must hold of any."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.coordinator.assignor import MemberSpec, Spec, assignors
from cluster.coordinator.consumer_member import Target
from cluster.coordinator.hash_order import hash_order, int_hash, int_order
from cluster.coordinator.topic_hash import group_hash, topic_hash
from pylog.errors import KafkaError

GOLDEN = Path(__file__).parents[3] / "golden" / "assignors" / "kafka43.jsonl.gz"
with gzip.open(GOLDEN, "rt") as lines:
    CASES = [json.loads(line) for line in lines]
ASSIGNORS = assignors(["uniform", "org.apache.kafka.coordinator.group.assignor.RangeAssignor"])


def spec_of(members: dict[str, MemberSpec], counts: dict[bytes, int]) -> Spec:
    taken: dict[bytes, set[int]] = {}
    for each in members.values():
        for topic, found in each.target.items():
            taken.setdefault(topic, set()).update(found)
    is_uniform = len({frozenset(each.topics) for each in members.values()}) == 1
    return Spec(
        members,
        {member_id: each.target for member_id, each in members.items()},
        is_uniform,
        lambda topic_id: counts.get(topic_id, 0),
        lambda topic_id: taken.get(topic_id, ()),
    )


def named(ids: list[bytes], target: dict[str, list[int]]) -> Target:
    return {ids[int(number)]: frozenset(partitions) for number, partitions in target.items()}


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_targets_are_those_of_kafka(case: dict[str, Any]) -> None:
    ids = [bytes.fromhex(text) for text, _ in case["topics"]]
    members = {
        member_id: MemberSpec(instance_id, dict.fromkeys(ids[number] for number in topics), named(ids, target))
        for member_id, instance_id, topics, target in case["members"]
    }
    spec = spec_of(members, dict(zip(ids, (count for _, count in case["topics"]), strict=True)))
    targets = ASSIGNORS[case["assignor"]](spec)
    assert [targets.get(each, {}) for each in members] == [named(ids, target) for target in case["targets"]]


def test_there_are_cases_of_each_kind() -> None:
    assert len(CASES) > 200
    assert {case["assignor"] for case in CASES} == {"uniform", "range"}


TOPICS = [bytes([number]) * 16 for number in range(1, 5)]


@settings(max_examples=60)
@given(
    st.sampled_from(["uniform", "range"]),
    st.lists(st.sets(st.sampled_from(TOPICS)), min_size=1, max_size=7),
    st.lists(st.integers(1, 9), min_size=4, max_size=4),
)
def test_every_partition_that_is_read_has_one_owner(name: str, read: list[set[bytes]], counts: list[int]) -> None:
    members = {f"m{number}": MemberSpec(None, dict.fromkeys(sorted(topics)), {}) for number, topics in enumerate(read)}
    sizes = dict(zip(TOPICS, counts, strict=True))
    targets = ASSIGNORS[name](spec_of(members, sizes))
    given_out = [(topic, index) for target in targets.values() for topic, found in target.items() for index in found]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) == {(topic, index) for topic in set().union(*read) for index in range(sizes[topic])}
    assert all(set(target) <= set(members[member_id].topics) for member_id, target in targets.items())
    again = {each: member._replace(target=targets.get(each, {})) for each, member in members.items()}
    assert ASSIGNORS[name](spec_of(again, sizes)) == targets, "nothing changed, so nothing moves"


def test_a_topic_that_is_not_known_is_an_error() -> None:
    with pytest.raises(KafkaError):
        ASSIGNORS["uniform"](spec_of({"m": MemberSpec(None, {TOPICS[0]: None}, {})}, {}))


def test_hashes_are_those_of_kafka() -> None:
    """Computed with the hash library that Kafka 4.3.1 brings along."""
    expected = (-2597371438732435626, -8452334059876241869, -5337132164931768800, 1544348500551797679)
    for number, value in enumerate(expected):
        high = 0x1122334455667788 * (number + 1) & (1 << 64) - 1
        topic_id = high.to_bytes(8, "big") + (0x99AABBCCDDEEFF00 + number).to_bytes(8, "big")
        racks = [["rack-b", "rack-a"][: index % 3] for index in range(number * 3)]
        assert topic_hash("topic-" + "é" * number + str(number), topic_id, racks) == value
    assert group_hash({"b": -7, "a": 5}) == -4646943608980624969
    assert group_hash({}) == 0


@given(st.sets(st.integers(-3, 1 << 18) | st.integers(0, 40)), st.sampled_from([16, 64, 1 << 17]))
def test_numbers_that_fit_the_table_are_walked_in_their_order(numbers: set[int], table: int) -> None:
    assert int_order(numbers, table) == hash_order(sorted(numbers), int_hash, table)

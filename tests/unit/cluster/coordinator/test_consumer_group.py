"""Groups of the consumer protocol beside what Kafka was seen to do: time, failing and slow writes, loading, expiry."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from cluster.coordinator.consumer_group import ConsumerGroup
from cluster.coordinator.consumer_protocol import write_assignment
from cluster.coordinator.consumer_records import PartitionsKnown, PartitionsKnownDeleted
from cluster.coordinator.consumer_regex import Resolved, check_regex, matching
from cluster.coordinator.context import ConsumerConfig, GroupConfig
from cluster.coordinator.group_coordinator import GroupCoordinator
from cluster.coordinator.group_records import decode
from cluster.coordinator.group_state import GroupState
from cluster.effects import Shard
from cluster.protocol import messages as m
from cluster.protocol.records import encode_versioned
from pylog.errors import ErrorCode, KafkaError
from tests.transcripts.group_driver import OFFSETS, Driver, error, subscription

SHARD = Shard(OFFSETS, 0)
SESSION_MS = 45_000
REBALANCE_MS = 60_000


def driver(**more: object) -> Driver:
    consumer = ConsumerConfig(assignment_interval_ms=0)._replace(**more)  # type: ignore[arg-type]
    return Driver(GroupConfig(offsets_topic_partitions=1, initial_rebalance_delay_ms=0, consumer=consumer))


def group(driver: Driver) -> ConsumerGroup:
    machine = driver.runtime._hosted[SHARD].machine
    assert isinstance(machine, GroupCoordinator)
    found = machine._groups["g"]
    assert isinstance(found, ConsumerGroup)
    return found


def request(
    driver: Driver,
    member: str,
    epoch: int,
    *,
    owned: list[int] | None = None,
    topics: list[str] | None = None,
    regex: str | None = None,
    instance: str | None = None,
) -> m.ConsumerGroupHeartbeatRequest:
    entry = m.ConsumerGroupHeartbeatRequest.TopicPartitions
    topic_id = driver.topics.topic_id("t")
    assert topic_id is not None
    partitions = [] if epoch == 0 else None
    if owned is not None:
        partitions = [entry(topic_id=topic_id, partitions=owned)]
    return m.ConsumerGroupHeartbeatRequest(
        group_id="g",
        member_id=member,
        member_epoch=epoch,
        instance_id=instance,
        rebalance_timeout_ms=REBALANCE_MS if epoch == 0 else -1,
        subscribed_topic_names=["t"] if topics is None and regex is None and epoch == 0 else topics,
        subscribed_topic_regex=regex,
        topic_partitions=partitions,
    )


def beat(driver: Driver, member: str, epoch: int, **more: object) -> m.ConsumerGroupHeartbeatResponse:
    return driver.ask(request(driver, member, epoch, **more), 1, m.ConsumerGroupHeartbeatResponse)  # type: ignore[arg-type]


def facts(driver: Driver) -> list[object]:
    return [decode(*record) for record in driver.logs[SHARD]]


# Time -----------------------------------------------------------------------------------------------------------------


def test_a_session_ends_when_nothing_is_heard() -> None:
    it = driver()
    beat(it, "m1", 0)
    it.advance(SESSION_MS - 1)
    assert beat(it, "m1", 2).error_code == 0
    it.advance(SESSION_MS - 1)
    assert "m1" in group(it).members
    it.advance(1)
    assert not group(it).members
    assert group(it).state is GroupState.EMPTY
    assert beat(it, "m1", 2).error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_group_has_a_session_of_its_own_within_bounds() -> None:
    it = driver()
    machine = it.runtime._hosted[SHARD].machine
    assert isinstance(machine, GroupCoordinator)
    machine._overrides = lambda group_id: {"consumer.session.timeout.ms": "1", "consumer.heartbeat.interval.ms": "7000"}
    assert beat(it, "m1", 0).heartbeat_interval_ms == 7_000
    it.advance(SESSION_MS - 1)  # the broker's least, not 1
    assert "m1" in group(it).members
    it.advance(1)
    assert not group(it).members


def test_who_does_not_give_up_in_time_goes() -> None:
    it = driver()
    beat(it, "m1", 0)
    beat(it, "m2", 0)
    beat(it, "m1", 2)
    for _ in range(2):
        it.advance(REBALANCE_MS // 2 - 1)
        assert beat(it, "m1", 2, owned=[0, 1, 2, 3]).error_code == 0
        assert beat(it, "m2", 3).error_code == 0
    it.advance(2)
    assert set(group(it).members) == {"m2"}
    assert {index for each in group(it).members.values() for index in each.assigned.get(b"", ())} == set()
    told = beat(it, "m2", 3).assignment
    assert told is not None and told.topic_partitions[0].partitions == [0, 1, 2, 3]


def test_who_gave_up_in_time_stays() -> None:
    it = driver()
    beat(it, "m1", 0)
    beat(it, "m2", 0)
    beat(it, "m1", 2)
    assert beat(it, "m1", 2, owned=[0, 1]).member_epoch == 3
    for _ in range(3):
        it.advance(REBALANCE_MS // 2)
        assert beat(it, "m1", 3).error_code == 0
        beat(it, "m2", 3)
    assert set(group(it).members) == {"m1", "m2"}


def test_members_that_come_together_are_assigned_together() -> None:
    it = driver(assignment_interval_ms=1_000)
    assert beat(it, "m1", 0).member_epoch == 2
    assert beat(it, "m2", 0).member_epoch == 2, "the last assignment is too young for another"
    assert group(it).state is GroupState.ASSIGNING
    it.advance(1_000)
    assert beat(it, "m2", 2).member_epoch == 3
    assert group(it).assignment_epoch == group(it).epoch == 3


# Topics ---------------------------------------------------------------------------------------------------------------


def test_more_partitions_are_assigned() -> None:
    it = driver()
    beat(it, "m1", 0)
    it.topics.put("t", 6)
    told = beat(it, "m1", 2).assignment
    assert told is not None and told.topic_partitions[0].partitions == [0, 1, 2, 3, 4, 5]
    assert group(it).epoch == 3
    it.topics.put("elsewhere", 1)
    assert beat(it, "m1", 3).member_epoch == 3


def test_a_topic_that_comes_later_is_assigned() -> None:
    it = driver()
    told = beat(it, "m1", 0, topics=["later"]).assignment
    assert told is not None and not told.topic_partitions
    it.topics.put("later", 2)
    told = beat(it, "m1", 2).assignment
    assert told is not None and told.topic_partitions[0].partitions == [0, 1]


def test_new_topics_are_found_by_their_pattern() -> None:
    it = driver()
    beat(it, "m1", 0, regex="t.*")
    (ask,) = it.take_questions()
    it.tell(ask, Resolved({"t.*": frozenset({"t"})}, it.topics.version(), it.now_ms))
    assert beat(it, "m1", 1).member_epoch == 2
    it.topics.put("t2", 1)
    it.advance(5_000)
    beat(it, "m1", 2)
    assert not it.take_questions(), "patterns are not resolved more often than that"
    it.advance(6_000)
    beat(it, "m1", 2)
    beat(it, "m1", 2)
    (ask,) = it.take_questions()
    it.tell(ask, Resolved({"t.*": frozenset({"t", "t2"})}, it.topics.version(), it.now_ms))
    told = beat(it, "m1", 2).assignment
    assert told is not None and len(told.topic_partitions) == 2


def test_patterns_take_time_in_proportion() -> None:
    names = ["a" * 200 + "b", "aaab", "t"]
    assert matching(("(a*)*b", "t", "x.*"), names) == {
        "(a*)*b": frozenset(names[:2]),
        "t": frozenset({"t"}),
        "x.*": frozenset(),
    }
    for bad in ("(a", "(?=a)", "((a{100}){100}){100}"):
        with pytest.raises(KafkaError) as refused:
            check_regex(bad)
        assert refused.value.code is ErrorCode.INVALID_REGULAR_EXPRESSION


# Writes ---------------------------------------------------------------------------------------------------------------


def test_while_a_change_is_on_its_way_others_wait_their_turn() -> None:
    it = driver()
    it.commits = False
    first = it.send("first", request(it, "m1", 0), 1)
    second = it.send("second", request(it, "m2", 0), 1)
    assert not it.answers
    assert len(it.logs[SHARD]) == 5, "the second is decided when the first is part of the group"
    it.commits = True
    it.commit()
    answers = [it.answer(each, m.ConsumerGroupHeartbeatResponse) for each in (first, second)]
    assert [each.member_epoch for each in answers] == [2, 3]


def test_a_write_that_fails_changes_nothing() -> None:
    it = driver()
    it.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    assert beat(it, "m1", 0).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    it.write_error = None
    assert beat(it, "m1", 0).member_epoch == 2


def test_a_departure_that_fails_ends_no_session() -> None:
    it = driver()
    beat(it, "m1", 0)
    it.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    assert beat(it, "m1", -1).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert "m1" in group(it).members
    it.write_error = None
    it.advance(SESSION_MS)
    assert not group(it).members


def test_a_write_that_takes_too_long_is_not_decided_over() -> None:
    it = driver()
    it.commits = False
    it.send("first", request(it, "m1", 0), 1)
    it.send("second", request(it, "m2", 0), 1)
    it.advance(5_000)
    for who in ("first", "second"):
        assert it.answer(who, m.ConsumerGroupHeartbeatResponse).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert beat(it, "m3", 0).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    it.commits = True
    it.commit()
    assert set(group(it).members) == {"m1"}, "the log decided for it"
    assert beat(it, "m3", 0).member_epoch == 3


def test_losing_the_shard_answers_who_waits() -> None:
    it = driver()
    it.commits = False
    for who in ("m1", "m2"):
        it.send(who, request(it, who, 0), 1)
    it.unload()
    for who in ("m1", "m2"):
        assert it.answer(who, m.ConsumerGroupHeartbeatResponse).error_code == ErrorCode.NOT_COORDINATOR


def test_a_shard_that_is_loading_says_so() -> None:
    it = driver()
    it.unload()
    assert beat(it, "m1", 0).error_code == ErrorCode.NOT_COORDINATOR
    it.runtime.load_start(OFFSETS, 0, 1)
    assert beat(it, "m1", 0).error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    described = it.ask(m.ConsumerGroupDescribeRequest(group_ids=["g"]), 1, m.ConsumerGroupDescribeResponse)
    assert described.groups[0].error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS


# Loading --------------------------------------------------------------------------------------------------------------


def test_a_new_coordinator_goes_on() -> None:
    it = driver()
    beat(it, "m1", 0)
    beat(it, "m2", 0)
    beat(it, "m1", 2)
    it.restart()
    assert group(it).state is GroupState.RECONCILING
    assert beat(it, "m1", 2, owned=[0, 1]).member_epoch == 3
    assert beat(it, "m2", 3).assignment is not None
    it.advance(SESSION_MS)
    assert not group(it).members, "sessions began anew, and ended"


def test_the_rebalance_timeout_outlives_a_coordinator() -> None:
    it = driver()
    beat(it, "m1", 0)
    beat(it, "m2", 0)
    beat(it, "m1", 2)
    it.restart()
    for _ in range(2):
        it.advance(REBALANCE_MS // 2)
        beat(it, "m1", 2, owned=[0, 1, 2, 3])
        beat(it, "m2", 3)
    assert set(group(it).members) == {"m2"}


def test_what_kafka_3_9_wrote_of_topics_is_removed_with_the_next_epoch() -> None:
    it = driver()
    beat(it, "m1", 0)
    key = encode_versioned(m.ConsumerGroupPartitionMetadataKey(group_id="g"), 4)
    it.logs[SHARD].append((key, encode_versioned(m.ConsumerGroupPartitionMetadataValue(), 0)))
    it.restart()
    assert isinstance(facts(it)[-1], PartitionsKnown)
    assert group(it).has_partitions_record
    beat(it, "m2", 0)
    assert PartitionsKnownDeleted("g") in facts(it)
    assert not group(it).has_partitions_record


# Conversion -----------------------------------------------------------------------------------------------------------


def classic(it: Driver, who: Hashable, **more: object) -> Hashable:
    protocols = [("range", subscription("t"))]
    return it.join(who, version=3, rebalance_ms=REBALANCE_MS, session_ms=10_000, protocols=protocols, **more)  # type: ignore[arg-type, func-returns-value]


def test_whoever_waits_to_join_a_classic_group_is_asked_to_join_its_successor() -> None:
    it = driver()
    classic(it, "a")
    member = it.joined("a").member_id
    classic(it, "b")
    assert "b" not in it.answers, "it waits for the first to join again"
    assert beat(it, "m1", 0).error_code == 0
    assert error(it.joined("b")) == ErrorCode.REBALANCE_IN_PROGRESS
    assert member in group(it).members
    it.advance(10_000)
    assert set(group(it).members) == {"m1"}, "the classic members were not heard of within their sessions"


def test_what_was_assigned_before_an_unfinished_rebalance_is_still_somebodys() -> None:
    it = driver()
    protocols = [("cooperative-sticky", subscription("t"))]
    it.join("a", protocols=protocols)
    a = it.joined("a").member_id
    t = it.topics.topic_id("t")
    assert t is not None
    assign = {a: write_assignment({t: frozenset({0, 1})}, it.topics, 1)}
    it.sync("a syncs", member=a, generation=1, assign=assign)
    it.join("b", protocols=protocols)
    it.join("a again", member=a, protocols=protocols)
    b = it.joined("b").member_id
    it.sync("b syncs", member=b, generation=2)
    it.join("c", protocols=protocols)  # so the second generation is never assigned
    assert error(it.answer("b syncs", m.SyncGroupResponse)) == ErrorCode.REBALANCE_IN_PROGRESS
    assert beat(it, "m1", 0).error_code == 0
    assert set(group(it).members[a].assigned[t]) == {0, 1}, "nobody has told it to give them up"
    assert {0, 1}.isdisjoint(*group(it).members["m1"].assigned.values())


def owning(*partitions: int, generation: int) -> bytes:
    topic = m.ConsumerProtocolSubscription.TopicPartition(topic="t", partitions=list(partitions))
    said = m.ConsumerProtocolSubscription(topics=["t"], owned_partitions=[topic], generation_id=generation)
    return encode_versioned(said, 2)


def test_what_a_classic_member_may_not_have_heard_to_give_up_is_still_its_own() -> None:
    """It was taken away in a generation that was committed; the answer is lost, and the coordinator moves."""
    it = driver()
    t = it.topics.topic_id("t")
    assert t is not None
    it.join("a", protocols=[("cooperative-sticky", owning(generation=-1))])
    a = it.joined("a").member_id
    everything = {a: write_assignment({t: frozenset({0, 1})}, it.topics, 1)}
    it.sync("a syncs", member=a, generation=1, assign=everything)
    it.join("b", protocols=[("cooperative-sticky", owning(generation=-1))])
    it.join("a again", member=a, protocols=[("cooperative-sticky", owning(0, 1, generation=1))])
    it.sync("unheard", member=a, generation=2, assign={a: write_assignment({t: frozenset({0})}, it.topics, 1)})
    it.restart()
    assert beat(it, "m1", 0).error_code == 0
    assert {1}.isdisjoint(*group(it).members["m1"].owned().values()), "the first member reads it still"
    assert set(group(it).members[a].owned()[t]) == {0, 1}
    assert beat(it, "m1", 3).assignment is None
    it.join("a hears", member=a, protocols=[("cooperative-sticky", owning(0, 1, generation=2))])
    assert error(it.joined("a hears")) == 0
    it.sync("a gives it up", member=a, generation=it.joined("a hears").generation_id)
    told = it.answer("a gives it up", m.SyncGroupResponse)
    assert error(told) == 0
    assert b"\0\0\0\1\0\0\0\0" in told.assignment, "the first partition alone"
    it.join("a has", member=a, protocols=[("cooperative-sticky", owning(0, generation=2))])
    assert group(it).members[a].revoking == {}
    beat(it, "m1", 3)
    owners = [member.owned().get(t, {}).keys() for member in group(it).members.values()]
    assert sum(map(len, owners)) == len(set().union(*owners))
    assert 1 not in group(it).members[a].owned()[t], "whoever is to have it may have it"


def test_who_is_refused_by_a_consumer_group_is_told_as_kafka_tells() -> None:
    it = driver()
    beat(it, "m1", 0)
    it.join("k", version=7, protocols=[("range", subscription("t"))])
    it.join("named", version=7, protocol_type="connect", member="m2")
    required, refused = it.joined("k"), it.joined("named")
    assert (error(required), required.protocol_name) == (ErrorCode.MEMBER_ID_REQUIRED, None)
    assert (error(refused), refused.member_id) == (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "")
    asked = m.ConsumerGroupDescribeRequest(group_ids=[""])
    (described,) = it.ask(asked, 1, m.ConsumerGroupDescribeResponse).groups
    assert (described.error_code, described.error_message) == (ErrorCode.INVALID_GROUP_ID, None)


def test_a_group_that_may_not_be_upgraded_is_not() -> None:
    it = driver(migration_policy="downgrade")
    classic(it, "a")
    refused = beat(it, "m1", 0)
    assert refused.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert "upgrade is disabled" in (refused.error_message or "")


def test_a_group_of_other_bytes_is_not_upgraded() -> None:
    it = driver()
    it.join("a", version=3, protocols=[("range", b"\0")])
    assert beat(it, "m1", 0).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    other = driver()
    other.join("a", version=3, protocol_type="connect", protocols=[("sessioned", b"")])
    assert beat(other, "m1", 0).error_code == ErrorCode.GROUP_ID_NOT_FOUND


# Deletion -------------------------------------------------------------------------------------------------------------


def test_offsets_that_nobody_reads_expire_and_the_empty_group_with_them() -> None:
    it = driver()
    beat(it, "m1", 0)
    assert it.commit_offsets({("t", 0): 5, ("u", 0): 6}, member="m1", generation=2, version=9) == [0, 0]
    retention_ms = it.config.offsets_retention_ms
    it.advance(retention_ms + it.config.offsets_retention_check_interval_ms)
    machine = it.runtime._hosted[SHARD].machine
    assert isinstance(machine, GroupCoordinator)
    assert "g" not in machine._groups
    it.restart()
    machine = it.runtime._hosted[SHARD].machine
    assert isinstance(machine, GroupCoordinator)
    assert "g" not in machine._groups


@pytest.mark.parametrize("by_request", [True, False])
def test_nothing_is_kept_of_a_group_that_is_gone(by_request: bool) -> None:
    it = driver()
    beat(it, "m1", 0)
    beat(it, "m1", -1)
    machine = it.runtime._hosted[SHARD].machine
    assert isinstance(machine, GroupCoordinator)
    assert machine.consumers._lanes
    if by_request:
        request = m.DeleteGroupsRequest(groups_names=["g"])
        assert it.ask(request, 2, m.DeleteGroupsResponse).results[0].error_code == 0
    else:
        it.advance(GroupConfig().offsets_retention_check_interval_ms)
    assert not machine._groups
    assert not machine.consumers._lanes
    assert not machine.consumers._rebalances


def test_a_full_group_takes_nobody_but_its_members() -> None:
    it = driver(max_size=1)
    beat(it, "m1", 0)
    assert beat(it, "m2", 0).error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert beat(it, "m1", 0).error_code == 0

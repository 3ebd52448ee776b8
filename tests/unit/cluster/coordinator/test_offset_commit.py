"""Committing and fetching offsets: who may, what is told when, and what survives."""

from __future__ import annotations

import pytest

from cluster.coordinator.context import GroupConfig, RequestContext
from cluster.coordinator.shard import Marker
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import OFFSETS, Driver, commit_errors, error

T0, T1, U0 = ("t", 0), ("t", 1), ("u", 0)


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.mark.parametrize("version", range(2, 11))
def test_every_version_commits(driver: Driver, version: int) -> None:
    assert driver.commit_offsets({T0: 5, T1: 6, U0: 7}, version=version) == [0, 0, 0]
    assert driver.fetch() == {T0: 5, T1: 6, U0: 7}
    driver.restart()
    assert driver.fetch() == {T0: 5, T1: 6, U0: 7}


def test_answered_offsets_are_in_the_log_first(driver: Driver) -> None:
    driver.commits = False
    driver.send_commit("c", {T0: 5})
    assert "c" not in driver.answers
    assert driver.fetch(T0) == {T0: -1}, "nobody may start from an offset that can still be lost"
    driver.commit()
    assert commit_errors(driver.answer("c", m.OffsetCommitResponse)) == [0]
    assert driver.fetch(T0) == {T0: 5}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"member": "M", "generation": 1}, ErrorCode.NONE),
        ({"member": "M", "generation": 2}, ErrorCode.ILLEGAL_GENERATION),
        ({"member": "M", "generation": -1}, ErrorCode.ILLEGAL_GENERATION),
        ({"member": "nobody", "generation": 1}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"member": "", "generation": -1}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"member": "", "generation": 1}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"member": "M", "generation": 1, "instance": "i"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"group": "new", "generation": 3}, ErrorCode.ILLEGAL_GENERATION),
        ({"group": "new", "generation": -1}, ErrorCode.NONE),
        ({"group": "", "generation": -1}, ErrorCode.NONE),
    ],
)
def test_who_may_commit_beside_a_live_group(driver: Driver, asked: dict[str, object], code: ErrorCode) -> None:
    (member,) = driver.stable_group("a")
    if asked.get("member") == "M":
        asked = asked | {"member": member}
    assert driver.commit_offsets({T0: 1, T1: 2}, **asked) == [code, code]  # type: ignore[arg-type]


def test_members_commit_during_a_rebalance_but_not_before_they_have_their_assignment(driver: Driver) -> None:
    (member,) = driver.stable_group("a")
    driver.join("b")
    assert driver.commit_offsets({T0: 1}, member=member, generation=1) == [0]
    driver.join("a2", member=member)
    assert driver.commit_offsets({T0: 2}, member=member, generation=2) == [ErrorCode.REBALANCE_IN_PROGRESS]
    assert driver.fetch() == {T0: 1}


def test_a_member_of_an_empty_group_is_nobody(driver: Driver) -> None:
    (member,) = driver.stable_group("a")
    driver.leave((member, None))
    assert driver.commit_offsets({T0: 1}, member=member, generation=1) == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert driver.commit_offsets({T0: 1}) == [0]


def test_partitions_that_are_not_there(driver: Driver) -> None:
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    offsets = {("nope", 0): 1, T0: 2, ("t", 4): 3, ("t", -1): 4}
    assert driver.commit_offsets(offsets) == [unknown, 0, unknown, unknown]
    assert driver.fetch() == {T0: 2}
    assert driver.commit_offsets({("nope", 0): 1}, group="new", generation=3) == [unknown], "no group is asked for that"


def test_topic_ids(driver: Driver) -> None:
    who = driver.send_commit("c", {T0: 2, ("nope", 0): 1}, version=10)
    answer = driver.answer(who, m.OffsetCommitResponse)
    assert commit_errors(answer) == [0, ErrorCode.UNKNOWN_TOPIC_ID]
    assert [topic.topic_id for topic in answer.topics] == [driver.topics.topic_id("t"), b"?" * 16]


def test_metadata(driver: Driver) -> None:
    assert driver.commit_offsets({T0: 1}, metadata="x" * 4096) == [0]
    assert driver.commit_offsets({T0: 2}, metadata="x" * 4097) == [ErrorCode.OFFSET_METADATA_TOO_LARGE]
    assert driver.commit_offsets({T0: 3}, metadata="é" * 4096) == [0], "characters are counted, not bytes"
    assert driver.commit_offsets({T0: 4}, metadata="\U0001f600" * 2049) == [ErrorCode.OFFSET_METADATA_TOO_LARGE]
    assert driver.commit_offsets({T0: 5}, metadata=None) == [0]
    assert driver.fetch() == {T0: 5}


def test_what_fits_is_committed_beside_metadata_that_does_not(driver: Driver) -> None:
    request = m.OffsetCommitRequest(group_id="g")
    for partition, metadata in enumerate(["", "x" * 5000]):
        entry = m.OffsetCommitRequest.OffsetCommitRequestPartition(
            partition_index=partition, committed_offset=9, committed_metadata=metadata
        )
        topic = m.OffsetCommitRequest.OffsetCommitRequestTopic(name="t", partitions=[entry])
        request.topics.append(topic)
    answer = driver.ask(request, 7, m.OffsetCommitResponse)
    assert commit_errors(answer) == [0, ErrorCode.OFFSET_METADATA_TOO_LARGE]
    assert driver.fetch() == {T0: 9}


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.RECORD_LIST_TOO_LARGE, ErrorCode.INVALID_COMMIT_OFFSET_SIZE),
        (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.REQUEST_TIMED_OUT),
    ],
)
def test_a_commit_that_cannot_be_written(driver: Driver, failed: ErrorCode, said: ErrorCode) -> None:
    driver.commit_offsets({T0: 1})
    driver.write_error = failed
    assert driver.commit_offsets({T0: 2, T1: 2}) == [said, said]
    driver.write_error = None
    assert driver.fetch(T0, T1, stable=True) == {T0: 1, T1: -1}


def test_a_commit_that_takes_too_long_counts_when_it_is_committed_after_all(driver: Driver) -> None:
    driver.commits = False
    driver.send_commit("c", {T0: 5})
    driver.advance(4_999)
    assert "c" not in driver.answers
    driver.advance(1)
    assert commit_errors(driver.answer("c", m.OffsetCommitResponse)) == [ErrorCode.REQUEST_TIMED_OUT]
    driver.commit()
    assert driver.fetch() == {T0: 5}
    driver.restart()
    assert driver.fetch() == {T0: 5}


def test_what_no_record_can_say_fails_the_request_and_nothing_else() -> None:
    driver = Driver(GroupConfig(offsets_topic_partitions=1, offset_metadata_max_bytes=100_000))
    driver.commits = False
    driver.send_commit("before", {T0: 1})
    entry = m.OffsetCommitRequest.OffsetCommitRequestPartition(committed_offset=2, committed_metadata="x" * 40_000)
    topic = m.OffsetCommitRequest.OffsetCommitRequestTopic(name="t", partitions=[entry])
    ctx = driver.asked["long"] = RequestContext("long", ApiKey.OFFSET_COMMIT, 7)
    request = m.OffsetCommitRequest(group_id="g", topics=[topic])
    driver.carry_out(driver.runtime.request(None, ctx, request, driver.now_ms))
    assert commit_errors(driver.answer("long", m.OffsetCommitResponse)) == [ErrorCode.INVALID_COMMIT_OFFSET_SIZE]
    driver.send_commit("after", {T0: 3})
    driver.commit()
    assert driver.fetch(stable=True) == {T0: 3}
    assert {"before", "after"} <= driver.answers.keys()


def test_an_offset_with_its_own_retention_keeps_it_over_a_restart(driver: Driver) -> None:
    driver.commit_offsets({T0: 1}, version=4, retention_ms=700_000)
    driver.commit_offsets({T1: 1}, version=4, retention_ms=2**63 - 1)
    driver.restart()
    driver.advance(600_000)
    assert driver.fetch() == {T0: 1, T1: 1}
    driver.advance(600_000)
    assert driver.fetch() == {T1: 1}


class TestFetch:
    @pytest.mark.parametrize("version", range(1, 11))
    def test_every_version_fetches(self, driver: Driver, version: int) -> None:
        driver.commit_offsets({T0: 5}, metadata="note")
        answer = self.fetch(driver, version, "t", [0, 1])
        assert [(each.committed_offset, each.metadata, each.error_code) for each in answer] == [
            (5, "note", 0),
            (-1, "", 0),
        ]

    def fetch(
        self, driver: Driver, version: int, name: str, partitions: list[int]
    ) -> list[m.OffsetFetchResponse.OffsetFetchResponsePartition | m.OffsetFetchResponse.OffsetFetchResponsePartitions]:
        request = m.OffsetFetchRequest()
        if version < 8:
            request.group_id = "g"
            request.topics = [m.OffsetFetchRequest.OffsetFetchRequestTopic(name=name, partition_indexes=partitions)]
            return [*driver.ask(request, version, m.OffsetFetchResponse).topics[0].partitions]
        topic = m.OffsetFetchRequest.OffsetFetchRequestTopics(
            name=name, topic_id=driver.topics.topic_id(name) or b"?" * 16, partition_indexes=partitions
        )
        request.groups = [m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id="g", topics=[topic])]
        answered = driver.ask(request, version, m.OffsetFetchResponse).groups[0].topics[0]
        if version == 10:
            assert answered.topic_id == topic.topic_id
        return [*answered.partitions]

    def test_an_unknown_topic_has_no_offsets(self, driver: Driver) -> None:
        (answer,) = self.fetch(driver, 9, "nope", [0])
        assert (answer.committed_offset, answer.metadata, answer.error_code) == (-1, "", 0)

    def test_an_unknown_topic_id_is_an_error(self, driver: Driver) -> None:
        (answer,) = self.fetch(driver, 10, "nope", [0])
        assert (answer.committed_offset, answer.error_code) == (-1, ErrorCode.UNKNOWN_TOPIC_ID)

    def test_who_asks_by_id_is_told_of_everything_as_often_as_it_is_named(self, driver: Driver) -> None:
        """As by Kafka 4.3.1."""
        driver.commit_offsets({T0: 5})
        topic = m.OffsetFetchRequest.OffsetFetchRequestTopics
        known, strange = driver.topics.topic_id("t") or b"", b"?" * 16
        named = [(known, [0, 0]), (strange, [1]), (known, [0]), (strange, [1]), (known, [])]
        topics = [topic(topic_id=each, partition_indexes=numbers) for each, numbers in named]
        asked = m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id="g", topics=topics)
        (group,) = driver.ask(m.OffsetFetchRequest(groups=[asked]), 10, m.OffsetFetchResponse).groups
        told = [(each.topic_id, [part.partition_index for part in each.partitions]) for each in group.topics]
        assert told == named

    @pytest.mark.parametrize("version", range(2, 8))
    def test_all_of_a_group(self, driver: Driver, version: int) -> None:
        driver.commit_offsets({T0: 5, U0: 6})
        answer = driver.ask(m.OffsetFetchRequest(group_id="g", topics=None), version, m.OffsetFetchResponse)
        assert {each.name for each in answer.topics} == {"t", "u"}

    def test_all_of_a_group_by_id_leaves_out_topics_without_one(self, driver: Driver) -> None:
        driver.commit_offsets({T0: 5, U0: 6})
        del driver.topics.counts["u"]
        asked = m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id="g", topics=None)
        (group,) = driver.ask(m.OffsetFetchRequest(groups=[asked]), 10, m.OffsetFetchResponse).groups
        assert [each.topic_id for each in group.topics] == [driver.topics.topic_id("t")]

    def test_an_unknown_group_has_nothing(self, driver: Driver) -> None:
        assert driver.fetch(group="never") == {}
        assert driver.fetch(T0, group="never") == {T0: -1}

    def test_many_groups_in_one_request_over_many_shards(self) -> None:
        driver = Driver(partitions=5)
        for number, group in enumerate("abcdef"):
            driver.commit_offsets({T0: number}, group=group)
        request = m.OffsetFetchRequest(
            groups=[m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id=group, topics=None) for group in "fedcba"]
        )
        answer = driver.ask(request, 8, m.OffsetFetchResponse)
        assert [group.group_id for group in answer.groups] == list("fedcba")
        assert [group.topics[0].partitions[0].committed_offset for group in answer.groups] == [5, 4, 3, 2, 1, 0]

    def test_one_shard_of_many_is_not_here(self) -> None:
        driver = Driver(partitions=5)
        driver.unload(driver.runtime.partition_for("a"))
        request = m.OffsetFetchRequest(
            groups=[m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id=group, topics=None) for group in "abc"]
        )
        answer = driver.ask(request, 8, m.OffsetFetchResponse)
        assert [group.error_code for group in answer.groups] == [ErrorCode.NOT_COORDINATOR, 0, 0]

    @pytest.mark.parametrize("version", range(1, 8))
    def test_old_versions_find_the_error_where_they_look_for_it(self, driver: Driver, version: int) -> None:
        driver.unload()
        topic = m.OffsetFetchRequest.OffsetFetchRequestTopic(name="t", partition_indexes=[0, 1])
        answer = driver.ask(m.OffsetFetchRequest(group_id="g", topics=[topic]), version, m.OffsetFetchResponse)
        if version == 1:
            found = [(each.error_code, each.committed_offset) for each in answer.topics[0].partitions]
            assert found == [(ErrorCode.NOT_COORDINATOR, -1)] * 2
        else:
            assert error(answer) == ErrorCode.NOT_COORDINATOR

    def test_stable_offsets_only(self, driver: Driver) -> None:
        driver.commit_offsets({T0: 1, T1: 1})
        driver.commits = False
        driver.send_commit("c1", {T0: 2})
        driver.send_commit("c2", {T0: 3})
        unstable = -ErrorCode.UNSTABLE_OFFSET_COMMIT
        assert driver.fetch(stable=True) == {T0: unstable, T1: 1}
        assert driver.fetch() == {T0: 1, T1: 1}
        driver.commit()
        assert driver.fetch(stable=True) == {T0: 3, T1: 1}


class TestTransactions:
    """Offsets of transactions, as they are found in a log."""

    def load(self, *steps: tuple[int, int] | str) -> Driver:
        """Steps: (producer, offset to commit; producer -1: a plain commit), or the end of producer 7's transaction."""
        source = Driver()
        for step in steps:
            if not isinstance(step, str):
                source.commit_offsets({T0: step[1]})
        (self.records,) = source.logs.values()
        taken = iter(enumerate(self.records))
        driver = Driver(host=False)
        driver.runtime.load_start(OFFSETS, 0, 0)
        for step in steps:
            if isinstance(step, str):
                driver.runtime.replay_marker(OFFSETS, 0, 7, commit=step == "commit")
            else:
                offset, (key, value) = next(taken)
                driver.runtime.replay(OFFSETS, 0, key, value, offset, step[0])
        driver.carry_out(driver.runtime.load_done(OFFSETS, 0, driver.now_ms))
        return driver

    def test_open(self) -> None:
        driver = self.load((-1, 1), (7, 2))
        assert driver.fetch() == {T0: 1}
        assert driver.fetch(T0, stable=True) == {T0: -ErrorCode.UNSTABLE_OFFSET_COMMIT}
        driver.carry_out(driver.runtime.marker(OFFSETS, 0, Marker(7, commit=True), offset=2, now_ms=driver.now_ms))
        assert driver.fetch(T0, stable=True) == {T0: -ErrorCode.UNSTABLE_OFFSET_COMMIT}  # until it is committed
        driver.carry_out(driver.runtime.committed(OFFSETS, 0, 3, driver.now_ms))
        assert driver.fetch(stable=True) == {T0: 2}

    def test_a_marker_that_comes_while_the_shard_is_loaded(self) -> None:
        driver = self.load((-1, 1), (7, 2))
        driver.unload()
        driver.runtime.load_start(OFFSETS, 0, 1)
        for offset, (key, value) in enumerate(self.records):
            driver.runtime.replay(OFFSETS, 0, key, value, offset, (-1, 7)[offset])
        driver.carry_out(driver.runtime.marker(OFFSETS, 0, Marker(7, commit=True), offset=2, now_ms=driver.now_ms))
        driver.carry_out(driver.runtime.committed(OFFSETS, 0, 3, driver.now_ms))
        driver.carry_out(driver.runtime.load_done(OFFSETS, 0, driver.now_ms))
        assert driver.fetch(stable=True) == {T0: 2}

    def test_committed_and_aborted(self) -> None:
        assert self.load((-1, 1), (7, 2), "commit").fetch(stable=True) == {T0: 2}
        assert self.load((-1, 1), (7, 2), "abort").fetch(stable=True) == {T0: 1}

    def test_the_later_record_wins_whenever_the_marker_comes(self) -> None:
        assert self.load((7, 2), (-1, 3), "commit").fetch() == {T0: 3}

    def test_a_group_with_nothing_but_an_open_transaction_stays(self) -> None:
        driver = self.load((7, 2))
        driver.advance(driver.config.offsets_retention_ms * 2)
        driver.carry_out(driver.runtime.marker(OFFSETS, 0, Marker(7, commit=True), offset=1, now_ms=driver.now_ms))
        driver.carry_out(driver.runtime.committed(OFFSETS, 0, 2, driver.now_ms))
        assert driver.fetch() == {T0: 2}

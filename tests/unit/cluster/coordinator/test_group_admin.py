"""Listing, describing and deleting groups, deleting offsets, and leaving."""

from __future__ import annotations

import pytest

from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver, error, subscription

T0, T1, U0 = ("t", 0), ("t", 1), ("u", 0)


@pytest.fixture
def driver() -> Driver:
    return Driver()


def listed(driver: Driver, version: int = 5, **asked: list[str]) -> dict[str, tuple[str, str, str]]:
    answer = driver.ask(m.ListGroupsRequest(**asked), version, m.ListGroupsResponse)  # type: ignore[arg-type]
    assert answer.error_code == 0
    return {each.group_id: (each.protocol_type, each.group_state, each.group_type) for each in answer.groups}


class TestList:
    def test_all_states(self, driver: Driver) -> None:
        driver.stable_group("a", group="stable")
        driver.join("b", group="preparing")
        driver.commit_offsets({T0: 1}, group="offsets")
        driver.join("c", group="completing")
        driver.advance(3_000)
        driver.join("b2", group="preparing")
        assert listed(driver) == {
            "stable": ("consumer", "Stable", "classic"),
            "preparing": ("consumer", "PreparingRebalance", "classic"),
            "offsets": ("", "Empty", "classic"),
            "completing": ("consumer", "CompletingRebalance", "classic"),
        }
        assert set(listed(driver, states_filter=["stable", "EMPTY"])) == {"stable", "offsets"}
        assert set(listed(driver, states_filter=["Stable"], types_filter=["Classic"])) == {"stable"}
        assert listed(driver, types_filter=["consumer"]) == {}
        assert listed(driver, states_filter=["nonsense"]) == {}

    @pytest.mark.parametrize("version", range(6))
    def test_every_version(self, driver: Driver, version: int) -> None:
        driver.stable_group("a")
        state = "Stable" if version >= 4 else ""
        assert listed(driver, version) == {"g": ("consumer", state, "classic" if version >= 5 else "")}

    def test_over_many_shards_and_while_one_loads(self) -> None:
        driver = Driver(partitions=5)
        for group in "abcdef":
            driver.commit_offsets({T0: 1}, group=group)
        assert set(listed(driver)) == set("abcdef")
        driver.unload(2)
        driver.runtime.load_start("__consumer_offsets", 2, 1)
        answer = driver.ask(m.ListGroupsRequest(), 5, m.ListGroupsResponse)
        assert error(answer) == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        assert {each.group_id for each in answer.groups} < set("abcdef")

    def test_a_broker_with_no_shard_has_no_groups(self) -> None:
        assert listed(Driver(host=False)) == {}


class TestDescribe:
    @pytest.mark.parametrize("version", range(7))
    def test_every_version(self, driver: Driver, version: int) -> None:
        leader, follower = driver.stable_group("a", "b")
        group = driver.describe(version=version)
        assert (group.error_code, group.group_id, group.group_state) == (0, "g", "Stable")
        assert (group.protocol_type, group.protocol_data) == ("consumer", "range")
        assert [(each.member_id, each.client_id, each.client_host) for each in group.members] == [
            (leader, "c", "/127.0.0.1"),
            (follower, "c", "/127.0.0.1"),
        ]
        assert [each.member_metadata for each in group.members] == [subscription("t")] * 2
        assert [each.member_assignment for each in group.members] == [b"0", b"1"]
        assert group.authorized_operations == -(2**31)

    def test_what_belongs_to_a_generation_is_shown_only_when_it_is_complete(self, driver: Driver) -> None:
        (member,) = driver.stable_group("a")
        driver.join("b")
        group = driver.describe()
        assert (group.group_state, group.protocol_data) == ("PreparingRebalance", "")
        assert group.members[0].member_id == member
        assert {(each.member_metadata, each.member_assignment) for each in group.members} == {(b"", b"")}

    @pytest.mark.parametrize("version", range(7))
    @pytest.mark.parametrize("group_id", ["never", ""])
    def test_an_unknown_group_is_dead(self, driver: Driver, version: int, group_id: str) -> None:
        group = driver.describe(group_id, version)
        assert (group.group_state, group.protocol_type, group.members) == ("Dead", "", [])
        assert group.error_code == (ErrorCode.GROUP_ID_NOT_FOUND if version >= 6 else 0)
        assert group.error_message == (f"Group {group_id} not found." if version >= 6 else None)

    def test_many_groups_keep_their_order(self) -> None:
        driver = Driver(partitions=5)
        driver.unload(driver.runtime.partition_for("d"))
        request = m.DescribeGroupsRequest(groups=list("dcbad"))
        answer = driver.ask(request, 5, m.DescribeGroupsResponse)
        assert [each.group_id for each in answer.groups] == list("dcbad")
        assert {each.error_code for each in answer.groups if each.group_id == "d"} == {ErrorCode.NOT_COORDINATOR}


class TestDelete:
    def delete(self, driver: Driver, *groups: str, version: int = 2) -> dict[str, ErrorCode]:
        answer = driver.ask(m.DeleteGroupsRequest(groups_names=list(groups)), version, m.DeleteGroupsResponse)
        assert len(answer.results) == len(set(groups))
        return {each.group_id: ErrorCode(each.error_code) for each in answer.results}

    @pytest.mark.parametrize("version", range(3))
    def test_an_empty_group_and_all_it_had(self, driver: Driver, version: int) -> None:
        (member,) = driver.stable_group("a")
        driver.commit_offsets({T0: 1, U0: 1}, member=member, generation=1)
        assert self.delete(driver, "g", version=version) == {"g": ErrorCode.NON_EMPTY_GROUP}
        driver.leave((member, None))
        assert self.delete(driver, "g", "g", "never", version=version) == {
            "g": ErrorCode.NONE,
            "never": ErrorCode.GROUP_ID_NOT_FOUND,
        }
        assert (driver.state(), driver.fetch(), listed(driver)) == ("Dead", {}, {})
        driver.restart()
        assert (driver.state(), driver.fetch(), listed(driver)) == ("Dead", {}, {})

    def test_it_is_answered_when_it_is_durable(self, driver: Driver) -> None:
        driver.commit_offsets({T0: 1})
        driver.commits = False
        driver.send("d", m.DeleteGroupsRequest(groups_names=["g"]), 2)
        assert "d" not in driver.answers
        driver.commit()
        assert driver.answer("d", m.DeleteGroupsResponse).results[0].error_code == 0

    def test_a_group_that_could_not_be_deleted_is_as_it_was(self, driver: Driver) -> None:
        driver.commit_offsets({T0: 1})
        driver.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
        assert self.delete(driver, "g") == {"g": ErrorCode.COORDINATOR_NOT_AVAILABLE}
        driver.write_error = None
        assert driver.fetch() == {T0: 1}
        assert driver.commit_offsets({T0: 2}) == [0]
        assert self.delete(driver, "g") == {"g": 0}

    def test_commits_on_their_way_go_too(self, driver: Driver) -> None:
        driver.commits = False
        driver.send_commit("c", {T0: 1})
        driver.send("d", m.DeleteGroupsRequest(groups_names=["g"]), 2)
        driver.commit()
        assert {"c", "d"} <= driver.answers.keys()
        driver.restart()
        assert driver.fetch() == {}

    def test_a_group_of_the_same_name_begins_anew(self, driver: Driver) -> None:
        (member,) = driver.stable_group("a")
        driver.leave((member, None))
        self.delete(driver, "g")
        driver.join("b")
        driver.advance(3_000)
        assert driver.joined("b").generation_id == 1

    def test_over_many_shards(self) -> None:
        driver = Driver(partitions=5)
        for group in "abcdef":
            driver.commit_offsets({T0: 1}, group=group)
        assert self.delete(driver, *"fedcba") == dict.fromkeys("abcdef", 0)
        assert listed(driver) == {}


class TestOffsetDelete:
    def delete(self, driver: Driver, *partitions: tuple[str, int], group: str = "g") -> ErrorCode | list[ErrorCode]:
        request = m.OffsetDeleteRequest(group_id=group)
        for name, partition in partitions:
            entry = m.OffsetDeleteRequest.OffsetDeleteRequestPartition(partition_index=partition)
            request.topics.append(m.OffsetDeleteRequest.OffsetDeleteRequestTopic(name=name, partitions=[entry]))
        answer = driver.ask(request, 0, m.OffsetDeleteResponse)
        if answer.error_code:
            assert answer.topics == []
            return ErrorCode(answer.error_code)
        return [ErrorCode(each.error_code) for topic in answer.topics for each in topic.partitions]

    def test_offsets_of_an_empty_group(self, driver: Driver) -> None:
        driver.commit_offsets({T0: 1, T1: 2})
        assert self.delete(driver, T0, U0, ("nope", 0), ("t", 9)) == [  # what is said of t stands together
            ErrorCode.NONE,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode.NONE,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ]
        assert driver.fetch() == {T1: 2}
        assert self.delete(driver, T1) == [0]
        assert driver.state() == "Dead", "nothing is left of it"
        driver.restart()
        assert driver.fetch() == {}

    def test_a_finished_group_goes_only_when_something_was_asked_for(self, driver: Driver) -> None:
        (member,) = driver.stable_group("a")
        driver.leave((member, None))
        assert self.delete(driver) == []
        assert self.delete(driver, ("nope", 0), ("t", 9)) == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION] * 2
        assert driver.state() == "Empty"
        assert self.delete(driver, T0) == [ErrorCode.NONE]
        assert driver.state() == "Dead"

    def test_a_live_consumer_group_keeps_what_it_reads(self, driver: Driver) -> None:
        (member,) = driver.stable_group("a")
        driver.commit_offsets({T0: 1, U0: 2}, member=member, generation=1)
        assert self.delete(driver, T0, U0) == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode.NONE]
        assert driver.fetch() == {T0: 1}

    def test_it_does_so_after_a_failover(self, driver: Driver) -> None:
        (member,) = driver.stable_group("a")
        driver.commit_offsets({T0: 1, U0: 2}, member=member, generation=1)
        driver.restart()
        assert self.delete(driver, T0, U0) == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode.NONE]

    def test_a_subscription_that_cannot_be_read_means_everything(self, driver: Driver) -> None:
        driver.commit_offsets({T0: 1})
        driver.join("a", protocols=[("range", b"?")])
        driver.advance(3_000)
        assert self.delete(driver, T0) == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC]

    def test_other_live_groups_keep_all(self, driver: Driver) -> None:
        driver.commit_offsets({T0: 1})
        driver.join("a", protocol_type="connect")
        assert self.delete(driver, T0) == ErrorCode.NON_EMPTY_GROUP

    def test_unknown_groups(self, driver: Driver) -> None:
        assert self.delete(driver, T0, group="never") == ErrorCode.GROUP_ID_NOT_FOUND
        assert self.delete(driver, T0, group="") == ErrorCode.INVALID_GROUP_ID

    def test_what_could_not_be_written(self, driver: Driver) -> None:
        driver.commit_offsets({T0: 1, T1: 1})
        driver.write_error = ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert self.delete(driver, T0, ("nope", 0)) == [
            ErrorCode.NOT_COORDINATOR,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ]


class TestLeave:
    @pytest.mark.parametrize("version", range(6))
    def test_every_version(self, driver: Driver, version: int) -> None:
        leader, follower = driver.stable_group("a", "b")
        assert driver.leave((follower, None), version=version) == (0, [0] if version >= 3 else [])
        assert driver.heartbeat(leader, 1) == ErrorCode.REBALANCE_IN_PROGRESS

    @pytest.mark.parametrize("version", range(6))
    @pytest.mark.parametrize("group", ["g", "never"])
    def test_strangers(self, driver: Driver, version: int, group: str) -> None:
        driver.stable_group("a")
        unknown = ErrorCode.UNKNOWN_MEMBER_ID
        expected = (0, [unknown]) if version >= 3 else (unknown, [])
        assert driver.leave(("nobody", None), version=version, group=group) == expected
        assert driver.leave(("nobody", None), version=version, group="") == (ErrorCode.INVALID_GROUP_ID, [])

    def test_many_at_once_are_one_rebalance(self, driver: Driver) -> None:
        first, second, third = driver.stable_group("a", "b", "c")
        assert driver.leave((second, None), (third, None), (second, None)) == (
            0,
            [0, 0, ErrorCode.UNKNOWN_MEMBER_ID],
        )
        driver.join("a2", member=first)
        assert driver.joined("a2").generation_id == 2

    def test_the_last_one_out_ends_the_generation(self, driver: Driver) -> None:
        (member,) = driver.stable_group("a")
        driver.leave((member, None))
        assert driver.state() == "Empty"
        driver.restart()
        assert (driver.state(), listed(driver)) == ("Empty", {"g": ("consumer", "Empty", "classic")})

    def test_parked_requests_of_one_who_leaves_are_answered(self, driver: Driver) -> None:
        leader, follower = driver.stable_group("a", "b")
        driver.join("b2", member=follower, protocols=[("range", b"new")])
        driver.leave((follower, None))
        assert (error(driver.joined("b2")), driver.joined("b2").member_id) == (ErrorCode.UNKNOWN_MEMBER_ID, "")
        driver.join("c")
        driver.join("a2", member=leader)
        other = driver.joined("c").member_id
        driver.sync("s", member=other, generation=2)
        driver.leave((other, None))
        assert error(driver.synced("s")) == ErrorCode.UNKNOWN_MEMBER_ID

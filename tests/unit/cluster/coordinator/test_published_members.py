"""Members whose heartbeats somebody else answers, and whose offsets he takes: nobody can tell, by any answer."""

from __future__ import annotations

import random

import pytest

from cluster.coordinator.context import GroupConfig
from cluster.coordinator.runtime import Taken
from cluster.effects import Append, PublishMembers, WithdrawMembers
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import OFFSETS, Driver, subscription
from tests.unit.cluster.coordinator.fronted_driver import SHARD, FrontedDriver

T0, T1 = ("t", 0), ("t", 1)


def test_members_are_open_while_the_group_is_stable() -> None:
    driver = FrontedDriver()
    driver.join("a")
    driver.advance(3_000)
    member = driver.joined("a").member_id
    assert not driver.published
    driver.appends = False
    driver.sync("s", member=member, generation=1, assign={member: b"x"})
    assert not driver.published, "the assignment may yet be lost"
    driver.appends = True
    driver.append_all()
    assert driver.is_open(member)
    assert driver.heartbeat(member, 1) == ErrorCode.NONE
    assert driver.front.answered == 1
    driver.join("b")
    assert driver.published == {("g", member): None}
    assert driver.heartbeat(member, 1) == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_member_that_only_somebody_else_hears_stays() -> None:
    driver = FrontedDriver()
    (member,) = driver.stable_group("a")
    for _ in range(10):
        driver.advance(9_999)
        assert driver.heartbeat(member, 1) == ErrorCode.NONE
    assert driver.front.answered == 10
    driver.advance(9_999)
    assert driver.state() == "Stable"
    driver.advance(1)
    assert driver.state() == "Empty"
    assert not driver.published
    assert not driver.front.heard


def test_what_was_heard_before_a_rebalance_counts_in_it() -> None:
    driver = FrontedDriver()
    leader, follower = driver.stable_group("a", "b")
    driver.advance(9_000)
    driver.heartbeat(follower, 1)
    driver.heartbeat(leader, 1)
    driver.join("a2", member=leader)
    driver.advance(9_000)
    assert driver.heartbeat(follower, 1) == ErrorCode.REBALANCE_IN_PROGRESS


def test_the_old_id_of_a_static_member_is_shut_at_once_and_the_new_one_opened_when_it_is_committed() -> None:
    driver = FrontedDriver()
    driver.join("a", instance="i", version=5)
    driver.advance(3_000)
    old = driver.joined("a").member_id
    driver.sync("s", member=old, instance="i", generation=1, assign={old: b"x"})
    assert driver.is_open(old)
    driver.appends = False
    driver.join("a2", instance="i", version=5)
    assert not driver.published
    assert driver.heartbeat(old, 1, instance="i") == ErrorCode.FENCED_INSTANCE_ID
    driver.appends = True
    driver.append_all()
    new = driver.joined("a2").member_id
    assert new != old
    assert driver.is_open(new)


def test_a_static_member_that_could_not_be_replaced_is_open_again() -> None:
    driver = FrontedDriver()
    driver.join("a", instance="i", version=5)
    driver.advance(3_000)
    member = driver.joined("a").member_id
    driver.sync("s", member=member, instance="i", generation=1, assign={member: b"x"})
    driver.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    driver.join("a2", instance="i", version=5)
    assert driver.joined("a2").error_code != 0
    assert driver.is_open(member)


def test_a_shard_that_goes_takes_its_members_along_and_one_that_comes_brings_them() -> None:
    driver = FrontedDriver()
    members = driver.stable_group("a", "b")
    driver.unload()
    assert not driver.published
    driver.load()
    assert all(driver.is_open(member) for member in members)


def test_a_group_that_goes_over_to_the_consumer_protocol_takes_nobody_along() -> None:
    driver = FrontedDriver(GroupConfig(offsets_topic_partitions=1, initial_rebalance_delay_ms=0))
    protocols = [("range", subscription("t"))]
    driver.join("a", protocols=protocols)
    member = driver.joined("a").member_id
    driver.sync("s", member=member, generation=1, assign={member: b""})
    assert driver.is_open(member)
    joins = m.ConsumerGroupHeartbeatRequest(
        group_id="g",
        member_id="m",
        member_epoch=0,
        rebalance_timeout_ms=60_000,
        subscribed_topic_names=["t"],
        topic_partitions=[],
    )
    assert driver.ask(joins, 1, m.ConsumerGroupHeartbeatResponse).error_code == 0
    assert not driver.published
    assert driver.heartbeat(member, 1) == ErrorCode.REBALANCE_IN_PROGRESS
    assert driver.front.answered == 0


def test_where_nobody_else_answers_nobody_is_published() -> None:
    driver = Driver()
    driver.stable_group("a", "b")
    driver.join("c")
    driver.unload()
    assert not any(isinstance(effect, PublishMembers | WithdrawMembers) for effect in driver.seen)


# ----------------------------------------------------------------------------------------------------- offsets


def removals(driver: Driver) -> list[Append]:
    return [
        each for each in driver.seen if isinstance(each, Append) and any(value is None for _, value in each.records)
    ]


def test_offsets_that_were_taken_are_known_to_the_next_request() -> None:
    driver = FrontedDriver()
    (member,) = driver.stable_group("a")
    driver.send_commit("c", {T0: 5, T1: 6}, member=member, generation=1)
    driver.send_commit("d", {T0: 7}, member=member, generation=1)
    assert driver.front.took == 2
    assert driver.fetch() == {T0: 7, T1: 6}
    driver.unload()
    driver.load(epoch=1)
    assert driver.fetch() == {T0: 7, T1: 6}


def test_what_is_not_committed_yet_is_unstable_and_not_told() -> None:
    driver = FrontedDriver()
    (member,) = driver.stable_group("a")
    driver.send_commit("c", {T0: 5}, member=member, generation=1)
    assert driver.fetch() == {T0: 5}
    driver.commits = False
    driver.take({T0: 6})
    driver.tell_taken()
    assert driver.fetch() == {T0: 5}
    assert driver.fetch(T0, stable=True) == {T0: -ErrorCode.UNSTABLE_OFFSET_COMMIT}
    driver.commit()
    assert driver.fetch() == {T0: 6}
    assert driver.fetch(T0, stable=True) == {T0: 6}


def test_what_the_machine_wrote_behind_it_may_be_replayed_first() -> None:
    driver = FrontedDriver()
    (member,) = driver.stable_group("a")
    driver.take({T0: 5})
    late, driver.told = driver.told, []
    driver.send_commit("c", {T0: 6, T1: 1}, member="", generation=-1, group="h")
    open_members, driver.front.published = driver.front.published, {}
    driver.send_commit("d", {T0: 7}, member=member, generation=1)
    driver.front.published = open_members
    assert driver.fetch() == {T0: 7}
    driver.told = late
    driver.tell_taken()
    assert driver.fetch() == {T0: 7}


def test_nothing_is_deleted_before_everything_was_heard() -> None:
    """An offset of a topic that went is removed once what came last was heard, however often that takes."""
    driver = FrontedDriver()
    driver.stable_group("a")
    driver.take({T0: 5})
    driver.tell_taken()
    driver.take({T0: 6})
    driver.carry_out(driver.runtime.on_topics_deleted(["t"], driver.now_ms))
    (removal,) = removals(driver)
    assert removal.heard is not None
    assert removal.heard < driver.taken_end
    driver.tell_taken()
    assert driver.fetch() == {T0: 6}
    driver.advance(100)
    assert len(removals(driver)) == 2
    assert driver.fetch() == {}


def test_what_is_committed_for_a_topic_of_the_same_name_is_kept() -> None:
    """However often the removal of what was committed for the one before has to be decided."""
    driver = FrontedDriver()
    driver.stable_group("a")
    driver.take({T0: 5, T1: 5})
    driver.tell_taken()
    driver.take({T1: 6})  # to the old one, too
    driver.carry_out(driver.runtime.on_topics_deleted(["t"], driver.now_ms))
    assert len(removals(driver)) == 1
    driver.now_ms += 1
    driver.take({T0: 7})
    driver.tell_taken()
    driver.advance(100)
    assert len(removals(driver)) == 2
    assert driver.fetch() == {T0: 7}


DELETE_GROUP = m.DeleteGroupsRequest(groups_names=["g"])
DELETE_T0 = m.OffsetDeleteRequest(
    group_id="g",
    topics=[
        m.OffsetDeleteRequest.OffsetDeleteRequestTopic(
            name="t", partitions=[m.OffsetDeleteRequest.OffsetDeleteRequestPartition(partition_index=0)]
        )
    ],
)


def left_group(*, offsets: int) -> tuple[FrontedDriver, list[Taken]]:
    """A group without members whose machine has not heard of the last of so many commits; and what it is to hear."""
    driver = FrontedDriver()
    (member,) = driver.stable_group("a")
    driver.leave((member, None))
    assert driver.state() == "Empty"
    for offset in range(offsets):
        driver.tell_taken()
        driver.take({T0: offset})
    late, driver.told = driver.told, []
    return driver, late


@pytest.mark.parametrize(("request_", "version"), [(DELETE_GROUP, 2), (DELETE_T0, 0)])
def test_a_deletion_waits_until_everything_was_heard(request_: Message, version: int) -> None:
    driver, late = left_group(offsets=2)
    driver.send("d", request_, version)
    driver.advance(1_000)
    assert "d" not in driver.answers
    driver.told = late
    driver.tell_taken()
    driver.advance(10)
    answer = driver.answers["d"]
    if isinstance(answer, m.DeleteGroupsResponse):
        assert answer.results[0].error_code == ErrorCode.NONE
    else:
        assert isinstance(answer, m.OffsetDeleteResponse)
        assert answer.topics[0].partitions[0].error_code == answer.error_code == ErrorCode.NONE
    driver.unload()
    driver.load(epoch=1)
    assert driver.fetch() == {}


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_deletion_does_not_wait_for_ever(is_lost: bool) -> None:
    driver, _ = left_group(offsets=2)
    driver.send("d", DELETE_GROUP, 2)
    driver.send("o", DELETE_T0, 0)
    if is_lost:
        Driver.unload(driver)
        error = ErrorCode.NOT_COORDINATOR
    else:
        driver.advance(driver.config.offsets_commit_timeout_ms + 10)
        error = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    deleted, offsets = driver.answers["d"], driver.answers["o"]
    assert isinstance(deleted, m.DeleteGroupsResponse)
    assert deleted.results[0].error_code == error
    assert isinstance(offsets, m.OffsetDeleteResponse)
    assert error in (offsets.error_code, *(each.error_code for topic in offsets.topics for each in topic.partitions))


def test_what_expires_while_something_is_unheard_goes_soon_after() -> None:
    driver, late = left_group(offsets=2)
    retention_ms = driver.config.offsets_retention_ms
    driver.advance(retention_ms + driver.config.offsets_retention_check_interval_ms)
    assert driver.state() == "Empty"
    driver.told = late
    driver.tell_taken()
    driver.advance(100)
    assert driver.state() == "Dead"


def test_what_an_earlier_leader_of_ours_took_is_as_the_log_has_it() -> None:
    driver = FrontedDriver()
    driver.stable_group("a")
    driver.take({T0: 5})
    stale = driver.told.pop()
    Driver.unload(driver)
    driver.logs[SHARD].pop()  # another leader never had it
    driver.load(epoch=1)
    driver.carry_out(driver.runtime.taken(OFFSETS, 0, stale, driver.now_ms))
    assert driver.fetch() == {}


# -------------------------------------------------------------------------------------------------- two worlds


class Worlds:
    """The same clients, in a world where the machine hears everything and in one where it does not."""

    def __init__(self, seed: int) -> None:
        config = GroupConfig(offsets_topic_partitions=1, initial_rebalance_delay_ms=1_000)
        self.random = random.Random(seed)
        self.plain, self.fronted = Driver(config), FrontedDriver(config)
        self.members: dict[int, tuple[str, int]] = {}  # client -> member id and generation, as it was last told
        self.joining: dict[int, str] = {}
        self.to_sync: set[int] = set()
        self.count = 0

    @property
    def both(self) -> tuple[Driver, Driver]:
        return self.plain, self.fronted

    def step(self) -> None:
        self.count += 1
        client = self.random.randrange(5)
        if client not in self.members and client not in self.joining and self.random.random() < 0.5:
            self.do("join", client)
        elif client in self.to_sync and self.random.random() < 0.8:
            self.do("sync", client)
        else:
            self.do(
                self.random.choice([*["beat"] * 8, *["time"] * 4, *["commit"] * 3, "join", "sync", "leave", "fail"]),
                client,
            )
        self.hear_answers()
        self.compare()

    def do(self, what: str, client: int) -> None:
        instance = f"static{client}" if client >= 3 else None
        member, generation = self.members.get(client, ("", -1))
        getattr(self, what)(client, instance, member, generation)

    def join(self, client: int, instance: str | None, member: str, generation: int) -> None:
        if self.random.random() < 0.7 and client in self.joining:
            return
        self.count += 1
        self.to_sync.discard(client)
        topic = "t" if self.random.random() < 0.8 else "u"
        who = self.joining[client] = f"join{self.count}"
        for each in self.both:
            protocols = [("range", subscription(topic))]
            each.join(who, member=member, instance=instance, protocols=protocols, version=5)

    def hear_answers(self) -> None:
        for client, who in list(self.joining.items()):
            if who in self.plain.answers:
                answer = self.plain.joined(who)
                del self.joining[client]
                if answer.error_code in (0, ErrorCode.MEMBER_ID_REQUIRED):
                    self.members[client] = (answer.member_id, answer.generation_id)
                    if answer.error_code:
                        self.do("join", client)
                    else:
                        self.to_sync.add(client)
                elif answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
                    self.members.pop(client, None)

    def beat(self, client: int, instance: str | None, member: str, generation: int) -> None:
        said = instance if self.random.random() < 0.8 else None
        told = [each.heartbeat(member, generation, instance=said) for each in self.both]
        assert told[0] == told[1]
        if told[0] in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            self.members.pop(client, None)
        if told[0] == ErrorCode.REBALANCE_IN_PROGRESS and self.random.random() < 0.8:
            self.do("join", client)

    def sync(self, client: int, instance: str | None, member: str, generation: int) -> None:
        self.to_sync.discard(client)
        assign = {each: each.encode() for each, _ in self.members.values()}
        for each in self.both:
            each.sync(f"sync{self.count}", member=member, instance=instance, generation=generation, assign=assign)

    def leave(self, client: int, instance: str | None, member: str, generation: int) -> None:
        if self.random.random() < 0.2:
            told = [each.leave((member, instance)) for each in self.both]
            assert told[0] == told[1]
            self.members.pop(client, None)
        elif instance is not None and self.random.random() < 0.3:
            self.members.pop(client, None)  # a static member that was restarted

    def commit(self, client: int, instance: str | None, member: str, generation: int) -> None:
        for each in self.both:
            who = ("commit", self.count)
            each.send_commit(who, {("t", 0): self.count}, member=member, generation=generation, instance=instance)

    def time(self, client: int, instance: str | None, member: str, generation: int) -> None:
        by_ms = self.random.choice([17, 501, 1_001, 2_003, 9_001])
        for each in self.both:
            each.advance(by_ms)

    def fail(self, client: int, instance: str | None, member: str, generation: int) -> None:
        error = ErrorCode.NOT_ENOUGH_REPLICAS if self.random.random() < 0.3 else None
        reloads = self.random.random() < 0.1
        for each in self.both:
            each.write_error = error
            if reloads:
                each.unload()
                each.load()

    def compare(self) -> None:
        assert self.plain.answers.keys() - _asked(self.plain) == self.fronted.answers.keys() - _asked(self.fronted)
        for who in self.plain.answers.keys() - _asked(self.plain):
            assert self.plain.answers[who] == self.fronted.answers[who]
        assert _described(self.plain) == _described(self.fronted)
        assert self.plain.fetch() == self.fronted.fetch()
        open_members = {member for (_, member), epoch in self.fronted.published.items() if epoch is not None}
        if self.fronted.state() != "Stable":
            assert not open_members
        known = {each["member_id"] for each in _described(self.fronted)[1]}
        assert {member for _, member in self.fronted.published} <= known
        assert {member for _, member in self.fronted.front.heard} <= known


def _asked(driver: Driver) -> set[object]:
    """Requests that were answered at once, whose number tells how many the machine saw."""
    return {who for who in driver.answers if isinstance(who, tuple) and who[0] == "ask"}


def _described(driver: Driver) -> tuple[str, list[dict[str, object]]]:
    answer = driver.ask(m.DescribeGroupsRequest(groups=["g"]), 5, m.DescribeGroupsResponse)
    (group,) = answer.groups
    members = [
        {"member_id": each.member_id, "instance": each.group_instance_id, "assignment": each.member_assignment}
        for each in group.members
    ]
    return group.group_state, members


@pytest.mark.parametrize("seed", range(6))
def test_nobody_can_tell_who_answers_heartbeats(seed: int) -> None:
    worlds = Worlds(seed)
    for _ in range(300):
        worlds.step()
    assert worlds.fronted.front.answered > 0
    assert worlds.fronted.front.took > 0

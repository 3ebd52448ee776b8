"""Members of the consumer protocol whose heartbeats somebody else answers, and whose offsets he takes: nobody can tell,
by any answer, whatever happens to the group."""

from __future__ import annotations

import random
from collections.abc import Hashable

import pytest

from cluster.coordinator.consumer_regex import Resolved, matching
from cluster.coordinator.context import ConsumerConfig, GroupConfig
from cluster.coordinator.group_coordinator import GroupCoordinator
from cluster.effects import Effect, PublishConsumer, Reply, WithdrawMembers
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver, subscription
from tests.unit.cluster.coordinator.fronted_driver import SHARD, FrontedDriver

Request, Response = m.ConsumerGroupHeartbeatRequest, m.ConsumerGroupHeartbeatResponse
T0 = ("t", 0)
SESSION_MS, INTERVAL_MS = 45_000, 5_000
CONFIG = GroupConfig(offsets_topic_partitions=1, consumer=ConsumerConfig(assignment_interval_ms=0))


def beat(driver: Driver, member: str = "m", epoch: int = 1, client: str = "c", **says: object) -> Response:
    """One that says nothing but who it is of, and what else it is to."""
    request = Request(group_id="g", member_id=member, member_epoch=epoch, **says)  # type: ignore[arg-type]
    return driver.ask(request, 1, Response, client)


def join(driver: Driver, member: str = "m", **says: object) -> Response:
    everything: dict[str, object] = {
        "rebalance_timeout_ms": 60_000,
        "subscribed_topic_names": ["t"],
        "topic_partitions": [],
    }
    return beat(driver, member, 0, **(everything | says))


def settled(**says: object) -> tuple[FrontedDriver, int]:
    """A group of one member that is open, and its epoch."""
    driver = FrontedDriver(CONFIG)
    epoch = join(driver, **says).member_epoch
    assert not driver.is_open("m")
    assert beat(driver, epoch=epoch).error_code == 0
    assert driver.is_open("m")
    assert driver.front.answered == 0
    return driver, epoch


def test_a_member_is_open_once_it_has_nothing_to_do() -> None:
    driver, epoch = settled()
    answer = beat(driver, epoch=epoch)
    assert (answer.member_id, answer.member_epoch, answer.heartbeat_interval_ms) == ("m", epoch, INTERVAL_MS)
    assert answer.assignment is None
    assert driver.front.answered == 1


def test_a_member_is_open_before_it_hears_that_it_has_nothing_to_do() -> None:
    order: list[type[Effect]] = []

    class Watched(FrontedDriver):
        def carry_out(self, effects: list[Effect]) -> None:
            order.extend(type(each) for each in effects if isinstance(each, (PublishConsumer, Reply)))
            super().carry_out(effects)

    driver = Watched(CONFIG)
    epoch = join(driver).member_epoch
    order.clear()
    beat(driver, epoch=epoch)
    assert order == [PublishConsumer, Reply]


def test_a_change_of_the_group_shuts_all_of_it_before_it_is_written() -> None:
    driver, epoch = settled()
    driver.appends = False
    driver.send("n", join_request("n"), 1)
    assert not driver.is_open("m")
    assert list(driver.waiting)
    driver.send("beat", Request(group_id="g", member_id="m", member_epoch=epoch), 1)
    assert "beat" not in driver.answers
    driver.appends = True
    driver.append_all()
    assert driver.answer("beat", Response).error_code == 0


def owned_by(driver: Driver, member: str, epoch: int) -> list[Request.TopicPartitions]:
    told = beat(driver, member, epoch, topic_partitions=[], rebalance_timeout_ms=60_000, subscribed_topic_names=["t"])
    assert told.assignment is not None
    return [
        Request.TopicPartitions(topic_id=each.topic_id, partitions=each.partitions)
        for each in told.assignment.topic_partitions
    ]


def two_with_a_step_under_way(driver: Driver) -> int:
    """`n` has joined `m` and is about to be given what `m` has given up, but for the log. Returns their epoch."""
    epoch = join(driver).member_epoch
    epoch = join(driver, "n").member_epoch
    assert beat(driver, "m", epoch - 1).member_epoch == epoch - 1  # it is told what to give up
    kept = owned_by(driver, "m", epoch - 1)
    assert beat(driver, "m", epoch - 1, topic_partitions=kept).member_epoch == epoch
    driver.appends = False
    driver.send("step", Request(group_id="g", member_id="n", member_epoch=epoch), 1)
    assert "step" not in driver.answers
    return epoch


def finish(driver: Driver) -> None:
    driver.appends = True
    driver.append_all()
    assert driver.answer("step", Response).error_code == 0


def test_a_step_of_one_member_shuts_that_one_only() -> None:
    driver = FrontedDriver(CONFIG)
    epoch = two_with_a_step_under_way(driver)
    assert driver.is_open("m")
    assert not driver.is_open("n")
    assert beat(driver, "m", epoch).member_epoch == epoch
    assert driver.front.answered == 1
    finish(driver)


def test_a_member_is_open_once_its_last_step_is_written() -> None:
    driver = FrontedDriver(CONFIG)
    epoch = two_with_a_step_under_way(driver)
    finish(driver)
    assert driver.is_open("m")
    assert driver.is_open("n")
    assert [beat(driver, member, epoch).member_epoch for member in ("m", "n")] == [epoch, epoch]
    assert driver.front.answered == 2


def test_a_step_that_is_not_written_opens_nobody() -> None:
    driver = FrontedDriver(CONFIG)
    epoch = two_with_a_step_under_way(driver)
    driver.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    driver.appends = True
    driver.append_all()
    assert driver.answer("step", Response).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert not driver.is_open("n")
    driver.write_error = None
    assert beat(driver, "n", epoch).assignment is not None
    assert driver.is_open("n")


def test_who_has_nothing_to_do_need_not_wait_for_another_s_step() -> None:
    driver = Driver(CONFIG)
    epoch = two_with_a_step_under_way(driver)
    assert beat(driver, "m", epoch).member_epoch == epoch
    for number, says in enumerate([{"rebalance_timeout_ms": 1}, {"subscribed_topic_names": ["u"]}]):
        driver.send(number, Request(group_id="g", member_id="m", member_epoch=epoch, **says), 1)  # type: ignore[arg-type]
        assert number not in driver.answers
    driver.send("again", Request(group_id="g", member_id="n", member_epoch=epoch), 1)
    assert "again" not in driver.answers
    finish(driver)
    assert driver.answer("again", Response).error_code == 0


def test_what_is_no_step_is_about_all_of_the_group() -> None:
    driver = Driver(CONFIG)
    epoch = two_with_a_step_under_way(driver)
    finish(driver)
    driver.appends = False
    driver.send("move", Request(group_id="g", member_id="n", member_epoch=epoch), 1, "another client")
    driver.send("beat", Request(group_id="g", member_id="m", member_epoch=epoch), 1)
    assert not {"move", "beat"} & driver.answers.keys()
    finish(driver)
    assert driver.answer("beat", Response).error_code == 0


def test_a_member_that_only_somebody_else_hears_stays() -> None:
    driver, epoch = settled()
    for _ in range(5):
        driver.advance(SESSION_MS - 1)
        assert beat(driver, epoch=epoch).error_code == 0
    assert driver.front.answered == 5
    driver.advance(SESSION_MS - 1)
    assert driver.is_open("m")
    driver.advance(1)
    assert not driver.front.published
    assert not driver.front.heard
    assert beat(driver, epoch=epoch).error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_offsets_are_no_sign_of_life() -> None:
    driver, epoch = settled()
    driver.advance(SESSION_MS - 1)
    assert driver.commit_offsets({T0: 5}, member="m", generation=epoch, version=9) == [ErrorCode.NONE]
    assert driver.front.took == 1
    driver.advance(1)
    assert not driver.front.published


def test_offsets_are_taken_whatever_the_topics_and_where_from() -> None:
    driver, epoch = settled()
    driver.topics.changes += 1
    driver.client_host = "127.0.0.2"
    assert driver.commit_offsets({T0: 5}, member="m", generation=epoch, version=9) == [ErrorCode.NONE]
    assert driver.front.took == 1
    assert driver.commit_offsets({T0: 6}, member="m", generation=epoch, version=8) == [ErrorCode.UNSUPPORTED_VERSION]
    assert driver.commit_offsets({T0: 6}, member="m", generation=epoch - 1, version=9) != [ErrorCode.NONE]
    assert driver.front.took == 1
    assert driver.fetch() == {T0: 5}


def test_when_the_topics_change_each_member_is_looked_at_once_more() -> None:
    driver, epoch = settled()
    driver.topics.changes += 1
    assert beat(driver, epoch=epoch).error_code == 0
    assert driver.front.answered == 0
    assert beat(driver, epoch=epoch).error_code == 0
    assert driver.front.answered == 1
    driver.topics.put("t", 6)
    assert beat(driver, epoch=epoch).member_epoch == epoch + 1
    assert driver.front.answered == 1


def test_the_settings_of_a_group_hold_at_once() -> None:
    driver, epoch = settled()
    driver.set_up("g", {"consumer.heartbeat.interval.ms": "7000", "consumer.session.timeout.ms": "50000"})
    assert [beat(driver, epoch=epoch).heartbeat_interval_ms for _ in range(2)] == [7_000, 7_000]
    assert driver.front.answered == 1
    driver.advance(49_999)
    assert driver.is_open("m")
    driver.set_up("g", {})
    driver.advance(1)
    assert not driver.front.published


@pytest.mark.parametrize("says", [{"subscribed_topic_names": None, "subscribed_topic_regex": "t.*"}])
def test_members_of_a_group_with_patterns_are_not_open(says: dict[str, object]) -> None:
    driver = FrontedDriver(CONFIG)
    epoch = join(driver, **says).member_epoch
    resolve(driver)
    for _ in range(3):
        epoch = beat(driver, epoch=epoch, topic_partitions=None).member_epoch
    assert not driver.front.published


def test_who_comes_from_elsewhere_is_written_down_first() -> None:
    driver, epoch = settled()
    driver.client_host = "127.0.0.2"
    assert beat(driver, epoch=epoch).error_code == 0
    assert not driver.is_open("m")
    assert beat(driver, epoch=epoch).error_code == 0
    assert driver.is_open("m")
    assert beat(driver, epoch=epoch, client="d").error_code == 0
    assert not driver.is_open("m")
    assert driver.front.answered == 0


def test_a_static_member_is_open_whether_it_says_so_or_not() -> None:
    driver, epoch = settled(instance_id="i")
    for instance in ("i", None):
        assert beat(driver, epoch=epoch, instance_id=instance).error_code == 0
    assert driver.front.answered == 2
    assert beat(driver, epoch=epoch, instance_id="j").error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert beat(driver, epoch=-2, instance_id="i").error_code == 0
    assert not driver.is_open("m")
    assert join(driver, "n", instance_id="i").error_code == 0
    assert beat(driver, epoch=epoch).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert driver.front.answered == 2


def test_nothing_is_published_that_stands_or_that_nobody_can_say() -> None:
    driver, epoch = settled()
    seen: list[object] = []
    carry_out = driver.front.carry_out
    driver.front.carry_out = lambda effect: seen.append(effect) or carry_out(effect)  # type: ignore[assignment,func-returns-value]
    assert beat(driver, epoch=epoch, topic_partitions=None, rack_id=None, rebalance_timeout_ms=60_000).error_code == 0
    assert driver.front.answered == 0
    assert not [each for each in seen if isinstance(each, PublishConsumer | WithdrawMembers)]
    driver.client_host = ""
    for _ in range(3):
        assert beat(driver, epoch=epoch).error_code == 0
    assert not driver.is_open("m")


def test_a_shard_that_goes_takes_its_members_along() -> None:
    driver, epoch = settled()
    driver.unload()
    assert not driver.front.published
    driver.load(epoch=1)
    assert not driver.front.published
    assert beat(driver, epoch=epoch).error_code == 0
    assert driver.is_open("m")


def test_a_group_that_becomes_classic_takes_nobody_along() -> None:
    driver, epoch = settled()
    driver.join("a", protocols=[("range", subscription("t"))], version=3)
    assert not driver.is_open("m")
    beat(driver, epoch=-1)
    assert not driver.front.published
    assert beat(driver, epoch=epoch).error_code == ErrorCode.GROUP_ID_NOT_FOUND


def join_request(member: str) -> Request:
    return Request(
        group_id="g",
        member_id=member,
        rebalance_timeout_ms=60_000,
        subscribed_topic_names=["t"],
        topic_partitions=[],
    )


def resolve(driver: Driver) -> None:
    for ask in driver.take_questions():
        found = matching(ask.question.regexes, list(driver.topics.counts))  # type: ignore[attr-defined]
        driver.tell(ask, Resolved(found, driver.topics.version(), driver.now_ms))


# -------------------------------------------------------------------------------------------------- two worlds


class Client:
    """`is_classic`: it speaks the classic protocol. `owned`: what it was told to have."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_classic = number >= 5
        self.instance = f"static{number}" if number in (3, 4) else None
        self.member = "" if self.is_classic else f"m{number}"
        self.epoch = 0
        self.owned: list[Request.TopicPartitions] = []
        self.asked: Hashable | None = None


_CALM = {
    "steady": 80,
    "commit": 20,
    "time": 10,
    "say_own": 4,
    "say_all": 1,
    "stale": 2,
    "leave": 1,
    "grow": 1,
    "settle": 1,
    "move": 1,
    "pattern": 1,
    "slow": 1,
    "wrong_kind": 2,
    "reload": 1,
}
_STORM = {
    "steady": 20,
    "say_all": 14,
    "say_own": 10,
    "stale": 4,
    "leave": 4,
    "time": 8,
    "commit": 8,
    "grow": 2,
    "settle": 2,
    "move": 4,
    "pattern": 2,
    "fail": 3,
    "slow": 3,
    "wrong_kind": 3,
    "reload": 2,
}


class Worlds:
    """The same clients, in a world where the machine hears everything and in one where it does not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        consumer = ConsumerConfig(assignment_interval_ms=seed % 2 * 1_000)
        config = GroupConfig(offsets_topic_partitions=1, initial_rebalance_delay_ms=500, consumer=consumer)
        self.plain, self.fronted = Driver(config), FrontedDriver(config)
        count = 7 if seed % 3 == 0 else 5
        self.clients = [Client(number) for number in range(count)]
        self.count = 0
        self.compared = 0
        self.shards_epoch = 0

    @property
    def both(self) -> tuple[Driver, Driver]:
        return self.plain, self.fronted

    def run(self, rounds: int) -> None:
        """Again and again the group comes to rest, and then this and that happens to it."""
        for _ in range(rounds):
            self.settle_down()
            for often, steps in ((_CALM, 50), (_STORM, 12)):
                for what in self.random.choices(list(often), list(often.values()), k=steps):
                    self.step(what, self.random.choice(self.clients))

    def settle_down(self) -> None:
        for each in self.both:
            each.write_error = None
            each.appends = True
            each.append_all()
        for what in ("start_over", "say_own", "say_own", "say_own"):
            for client in self.clients:
                self.step(what, client)
            for each in self.both:
                each.advance(1_003)

    def step(self, what: str, client: Client) -> None:
        self.count += 1
        getattr(self, what)(client)
        for each in self.both:
            resolve(each)
            each.advance(1)
        self.hear()
        self.compare()

    def ask(self, request: Message, version: int, client: Client | None = None, name: str = "c") -> None:
        who = ("step", self.count)
        for each in self.both:
            each.send(who, request, version, name)
        if client is not None:
            client.asked = who

    # What clients say ---------------------------------------------------------------------------------------------

    def heartbeat(self, client: Client, *, epoch: int | None = None, name: str = "c", **says: object) -> None:
        instance = client.instance if client.epoch == 0 or self.random.random() < 0.7 else None
        request = Request(
            group_id="g",
            member_id=client.member,
            member_epoch=client.epoch if epoch is None else epoch,
            instance_id=instance,
            **says,  # type: ignore[arg-type]
        )
        self.ask(request, 1 if request.subscribed_topic_regex is not None else self.random.randrange(2), client, name)

    def steady(self, client: Client) -> None:
        if client.is_classic:
            self.classic(client)
        elif client.epoch == 0:
            self.say_all(client)
        else:
            self.heartbeat(client)

    def classic(self, client: Client) -> None:
        if client.epoch and self.random.random() < 0.8:
            self.ask(m.HeartbeatRequest(group_id="g", generation_id=client.epoch, member_id=client.member), 3, client)
        elif client.epoch and self.random.random() < 0.5:
            self.ask(m.SyncGroupRequest(group_id="g", generation_id=client.epoch, member_id=client.member), 3, client)
        else:
            protocol = m.JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=subscription("t"))
            request = m.JoinGroupRequest(
                group_id="g",
                session_timeout_ms=20_000,
                rebalance_timeout_ms=30_000,
                member_id=client.member,
                protocol_type="consumer",
                protocols=[protocol],
            )
            self.ask(request, 4, client)

    def say_all(self, client: Client) -> None:
        if client.is_classic:
            self.classic(client)
            return
        topics = self.random.choice([["t"], ["t"], ["t"], ["t", "u"]])
        self.heartbeat(
            client,
            rebalance_timeout_ms=5_000,
            subscribed_topic_names=topics,
            topic_partitions=client.owned if client.epoch else [],
        )

    def start_over(self, client: Client) -> None:
        """Without a pattern, as it came first."""
        if client.is_classic:
            self.classic(client)
            return
        self.heartbeat(
            client,
            rebalance_timeout_ms=5_000,
            subscribed_topic_names=["t"],
            subscribed_topic_regex="",
            topic_partitions=client.owned if client.epoch else [],
        )

    def say_own(self, client: Client) -> None:
        if client.epoch and not client.is_classic:
            self.heartbeat(client, topic_partitions=client.owned)

    def stale(self, client: Client) -> None:
        if client.epoch and not client.is_classic:
            self.heartbeat(client, epoch=client.epoch + self.random.choice([-1, 1]))

    def leave(self, client: Client) -> None:
        if client.is_classic:
            who = m.LeaveGroupRequest.MemberIdentity(member_id=client.member)
            self.ask(m.LeaveGroupRequest(group_id="g", members=[who]), 4)
        else:
            is_back = client.instance is not None and self.random.random() < 0.6
            epoch = -2 if is_back else -1
            request = Request(group_id="g", member_id=client.member, member_epoch=epoch, instance_id=client.instance)
            self.ask(request, 1)
            if client.instance is not None and self.random.random() < 0.5:
                client.member = f"m{client.number}.{self.count}"
        client.epoch, client.owned = 0, []

    def move(self, client: Client) -> None:
        """It is said to be another, or comes from elsewhere."""
        if self.random.random() < 0.5:
            self.say_other(client, "other")
        else:
            for each in self.both:
                each.client_host = "127.0.0.2" if each.client_host == "127.0.0.1" else "127.0.0.1"

    def say_other(self, client: Client, name: str) -> None:
        if client.epoch and not client.is_classic:
            self.heartbeat(client, name=name)

    def pattern(self, client: Client) -> None:
        if not client.is_classic:
            regex = self.random.choice(["t.*", ""])
            self.heartbeat(
                client,
                rebalance_timeout_ms=5_000,
                subscribed_topic_names=["t"],
                subscribed_topic_regex=regex,
                topic_partitions=client.owned if client.epoch else [],
            )

    def wrong_kind(self, client: Client) -> None:
        """One protocol's member heartbeats in the other's."""
        if client.is_classic:
            request: Message = Request(group_id="g", member_id=client.member or "x", member_epoch=client.epoch or 1)
            self.ask(request, 1)
        else:
            self.ask(m.HeartbeatRequest(group_id="g", generation_id=client.epoch, member_id=client.member), 3)

    def commit(self, client: Client) -> None:
        epoch = client.epoch - (self.random.random() < 0.1)
        for each in self.both:
            offsets, version = {T0: self.count}, 8 if self.count % 8 == 0 else 9
            who = ("commit", self.count)
            each.send_commit(who, offsets, member=client.member, generation=epoch, version=version)

    # What else happens --------------------------------------------------------------------------------------------

    def time(self, client: Client) -> None:
        by_ms = self.random.choice([17, 501, 2_003, 5_003, 9_001, 44_987])
        for each in self.both:
            each.advance(by_ms)

    def grow(self, client: Client) -> None:
        count = min(12, self.plain.topics.counts["t"] + 1) if self.random.random() < 0.5 else 0
        for each in self.both:
            each.topics.put("t" if count else "other", count or 1)

    def settle(self, client: Client) -> None:
        settings = self.random.choice(
            [{}, {"consumer.heartbeat.interval.ms": "6000"}, {"consumer.session.timeout.ms": "60000"}]
        )
        for each in self.both:
            each.set_up("g", settings)

    def fail(self, client: Client) -> None:
        error = ErrorCode.NOT_ENOUGH_REPLICAS if self.plain.write_error is None else None
        for each in self.both:
            each.write_error = error

    def slow(self, client: Client) -> None:
        appends = not self.plain.appends
        for each in self.both:
            each.appends = appends
            if appends:
                each.append_all()

    def reload(self, client: Client) -> None:
        """The coordinator moves away and back; whoever waits is told so."""
        if not self.plain.appends:
            return
        self.shards_epoch += 1
        for each in self.both:
            each.unload()
            each.load(epoch=self.shards_epoch)

    # What is heard ------------------------------------------------------------------------------------------------

    def hear(self) -> None:
        for client in self.clients:
            answer = self.plain.answers.get(client.asked)
            if answer is None:
                continue
            client.asked = None
            code = getattr(answer, "error_code", 0)
            if isinstance(answer, m.JoinGroupResponse) and code in (0, ErrorCode.MEMBER_ID_REQUIRED):
                client.member, client.epoch = answer.member_id, max(answer.generation_id, 0)
            elif code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.GROUP_ID_NOT_FOUND):
                client.epoch, client.owned = 0, []
                client.member = "" if client.is_classic else client.member
            elif isinstance(answer, Response) and not code and answer.member_epoch > 0:
                client.epoch = answer.member_epoch
                if answer.assignment is not None:
                    client.owned = [
                        Request.TopicPartitions(topic_id=each.topic_id, partitions=each.partitions)
                        for each in answer.assignment.topic_partitions
                    ]

    def compare(self) -> None:
        told = self.plain.answers.keys()
        assert told == self.fronted.answers.keys()
        for who in list(told)[self.compared :]:
            assert self.plain.answers[who] == self.fronted.answers[who], who
        self.compared = len(told)
        if self.count % 5:
            return
        described = [self.describe(each) for each in self.both]
        assert described[0] == described[1]
        assert self.plain.fetch() == self.fronted.fetch()
        consumers, others = described[1]
        for (_, member), known in self.fronted.published.items():
            assert known is None or member in (others if known.consumer is None else consumers)
        machine = self.fronted.runtime._hosted[SHARD].machine
        assert isinstance(machine, GroupCoordinator)
        if machine._is_busy("g"):
            lane = machine.consumers._lanes["g"]
            assert not any(self.fronted.is_open(member) for member in consumers if lane.is_about(member))

    @staticmethod
    def describe(driver: Driver) -> tuple[dict[str, object], dict[str, object]]:
        """Members of the consumer protocol, and others."""
        request = m.ConsumerGroupDescribeRequest(group_ids=["g"])
        (group,) = driver.ask(request, 1, m.ConsumerGroupDescribeResponse).groups
        consumers = {each.member_id: each for each in group.members if each.member_type == 1}
        mixed = {each.member_id: each for each in group.members if each.member_type == 0}
        classic = {each.member_id: each for each in driver.describe().members}
        return dict(consumers), mixed | classic


@pytest.mark.parametrize("seed", range(8))
def test_nobody_can_tell_who_answers(seed: int) -> None:
    worlds = Worlds(seed)
    worlds.run(8)
    assert worlds.fronted.front.answered > 10
    assert worlds.fronted.front.took > 0

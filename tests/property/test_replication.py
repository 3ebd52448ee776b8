"""Replicas of one partition as lists of records, moved by the real state machines of leaders and followers.

A controller decides who leads (clean elections only) and writes the ISR; brokers hear of it when they hear of it, so
old leaders go on taking records, and old followers fetching them. Brokers crash, and lose what was not synced when they
are not in the ISR any more. Whatever a leader ever had below its high watermark is committed.

Always: what is committed is in the log of the newest leader, and the same in every log below its high watermark;
records of one epoch at one offset are one record. In the end, when all are up and fetching, all logs are the leader's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.replication import isr as isr_outcomes
from cluster.replication.follower import ASKING, EARLIEST, FETCHING, Action, Ask, Fetch, Follower, StartAt, Truncate
from cluster.replication.isr import Isr, IsrAnswer, IsrChange, LedPartition
from cluster.replication.truncation import EpochEnd, OwnLog
from pylog.errors import ErrorCode
from pylog.types import TopicPartition

PARTITION = TopicPartition("orders", 0)
LAG_MS = 10
NOBODY = -1
NOTHING = EpochEnd(-1, -1)


class Record(NamedTuple):
    epoch: int
    value: int


class Replica(NamedTuple):
    """What a leader's data plane says of a replica."""

    broker_id: int
    joining: int
    log_end: int
    lag_ms: int


class Leading:
    """What a leader knows: `ends` of its followers, who is about to join, and what it has asked of the controller."""

    def __init__(
        self, broker_id: int, epoch: int, epoch_start: int, isr: tuple[int, ...], partition_epoch: int
    ) -> None:
        self.epoch = epoch
        self.epoch_start = epoch_start
        self.ends: dict[int, int] = {}
        self.joining: set[int] = set()
        self.isr = Isr(broker_id, LAG_MS, LedPartition(PARTITION, bytes(16), epoch, partition_epoch, isr), now_ms=0)
        self.asked: IsrChange | None = None
        self.answer: IsrAnswer | None = None

    def publish(self) -> None:
        self.joining = set(self.isr.joining)


class Node:
    """One broker and its log. `synced`: what a crash leaves; `checkpoint`: the high watermark after a restart."""

    def __init__(self, broker_id: int) -> None:
        self.id = broker_id
        self.start = 0
        self.records: list[Record] = []
        self.high_watermark = self.checkpoint = self.synced = 0
        self.up = True
        self.epoch = -1  # of the newest decision it has heard of
        self.leading: Leading | None = None
        self.follower: Follower | None = None
        self.cuts: list[int] = []

    @property
    def end(self) -> int:
        return self.start + len(self.records)

    def own(self) -> OwnLog:
        return OwnLog(self.end, self.high_watermark, self.records[-1].epoch if self.records else -1)

    def epoch_end(self, epoch: int) -> EpochEnd:
        """As leader epochs are kept: from their first record on, and a leader's own from when it began to lead."""
        begun: dict[int, int] = {}
        for offset, record in enumerate(self.records, self.start):
            begun.setdefault(record.epoch, offset)
        if self.leading is not None:
            begun.setdefault(self.leading.epoch, self.leading.epoch_start)
        if not begun or epoch < 0 or epoch > max(begun):
            return NOTHING
        above = min((start for each, start in begun.items() if each > epoch), default=self.end)
        return EpochEnd(max((each for each in begun if each <= epoch), default=epoch), above)

    def cut(self, offset: int) -> None:
        assert self.start <= offset <= self.end
        self.cuts.append(offset)
        del self.records[offset - self.start :]
        self.high_watermark = min(self.high_watermark, self.end)
        self.synced = min(self.synced, self.end)

    def begin_at(self, offset: int) -> None:
        """Begin the log at an offset: of the log, or behind it."""
        del self.records[: offset - self.start]
        self.start = offset
        self.high_watermark = max(self.high_watermark, offset)
        self.synced = max(self.synced, offset)
        self.checkpoint = max(self.checkpoint, offset)


class Cluster:
    """The brokers and their controller."""

    def __init__(self, nodes: int) -> None:
        self.nodes = [Node(each) for each in range(nodes)]
        self.leader = 0
        self.epoch = 0
        self.partition_epoch = 0
        self.isr = tuple(range(nodes))
        self.committed: list[Record] = []
        self.values = 0

    # The controller --------------------------------------------------------------------------------------------------

    def elect(self, leader: int, isr: tuple[int, ...]) -> None:
        assert leader in isr or leader == NOBODY
        self.leader, self.isr = leader, isr
        self.epoch += 1
        self.partition_epoch += 1

    def lost(self, node: Node) -> None:
        """A broker is gone. The last in sync stays so, and nobody leads until it is back."""
        if node.id not in self.isr:
            return
        left = tuple(each for each in self.isr if each != node.id)
        if self.leader != node.id and left:
            self.elect(self.leader, left)
        elif self.leader == node.id:
            alive = [each for each in left if self.nodes[each].up]
            self.elect(alive[0], left) if alive else self.elect(NOBODY, self.isr)

    def alter(self, change: IsrChange) -> IsrAnswer:
        """AlterPartition."""
        if change.leader_epoch < self.epoch:
            return IsrAnswer(int(ErrorCode.FENCED_LEADER_EPOCH))
        if set(change.isr) != set(self.isr):
            if change.partition_epoch < self.partition_epoch:
                return IsrAnswer(int(ErrorCode.INVALID_UPDATE_VERSION))
            if not all(self.nodes[each].up for each in change.isr):
                return IsrAnswer(int(ErrorCode.INELIGIBLE_REPLICA))
            self.isr = change.isr
            self.partition_epoch += 1
        return IsrAnswer(0, self.epoch, self.partition_epoch, self.isr)

    # Brokers ---------------------------------------------------------------------------------------------------------

    def crash(self, node: Node, keep: int) -> None:
        """It goes, and with it what it has not synced, down to `keep`, unless it is the last that has everything."""
        self.lost(node)
        node.up = False
        node.leading = node.follower = None
        node.epoch = -1
        if node.id not in self.isr:
            node.cut(min(max(keep, node.synced, node.start), node.end))
            node.cuts.clear()

    def restart(self, node: Node) -> None:
        node.up = True
        node.high_watermark = max(node.start, min(node.checkpoint, node.end))
        if self.leader == NOBODY and node.id in self.isr:
            self.elect(node.id, tuple(each for each in self.isr if self.nodes[each].up))

    def learn(self, node: Node) -> None:
        """LeaderAndIsr as it is now."""
        if not node.up or node.epoch >= self.epoch:
            return
        node.epoch = self.epoch
        node.leading = node.follower = None
        if self.leader == node.id:
            node.leading = Leading(node.id, self.epoch, node.end, self.isr, self.partition_epoch)
            self.advance(node)
        elif self.leader != NOBODY:
            node.follower = Follower(self.leader, self.epoch, 0)
            self.act(node, node.follower.begin(node.own()))

    def append(self, node: Node, count: int) -> None:
        assert node.leading is not None
        for _ in range(count):
            self.values += 1
            node.records.append(Record(node.leading.epoch, self.values))
        self.advance(node)

    def advance(self, node: Node) -> None:
        """A leader's high watermark, and what is committed by it."""
        leading = node.leading
        assert leading is not None
        counted = {*leading.isr.committed, *leading.joining} - {node.id}
        reached = min([node.end, *(leading.ends.get(each, -1) for each in counted)])
        node.high_watermark = max(node.high_watermark, reached)
        for offset in range(len(self.committed), node.high_watermark):
            assert offset >= node.start, "what is committed is in the leader's log"
            self.committed.append(node.records[offset - node.start])

    # Fetching --------------------------------------------------------------------------------------------------------

    def fetch(self, node: Node, count: int) -> None:
        """One fetch of a follower and its answer, or its next question."""
        follower = node.follower
        assert follower is not None
        leader = self.nodes[follower.leader]
        if follower.state == ASKING:
            self.act(node, follower.try_again())
        elif follower.state == FETCHING and leader.up:
            if leader.epoch > follower.leader_epoch:
                self.act(node, follower.refused(int(ErrorCode.FENCED_LEADER_EPOCH)))
            elif leader.leading is not None and leader.epoch == follower.leader_epoch:
                self.answer(node, follower, leader, leader.leading, count)

    def answer(self, node: Node, follower: Follower, leader: Node, leading: Leading, count: int) -> None:
        if node.records:
            there = leader.epoch_end(node.records[-1].epoch)
            if there == NOTHING:
                return self.act(node, follower.refused(int(ErrorCode.OFFSET_OUT_OF_RANGE)))
            if there.epoch < node.records[-1].epoch or there.end_offset < node.end:
                return self.act(node, follower.diverged(there, node.own(), node.epoch_end(there.epoch)))
        if not leader.start <= node.end <= leader.end:
            return self.act(node, follower.refused(int(ErrorCode.OFFSET_OUT_OF_RANGE)))
        leading.ends[node.id] = node.end
        if node.id not in leading.isr.committed and node.end >= max(leader.high_watermark, leading.epoch_start):
            leading.joining.add(node.id)
        self.advance(leader)
        at = node.end - leader.start
        node.records += leader.records[at : at + count]
        if node.start < leader.start <= node.end:
            node.begin_at(leader.start)
        node.high_watermark = max(node.high_watermark, min(leader.high_watermark, node.end))
        return None

    def act(self, node: Node, actions: list[Action]) -> None:
        follower = node.follower
        assert follower is not None
        for action in actions:
            if isinstance(action, Truncate):
                node.cut(action.offset)
            elif isinstance(action, StartAt):
                node.cut(node.start)
                node.begin_at(action.offset)
            elif isinstance(action, Ask):
                self.act(node, self.told(node, follower, action.timestamp))
            elif isinstance(action, Fetch):
                assert follower.state == FETCHING

    def told(self, node: Node, follower: Follower, timestamp: int) -> list[Action]:
        """ListOffsets of a replica."""
        leader = self.nodes[follower.leader]
        if leader.up and leader.epoch > follower.leader_epoch:
            return follower.not_told(timestamp, int(ErrorCode.FENCED_LEADER_EPOCH))
        if not leader.up or leader.leading is None or leader.epoch < follower.leader_epoch:
            return follower.not_told(timestamp, int(ErrorCode.NETWORK_EXCEPTION))
        return follower.told(timestamp, leader.start if timestamp == EARLIEST else leader.end, node.own())

    # The ISR ---------------------------------------------------------------------------------------------------------

    def replicas(self, node: Node, slow: int = NOBODY) -> list[Replica]:
        leading = node.leading
        assert leading is not None
        return [
            Replica(each.id, int(each.id in leading.joining), leading.ends.get(each.id, -1), LAG_MS + 1)
            if each.id == slow
            else Replica(each.id, int(each.id in leading.joining), leading.ends.get(each.id, -1), 0)
            for each in self.nodes
            if each is not node
        ] + [Replica(node.id, 0, node.end, 0)]

    def look(self, node: Node, slow: int = NOBODY) -> None:
        """The leader looks at its followers, one of which has been behind for too long."""
        leading = node.leading
        assert leading is not None
        replicas = self.replicas(node, slow)
        change = leading.isr.shrink(replicas, {slow}, LAG_MS) or leading.isr.expand(replicas, lambda _: True)
        if change is not None:
            leading.publish()
            leading.asked, leading.answer = change, None

    def settle(self, node: Node) -> None:
        """The controller's answer arrives."""
        leading = node.leading
        assert leading is not None and leading.asked is not None and leading.answer is not None
        change, answer = leading.asked, leading.answer
        outcome = leading.isr.answered(change, answer)
        leading.answer = None
        assert outcome != isr_outcomes.IGNORED
        if outcome != isr_outcomes.RETRIED:
            leading.asked = None
        if outcome in (isr_outcomes.COMMITTED, isr_outcomes.REFUSED):
            leading.publish()
            self.advance(node)

    # What is always true ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        for node in self.nodes:
            below = node.records[: max(0, node.high_watermark - node.start)]
            assert below == self.committed[node.start : node.start + len(below)], f"{node.id} below its high watermark"
            assert node.start <= node.high_watermark <= node.end
        leader = self.nodes[self.leader]
        if self.leader != NOBODY:
            there = leader.records[: max(0, len(self.committed) - leader.start)]
            assert there == self.committed[leader.start :], "what is committed is in the leader's log"
        seen: dict[tuple[int, int], Record] = {}
        for node in self.nodes:
            for offset, record in enumerate(node.records, node.start):
                assert seen.setdefault((offset, record.epoch), record) == record

    def converge(self) -> None:
        """All come back and fetch for long enough; then all logs are the leader's."""
        for node in self.nodes:
            if not node.up:
                self.restart(node)
        for node in self.nodes:
            self.learn(node)
        for _ in range(2 * self.epoch + 6):
            for node in self.nodes:
                if node.follower is not None:
                    self.fetch(node, len(self.committed) + self.values)
        self.check()
        leader = self.nodes[self.leader]
        for node in self.nodes:
            assert node.end == leader.end, f"{node.id} has everything"
            begin = max(node.start, leader.start)
            assert node.records[begin - node.start :] == leader.records[begin - leader.start :], (
                f"{node.id} has the same"
            )


NODES = st.integers(0, 4)
COUNTS = st.integers(1, 5)


class Replication(RuleBasedStateMachine):
    """Anything that may happen, in any order."""

    @initialize(nodes=st.integers(2, 5))
    def begin(self, nodes: int) -> None:
        self.cluster = Cluster(nodes)
        for node in self.cluster.nodes:
            self.cluster.learn(node)

    def node(self, number: int) -> Node:
        return self.cluster.nodes[number % len(self.cluster.nodes)]

    def leading(self, number: int) -> Node | None:
        """One of those that think they lead."""
        leaders = [node for node in self.cluster.nodes if node.leading is not None]
        return leaders[number % len(leaders)] if leaders else None

    @rule(number=NODES, count=COUNTS)
    def append(self, number: int, count: int) -> None:
        node = self.leading(number)
        if node is not None:
            self.cluster.append(node, count)

    @rule(number=NODES, count=COUNTS)
    def fetch(self, number: int, count: int) -> None:
        node = self.node(number)
        if node.follower is not None:
            self.cluster.fetch(node, count)

    @rule(count=COUNTS)
    def everybody_fetches(self, count: int) -> None:
        for node in self.cluster.nodes:
            if node.follower is not None:
                self.cluster.fetch(node, count)

    @rule(number=NODES)
    def learn(self, number: int) -> None:
        self.cluster.learn(self.node(number))

    @rule()
    def everybody_learns(self) -> None:
        for node in self.cluster.nodes:
            self.cluster.learn(node)

    @rule(number=NODES)
    def elect(self, number: int) -> None:
        alive = [each for each in self.cluster.isr if self.cluster.nodes[each].up]
        if alive and self.cluster.leader != NOBODY:
            self.cluster.elect(alive[number % len(alive)], self.cluster.isr)

    @rule(number=NODES, keep=st.integers(0, 30))
    def crash(self, number: int, keep: int) -> None:
        if self.node(number).up:
            self.cluster.crash(self.node(number), keep)

    @rule(number=NODES)
    def restart(self, number: int) -> None:
        if not self.node(number).up:
            self.cluster.restart(self.node(number))

    @rule(number=NODES)
    def sync(self, number: int) -> None:
        node = self.node(number)
        node.synced, node.checkpoint = node.end, node.high_watermark

    @rule(number=NODES, slow=NODES)
    def look(self, number: int, slow: int) -> None:
        """A leader finds that a follower is slow, and asks for an ISR without it."""
        node = self.leading(number)
        if node is not None:
            self.cluster.look(node, self.node(slow).id)

    @rule(number=NODES, asked=st.integers(0, 2), arrives=st.booleans())
    def change_isr(self, number: int, asked: int, arrives: bool) -> None:
        """A leader asks for whoever caught up, or what it had asked for; the controller may hear of it, more than once
        when its answer is lost on the way."""
        node = self.leading(number)
        if node is None or node.leading is None:
            return
        self.cluster.look(node)
        if node.leading.asked is None:
            return
        for _ in range(asked):
            node.leading.answer = self.cluster.alter(node.leading.asked)
        if arrives and node.leading.answer is not None:
            self.cluster.settle(node)

    @rule(number=NODES, share=st.floats(0, 1))
    def retain(self, number: int, share: float) -> None:
        """A leader drops old records that are committed."""
        node = self.leading(number)
        if node is not None:
            node.begin_at(node.start + int((node.high_watermark - node.start) * share))

    @precondition(lambda self: hasattr(self, "cluster"))
    @invariant()
    def nothing_is_lost(self) -> None:
        self.cluster.check()

    def teardown(self) -> None:
        if hasattr(self, "cluster"):
            self.cluster.converge()


TestReplication = Replication.TestCase
TestReplication.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def walk(seed: int, steps: int) -> None:
    """The same at random, with what makes trouble more often than what ends it."""
    chance = random.Random(seed)
    story = Replication()
    story.begin(chance.randint(2, 5))

    def number() -> int:
        return chance.randrange(5)

    def count() -> int:
        return chance.randint(1, 5)

    actions: list[tuple[int, Callable[[], None]]] = [
        (12, lambda: story.append(number(), count())),
        (24, lambda: story.fetch(number(), count())),
        (4, lambda: story.everybody_fetches(count())),
        (8, lambda: story.learn(number())),
        (2, story.everybody_learns),
        (3, lambda: story.elect(number())),
        (3, lambda: story.crash(number(), chance.randint(0, 30))),
        (5, lambda: story.restart(number())),
        (4, lambda: story.sync(number())),
        (4, lambda: story.look(number(), number())),
        (16, lambda: story.change_isr(number(), chance.randint(0, 2), chance.random() < 0.7)),
        (1, lambda: story.retain(number(), chance.random())),
    ]
    weights, choices = zip(*actions, strict=True)
    for _ in range(steps):
        chance.choices(choices, weights)[0]()
        story.cluster.check()
    story.cluster.converge()


@pytest.mark.parametrize("block", range(6))
def test_walks(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        try:
            walk(seed, 200)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


# The classical ways to lose or to fork what was committed ------------------------------------------------------------


def cluster_of(nodes: int) -> Cluster:
    cluster = Cluster(nodes)
    everybody(cluster)
    return cluster


def everybody(cluster: Cluster) -> None:
    for node in cluster.nodes:
        cluster.learn(node)
    cluster.check()


def replicate(cluster: Cluster, *followers: int, rounds: int = 2) -> None:
    """Two fetches: one for the records, one that tells the leader of them."""
    for _ in range(rounds):
        for each in followers:
            cluster.fetch(cluster.nodes[each], 10)
    cluster.check()


def test_kip_101_a_follower_that_restarts_keeps_what_it_does_not_know_to_be_committed() -> None:
    cluster = cluster_of(2)
    a, b = cluster.nodes
    cluster.append(a, 2)
    replicate(cluster, 1)
    assert (a.high_watermark, b.high_watermark) == (2, 2)
    b.synced, b.checkpoint = 2, 1  # its checkpoint is behind
    cluster.epoch += 1  # it is gone for so short a time that it stays in the ISR
    b.epoch, b.follower = -1, None
    cluster.restart(b)
    cluster.learn(a)
    cluster.learn(b)
    cluster.crash(a, 0)
    cluster.learn(b)
    assert b.end == 2 and b.cuts == [], "cut to its high watermark it would have lost one of them"
    cluster.converge()


def test_kip_101_an_old_leader_with_other_records_at_the_same_offsets_gives_them_up() -> None:
    cluster = cluster_of(2)
    a, b = cluster.nodes
    cluster.append(a, 1)
    replicate(cluster, 1)
    cluster.append(a, 2)  # which nobody else has
    cluster.elect(1, (0, 1))
    cluster.learn(b)
    cluster.append(b, 2)  # at the same offsets
    cluster.append(a, 1)
    cluster.learn(a)
    replicate(cluster, 0, rounds=3)
    assert a.cuts == [1] and a.records == b.records
    cluster.converge()


def test_kip_279_a_follower_of_an_epoch_that_its_leader_never_had_goes_back_epoch_by_epoch() -> None:
    cluster = cluster_of(3)
    a, b, c = cluster.nodes
    cluster.append(a, 2)
    replicate(cluster, 1, 2)
    cluster.append(a, 3)  # epoch 0, not replicated
    cluster.elect(1, (0, 1, 2))
    cluster.learn(b)
    cluster.append(b, 1)  # epoch 1, not replicated
    cluster.elect(0, (0, 1, 2))
    cluster.learn(a)
    cluster.append(a, 1)  # epoch 2 on top of epoch 0
    cluster.learn(b)
    cluster.elect(2, (0, 1, 2))
    cluster.learn(c)
    cluster.append(c, 4)  # epoch 3, from the committed records on
    everybody(cluster)
    replicate(cluster, 0, 1, rounds=4)
    assert a.cuts == [2] and b.cuts == [2]
    assert a.records == b.records == c.records
    cluster.converge()


def test_kip_279_a_leader_that_lacks_an_epoch_names_the_one_before_and_is_asked_again() -> None:
    cluster = cluster_of(3)
    a, b, c = cluster.nodes
    cluster.append(a, 5)  # epoch 0: the follower 1 gets three of them, 2 all
    cluster.fetch(b, 3)
    cluster.fetch(c, 5)
    cluster.elect(1, (0, 1, 2))
    cluster.learn(b)
    cluster.append(b, 1)  # epoch 1 on top of three
    cluster.learn(a)
    cluster.fetch(a, 10)  # the old leader goes back to three
    cluster.fetch(a, 10)  # and takes the one of epoch 1
    assert [each.epoch for each in a.records] == [0, 0, 0, 1] and a.cuts == [3]
    cluster.elect(2, (0, 1, 2))
    cluster.learn(c)
    cluster.append(c, 1)  # epoch 2 on top of five: it never had epoch 1
    everybody(cluster)
    replicate(cluster, 0, 1, rounds=3)
    assert [each.epoch for each in a.records] == [0, 0, 0, 0, 0, 2] and a.cuts == [3, 3]
    assert a.records == b.records == c.records
    cluster.converge()


def test_a_leader_without_records_of_its_own_epoch_tells_later_epochs_from_its_own() -> None:
    cluster = cluster_of(3)
    a, b, c = cluster.nodes
    cluster.append(a, 2)
    replicate(cluster, 1, 2)
    cluster.elect(1, (0, 1, 2))
    cluster.learn(b)
    cluster.append(b, 2)  # epoch 1, not replicated
    cluster.elect(2, (0, 1, 2))
    everybody(cluster)
    replicate(cluster, 0, 1)
    assert b.cuts == [2] and b.records == c.records == a.records
    cluster.converge()


def test_a_replica_that_was_away_for_longer_than_records_are_kept_starts_anew() -> None:
    cluster = cluster_of(2)
    a, b = cluster.nodes
    cluster.append(a, 2)
    replicate(cluster, 1)
    cluster.crash(b, 0)
    cluster.learn(a)
    cluster.append(a, 8)
    a.begin_at(6)
    cluster.restart(b)
    everybody(cluster)
    replicate(cluster, 1, rounds=3)
    assert (b.start, b.end, b.records) == (6, 10, a.records)
    cluster.look(a)
    assert a.leading is not None and a.leading.asked is not None and a.leading.asked.isr == (0, 1)
    cluster.converge()


def test_after_an_unclean_election_a_replica_goes_back_to_what_its_leader_has() -> None:
    """Which loses what was committed, so that only the end is looked at."""
    cluster = cluster_of(2)
    a, b = cluster.nodes
    cluster.append(a, 1)
    cluster.fetch(b, 10)
    cluster.append(a, 4)
    cluster.elect(1, (1,))
    cluster.learn(b)
    cluster.append(b, 1)
    cluster.learn(a)
    for _ in range(3):
        cluster.fetch(a, 10)
    assert a.records == b.records and [each.epoch for each in a.records] == [0, 1]

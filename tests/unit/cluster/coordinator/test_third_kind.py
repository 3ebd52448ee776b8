"""The runtime takes a kind of coordinator that it does not know, beside the two it has: share groups come later."""

from __future__ import annotations

from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_kind import GroupKind
from cluster.coordinator.transaction_config import TransactionConfig
from cluster.coordinator.transaction_kind import TransactionKind
from cluster.effects import Append, Ask, CancelAsk, Shard
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.shard_driver import FewTopics, ShardDriver
from tests.unit.cluster.coordinator.share_kind import RESTS_MS, SHARE_TOPIC, Key, ShareKind, ShareMachine

OFFSETS, TRANSACTIONS = "__consumer_offsets", "__transaction_state"
Write, Read = m.WriteShareGroupStateRequest, m.ReadShareGroupStateRequest
SHARDS = 5


class ShareDriver(ShardDriver):
    """Groups and transactions are coordinated by the same runtime."""

    def __init__(self) -> None:
        counts = {SHARE_TOPIC: SHARDS, OFFSETS: 1, TRANSACTIONS: 1, "t": 20}
        self.questions: list[Ask] = []
        self.tells = True
        super().__init__(SHARE_TOPIC, FewTopics(counts))
        self.runtime.host(GroupKind(GroupConfig(offsets_topic_partitions=1), lambda: "id", self.topics))
        self.runtime.host(TransactionKind(TransactionConfig(transaction_topic_partitions=1), self.topics))
        for topic in (OFFSETS, TRANSACTIONS):
            self.runtime.load_start(topic, 0, 0)
            self.carry_out(self.runtime.load_done(topic, 0, self.now_ms))
        self.load_all()

    def kind(self) -> ShareKind:
        return ShareKind(self.topics)

    def ask_of(self, ask: Ask) -> None:
        self.questions.append(ask)

    def call_off(self, ask: CancelAsk) -> None:
        self.questions = [each for each in self.questions if each.key != ask.key]

    def answer_questions(self) -> None:
        while self.questions and self.tells:
            self.carry_out(self.runtime.told(self.questions.pop(0).key, True, self.now_ms))

    def written(self, append: Append, base_offset: int) -> None:
        """Nothing is to be noted."""

    def restart(self, *, cut: bool = False) -> None:
        for topic in (OFFSETS, TRANSACTIONS):
            self.carry_out(self.runtime.unload(topic, 0))
        super().restart(cut=cut)

    def commit_of(self, topic: str) -> None:
        end = len(self.logs[Shard(topic, 0)])
        self.carry_out(self.runtime.committed(topic, 0, end, self.now_ms))

    def state(self, partition: int) -> object:
        """As its shard has it."""
        machine = self.runtime.machine(SHARE_TOPIC, self.shard_of(partition))
        assert isinstance(machine, ShareMachine)
        return machine.states.get(self.key(partition))

    def key(self, partition: int) -> Key:
        return Key("g", self.id_of("t"), partition)

    def shard_of(self, partition: int) -> int:
        return self.runtime.partition_for(self.key(partition).text(), SHARE_TOPIC)

    def id_of(self, topic: str) -> bytes:
        topic_id = self.topics.topic_id(topic)
        assert topic_id is not None
        return topic_id

    def writing(self, offsets: dict[int, int], *, epoch: int = 1, group: str = "g") -> Write:
        partitions = [
            Write.PartitionData(partition=each, state_epoch=epoch, leader_epoch=0, start_offset=offset)
            for each, offset in offsets.items()
        ]
        data = Write.WriteStateData(topic_id=self.id_of("t"), partitions=partitions)
        return Write(group_id=group, topics=[data])

    def reading(self, *partitions: int) -> Read:
        data = [Read.PartitionData(partition=each, leader_epoch=0) for each in partitions]
        return Read(group_id="g", topics=[Read.ReadStateData(topic_id=self.id_of("t"), partitions=data)])

    def write(self, offsets: dict[int, int], *, epoch: int = 1) -> list[int]:
        answer = self.ask(self.writing(offsets, epoch=epoch), 0, m.WriteShareGroupStateResponse)
        return [each.error_code for result in answer.results for each in result.partitions]

    def read(self, *partitions: int) -> dict[int, int]:
        answer = self.ask(self.reading(*partitions), 0, m.ReadShareGroupStateResponse)
        return {each.partition: each.start_offset for result in answer.results for each in result.partitions}


def test_its_requests_find_their_shards_and_are_answered_as_a_whole() -> None:
    driver = ShareDriver()
    offsets = {each: each * 10 for each in range(20)}
    assert driver.write(offsets) == [ErrorCode.NONE] * 20
    assert driver.read(*reversed(offsets), 7) == offsets
    assert len({shard for shard in driver.logs if shard.topic == SHARE_TOPIC}) == SHARDS
    assert driver.write({3: 99}, epoch=0) == [ErrorCode.FENCED_STATE_EPOCH]
    assert driver.ask(driver.writing({1: 1}, group=""), 0, m.WriteShareGroupStateResponse).results == []


def test_an_answer_waits_for_the_commit_and_a_failed_write_changes_nothing() -> None:
    driver = ShareDriver()
    driver.commits = False
    driver.send("slow", driver.writing({1: 5, 2: 6}), 0)
    assert "slow" not in driver.answers
    assert driver.read(1) == {1: -1}
    driver.commits = True
    for shard in range(SHARDS):
        driver.commit(shard)
    assert "slow" in driver.answers
    driver.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    assert driver.write({1: 7}) == [ErrorCode.NOT_ENOUGH_REPLICAS]
    driver.write_error = None
    assert driver.read(1, 2) == {1: 5, 2: 6}


def test_its_timers_are_its_own() -> None:
    driver = ShareDriver()
    driver.write({1: 5, 2: 6})
    driver.advance(RESTS_MS)
    states = [driver.state(each) for each in (1, 2)]
    assert states == [(1, 1, 0, 5), (1, 1, 0, 6)]
    driver.carry_out(driver.runtime.on_topics_deleted(["t"], driver.now_ms))
    assert driver.read(1) == {1: -1}


def test_its_shards_move() -> None:
    driver = ShareDriver()
    driver.write({each: each for each in range(20)})
    driver.tells = False
    driver.send("reading", driver.reading(1, 2), 0)
    driver.restart()
    driver.tells = True
    answer = driver.answer("reading", m.ReadShareGroupStateResponse)
    codes = {each.error_code for result in answer.results for each in result.partitions}
    assert codes == {ErrorCode.NOT_COORDINATOR}
    assert not driver.questions
    assert driver.read(*range(20)) == {each: each for each in range(20)}
    driver.unload(driver.shard_of(4))
    assert driver.write({4: 1}) == [ErrorCode.NOT_COORDINATOR]
    stays = next(each for each in range(20) if driver.shard_of(each) != driver.shard_of(4))
    driver.advance(RESTS_MS)
    assert driver.state(stays) == (1, 1, 0, stays)


def test_groups_and_transactions_go_on_beside_it() -> None:
    driver = ShareDriver()
    driver.write({1: 1})
    entry = m.OffsetCommitRequest.OffsetCommitRequestPartition(partition_index=0, committed_offset=4)
    topic = m.OffsetCommitRequest.OffsetCommitRequestTopic(name="t", partitions=[entry])
    driver.send("commit", m.OffsetCommitRequest(group_id="g", topics=[topic]), 8)
    driver.commit_of(OFFSETS)
    committed = driver.answer("commit", m.OffsetCommitResponse)
    assert committed.topics[0].partitions[0].error_code == ErrorCode.NONE
    listed = driver.ask(m.ListTransactionsRequest(), 0, m.ListTransactionsResponse)
    assert listed.error_code == ErrorCode.NONE
    assert driver.read(1) == {1: 1}
    groups = driver.ask(m.ListGroupsRequest(), 4, m.ListGroupsResponse).groups
    assert [each.group_id for each in groups] == ["g"]

"""A group under random clients, time, slow and failing writes, and failovers, held against what was promised.

Invariants, checked after every step:
  - the generation told to members never falls, and rises at each rebalance that completes;
  - in a generation every partition has at most one owner, whoever asks for its assignment and when;
  - an offset that was answered is never lost: what is fetched is the last answered one, or a later one that was sent;
  - nobody is answered twice (the driver checks), and after the shard is lost nobody is left waiting.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_records import GroupStored, decode
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver, commit_errors, subscription
from tests.unit.cluster.coordinator.shard_machine import ShardMachine

PARTITIONS = 4


class Client:
    """A consumer as far as the coordinator sees one. `stage`: what it waits for or has, of its latest generation."""

    def __init__(self, number: int, instance: str | None) -> None:
        self.number = number
        self.instance = instance
        self.member = ""
        self.generation = -1
        self.leads: list[str] = []
        self.has_answer = False
        self.waits_for: tuple[str, int] | None = None


class GroupMachine(ShardMachine):
    driver: Driver

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver(GroupConfig(offsets_topic_partitions=1, initial_rebalance_delay_ms=1_000))
        self.clients = [Client(number, None if number < 3 else f"static{number}") for number in range(5)]
        self.requests = 0
        self.generation_seen = 0
        self.owners: dict[tuple[int, int], str] = {}
        self.commits: dict[tuple[str, int], tuple[tuple[str, int], int]] = {}
        self.answered: dict[tuple[str, int], int] = {}
        self.last_sent = 0

    # Clients ------------------------------------------------------------------------------------------------------

    def name(self, kind: str) -> tuple[str, int]:
        self.requests += 1
        return kind, self.requests

    @rule(number=st.integers(0, 4), fresh=st.booleans())
    def join(self, number: int, fresh: bool) -> None:
        client = self.clients[number]
        who = self.name("join")
        client.waits_for = who
        client.has_answer = False
        member = "" if fresh else client.member
        self.driver.join(
            who,
            member=member,
            instance=client.instance,
            version=9,
            rebalance_ms=15_000,
            protocols=[("range", subscription("t") + bytes([number]))],
        )

    @rule(number=st.integers(0, 4))
    def sync(self, number: int) -> None:
        client = self.clients[number]
        if client.generation < 0 or (client.waits_for is not None and client.waits_for[0] == "join"):
            return
        who = self.name("sync")
        client.waits_for = who
        turn = self.requests  # a leader that asks twice assigns differently
        count = len(client.leads)
        assign = {
            member: bytes(range((at + turn) % count, PARTITIONS, count)) for at, member in enumerate(client.leads)
        }
        self.driver.sync(
            who,
            member=client.member,
            instance=client.instance,
            generation=client.generation,
            assign=assign,
            version=5,
            protocol_type="consumer",
            protocol="range",
        )

    @rule(numbers=st.sets(st.integers(0, 4), min_size=1))
    def join_together(self, numbers: set[int]) -> None:
        """What clients do when they are told of a rebalance: reach deep states faster than by chance."""
        for number in sorted(numbers) * 2:
            if self.clients[number].waits_for is None:
                self.join(number, fresh=not self.clients[number].member)
                self.take_answers()
        self.time(4_000)
        self.take_answers()
        for number in sorted(numbers):
            self.sync(number)

    @rule(number=st.integers(0, 4))
    def heartbeat(self, number: int) -> None:
        client = self.clients[number]
        if client.generation >= 0:
            error = self.driver.heartbeat(client.member, client.generation, instance=client.instance)
            assert error in (
                ErrorCode.NONE,
                ErrorCode.REBALANCE_IN_PROGRESS,
                ErrorCode.ILLEGAL_GENERATION,
                ErrorCode.UNKNOWN_MEMBER_ID,
                ErrorCode.FENCED_INSTANCE_ID,
            )

    @rule(number=st.integers(0, 4))
    def leave(self, number: int) -> None:
        client = self.clients[number]
        if client.member and client.waits_for is None:
            self.driver.leave((client.member, client.instance))

    @rule(number=st.integers(0, 4), partition=st.integers(0, PARTITIONS - 1))
    def commit_as_member(self, number: int, partition: int) -> None:
        client = self.clients[number]
        if client.generation >= 0:
            self.send_commit(partition, client.member, client.generation, client.instance)

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def commit_from_outside(self, partition: int) -> None:
        self.send_commit(partition, "", -1, None)

    def send_commit(self, partition: int, member: str, generation: int, instance: str | None) -> None:
        who = self.name("commit")
        self.last_sent += 1
        self.commits[who] = (("t", partition), self.last_sent)
        self.driver.send_commit(
            who, {("t", partition): self.last_sent}, member=member, generation=generation, instance=instance
        )

    # The world ----------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 500, 1_000, 4_000, 10_000, 20_000]))
    def time(self, ms: int) -> None:
        self.driver.advance(ms)

    @rule()
    def failover(self) -> None:
        """A generation nobody stored is begun again."""
        self.fail_over()
        self.take_answers()
        stored = self.stored_generation()
        self.generation_seen = min(self.generation_seen, stored)
        self.owners = {key: who for key, who in self.owners.items() if key[0] <= stored}

    def stored_generation(self) -> int:
        facts = [decode(*record) for records in self.driver.logs.values() for record in records]
        stored = [fact.generation for fact in facts if isinstance(fact, GroupStored)]
        return stored[-1] if stored else 0

    # What was promised --------------------------------------------------------------------------------------------

    @invariant()
    def take_answers(self) -> None:
        for client in self.clients:
            if client.waits_for in self.driver.answers:
                answer = self.driver.answers[client.waits_for]
                client.waits_for = None
                if isinstance(answer, m.JoinGroupResponse):
                    self.take_join(client, answer)
                elif isinstance(answer, m.SyncGroupResponse) and answer.error_code == 0:
                    self.take_assignment(client, answer.assignment)
        for who, (partition, offset) in list(self.commits.items()):
            if who in self.driver.answers:
                del self.commits[who]
                if commit_errors(self.driver.answer(who, m.OffsetCommitResponse)) == [0]:
                    self.answered[partition] = max(offset, self.answered.get(partition, 0))

    def take_join(self, client: Client, answer: m.JoinGroupResponse) -> None:
        if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            client.member, client.generation = answer.member_id, -1
        elif answer.error_code == 0:
            assert answer.generation_id >= self.generation_seen, "the generation fell"
            self.generation_seen = answer.generation_id
            client.member, client.generation = answer.member_id, answer.generation_id
            client.leads = [each.member_id for each in answer.members] if not answer.skip_assignment else []
            ids = [each.member_id for each in answer.members]
            assert len(set(ids)) == len(ids)
            assert not ids or answer.leader in ids

    def take_assignment(self, client: Client, assignment: bytes) -> None:
        for partition in assignment:
            key = (client.generation, partition)
            who = client.instance or client.member  # a static member is the same under a new id
            owner = self.owners.setdefault(key, who)
            assert owner == who, f"partition {partition} of generation {client.generation} has two owners"

    @invariant()
    def answered_offsets_are_there(self) -> None:
        found = self.driver.fetch(*(("t", partition) for partition in range(PARTITIONS)))
        for partition, offset in self.answered.items():
            assert found[partition] >= offset, f"{partition}: {offset} was answered, {found[partition]} is there"

    @invariant()
    def the_log_says_the_same(self) -> None:
        """A second coordinator that reads what is committed has every answered offset too."""
        if self.requests % 7:
            return
        other = Driver(self.driver.config, host=False)
        high = self.driver.high
        other.logs = {shard: records[: high.get(shard, 0)] for shard, records in self.driver.logs.items()}
        other.load()
        found = other.fetch()
        for partition, offset in self.answered.items():
            assert found[partition] >= offset

    def teardown(self) -> None:
        self.driver.unload()
        waiting = self.driver.asked.keys() - self.driver.answers.keys()
        assert not waiting, f"left waiting: {waiting}"


TestGroupMachine = GroupMachine.TestCase
TestGroupMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)

"""A consumer in the simulator: joins, syncs, heartbeats, reads from what is committed and commits what it has read.

What stays true: it does what Kafka's consumers do. One request at a time on a connection that keeps their order; what
is not answered in time ends the connection, and with it whatever is still on its way there. It uses partitions only
between the answer to a SyncGroup and the first word that another generation begins.
"""

from __future__ import annotations

from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.sim.group_caller import OF_A_MOVE, PATIENCE_MS, US_PER_MS, Caller
from tests.sim.group_host import PARTITIONS, TOPIC, GroupHost
from tests.sim.world import Violation, World

SESSION_MS = 6_000
REBALANCE_MS = 9_000
_HEARTBEAT_MS = 1_500
_JOIN_PATIENCE_MS = REBALANCE_MS + PATIENCE_MS
_SUBSCRIPTION = b"\x00\x01" + m.ConsumerProtocolSubscription(topics=[TOPIC]).encode(1)


class Books:
    """What all members were told. `owners`: by generation and partition; `acknowledged`: by partition, the newest
    commit that was answered. `aborted`: transactions."""

    def __init__(self) -> None:
        self.owners: dict[tuple[int, int], str] = {}
        self.acknowledged: dict[int, int] = {}
        self.aborted: set[str] = set()

    def owns(self, who: str, generation: int, partitions: list[int]) -> None:
        for partition in partitions:
            owner = self.owners.setdefault((generation, partition), who)
            if owner != who:
                raise Violation(f"{TOPIC}-{partition} in generation {generation} is both {owner}'s and {who}'s")

    def commits(self, partition: int, offset: int) -> None:
        self.acknowledged[partition] = max(self.acknowledged.get(partition, 0), offset)

    def reads(self, who: str, partition: int, offset: int, transaction: str, acknowledged: int) -> None:
        """`acknowledged`: when it asked. `transaction`: in which the offset says that it was committed."""
        if transaction in self.aborted:
            raise Violation(f"{who} is told {offset} of {TOPIC}-{partition}, of the aborted transaction {transaction}")
        if offset < acknowledged:
            raise Violation(f"{who} is told {offset} of {TOPIC}-{partition}, where {acknowledged} was acknowledged")


class Member(Caller):
    """One life of a process. `instance`: its group.instance.id; another life may have had it before."""

    def __init__(
        self, name: str, world: World, host: GroupHost, books: Books, instance: str | None, loss: float
    ) -> None:
        super().__init__(name, world, host, loss)
        self.instance = instance
        self.generation = -1
        self.positions: dict[int, int] = {}
        self.is_stable = False
        self.is_fenced = False
        self.is_transactional = world.chance(0.4)
        self.producer_id = -1  # of its open transaction
        self._books = books
        self._member_id = ""
        self._lead: list[str] = []
        world.after(world.random.randrange(2_000 * US_PER_MS), self.process, self._join)

    # The group ----------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        self.is_stable = False
        self.positions.clear()
        request = m.JoinGroupRequest(
            group_id="g",
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            member_id=self._member_id,
            group_instance_id=self.instance,
            protocol_type="consumer",
            protocols=[m.JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=_SUBSCRIPTION)],
        )
        self._ask(request, 9, self._joined, _JOIN_PATIENCE_MS)

    def _joined(self, answer: Message) -> None:
        assert isinstance(answer, m.JoinGroupResponse)
        if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self._member_id = answer.member_id
            self._join()
        elif answer.error_code:
            self._refused(answer.error_code)
        else:
            self._member_id = answer.member_id
            self.generation = answer.generation_id
            self._lead = [each.member_id for each in answer.members] if not answer.skip_assignment else []
            self._sync()

    def _sync(self) -> None:
        """The leader deals the partitions out."""
        entry = m.SyncGroupRequest.SyncGroupRequestAssignment
        hands: dict[str, list[int]] = {each: [] for each in sorted(self._lead)}
        for partition in range(PARTITIONS if hands else 0):
            [*hands.values()][partition % len(hands)].append(partition)
        request = m.SyncGroupRequest(
            group_id="g",
            generation_id=self.generation,
            member_id=self._member_id,
            group_instance_id=self.instance,
            protocol_type="consumer",
            protocol_name="range",
            assignments=[entry(member_id=each, assignment=bytes(hand)) for each, hand in hands.items()],
        )
        self._ask(request, 5, self._synced)

    def _synced(self, answer: Message) -> None:
        assert isinstance(answer, m.SyncGroupResponse)
        if answer.error_code:
            self._refused(answer.error_code)
            return
        partitions = [*answer.assignment]
        self._world.say(self.name, "owns", self.generation, partitions)
        self._books.owns(self.instance or self.name, self.generation, partitions)
        self._fetch(partitions)

    def _refused(self, code: int) -> None:
        """What an error means to a consumer. It gives its partitions up with the first word of another generation."""
        self.is_stable = False
        self.positions.clear()
        if code == ErrorCode.FENCED_INSTANCE_ID:
            self.is_fenced = True
            return
        if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            self.generation = -1
            if code == ErrorCode.UNKNOWN_MEMBER_ID:
                self._member_id = ""
        elif code not in _TRY_AGAIN:
            raise Violation(f"{self.name} hears {ErrorCode(code).name}")
        self._later(self._join)

    def _beat(self) -> None:
        request = m.HeartbeatRequest(
            group_id="g",
            generation_id=self.generation,
            member_id=self._member_id,
            group_instance_id=self.instance,
        )
        self._ask(request, 4, self._beaten)

    def _beaten(self, answer: Message) -> None:
        assert isinstance(answer, m.HeartbeatResponse)
        if answer.error_code in OF_A_MOVE:
            self._later(self._beat)  # whoever takes over knows the generation
        elif answer.error_code:
            self._refused(answer.error_code)
        else:
            self.is_stable = True
            self._later(self._read, _HEARTBEAT_MS)

    # Offsets ------------------------------------------------------------------------------------------------------

    def _fetch(self, partitions: list[int]) -> None:
        asked = m.OffsetFetchRequest.OffsetFetchRequestTopics(name=TOPIC, partition_indexes=partitions)
        group = m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id="g", topics=[asked] if partitions else [])
        before = dict(self._books.acknowledged)

        def fetched(answer: Message) -> None:
            assert isinstance(answer, m.OffsetFetchResponse)
            found = [each for topic in answer.groups[0].topics for each in topic.partitions]
            codes = {answer.groups[0].error_code, *(each.error_code for each in found)} - {0}
            if codes <= OF_A_MOVE | {ErrorCode.UNSTABLE_OFFSET_COMMIT} and codes:
                self._later(partial_fetch)
                return
            if codes:
                raise Violation(f"{self.name} cannot fetch: {codes}")
            for each in found:
                offset = max(each.committed_offset, 0)
                told = before.get(each.partition_index, 0)
                self._books.reads(self.name, each.partition_index, offset, each.metadata or "", told)
                self.positions[each.partition_index] = offset
            self._beat()

        def partial_fetch() -> None:
            self._fetch(partitions)

        self._ask(m.OffsetFetchRequest(groups=[group], require_stable=True), 8, fetched)

    def _read(self) -> None:
        """Some records more of each partition; then they are committed."""
        for partition in self.positions:
            self.positions[partition] += self._world.between(0, 5)
        if not self.positions:
            self._beat()
        elif self.is_transactional:
            self.producer_id = self._host.begin_transaction()
            self._txn_commit(dict(self.positions))
        else:
            self._commit(dict(self.positions))

    def _commit(self, offsets: dict[int, int]) -> None:
        entry = m.OffsetCommitRequest.OffsetCommitRequestPartition
        topic = m.OffsetCommitRequest.OffsetCommitRequestTopic(
            name=TOPIC,
            partitions=[entry(partition_index=each, committed_offset=offset) for each, offset in offsets.items()],
        )
        request = m.OffsetCommitRequest(
            group_id="g",
            generation_id_or_member_epoch=self.generation,
            member_id=self._member_id,
            group_instance_id=self.instance,
            topics=[topic],
        )

        def committed(answer: Message) -> None:
            assert isinstance(answer, m.OffsetCommitResponse)
            code = answer.topics[0].partitions[0].error_code
            if code in OF_A_MOVE:
                self._later(lambda: self._commit(offsets))
            elif code and code != ErrorCode.REBALANCE_IN_PROGRESS:
                self._refused(code)
            else:
                for partition, offset in offsets.items() if not code else ():
                    self._books.commits(partition, offset)
                self._beat()

        self._ask(request, 7, committed)

    def _txn_commit(self, offsets: dict[int, int]) -> None:
        entry = m.TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition
        own = str(self.producer_id)
        topic = m.TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic(
            name=TOPIC,
            partitions=[
                entry(partition_index=each, committed_offset=offset, committed_metadata=own)
                for each, offset in offsets.items()
            ],
        )
        request = m.TxnOffsetCommitRequest(
            transactional_id=self.name,
            group_id="g",
            producer_id=self.producer_id,
            generation_id=self.generation,
            member_id=self._member_id,
            group_instance_id=self.instance,
            topics=[topic],
        )

        def held(answer: Message) -> None:
            assert isinstance(answer, m.TxnOffsetCommitResponse)
            code = answer.topics[0].partitions[0].error_code
            if code in OF_A_MOVE:
                self._later(lambda: self._txn_commit(offsets))
            elif code:
                self.abort()
                self._refused(code)
            else:
                commit = self._world.chance(0.7)
                self._later(lambda: self._end(offsets, commit=commit), self._world.between(0, 1_500))

        self._ask(request, 3, held)

    def _end(self, offsets: dict[int, int], *, commit: bool) -> None:
        """What is aborted is read again."""
        self._world.say(self.name, "commits" if commit else "aborts", offsets)

        def ended() -> None:
            self._world.after(0, self.process, go_on)

        def go_on() -> None:
            for partition, offset in offsets.items() if commit else ():
                self._books.commits(partition, offset)
            if commit:
                self._beat()
            else:
                self._fetch([*self.positions])

        producer_id, self.producer_id = self.producer_id, -1
        if not commit:
            self._books.aborted.add(str(producer_id))
        self._host.end_transaction(producer_id, ended, commit=commit)

    def abort(self) -> None:
        """Of a dead one the coordinator of transactions does this: when its successor appears, or its time is up."""
        if self.producer_id >= 0:
            producer_id, self.producer_id = self.producer_id, -1
            self._books.aborted.add(str(producer_id))
            self._host.end_transaction(producer_id, lambda: None, commit=False)


_TRY_AGAIN = OF_A_MOVE | {ErrorCode.REBALANCE_IN_PROGRESS}

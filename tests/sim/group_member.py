"""A consumer of the classic protocol in the simulator: joins, syncs, heartbeats, reads from what is committed and
commits what it has read.

What stays true: it does what Kafka's consumers do. One request at a time on a connection that keeps their order; what
is not answered in time ends the connection, and with it whatever is still on its way there. An eager one uses
partitions only between the answer to a SyncGroup and the first word that another generation begins; a cooperative one
may commit what it has before it joins, keeps it until it is told what it has now, drops what is not of it, and then
joins once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.sim.assignment import COOPERATIVE, EAGER, assigned, assignment, deal, subscription
from tests.sim.consumer import HEARTBEAT_MS, Books, Consumer
from tests.sim.group_caller import OF_A_MOVE, PATIENCE_MS, REBALANCE_MS, SESSION_MS, US_PER_MS
from tests.sim.group_host import TOPIC, GroupHost
from tests.sim.world import Violation, World

_JOIN_PATIENCE_MS = REBALANCE_MS + PATIENCE_MS
_HANDFUL = {ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION}


class Member(Consumer):
    """`closed`: the errors of a group that does not take it in as it is now."""

    fetch_version = 8
    commit_version = 7
    closed: ClassVar[frozenset[ErrorCode]] = frozenset()

    def __init__(
        self,
        name: str,
        world: World,
        host: GroupHost,
        books: Books,
        instance: str | None,
        loss: float,
        *,
        cooperative: bool,
    ) -> None:
        super().__init__(name, world, host, books, instance, loss)
        self.epoch = -1
        self.is_stable = False
        self.is_transactional = world.chance(0.4)
        self.producer_id = -1  # of its open transaction
        self._is_cooperative = cooperative
        self._protocol = COOPERATIVE if cooperative else EAGER
        self._member_id = ""
        self._joins_again = False
        self._lead: dict[str, bytes] = {}
        world.after(world.random.randrange(2_000 * US_PER_MS), self.process, self._join)

    @property
    def member_id(self) -> str:
        return self._member_id

    @property
    def is_settled(self) -> bool:
        return self.is_stable

    # The group ----------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """A static one only stops."""
        if self.instance is None and self._member_id:
            who = m.LeaveGroupRequest.MemberIdentity(member_id=self._member_id)
            self._send(m.LeaveGroupRequest(group_id="g", members=[who]), 5, lambda _: None, 0)
        self._stop()

    def _join(self) -> None:
        self.is_stable = False
        if not self._is_cooperative:
            self.positions.clear()
        metadata = subscription(sorted(self.positions), self.epoch)
        request = m.JoinGroupRequest(
            group_id="g",
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            member_id=self._member_id,
            group_instance_id=self.instance,
            protocol_type="consumer",
            protocols=[m.JoinGroupRequest.JoinGroupRequestProtocol(name=self._protocol, metadata=metadata)],
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
            self.epoch = answer.generation_id
            known = {each.member_id: each.metadata for each in answer.members}
            self._lead = known if not answer.skip_assignment else {}
            self._sync()

    def _sync(self) -> None:
        """The leader deals the partitions out."""
        entry = m.SyncGroupRequest.SyncGroupRequestAssignment
        hands = deal(self._lead, cooperative=self._is_cooperative)
        request = m.SyncGroupRequest(
            group_id="g",
            generation_id=self.epoch,
            member_id=self._member_id,
            group_instance_id=self.instance,
            protocol_type="consumer",
            protocol_name=self._protocol,
            assignments=[entry(member_id=each, assignment=assignment(hand)) for each, hand in hands.items()],
        )
        self._ask(request, 5, self._synced)

    def _synced(self, answer: Message) -> None:
        assert isinstance(answer, m.SyncGroupResponse)
        if answer.error_code:
            self._refused(answer.error_code)
            return
        partitions = assigned(answer.assignment)
        gone = self.positions.keys() - set(partitions)
        self._owns(partitions)
        self._world.say(self.name, "gives up", sorted(gone))
        for partition in gone:
            del self.positions[partition]
        self._joins_again = bool(gone)
        self._fetch([each for each in partitions if each not in self.positions], self._begun)

    def _begun(self) -> None:
        if self._joins_again:
            self._joins_again = False
            self._join()
        else:
            self._beat()

    def _refused(self, code: int) -> None:
        """What an error means to a consumer. An eager one gives its partitions up with the first word of another
        generation."""
        self.is_stable = False
        if code in _HANDFUL or not self._is_cooperative:
            self.positions.clear()
        if code == ErrorCode.FENCED_INSTANCE_ID:
            self.positions.clear()
            self.is_fenced = True
            return
        if code in _HANDFUL:
            self.epoch = -1
            if code == ErrorCode.UNKNOWN_MEMBER_ID:
                self._member_id = ""
        elif code not in _TRY_AGAIN and code not in self.closed:
            raise Violation(f"{self.name} hears {ErrorCode(code).name}")
        self._later(self._join)

    def _beat(self) -> None:
        request = m.HeartbeatRequest(
            group_id="g",
            generation_id=self.epoch,
            member_id=self._member_id,
            group_instance_id=self.instance,
        )
        self._ask(request, 4, self._beaten)

    def _beaten(self, answer: Message) -> None:
        assert isinstance(answer, m.HeartbeatResponse)
        if answer.error_code in OF_A_MOVE:
            self._later(self._beat)  # whoever takes over knows the generation
        elif answer.error_code == ErrorCode.REBALANCE_IN_PROGRESS and self.positions and self._is_cooperative:
            self.is_stable = False
            commits = self._world.chance(0.5)
            self._later((lambda: self._commit(dict(self.positions), self._join)) if commits else self._join)
        elif answer.error_code:
            self._refused(answer.error_code)
        else:
            self.is_stable = True
            self._later(self._read, HEARTBEAT_MS)

    # Offsets ------------------------------------------------------------------------------------------------------

    def _cannot_fetch(self, code: int, again: Callable[[], None]) -> None:
        if code not in OF_A_MOVE | {ErrorCode.UNSTABLE_OFFSET_COMMIT}:
            raise Violation(f"{self.name} cannot fetch: {ErrorCode(code).name}")
        self._later(again)

    def _cannot_commit(self, code: int, again: Callable[[], None], then: Callable[[], None]) -> None:
        if code in OF_A_MOVE:
            self._later(again)
        elif code == ErrorCode.REBALANCE_IN_PROGRESS:
            then()
        else:
            self._refused(code)

    def _read(self) -> None:
        if not self.positions or not self.is_transactional:
            super()._read()
            return
        for partition in self.positions:
            self.positions[partition] += self._world.between(0, 5)
        self.producer_id = self._host.begin_transaction()
        self._txn_commit(dict(self.positions))

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
            generation_id=self.epoch,
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
                self._fetch([*self.positions], self._beat)

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

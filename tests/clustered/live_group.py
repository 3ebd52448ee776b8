"""A classic group of two members, one of them static, that outlives the broker which coordinates it.

What stays true: the members do nothing but what a consumer does while its coordinator is away: look for it, and ask
again. So whatever changes for them is the work of the coordinators.
"""

from __future__ import annotations

import time
from typing import Any

from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.broker.raw import Raw
from tests.support.cluster import Cluster

TIMEOUT_S = 60
_AWAY = {
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.REQUEST_TIMED_OUT,  # of a commit, while a dead follower counts as in sync
}
_LOOK_AGAIN_S = 0.05
_INSTANCE = "i-static"
_TOPICS = b"\0\1" + m.ConsumerProtocolSubscription(topics=["orders"]).encode(1)


class LiveGroup:
    """`dynamic`, `static`: member ids, both of generation 2. `on`: the broker that is to coordinate it first."""

    def __init__(self, brokers: Cluster, on: int) -> None:
        self._brokers = brokers
        self.group_id = next(name for name in map("live-{}".format, range(100)) if self._found(name) == on)
        brokers.wait_in_sync("__consumer_offsets")
        self.generation = 2
        conn = self._connected()
        self.dynamic = self.joined(conn, "").member_id
        self.joined(conn, self.dynamic)
        self._synced(conn, 1, self.dynamic, None, {self.dynamic: b"all"})
        other = self._connected()
        other.send(self._join("", _INSTANCE), 9)
        deadline = time.monotonic() + TIMEOUT_S
        while self.heartbeat(self.dynamic, generation=1) != ErrorCode.REBALANCE_IN_PROGRESS:
            self._wait(deadline)
        leads = self.joined(conn, self.dynamic)
        self.static = other.answer(m.JoinGroupResponse, 11, 9).member_id
        assert (leads.generation_id, leads.leader, len(leads.members)) == (2, self.dynamic, 2)
        self._synced(conn, 2, self.dynamic, None, {self.dynamic: b"first", self.static: b"second"})
        assert self._synced(other, 2, self.static, _INSTANCE, {}) == b"second"
        conn.close()
        other.close()
        self.offset = 0
        self.commit()

    # ------------------------------------------------------------------------------------------------- checks

    def check(self) -> None:
        """Whoever coordinates it now knows all of it: nobody has to join again, and no offset is lost."""
        assert self.fetched() == self.offset  # not while it loads, when every heartbeat is answered 0
        assert self.heartbeat(self.dynamic) == ErrorCode.NONE
        assert self.heartbeat(self.static, _INSTANCE) == ErrorCode.NONE
        assert self.heartbeat(self.dynamic, generation=1) == ErrorCode.ILLEGAL_GENERATION
        described = self.ask(m.DescribeGroupsRequest(groups=[self.group_id]), 5).groups[0]
        assert (described.group_state, described.protocol_type, described.protocol_data) == (
            "Stable",
            "consumer",
            "range",
        )
        found = {each.member_id: (each.group_instance_id, each.member_assignment) for each in described.members}
        assert found == {self.dynamic: (None, b"first"), self.static: (_INSTANCE, b"second")}
        assert all(each.member_metadata == _TOPICS for each in described.members)
        self.commit()
        assert self.fetched() == self.offset

    def restart_static(self) -> None:
        """It comes back without its id: no rebalance, its old id is fenced, and its assignment is as before."""
        before = self.static
        conn = self._connected()
        conn.send(self._join("", _INSTANCE), 9)
        answer = conn.answer(m.JoinGroupResponse, 11, 9)
        assert (answer.error_code, answer.generation_id, answer.leader) == (0, self.generation, self.dynamic)
        self.static = answer.member_id
        assert self._synced(conn, self.generation, self.static, _INSTANCE, {}) == b"second"
        conn.close()
        assert self.heartbeat(before, _INSTANCE) == ErrorCode.FENCED_INSTANCE_ID
        self.check()

    # ------------------------------------------------------------------------------------------------- requests

    def heartbeat(self, member: str, instance: str | None = None, *, generation: int | None = None) -> ErrorCode:
        request = m.HeartbeatRequest(
            group_id=self.group_id,
            generation_id=self.generation if generation is None else generation,
            member_id=member,
            group_instance_id=instance,
        )
        return ErrorCode(self.ask(request, 4).error_code)

    def commit(self) -> None:
        self.offset += 1
        partition = m.OffsetCommitRequest.OffsetCommitRequestPartition(committed_offset=self.offset)
        request = m.OffsetCommitRequest(
            group_id=self.group_id,
            generation_id_or_member_epoch=self.generation,
            member_id=self.dynamic,
            topics=[m.OffsetCommitRequest.OffsetCommitRequestTopic(name="orders", partitions=[partition])],
        )
        answer = self.ask(request, 8)
        assert _codes(answer) == {ErrorCode.NONE}, answer

    def fetched(self) -> int:
        group = m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id=self.group_id, topics=None)
        answer = self.ask(m.OffsetFetchRequest(groups=[group], require_stable=True), 8)
        offset: int = answer.groups[0].topics[0].partitions[0].committed_offset
        return offset

    def ask(self, request: Any, version: int) -> Any:
        """The answer of the coordinator, whoever that is by then."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                conn = self._connected()
                try:
                    answer = conn.ask(request, version)
                finally:
                    conn.close()
            except OSError:
                self._wait(deadline)
                continue
            if not _codes(answer) & _AWAY:
                return answer
            self._wait(deadline)

    def joined(self, conn: Raw, member: str) -> Any:
        answer = conn.ask(self._join(member, None), 9)
        assert answer.error_code in (0, ErrorCode.MEMBER_ID_REQUIRED)
        return answer

    def _join(self, member: str, instance: str | None) -> m.JoinGroupRequest:
        return m.JoinGroupRequest(
            group_id=self.group_id,
            session_timeout_ms=60_000,
            rebalance_timeout_ms=60_000,
            member_id=member,
            group_instance_id=instance,
            protocol_type="consumer",
            protocols=[m.JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=_TOPICS)],
        )

    def _synced(self, conn: Raw, generation: int, member: str, instance: str | None, assign: dict[str, bytes]) -> bytes:
        entry = m.SyncGroupRequest.SyncGroupRequestAssignment
        request = m.SyncGroupRequest(
            group_id=self.group_id,
            generation_id=generation,
            member_id=member,
            group_instance_id=instance,
            protocol_type="consumer",
            protocol_name="range",
            assignments=[entry(member_id=each, assignment=what) for each, what in assign.items()],
        )
        answer = conn.ask(request, 5)
        assert answer.error_code == 0, answer
        assignment: bytes = answer.assignment
        return assignment

    # ------------------------------------------------------------------------------------------------- coordinator

    def coordinator(self) -> int:
        """The id of the broker that coordinates the group, once there is one."""
        return self._found(self.group_id)

    def _found(self, group_id: str) -> int:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                conn = Raw(self._brokers.anybody().port)
                answer = conn.ask(m.FindCoordinatorRequest(coordinator_keys=[group_id]), 4).coordinators[0]
                conn.close()
                if answer.error_code == 0 and self._brokers[answer.node_id].running():
                    node: int = answer.node_id
                    return node
            except OSError:
                pass
            self._wait(deadline)

    def _connected(self) -> Raw:
        return Raw(self._brokers[self.coordinator()].port)

    @staticmethod
    def _wait(deadline: float) -> None:
        assert time.monotonic() < deadline, "the coordinator does not come"
        time.sleep(_LOOK_AGAIN_S)  # sleep: brokers cannot tell when another takes over


def _codes(answer: Any) -> set[int]:
    """All error codes that an answer of the group APIs has."""
    found = {getattr(answer, "error_code", 0)}
    for name in ("groups", "topics", "partitions", "members"):
        for each in getattr(answer, name, ()):
            found |= _codes(each)
    return found

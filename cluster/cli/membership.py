"""One consumer's place in a group: joining, the range assignment, heartbeats, commits, leaving.

What it keeps true: partitions are used only between a successful `join` and the next `rebalance_due`; a commit
carries the generation it belongs to, so that the coordinator refuses it once somebody else owns the partitions.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from cluster.broker.peer import PeerError
from cluster.cli.client import ClusterClient
from cluster.cli.errors import CommandError, check
from cluster.cli.group_view import decode_assignment
from cluster.cli.offsets import COMMIT_VERSIONS, TopicPartition, check_commit, commit_request
from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.records import VERSION_BYTES, encode_versioned, read_version
from pylog.errors import ErrorCode, KafkaError

_PROTOCOL_TYPE = "consumer"
_ASSIGNOR = "range"
_PROTOCOL_VERSION = 0  # what every consumer that ever was can read
_SESSION_TIMEOUT_MS = 45_000
_REBALANCE_TIMEOUT_MS = 60_000
_HEARTBEAT_S = 3.0
PARTITION_CHECK_S = 30.0
_ANSWER_GRACE_MS = 5_000
# Longer than a broker waits for the first members of a new group.
_SAY_WAITING_AFTER_S = 5.0
_LOST = (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION)


class Membership:
    """A member of `group` that reads `topic`. One thread, which calls `rebalance_due` every second or so."""

    def __init__(self, cluster: ClusterClient, group: str, topic: str) -> None:
        self.group = group
        self._cluster = cluster
        self._topic = topic
        self._member_id = ""
        self._generation = -1
        self._next_heartbeat = 0.0
        self._next_count = 0.0
        self._counts: dict[str, int] = {}
        self._reason: str | None = None  # why it joins again, for the coordinator to tell

    def join(self) -> list[TopicPartition]:
        """Join or join again, and wait for the assignment."""
        while True:
            assignment = self._cluster.retry(self._try_join)
            if assignment is not None:
                self._next_heartbeat = time.monotonic() + _HEARTBEAT_S
                self._next_count = time.monotonic() + PARTITION_CHECK_S
                return sorted(assignment)

    def rebalance_due(self) -> bool:
        """Send the heartbeat when it is time. True: the partitions must be given up and `join` called again."""
        if time.monotonic() < self._next_heartbeat:
            return False
        request = m.HeartbeatRequest(group_id=self.group, generation_id=self._generation, member_id=self._member_id)

        def attempt() -> int:
            code = self._cluster.coordinator(self.group).request(request, m.HeartbeatResponse).error_code
            if code not in (ErrorCode.REBALANCE_IN_PROGRESS, *_LOST):
                check(code)
            return code

        code = self._cluster.retry(attempt)
        self._next_heartbeat = time.monotonic() + _HEARTBEAT_S
        if code in _LOST:
            self._forget()
        if code == ErrorCode.NONE and self._partitions_changed():
            self._reason = "the topics have more partitions now"
            return True
        return code != ErrorCode.NONE

    def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commit; False when the partitions are not ours any more, and then nothing was committed."""
        if not offsets:
            return True
        request = commit_request(self.group, offsets, member_id=self._member_id, generation=self._generation)

        def attempt() -> bool:
            answer = self._cluster.coordinator(self.group).request(
                request, m.OffsetCommitResponse, versions=COMMIT_VERSIONS
            )
            try:
                check_commit(answer)
            except KafkaError as error:
                if error.code in (ErrorCode.REBALANCE_IN_PROGRESS, *_LOST):
                    return False
                raise
            return True

        return self._cluster.retry(attempt)

    def leave(self) -> None:
        """Tell the coordinator, so that the others need not wait for our session to end. Unheard, they wait."""
        if not self._member_id:
            return
        with suppress(PeerError, KafkaError, CommandError):
            peer = self._cluster.coordinator(self.group)
            # From version 3 on several members can leave at once, in another field.
            if peer.serves(m.LeaveGroupRequest, (3, 5)):
                member = m.LeaveGroupRequest.MemberIdentity(member_id=self._member_id, reason="the command ended")
                request = m.LeaveGroupRequest(group_id=self.group, members=[member])
                peer.request(request, m.LeaveGroupResponse, versions=(3, 5))
            else:
                request = m.LeaveGroupRequest(group_id=self.group, member_id=self._member_id)
                peer.request(request, m.LeaveGroupResponse, versions=(0, 2))
        self._forget()

    def _partitions_changed(self) -> bool:
        """Whether a topic has grown since this member, as the leader of the group, shared it out."""
        if not self._counts or time.monotonic() < self._next_count:
            return False
        self._next_count = time.monotonic() + PARTITION_CHECK_S
        return self._cluster.retry(lambda: self._count_partitions(self._counts)) != self._counts

    def _count_partitions(self, topics: Iterable[str]) -> dict[str, int]:
        found = self._cluster.metadata(sorted(topics)).topics
        return {topic.name or "": len(topic.partitions) for topic in found}

    def _forget(self) -> None:
        self._member_id = ""
        self._generation = -1

    def _try_join(self) -> list[TopicPartition] | None:
        """None: something changed meanwhile, start over."""
        subscription = m.ConsumerProtocolSubscription(topics=[self._topic])
        request = m.JoinGroupRequest(
            group_id=self.group,
            session_timeout_ms=_SESSION_TIMEOUT_MS,
            rebalance_timeout_ms=_REBALANCE_TIMEOUT_MS,
            member_id=self._member_id,
            protocol_type=_PROTOCOL_TYPE,
            protocols=[
                m.JoinGroupRequest.JoinGroupRequestProtocol(
                    name=_ASSIGNOR, metadata=encode_versioned(subscription, _PROTOCOL_VERSION)
                )
            ],
            reason=self._reason,
        )
        peer = self._cluster.coordinator(self.group)
        pending = peer.send(request, m.JoinGroupResponse)
        try:
            if not select.select([peer], [], [], _SAY_WAITING_AFTER_S)[0]:
                group = self.group
                self._cluster.say_waiting(f"the other members of group {group!r} have to join again, or to time out")
        except BaseException:
            peer.close()  # as where an answer is awaited: who leaves now does not wait for this one
            raise
        joined = peer.receive(pending, timeout_ms=_REBALANCE_TIMEOUT_MS + _ANSWER_GRACE_MS)
        if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self._member_id = joined.member_id
            return None
        if joined.error_code in _LOST:
            self._forget()
            return None
        if joined.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL:
            raise CommandError(
                f"group {self.group!r} has members that share partitions in another way than {_ASSIGNOR!r}"
            )
        check(joined.error_code)
        self._member_id, self._generation = joined.member_id, joined.generation_id
        self._counts = {}
        self._reason = None
        return self._sync(joined)

    def _sync(self, joined: m.JoinGroupResponse) -> list[TopicPartition] | None:
        assignments: list[m.SyncGroupRequest.SyncGroupRequestAssignment] = []
        if joined.leader == joined.member_id and not joined.skip_assignment:
            assignments = self._assign(joined.members)
        request = m.SyncGroupRequest(
            group_id=self.group,
            generation_id=self._generation,
            member_id=self._member_id,
            protocol_type=_PROTOCOL_TYPE,
            protocol_name=_ASSIGNOR,
            assignments=assignments,
        )
        synced = self._cluster.coordinator(self.group).request(
            request, m.SyncGroupResponse, timeout_ms=_REBALANCE_TIMEOUT_MS + _ANSWER_GRACE_MS
        )
        if synced.error_code in _LOST:
            self._forget()
        if synced.error_code in (ErrorCode.REBALANCE_IN_PROGRESS, *_LOST):
            return None
        check(synced.error_code)
        return decode_assignment(synced.assignment)

    def _assign(
        self, members: list[m.JoinGroupResponse.JoinGroupResponseMember]
    ) -> list[m.SyncGroupRequest.SyncGroupRequestAssignment]:
        subscriptions = {member.member_id: _subscribed_topics(member.metadata) for member in members}
        self._counts = self._count_partitions({topic for topics in subscriptions.values() for topic in topics})
        assigned = assign_ranges(subscriptions, self._counts)
        return [
            m.SyncGroupRequest.SyncGroupRequestAssignment(member_id=member, assignment=_encode_assignment(partitions))
            for member, partitions in assigned.items()
        ]


def assign_ranges(
    subscriptions: Mapping[str, list[str]], partition_counts: Mapping[str, int]
) -> dict[str, list[TopicPartition]]:
    """Of each topic a run of neighbouring partitions for each member, by member id; the first take the remainder."""
    assigned: dict[str, list[TopicPartition]] = {member: [] for member in subscriptions}
    for topic, count in sorted(partition_counts.items()):
        members = sorted(member for member, topics in subscriptions.items() if topic in topics)
        start = 0
        for place, member in enumerate(members):
            size = count // len(members) + (place < count % len(members))
            assigned[member] += [TopicPartition(topic, partition) for partition in range(start, start + size)]
            start += size
    return assigned


def _subscribed_topics(metadata: bytes) -> list[str]:
    """What a member wants to read; nothing when it does not say so in a way we understand."""
    try:
        version = min(read_version(metadata), m.ConsumerProtocolSubscription.valid_versions[1])
        return m.ConsumerProtocolSubscription.decode(metadata, version, VERSION_BYTES, exact=False).topics
    except DecodeError:
        return []


def _encode_assignment(partitions: list[TopicPartition]) -> bytes:
    topics: dict[str, list[int]] = {}
    for tp in partitions:
        topics.setdefault(tp.topic, []).append(tp.partition)
    return encode_versioned(
        m.ConsumerProtocolAssignment(
            assigned_partitions=[
                m.ConsumerProtocolAssignment.TopicPartition(topic=topic, partitions=numbers)
                for topic, numbers in topics.items()
            ]
        ),
        _PROTOCOL_VERSION,
    )

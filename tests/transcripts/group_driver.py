"""Drives the group coordinator: a log with transactions in it, and what its clients ask."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_kind import GroupKind
from cluster.coordinator.runtime import AskKey
from cluster.coordinator.shard import Marker
from cluster.effects import Append, Ask, CancelAsk, Shard
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.transcripts.shard_driver import FewTopics, ShardDriver

OFFSETS = "__consumer_offsets"


class Driver(ShardDriver):
    """See ShardDriver. `host`: whether all shards are loaded at once."""

    def __init__(self, config: GroupConfig | None = None, *, partitions: int = 1, host: bool = True) -> None:
        self.config = config or GroupConfig(offsets_topic_partitions=partitions)
        self.ids = 0
        self.settings: dict[str, dict[str, str]] = {}  # that groups have of their own
        self.owners: dict[tuple[Shard, int], int | Marker] = {}  # of records written in transactions; their ends
        self.questions: list[Ask] = []
        super().__init__(OFFSETS, FewTopics({OFFSETS: partitions, "t": 4, "u": 2}))
        if host:
            self.load_all()

    def _new_id(self) -> str:
        self.ids += 1
        return f"id{self.ids}"

    # What the broker does -----------------------------------------------------------------------------------------

    def kind(self) -> GroupKind:
        return GroupKind(self.config, self._new_id, self.topics, self.settings_of)

    def settings_of(self, group: str) -> dict[str, str]:
        return self.settings.get(group, {})

    def set_up(self, group: str, settings: dict[str, str]) -> None:
        """A group has these settings and no others."""
        self.settings[group] = settings
        self.topics.changes += 1

    def replay(self, shard: Shard, offset: int, key: bytes, value: bytes | None) -> None:
        owner = self.owners.get((shard, offset), -1)
        if isinstance(owner, Marker):
            self.runtime.replay_marker(OFFSETS, shard.partition, owner.producer_id, commit=owner.commit)
        else:
            self.runtime.replay(OFFSETS, shard.partition, key, value, offset, owner)

    def written(self, append: Append, base_offset: int) -> None:
        if append.producer is not None:
            offsets = range(base_offset, base_offset + len(append.records))
            self.owners |= {(append.shard, at): append.producer.producer_id for at in offsets}

    def restart(self, *, cut: bool = False) -> None:
        if cut:
            self.owners = {at: who for at, who in self.owners.items() if at[1] < self.high.get(at[0], 0)}
        super().restart(cut=cut)

    def end_transaction(self, producer_id: int, *, commit: bool, partition: int = 0) -> None:
        """The coordinator of transactions writes its marker into the log of a shard."""
        shard = Shard(OFFSETS, partition)
        marker = Marker(producer_id, commit)
        log = self.logs.setdefault(shard, [])
        self.owners[shard, len(log)] = marker
        log.append((b"", None))
        self.carry_out(self.runtime.marker(OFFSETS, partition, marker, len(log) - 1, self.now_ms))
        if self.commits:
            self.commit(partition)

    def ask_of(self, ask: Ask) -> None:
        self.questions.append(ask)

    def call_off(self, ask: CancelAsk) -> None:
        self.questions = [each for each in self.questions if each.key != ask.key]

    def answer_questions(self) -> None:
        """Nobody does, but who takes them."""

    def take_questions(self) -> list[Ask]:
        """What is to be found out."""
        asked, self.questions = self.questions, []
        return asked

    def tell(self, ask: Ask, answer: object) -> None:
        assert isinstance(ask.key, AskKey)
        self.carry_out(self.runtime.told(ask.key, answer, self.now_ms))

    # What clients do ----------------------------------------------------------------------------------------------

    def join(
        self,
        who: Hashable,
        *,
        group: str = "g",
        member: str = "",
        instance: str | None = None,
        protocols: list[tuple[str, bytes]] | None = None,
        protocol_type: str = "consumer",
        session_ms: int = 10_000,
        rebalance_ms: int = 60_000,
        version: int = 3,
    ) -> Hashable:
        request = m.JoinGroupRequest(
            group_id=group,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms if version > 0 else -1,
            member_id=member,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocols=[
                m.JoinGroupRequest.JoinGroupRequestProtocol(name=name, metadata=metadata)
                for name, metadata in ([("range", subscription("t"))] if protocols is None else protocols)
            ],
        )
        return self.send(who, request, version)

    def joined(self, who: Hashable) -> m.JoinGroupResponse:
        return self.answer(who, m.JoinGroupResponse)

    def sync(
        self,
        who: Hashable,
        *,
        group: str = "g",
        member: str,
        generation: int,
        instance: str | None = None,
        assign: dict[str, bytes] | None = None,
        version: int = 3,
        protocol_type: str | None = None,
        protocol: str | None = None,
    ) -> Hashable:
        request = m.SyncGroupRequest(
            group_id=group,
            generation_id=generation,
            member_id=member,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocol_name=protocol,
            assignments=[
                m.SyncGroupRequest.SyncGroupRequestAssignment(member_id=each, assignment=assignment)
                for each, assignment in (assign or {}).items()
            ],
        )
        return self.send(who, request, version)

    def synced(self, who: Hashable) -> m.SyncGroupResponse:
        return self.answer(who, m.SyncGroupResponse)

    def heartbeat(self, member: str, generation: int, *, group: str = "g", instance: str | None = None) -> ErrorCode:
        request = m.HeartbeatRequest(
            group_id=group, generation_id=generation, member_id=member, group_instance_id=instance
        )
        return ErrorCode(self.ask(request, 3, m.HeartbeatResponse).error_code)

    def leave(
        self, *members: tuple[str, str | None], group: str = "g", version: int = 4
    ) -> tuple[ErrorCode, list[ErrorCode]]:
        request = m.LeaveGroupRequest(group_id=group)
        if version < 3:
            request.member_id = members[0][0]
        else:
            request.members = [
                m.LeaveGroupRequest.MemberIdentity(member_id=member, group_instance_id=instance)
                for member, instance in members
            ]
        answer = self.ask(request, version, m.LeaveGroupResponse)
        return ErrorCode(answer.error_code), [ErrorCode(each.error_code) for each in answer.members]

    def send_commit(
        self,
        who: Hashable,
        offsets: dict[tuple[str, int], int],
        *,
        group: str = "g",
        member: str = "",
        generation: int = -1,
        instance: str | None = None,
        metadata: str | None = "",
        retention_ms: int = -1,
        version: int = 7,
    ) -> Hashable:
        request = m.OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member,
            group_instance_id=instance,
            retention_time_ms=retention_ms,
        )
        topics: dict[str, m.OffsetCommitRequest.OffsetCommitRequestTopic] = {}
        for (name, partition), offset in offsets.items():
            topic = topics.get(name)
            if topic is None:
                topic_id = self.topics.topic_id(name) or b"?" * 16
                topic = topics[name] = m.OffsetCommitRequest.OffsetCommitRequestTopic(name=name, topic_id=topic_id)
                request.topics.append(topic)
            topic.partitions.append(
                m.OffsetCommitRequest.OffsetCommitRequestPartition(
                    partition_index=partition, committed_offset=offset, committed_metadata=metadata
                )
            )
        return self.send(who, request, version)

    def commit_offsets(
        self,
        offsets: dict[tuple[str, int], int],
        *,
        group: str = "g",
        member: str = "",
        generation: int = -1,
        instance: str | None = None,
        metadata: str | None = "",
        retention_ms: int = -1,
        version: int = 7,
    ) -> list[ErrorCode]:
        """OffsetCommit, answered at once: the error of each partition."""
        who = self.send_commit(
            ("commit", len(self.asked)),
            offsets,
            group=group,
            member=member,
            generation=generation,
            instance=instance,
            metadata=metadata,
            retention_ms=retention_ms,
            version=version,
        )
        return commit_errors(self.answer(who, m.OffsetCommitResponse))

    def send_txn_commit(
        self,
        who: Hashable,
        offsets: dict[tuple[str, int], int],
        *,
        producer: int = 7,
        epoch: int = 0,
        group: str = "g",
        member: str = "",
        generation: int = -1,
        instance: str | None = None,
        metadata: str | None = "",
        version: int = 3,
    ) -> Hashable:
        request = m.TxnOffsetCommitRequest(
            transactional_id="x",
            group_id=group,
            producer_id=producer,
            producer_epoch=epoch,
            generation_id=generation,
            member_id=member,
            group_instance_id=instance,
            topics=[
                m.TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic(
                    name=name,
                    partitions=[
                        m.TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition(
                            partition_index=partition, committed_offset=offset, committed_metadata=metadata
                        )
                    ],
                )
                for (name, partition), offset in offsets.items()
            ],
        )
        return self.send(who, request, version)

    def txn_commit(
        self,
        offsets: dict[tuple[str, int], int],
        *,
        producer: int = 7,
        group: str = "g",
        member: str = "",
        generation: int = -1,
        instance: str | None = None,
        metadata: str | None = "",
        version: int = 3,
    ) -> list[ErrorCode]:
        """TxnOffsetCommit, answered at once: the error of each partition."""
        who = self.send_txn_commit(
            ("txn", len(self.asked)),
            offsets,
            producer=producer,
            group=group,
            member=member,
            generation=generation,
            instance=instance,
            metadata=metadata,
            version=version,
        )
        answer = self.answer(who, m.TxnOffsetCommitResponse)
        return [ErrorCode(each.error_code) for topic in answer.topics for each in topic.partitions]

    def fetch(self, *partitions: tuple[str, int], group: str = "g", stable: bool = False) -> dict[tuple[str, int], int]:
        """OffsetFetch, of all partitions unless named: the offset of each, or minus the code of its error."""
        topics = None
        if partitions:
            topics = [
                m.OffsetFetchRequest.OffsetFetchRequestTopics(name=name, partition_indexes=[partition])
                for name, partition in partitions
            ]
        request = m.OffsetFetchRequest(
            groups=[m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id=group, topics=topics)], require_stable=stable
        )
        (answer,) = self.ask(request, 8, m.OffsetFetchResponse).groups
        assert answer.error_code == 0, ErrorCode(answer.error_code)
        return {
            (topic.name, each.partition_index): -each.error_code if each.error_code else each.committed_offset
            for topic in answer.topics
            for each in topic.partitions
        }

    def describe(self, group: str = "g", version: int = 5) -> m.DescribeGroupsResponse.DescribedGroup:
        return self.ask(m.DescribeGroupsRequest(groups=[group]), version, m.DescribeGroupsResponse).groups[0]

    def state(self, group: str = "g") -> str:
        return self.describe(group).group_state

    # Whole stories ------------------------------------------------------------------------------------------------

    def stable_group(self, *clients: str, group: str = "g", topics: str = "t", version: int = 3) -> list[str]:
        """A stable group of new dynamic members; returns their ids. Each is assigned its own number."""
        for client in clients:
            self.join(("join", group, client), group=group, protocols=[("range", subscription(*topics))])
        self.advance(self.config.initial_rebalance_delay_ms * (2 if len(clients) > 1 else 1))
        ids = [self.joined(("join", group, client)).member_id for client in clients]
        self.sync_all(ids, group=group)
        return ids

    def sync_all(self, ids: list[str], *, group: str = "g", generation: int = 1) -> None:
        assign = {each: str(number).encode() for number, each in enumerate(ids)}
        for each in reversed(ids):
            self.sync(("sync", group, generation, each), group=group, member=each, generation=generation, assign=assign)


def commit_errors(answer: m.OffsetCommitResponse) -> list[ErrorCode]:
    return [ErrorCode(each.error_code) for topic in answer.topics for each in topic.partitions]


def subscription(*topics: str) -> bytes:
    """The metadata of a consumer, version 1."""
    return b"\x00\x01" + m.ConsumerProtocolSubscription(topics=list(topics)).encode(1)


def error(response: Message) -> ErrorCode:
    code: Callable[[], int] = lambda: getattr(response, "error_code")  # noqa: B009, E731
    return ErrorCode(code())

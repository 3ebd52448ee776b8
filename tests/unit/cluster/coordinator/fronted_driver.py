"""A coordinator with somebody before it who answers for published members, and takes their offsets."""

from __future__ import annotations

from collections.abc import Hashable

from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_kind import GroupKind
from cluster.coordinator.group_records import OffsetCommitted, encode
from cluster.coordinator.runtime import Runtime, Taken
from cluster.effects import Effect, Shard
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.transcripts.front import Front, Open
from tests.transcripts.group_driver import OFFSETS, Driver

SHARD = Shard(OFFSETS, 0)


class FrontedDriver(Driver):
    """A driver with somebody who answers for the machine: offsets that he took are told before any request that comes
    later, and not before (`told`: what waits for that)."""

    def __init__(self, config: GroupConfig | None = None) -> None:
        super().__init__(config, host=False)
        self.front = Front(self.topics.version)
        self.told: list[Taken] = []
        self.epoch = self.taken_end = 0
        kind = GroupKind(self.config, self._new_id, self.topics, self.settings_of, self.front.heard_ms)
        self.runtime = Runtime([kind])
        self.load(0)

    @property
    def published(self) -> dict[tuple[str, str], Open | None]:
        return self.front.published

    def tell_taken(self) -> None:
        while self.told:
            self.carry_out(self.runtime.taken(OFFSETS, 0, self.told.pop(0), self.now_ms))

    def unload(self, partition: int = 0) -> None:
        super().unload(partition)
        self.tell_taken()

    def load(self, partition: int = 0, epoch: int = 0) -> None:
        self.epoch, self.taken_end = epoch, 0
        super().load(partition, epoch)

    def send(self, who: Hashable, request: Message, version: int, client_id: str = "c") -> Hashable:
        ctx = self.context(who, request, version, client_id)
        answer = self.front.answer(ctx, request, self.now_ms)
        can_write = self.write_error is None and self.commits and self.appends and not self.waiting
        if answer is None and isinstance(request, m.OffsetCommitRequest) and can_write:
            shard = self.front.takes(ctx, request, self.now_ms)
            assert shard in (None, SHARD)
            if shard is not None:
                answer = self.take_of(request)
        if answer is None:
            self.tell_taken()
            return super().send(who, request, version, client_id)
        assert who not in self.asked
        self.asked[who] = ctx
        self.answers[who] = type(answer).decode(answer.encode(version), version)
        return who

    def append_all(self) -> None:
        refused = [each for each in self.waiting if each.heard is not None and each.heard < self.taken_end]
        for append in refused:
            self.waiting.remove(append)
        super().append_all()
        for append in refused:
            error = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            self.carry_out(self.runtime.appended(append.token, error, -1, self.now_ms))

    def take_of(self, request: m.OffsetCommitRequest) -> m.OffsetCommitResponse:
        response = m.OffsetCommitResponse()
        offsets: dict[tuple[str, int], int] = {}
        for topic in request.topics:
            answered = m.OffsetCommitResponse.OffsetCommitResponseTopic(name=topic.name)
            response.topics.append(answered)
            for each in topic.partitions:
                offsets[topic.name, each.partition_index] = each.committed_offset
                entry = m.OffsetCommitResponse.OffsetCommitResponsePartition(partition_index=each.partition_index)
                answered.partitions.append(entry)
        self.take(offsets, request.group_id)
        return response

    def take(self, offsets: dict[tuple[str, int], int], group: str = "g") -> None:
        """Offsets of a member are in the log, and the machine is still to hear of them."""
        log = self.logs.setdefault(SHARD, [])
        facts = [OffsetCommitted(group, *at, offset, -1, "", self.now_ms) for at, offset in offsets.items()]
        records = [(key, value) for key, value in map(encode, facts) if value is not None]
        base = len(log)
        log += records
        self.taken_end = len(log)
        if self.commits:
            self.high[SHARD] = len(log)
        self.told.append(Taken(records, base, self.epoch, self.high.get(SHARD, 0)))

    def carry_out(self, effects: list[Effect]) -> None:
        super().carry_out([effect for effect in effects if not self.front.carry_out(effect)])

    def is_open(self, member: str, group: str = "g") -> bool:
        return self.front.is_open(member, group)

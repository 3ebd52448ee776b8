"""Who answers heartbeats of published members, and takes their offsets, as the data plane does: what it does with
requests and effects, in Python.

What stays true: it answers only what it would be published to answer, in every part; what it heard of a member stays
known until the member is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.coordinator.context import RequestContext
from cluster.effects import Effect, PublishConsumer, PublishMembers, Shard, WithdrawMembers
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.facts import NamedTuple

_SHORTEST_OFFSET_COMMIT = 2  # the first version that the data plane reads


class Open(NamedTuple):
    """What a member has to say. `consumer`: what else one of the consumer protocol has to."""

    epoch: int
    instance: str | None
    shard: Shard | None
    consumer: PublishConsumer | None = None

    def is_said_by(self, epoch: int, instance: str | None) -> bool:
        return epoch == self.epoch and instance in (None, self.instance)


class Front:
    """`topics`: the number of the topics. `published`: None: withdrawn, and not forgotten."""

    def __init__(self, topics: Callable[[], int]) -> None:
        self._topics = topics
        self.published: dict[tuple[str, str], Open | None] = {}
        self.heard: dict[tuple[str, str], int] = {}
        self.answered = self.took = 0

    def carry_out(self, effect: Effect) -> bool:
        """Whether it is for us."""
        if isinstance(effect, PublishMembers):
            for member, instance in effect.members:
                self.published[effect.group_id, member] = Open(effect.epoch, instance, effect.shard)
        elif isinstance(effect, PublishConsumer):
            told = Open(effect.epoch, effect.instance_id, effect.shard, effect)
            self.published[effect.group_id, effect.member_id] = told
        elif isinstance(effect, WithdrawMembers):
            for member in effect.members:
                assert (effect.group_id, member) in self.published, f"{member} was never published"
                self.published[effect.group_id, member] = None
                if effect.forget:
                    del self.published[effect.group_id, member]
                    self.heard.pop((effect.group_id, member), None)
        else:
            return False
        return True

    def heard_ms(self, group: str, member: str, now_ms: int) -> int | None:
        return self.heard.get((group, member))

    def answer(self, ctx: RequestContext, request: Message, now_ms: int) -> Message | None:
        """To a heartbeat that says what was published."""
        if isinstance(request, m.HeartbeatRequest):
            who = request.group_id, request.member_id
            known = self.published.get(who)
            if known is None or known.consumer is not None:
                return None
            if not known.is_said_by(request.generation_id, request.group_instance_id):
                return None
            return self._note(who, now_ms, m.HeartbeatResponse())
        if isinstance(request, m.ConsumerGroupHeartbeatRequest):
            who = request.group_id, request.member_id
            known = self.published.get(who)
            if known is None or known.consumer is None or not self._is_steady(ctx, request, known.consumer):
                return None
            if not known.is_said_by(request.member_epoch, request.instance_id):
                return None
            interval_ms = known.consumer.heartbeat_interval_ms
            told = m.ConsumerGroupHeartbeatResponse(
                member_id=request.member_id, member_epoch=known.epoch, heartbeat_interval_ms=interval_ms
            )
            return self._note(who, now_ms, told)
        return None

    def _is_steady(
        self, ctx: RequestContext, request: m.ConsumerGroupHeartbeatRequest, published: PublishConsumer
    ) -> bool:
        unsaid = (
            request.rack_id,
            request.subscribed_topic_names,
            request.subscribed_topic_regex,
            request.server_assignor,
            request.topic_partitions,
        )
        return (
            all(each is None for each in unsaid)
            and request.rebalance_timeout_ms == -1
            and (ctx.client_id, ctx.client_host) == (published.client_id, published.client_host)
            and published.topics == self._topics()
        )

    def _note(self, who: tuple[str, str], now_ms: int, told: Message) -> Message:
        self.heard[who] = now_ms
        self.answered += 1
        return told

    def takes(self, ctx: RequestContext, request: m.OffsetCommitRequest, now_ms: int) -> Shard | None:
        """Where these offsets are to be written; None: that is not known here."""
        who = request.group_id, request.member_id
        known = self.published.get(who)
        if known is None or not known.is_said_by(request.generation_id_or_member_epoch, request.group_instance_id):
            return None
        since = _SHORTEST_OFFSET_COMMIT if known.consumer is None else known.consumer.commits_since
        if ctx.api_version < since or request.retention_time_ms != -1:
            return None
        if known.consumer is None:
            self.heard[who] = now_ms
        self.took += 1
        return known.shard

    def is_open(self, member: str, group: str = "g") -> bool:
        return self.published.get((group, member)) is not None

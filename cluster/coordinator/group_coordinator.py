"""The groups of one shard: each request to its group, listing, describing, deleting, and the offsets they commit.

What stays true:
  - a group is in `_groups` from its first request or record until its deletion is committed; meanwhile it is Dead, and
    who asks it is told to look for the coordinator again;
  - offsets and groups disappear by tombstones only: expiry, DeleteGroups, OffsetDelete and the deletion of a topic
    write them, `replay` removes;
  - while the shard is loading, records are taken as they are; afterwards only through the writes of this machine;
  - a deletion that was decided before everything in the log was heard is decided again, and whoever asked for it waits
    meanwhile: where members commit all the time, something is nearly always unheard.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial

from cluster.coordinator import answers
from cluster.coordinator.answers import NO_MEMBER_ID
from cluster.coordinator.context import GroupConfig, Heard, NewId, Overrides, RequestContext, Topics
from cluster.coordinator.group import Group
from cluster.coordinator.group_records import Fact, GroupDeleted, GroupStored, OffsetCommitted, OffsetDeleted
from cluster.coordinator.group_state import GroupState
from cluster.coordinator.journal import GroupCounts, Journals
from cluster.coordinator.offset_commit import OffsetCommit, TxnOffsetCommit
from cluster.coordinator.offsets import Committed, Offsets, TopicPartition
from cluster.coordinator.shard import Done, Step, Write
from cluster.coordinator.subscription import CONSUMER_PROTOCOL_TYPE
from cluster.effects import Note, Reply, SetTimer
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from pylog.typed import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    from cluster.coordinator.consumer_coordinator import ConsumerCoordinator
    from cluster.coordinator.consumer_group import ConsumerGroup
    from cluster.coordinator.consumer_records import ConsumerFact

    AnyGroup: TypeAlias = Group | ConsumerGroup

GROUP_TYPE = "classic"
CONSUMER_GROUP_TYPE = "consumer"

_EXPIRY_KEY = ("expiry",)
_DECIDE_AGAIN_MS = 5  # somebody waits
_FORGET_AGAIN_MS = 100  # nobody does, and they may be many
_TOPIC_IDS_SINCE = 10  # of OffsetCommit and OffsetFetch


class GroupCoordinator:
    """`Machine` for one partition of `__consumer_offsets`."""

    def __init__(
        self,
        config: GroupConfig,
        new_id: NewId,
        topics: Topics,
        counts: GroupCounts | None = None,
        overrides: Overrides = lambda group_id: {},
        heard: Heard | None = None,
    ) -> None:
        self._journals = Journals(GroupCounts() if counts is None else counts)
        self._config = config
        self._new_id = new_id
        self._topics = topics
        self._groups: dict[str, AnyGroup] = {}
        self._overrides = overrides
        self._heard = heard
        self._consumers: ConsumerCoordinator | None = None  # made when the consumer protocol is first met
        # By producer the groups that its open transaction may hold offsets of: a marker touches no others.
        self._in_transaction: dict[int, dict[str, None]] = {}
        # Deletions that are to be decided again, by number: how, and how to refuse them.
        self._undecided: dict[int, tuple[Callable[[int], list[Step]], Callable[[ErrorCode], Reply]]] = {}
        self._undecided_count = 0
        self._is_loading = True

    def elected(self, leader_epoch: int) -> None:
        """Nothing of a group depends on it."""

    def handle(self, ctx: RequestContext, message: Message, now_ms: int) -> list[Step]:
        if self._consumers is not None and ctx.api_key in _IN_TURN:
            group_id = _group_of(message)
            if self._consumers.is_busy(group_id):
                return self._consumers.later(group_id, ctx, message, now_ms)
        return _HANDLERS[ctx.api_key](self, ctx, message, now_ms)

    @property
    def counts(self) -> GroupCounts:
        return self._journals.counts

    def groups(self) -> list[AnyGroup]:
        return list(self._groups.values())

    # The consumer protocol ----------------------------------------------------------------------------------------

    @property
    def consumers(self) -> ConsumerCoordinator:
        if self._consumers is None:
            from cluster.coordinator.consumer_coordinator import ConsumerCoordinator
            from cluster.coordinator.consumer_env import ConsumerEnv
            from cluster.coordinator.group_kind import GroupKind

            env = ConsumerEnv(self._config, self._new_id, self._topics, self._overrides)
            self._consumers = ConsumerCoordinator(
                env,
                self._groups,
                self._journals,
                self.handle,
                GroupKind.refuse,
                lambda group_id: self._create(group_id, None),
                self._heard,
            )
        return self._consumers

    def _consumer_heartbeat(
        self, ctx: RequestContext, request: m.ConsumerGroupHeartbeatRequest, now_ms: int
    ) -> list[Step]:
        return self.consumers.heartbeat(ctx, request, now_ms)

    def _consumer_describe(
        self, ctx: RequestContext, request: m.ConsumerGroupDescribeRequest, now_ms: int
    ) -> list[Step]:
        return self.consumers.describe(ctx, request, now_ms)

    def _is_busy(self, group_id: str) -> bool:
        return self._consumers is not None and self._consumers.is_busy(group_id)

    # Membership ---------------------------------------------------------------------------------------------------

    def _join(self, ctx: RequestContext, request: m.JoinGroupRequest, now_ms: int) -> list[Step]:
        timeout_ms = request.session_timeout_ms
        if not self._config.min_session_timeout_ms <= timeout_ms <= self._config.max_session_timeout_ms:
            return [answers.join_failed(ctx, request.member_id, ErrorCode.INVALID_SESSION_TIMEOUT)]
        group = self._groups.get(request.group_id)
        if group is None:
            if request.member_id != NO_MEMBER_ID:
                return [answers.join_failed(ctx, request.member_id, ErrorCode.UNKNOWN_MEMBER_ID)]
            group = self._create(request.group_id, now_ms)
        if not isinstance(group, Group):
            return self.consumers.join(ctx, request, now_ms)
        return group.join(ctx, request, now_ms)

    def _sync(self, ctx: RequestContext, request: m.SyncGroupRequest, now_ms: int) -> list[Step]:
        group = self._groups.get(request.group_id)
        if group is None:
            return [answers.sync_failed(ctx, ErrorCode.UNKNOWN_MEMBER_ID)]
        if not isinstance(group, Group):
            return self.consumers.sync(ctx, request, now_ms)
        return group.sync(ctx, request, now_ms)

    def _heartbeat(self, ctx: RequestContext, request: m.HeartbeatRequest, now_ms: int) -> list[Step]:
        group = self._groups.get(request.group_id)
        if group is None:
            return [Reply(ctx.reply_to, m.HeartbeatResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID))]
        if not isinstance(group, Group):
            return self.consumers.beat(ctx, request, now_ms)
        return group.heartbeat(ctx, request, now_ms)

    def _leave(self, ctx: RequestContext, request: m.LeaveGroupRequest, now_ms: int) -> list[Step]:
        group = self._groups.get(request.group_id)
        if group is None:
            unknown = [(who, ErrorCode.UNKNOWN_MEMBER_ID) for who in answers.leaving(ctx, request)]
            return [answers.left(ctx, unknown)]
        if not isinstance(group, Group):
            return self.consumers.leave(ctx, request, now_ms)
        return group.leave(ctx, request, now_ms)

    # Administration -----------------------------------------------------------------------------------------------

    def _describe(self, ctx: RequestContext, request: m.DescribeGroupsRequest, now_ms: int) -> list[Step]:
        described = [self._describe_one(ctx, group_id) for group_id in request.groups]
        if request.rebalances > 0:
            for each in described:
                is_known = each.group_id in self._groups
                each.rebalances = self._journals.of(each.group_id).told(request.rebalances) if is_known else []
        return [Reply(ctx.reply_to, m.DescribeGroupsResponse(groups=described))]

    def _describe_one(self, ctx: RequestContext, group_id: str) -> m.DescribeGroupsResponse.DescribedGroup:
        group = self._groups.get(group_id)
        if not isinstance(group, Group) or group.state is GroupState.DEAD:
            return answers.described_unknown(
                ctx, group_id, is_consumer=group is not None and group.state.value != "Dead"
            )
        # Protocol, metadata and assignment belong to a generation, and are only shown when it is complete.
        protocol = group.protocol or "" if group.state is GroupState.STABLE else ""
        return m.DescribeGroupsResponse.DescribedGroup(
            group_id=group_id,
            group_state=group.state.value,
            protocol_type=group.protocol_type or "",
            protocol_data=protocol,
            members=[
                m.DescribeGroupsResponse.DescribedGroupMember(
                    member_id=member.member_id,
                    group_instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    member_metadata=member.protocols.get(protocol, b"") if protocol else b"",
                    member_assignment=member.assignment if protocol else b"",
                )
                for member in group.members
            ],
        )

    def _list(self, ctx: RequestContext, request: m.ListGroupsRequest, now_ms: int) -> list[Step]:
        states = {state.lower() for state in request.states_filter}
        types = {kind.lower() for kind in request.types_filter}
        listed = [
            m.ListGroupsResponse.ListedGroup(
                group_id=group.group_id,
                protocol_type=group.protocol_type or "",
                group_state=group.state.value,
                group_type=_type_of(group),
            )
            for group in self._groups.values()
            if group.state is not GroupState.DEAD
            and (not states or group.state.value.lower() in states)
            and (not types or _type_of(group) in types)
        ]
        return [Reply(ctx.reply_to, m.ListGroupsResponse(groups=listed))]

    def _delete(self, ctx: RequestContext, request: m.DeleteGroupsRequest, now_ms: int) -> list[Step]:
        return self._delete_until(now_ms + self._config.offsets_commit_timeout_ms, ctx, request, now_ms)

    def _delete_until(
        self, until_ms: int, ctx: RequestContext, request: m.DeleteGroupsRequest, now_ms: int
    ) -> list[Step]:
        """One group: the runtime splits a request by its groups."""
        (group_id,) = request.groups_names
        group = self._groups.get(group_id)
        if group is None or group.state is GroupState.DEAD:
            return [_deleted(ctx, group_id, ErrorCode.GROUP_ID_NOT_FOUND)]
        if self._consumers is not None and self._consumers.is_busy(group_id):
            return self._consumers.later(group_id, ctx, request, now_ms)
        if group.state is not GroupState.EMPTY:
            return [_deleted(ctx, group_id, ErrorCode.NON_EMPTY_GROUP)]

        def done(error: ErrorCode, done_ms: int) -> list[Step]:
            if error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS and done_ms < until_ms:
                again = partial(self._delete_until, until_ms, ctx, request)
                return self._decide_again(again, partial(_deleted, ctx, group_id), done_ms)
            return [_deleted(ctx, group_id, answers.offset_write_error(error))]

        return self._remove(group, group.offsets.known(), now_ms, done, whole=True)

    def _decide_again(
        self, again: Callable[[int], list[Step]], refuse: Callable[[ErrorCode], Reply], now_ms: int
    ) -> list[Step]:
        """Try a deletion again when more was heard. `refuse`: the answer if that is not to be."""
        self._undecided_count += 1
        self._undecided[self._undecided_count] = (again, refuse)
        return [SetTimer(("again", self._undecided_count), now_ms + _DECIDE_AGAIN_MS)]

    # Offsets ------------------------------------------------------------------------------------------------------

    def _offset_commit(self, ctx: RequestContext, request: m.OffsetCommitRequest, now_ms: int) -> list[Step]:
        """OffsetCommit. The answer is made at once and sent when the offsets are durable."""
        commit = OffsetCommit(ctx, request, self._topics, self._config, now_ms)
        if not commit.is_open():
            return [commit.finish(ErrorCode.NONE)]
        group = self._groups.get(request.group_id)
        generation = request.generation_id_or_member_epoch
        if group is None:
            if generation >= 0:
                return [commit.refuse(ErrorCode.ILLEGAL_GENERATION)]
            group = self._create(request.group_id, now_ms)
        error = self._check_commit(ctx, group, generation, request, commit)
        if error:
            return [commit.refuse(error)]
        steps = group.alive(request.member_id, now_ms) if isinstance(group, Group) else []
        if not commit.facts:
            steps.append(commit.finish(ErrorCode.NONE))
            return steps
        steps.append(_write_offsets(group, commit, self.counts))
        return steps

    def _txn_offset_commit(self, ctx: RequestContext, request: m.TxnOffsetCommitRequest, now_ms: int) -> list[Step]:
        """TxnOffsetCommit: the offsets count when the producer's transaction is committed. Whether the transaction is
        open was asked by who hands the request over. It is no sign of life of the consumer."""
        commit = TxnOffsetCommit(ctx, request, self._topics, self._config, now_ms)
        if not commit.is_open():
            return [commit.finish(ErrorCode.NONE)]
        group = self._groups.get(request.group_id) or self._create(request.group_id, now_ms)
        error = ctx.verified or self._check_commit(ctx, group, request.generation_id, request, commit)
        if error:
            return [commit.refuse(error)]
        return [_write_offsets(group, commit, self.counts) if commit.facts else commit.finish(ErrorCode.NONE)]

    def _check_commit(
        self,
        ctx: RequestContext,
        group: AnyGroup,
        generation: int,
        request: m.OffsetCommitRequest | m.TxnOffsetCommitRequest,
        commit: OffsetCommit,
    ) -> ErrorCode:
        member_id, instance_id = request.member_id, request.group_instance_id
        transactional = isinstance(commit, TxnOffsetCommit)
        if isinstance(group, Group):
            return group.check_commit(generation, member_id, instance_id, transactional=transactional)
        error = group.check_commit(
            generation, member_id, instance_id, api_version=ctx.api_version, transactional=transactional
        )
        if error:
            return error
        partitions = ((self._topics.topic_id(fact.topic), fact.partition) for fact in commit.facts)
        return group.check_since(generation, member_id, partitions, transactional=transactional)

    def _offset_fetch(self, ctx: RequestContext, request: m.OffsetFetchRequest, now_ms: int) -> list[Step]:
        fetched = [
            self._fetch_group(ctx, asked, require_stable=request.require_stable)
            for asked in answers.offset_fetch_groups(ctx, request)
        ]
        return [Reply(ctx.reply_to, answers.offsets_fetched(ctx, request, fetched))]

    def _fetch_group(
        self, ctx: RequestContext, asked: m.OffsetFetchRequest.OffsetFetchRequestGroup, *, require_stable: bool
    ) -> m.OffsetFetchResponse.OffsetFetchResponseGroup:
        """Offsets are told in any state: many groups only keep offsets."""
        group = self._groups.get(asked.group_id)
        if group is not None and group.state is GroupState.DEAD:
            group = None
        if group is not None and not isinstance(group, Group):
            error = group.check_fetch(asked.member_epoch, asked.member_id)
            if error:
                return answers.offset_fetch_failed(asked, error)
        by_id = ctx.api_version >= _TOPIC_IDS_SINCE
        answer = m.OffsetFetchResponse.OffsetFetchResponseGroup(group_id=asked.group_id)
        for name, topic_id, numbers in self._asked_for(group, asked, by_id=by_id):
            entry = m.OffsetFetchResponse.OffsetFetchResponseTopics(
                name=name or "",
                partitions=[
                    answers.no_offset(number, ErrorCode.UNKNOWN_TOPIC_ID)
                    if name is None
                    else self._fetch_one(group, (name, number), require_stable=require_stable)
                    for number in numbers
                ],
            )
            if by_id:
                entry.topic_id = topic_id
            answer.topics.append(entry)
        return answer

    def _asked_for(
        self, group: AnyGroup | None, asked: m.OffsetFetchRequest.OffsetFetchRequestGroup, *, by_id: bool
    ) -> list[tuple[str | None, bytes, Iterable[int]]]:
        """Names, ids and partitions. Who asks by name is told of each partition once, and of no topic without one, as
        by 3.9; who asks by id, of what was named as often as it was, as by 4.x, which alone has that request."""
        if asked.topics is not None and by_id:
            return [
                (self._topics.topic_name(each.topic_id), each.topic_id, each.partition_indexes) for each in asked.topics
            ]
        wanted: dict[str, dict[int, None]] = {}
        if asked.topics is not None:
            for topic in asked.topics:
                if topic.partition_indexes:
                    wanted.setdefault(topic.name, {}).update(dict.fromkeys(topic.partition_indexes))
        elif group is not None:
            for name, partition in group.offsets.committed:
                wanted.setdefault(name, {})[partition] = None
        ids = ((name, self._topics.topic_id(name) if by_id else b"") for name in wanted)
        # an offset of a topic without an id cannot be said by id
        return [(name, topic_id, wanted[name]) for name, topic_id in ids if topic_id is not None]

    def _fetch_one(
        self, group: AnyGroup | None, partition: TopicPartition, *, require_stable: bool
    ) -> m.OffsetFetchResponse.OffsetFetchResponsePartitions:
        if group is None:
            return answers.no_offset(partition[1], ErrorCode.NONE)
        if require_stable and group.offsets.unstable(partition):
            return answers.no_offset(partition[1], ErrorCode.UNSTABLE_OFFSET_COMMIT)
        committed = group.offsets.committed.get(partition)
        if committed is None:
            return answers.no_offset(partition[1], ErrorCode.NONE)
        return m.OffsetFetchResponse.OffsetFetchResponsePartitions(
            partition_index=partition[1],
            committed_offset=committed.offset,
            committed_leader_epoch=committed.leader_epoch,
            metadata=committed.metadata,
        )

    def _offset_delete(self, ctx: RequestContext, request: m.OffsetDeleteRequest, now_ms: int) -> list[Step]:
        return self._offset_delete_until(now_ms + self._config.offsets_commit_timeout_ms, ctx, request, now_ms)

    def _offset_delete_until(
        self, until_ms: int, ctx: RequestContext, request: m.OffsetDeleteRequest, now_ms: int
    ) -> list[Step]:
        group = self._groups.get(request.group_id)
        error = ErrorCode.NONE
        if group is None or group.state is GroupState.DEAD:
            error = ErrorCode.GROUP_ID_NOT_FOUND
        elif group.state is not GroupState.EMPTY and group.protocol_type != CONSUMER_PROTOCOL_TYPE:
            error = ErrorCode.NON_EMPTY_GROUP
        if group is None or error:
            return [_offsets_not_deleted(ctx, error)]
        response, asked_of = self._offset_delete_entries(request)
        doomed: list[TopicPartition] = []
        doomed_entries = []
        known = set(group.offsets.known())
        is_asked = False  # about anything that could go: a group that is then finished goes too
        for partition, entry in asked_of.items():
            if group.state is not GroupState.EMPTY and group.reads(partition[0]):
                entry.error_code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
                continue
            is_asked = True
            if partition in known:
                doomed.append(partition)
                doomed_entries.append(entry)

        def done(error: ErrorCode, done_ms: int) -> list[Step]:
            if error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS and done_ms < until_ms:
                again = partial(self._offset_delete_until, until_ms, ctx, request)
                return self._decide_again(again, partial(_offsets_not_deleted, ctx), done_ms)
            for entry in doomed_entries:
                entry.error_code = answers.offset_write_error(error)
            return [Reply(ctx.reply_to, response)]

        return self._remove(group, doomed, now_ms, done) if is_asked else done(ErrorCode.NONE, now_ms)

    def _offset_delete_entries(
        self, request: m.OffsetDeleteRequest
    ) -> tuple[m.OffsetDeleteResponse, dict[TopicPartition, m.OffsetDeleteResponse.OffsetDeleteResponsePartition]]:
        """The answer with what is there and what is not, each topic once; and the entries of partitions that exist,
        each once however often it is named."""
        named: dict[str, m.OffsetDeleteResponse.OffsetDeleteResponseTopic] = {}
        found: dict[TopicPartition, m.OffsetDeleteResponse.OffsetDeleteResponsePartition] = {}
        for topic in request.topics:
            count = self._topics.partition_count(topic.name)
            if count and not topic.partitions:
                continue
            entries = named.get(topic.name)
            if entries is None:
                entries = named[topic.name] = m.OffsetDeleteResponse.OffsetDeleteResponseTopic(name=topic.name)
            for asked in topic.partitions:
                index = asked.partition_index
                if (topic.name, index) in found:
                    continue
                entry = m.OffsetDeleteResponse.OffsetDeleteResponsePartition(partition_index=index)
                entries.partitions.append(entry)
                if 0 <= index < count:
                    found[topic.name, index] = entry
                else:
                    entry.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return m.OffsetDeleteResponse(topics=list(named.values())), found

    # Deletion -----------------------------------------------------------------------------------------------------

    def topics_deleted(self, topics: frozenset[str], now_ms: int) -> list[Step]:
        """Forget what was committed for topics that are no more: one of the same name begins anew."""
        steps: list[Step] = []
        for group in list(self._groups.values()):
            steps += self._forget(group, group.offsets.of_topics(topics), topics, now_ms, now_ms)
        return steps

    def _forget(
        self, group: AnyGroup, doomed: list[TopicPartition], topics: frozenset[str], deleted_ms: int, now_ms: int
    ) -> list[Step]:
        """Until it is done: with members that commit in between it takes another attempt, and so it does if the group
        is being deleted and stays after all."""
        done = _again_or_note("forget", group, "Could not remove offsets of a topic", topics, deleted_ms)
        if doomed and group.state is GroupState.DEAD:
            return done(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, now_ms)
        return self._remove(group, doomed, now_ms, done) if doomed else []

    def _forget_again(self, group_id: str, topics: frozenset[str], deleted_ms: int, now_ms: int) -> list[Step]:
        """What was committed since for a topic that has the name again is that one's."""
        group = self._groups.get(group_id)
        if group is None:
            return []
        there = frozenset(each for each in topics if self._topics.partition_count(each))
        doomed = group.offsets.of_topics(topics - there) + group.offsets.of_topics(there, deleted_ms)
        return self._forget(group, doomed, topics, deleted_ms, now_ms)

    def _expire(self, now_ms: int) -> list[Step]:
        """Remove offsets nobody has needed for the retention time, and then groups that have nothing left."""
        steps: list[Step] = []
        for group in list(self._groups.values()):
            steps += self._expire_one(group, now_ms)
        self._journals.retain(self._groups)
        steps.append(SetTimer(_EXPIRY_KEY, now_ms + self._config.offsets_retention_check_interval_ms))
        return steps

    def _expire_one(self, group: AnyGroup, now_ms: int) -> list[Step]:
        if self._is_busy(group.group_id) or group.state is GroupState.DEAD:
            return []  # what is on its way may be somebody who joins
        doomed = self._expired(group, now_ms)
        if not doomed and not _is_finished(group, doomed):
            return []
        return self._remove(group, doomed, now_ms, _again_or_note("expire", group, "Could not remove expired offsets"))

    def _expired(self, group: AnyGroup, now_ms: int) -> list[TopicPartition]:
        """Retention runs from when the group became empty; from the commit for a group that only keeps offsets, and
        for a topic that the members of a stable group of consumers, of either protocol, do not read. Other groups keep
        all."""
        nothing: frozenset[str] = frozenset()
        retention_ms = self._config.offsets_retention_ms
        if not isinstance(group, Group):
            return group.offsets.expired(now_ms, retention_ms, empty_since_ms=None, subscribed=group.subscribed)
        if group.state is GroupState.EMPTY:
            since_ms = None if group.protocol_type is None else group.state_ms
            return group.offsets.expired(now_ms, retention_ms, empty_since_ms=since_ms, subscribed=nothing)
        is_consumer = group.protocol_type == CONSUMER_PROTOCOL_TYPE
        if group.state is GroupState.STABLE and is_consumer and group.subscribed is not None:
            return group.offsets.expired(now_ms, retention_ms, empty_since_ms=None, subscribed=group.subscribed)
        return []

    def _remove(
        self,
        group: AnyGroup,
        partitions: list[TopicPartition],
        now_ms: int,
        done: Done,
        *,
        whole: bool = False,
    ) -> list[Step]:
        """Write tombstones for these offsets, and for the group when it is then finished or is to go in any case."""
        group_id = group.group_id
        facts: list[Fact] = [OffsetDeleted(group_id, topic, partition) for topic, partition in partitions]
        is_finished = (whole or _is_finished(group, partitions)) and not self._is_busy(group_id)
        if is_finished:
            facts += _tombstones(group)
        if not facts:
            if is_finished:
                self._groups.pop(group_id, None)
            return done(ErrorCode.NONE, now_ms)
        if not is_finished:
            return [Write(tuple(facts), done, knows_all=True)]
        since_ms = None
        if isinstance(group, Group):
            since_ms = group.state_ms
            group.mark_deleted(now_ms)
        else:
            group.mark_deleted()
        return [Write(tuple(facts), partial(self._removed, group, since_ms, done), knows_all=True)]

    def _removed(
        self,
        group: AnyGroup,
        since_ms: int | None,
        done: Done,
        error: ErrorCode,
        now_ms: int,
    ) -> list[Step]:
        if self._groups.get(group.group_id) is group and group.state is GroupState.DEAD:
            if not error:
                del self._groups[group.group_id]
            elif isinstance(group, Group):
                group.unmark_deleted(since_ms)
            else:
                group.unmark_deleted()
        return done(error, now_ms)

    # Durable state ------------------------------------------------------------------------------------------------

    def replay(self, fact: object, offset: int, now_ms: int, producer_id: int = -1) -> None:
        if isinstance(fact, OffsetCommitted):
            group = self._groups.get(fact.group_id) or self._create(fact.group_id, None)
            committed = Committed(fact.offset, fact.leader_epoch, fact.metadata, fact.commit_ms, fact.expire_ms, offset)
            group.offsets.replay_commit((fact.topic, fact.partition), committed, producer_id)
            if producer_id >= 0:
                self._in_transaction.setdefault(producer_id, {})[fact.group_id] = None
        elif isinstance(fact, OffsetDeleted):
            known = self._groups.get(fact.group_id)
            if known is not None:
                known.offsets.replay_delete((fact.topic, fact.partition), producer_id)
        elif isinstance(fact, GroupStored):
            self._replay_group(fact, now_ms)
        elif isinstance(fact, GroupDeleted):
            self._replay_group_deleted(fact.group_id)
        else:
            self.consumers.replay(cast("ConsumerFact", fact), is_loading=self._is_loading)

    def _replay_group(self, stored: GroupStored, now_ms: int) -> None:
        group = self._groups.get(stored.group_id)
        if not self._is_loading and not (self._consumers is not None and self._consumers.takes_over(stored.group_id)):
            if isinstance(group, Group):
                group.replay(stored, now_ms)
            return
        if not isinstance(group, Group):
            offsets = None if group is None else group.offsets
            group = self._create(stored.group_id, None)
            group.offsets = group.offsets if offsets is None else offsets
        group.load(stored)
        if self._consumers is not None:
            self._consumers.replayed(stored.group_id, stored)

    def _replay_group_deleted(self, group_id: str) -> None:
        group = self._groups.get(group_id)
        if not isinstance(group, Group):
            return
        if self._is_loading or self._is_busy(group_id):
            # Its offsets have tombstones of their own; those without are of a group that only keeps offsets, or of the
            # one of the consumer protocol whose records follow.
            del self._groups[group_id]
            self._create(group_id, None).offsets = group.offsets
        elif group.state is GroupState.DEAD:
            del self._groups[group_id]

    def holds_offsets_of(self, producer_id: int) -> bool:
        """Whether offsets wait for the end of a transaction of this producer."""
        return producer_id in self._in_transaction

    def replay_marker(self, producer_id: int, *, commit: bool) -> None:
        for group_id in self._in_transaction.pop(producer_id, ()):
            group = self._groups.get(group_id)
            if group is not None:
                group.offsets.replay_marker(producer_id, commit=commit)

    def underway(self, facts: tuple[object, ...]) -> Done:
        held: list[tuple[Offsets, TopicPartition]] = []
        for fact in facts:
            assert isinstance(fact, OffsetCommitted)
            group = self._groups.get(fact.group_id) or self._create(fact.group_id, None)
            held.append((group.offsets, (fact.topic, fact.partition)))
        for offsets, partition in held:
            offsets.begin([partition])

        def done(error: ErrorCode, done_ms: int) -> list[Step]:
            for offsets, partition in held:
                offsets.end([partition])
            return []

        return done

    def loaded(self, now_ms: int) -> list[Step]:
        self._is_loading = False
        for group_id in [each.group_id for each in self._groups.values() if each.protocol_type is None]:
            if not self._groups[group_id].offsets:
                del self._groups[group_id]
        steps: list[Step] = [SetTimer(_EXPIRY_KEY, now_ms + self._config.offsets_retention_check_interval_ms)]
        for group in self._groups.values():
            if isinstance(group, Group):
                steps += group.loaded(now_ms)
        if self._consumers is not None:
            steps += self._consumers.loaded(now_ms)
        return steps

    def unloaded(self) -> list[Step]:
        steps: list[Step] = []
        for group in self._groups.values():
            if isinstance(group, Group):
                steps += group.unload()
        if self._consumers is not None:
            steps += self._consumers.unloaded()
        steps += [refuse(ErrorCode.NOT_COORDINATOR) for _, refuse in self._undecided.values()]
        return steps

    # Timers -------------------------------------------------------------------------------------------------------

    def timer(self, key: Hashable, now_ms: int) -> list[Step]:
        assert isinstance(key, tuple)
        if key == _EXPIRY_KEY:
            return self._expire(now_ms)
        if key[0] == "member":
            return self.consumers.timer(key, now_ms)
        if key[0] == "forget":
            return self._forget_again(key[1], key[2], key[3], now_ms)
        if key[0] == "expire":
            known = self._groups.get(key[1])
            return [] if known is None else self._expire_one(known, now_ms)
        if key[0] == "again":
            again, _ = self._undecided.pop(key[1])
            return again(now_ms)
        if self._is_busy(key[1]):
            return self.consumers.timer_later(key[1], partial(self.timer, key), now_ms)
        group = self._groups.get(key[1])
        if not isinstance(group, Group) or group.state is GroupState.DEAD:
            return []
        if key[0] == "session":
            return group.session_due(key[2], now_ms)
        if key[0] == "rebalance":
            return group.rebalance_due(now_ms)
        assert key[0] == "sync"
        return group.sync_due(now_ms)

    def told(self, key: Hashable, answer: object, now_ms: int) -> list[Step]:
        return self.consumers.told(key, answer, now_ms)

    def _create(self, group_id: str, now_ms: int | None) -> Group:
        group = self._groups[group_id] = Group(
            group_id, self._config, self._new_id, self._journals.of(group_id), now_ms, self._heard
        )
        return group


_HANDLERS: dict[int, Callable[..., list[Step]]] = {
    ApiKey.HEARTBEAT: GroupCoordinator._heartbeat,
    ApiKey.OFFSET_COMMIT: GroupCoordinator._offset_commit,
    ApiKey.OFFSET_FETCH: GroupCoordinator._offset_fetch,
    ApiKey.JOIN_GROUP: GroupCoordinator._join,
    ApiKey.SYNC_GROUP: GroupCoordinator._sync,
    ApiKey.LEAVE_GROUP: GroupCoordinator._leave,
    ApiKey.DESCRIBE_GROUPS: GroupCoordinator._describe,
    ApiKey.LIST_GROUPS: GroupCoordinator._list,
    ApiKey.DELETE_GROUPS: GroupCoordinator._delete,
    ApiKey.OFFSET_DELETE: GroupCoordinator._offset_delete,
    ApiKey.TXN_OFFSET_COMMIT: GroupCoordinator._txn_offset_commit,
    ApiKey.CONSUMER_GROUP_HEARTBEAT: GroupCoordinator._consumer_heartbeat,
    ApiKey.CONSUMER_GROUP_DESCRIBE: GroupCoordinator._consumer_describe,
}

_IN_TURN = frozenset({ApiKey.HEARTBEAT, ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP, ApiKey.LEAVE_GROUP, ApiKey.DELETE_GROUPS})
"""Requests that wait while a change of their group is on its way; the consumer protocol's wait by themselves."""


def _group_of(message: Message) -> str:
    if isinstance(message, m.DeleteGroupsRequest):
        return message.groups_names[0]
    return cast("m.HeartbeatRequest", message).group_id


def _type_of(group: AnyGroup) -> str:
    return GROUP_TYPE if isinstance(group, Group) else CONSUMER_GROUP_TYPE


def _tombstones(group: AnyGroup) -> list[Fact]:
    """What makes a group go, but for its offsets."""
    if isinstance(group, Group):
        return [GroupDeleted(group.group_id)] if group.generation > 0 else []  # generation 0 was never written
    return list(group.tombstones())


def _write_offsets(group: AnyGroup, commit: OffsetCommit, counts: GroupCounts) -> Write:
    """Until this is in the log, or is not, nobody who wants stable offsets is told any."""
    offsets = group.offsets
    partitions = [(fact.topic, fact.partition) for fact in commit.facts]
    offsets.begin(partitions)

    def done(error: ErrorCode, done_ms: int) -> list[Step]:
        offsets.end(partitions)
        if not error:
            counts.offsets_committed += len(partitions)
        return [commit.finish(answers.offset_write_error(error))]

    return Write(tuple(commit.facts), done, commit.producer)


def _is_finished(group: AnyGroup, removed: list[TopicPartition]) -> bool:
    """Whether nothing is left of the group without these offsets."""
    return group.is_idle() and group.offsets.has_only(removed)


def _deleted(ctx: RequestContext, group_id: str, error: ErrorCode) -> Reply:
    result = m.DeleteGroupsResponse.DeletableGroupResult(group_id=group_id, error_code=error)
    return Reply(ctx.reply_to, m.DeleteGroupsResponse(results=[result]))


def _offsets_not_deleted(ctx: RequestContext, error: ErrorCode) -> Reply:
    return Reply(ctx.reply_to, m.OffsetDeleteResponse(error_code=error))


def _again_or_note(what: str, group: AnyGroup, message: str, *more: Hashable) -> Done:
    """For removals nobody asked for. What was decided too early is decided again soon, by a timer of these words;
    otherwise a line in the log is enough, for there will be another check."""

    def done(error: ErrorCode, done_ms: int) -> list[Step]:
        if error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            return [SetTimer((what, group.group_id, *more), done_ms + _FORGET_AGAIN_MS)]
        return [Note(f"Group {group.group_id}", message, (("error", error.name),), warning=True)] if error else []

    return done

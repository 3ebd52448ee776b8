"""The groups of the consumer protocol of one shard: their requests, timers, questions and records.

What stays true: a request is decided upon by what is committed, one request of a group after another (`lane.py`); it is
answered when what it changed is committed. A group's lane lasts as long as the group, through its conversions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

from cluster.coordinator import answers, consumer_classic, consumer_heartbeat
from cluster.coordinator.consumer_conversion import to_consumer
from cluster.coordinator.consumer_env import REBALANCE, SESSION, Change, ConsumerEnv
from cluster.coordinator.consumer_group import ConsumerGroup
from cluster.coordinator.consumer_journal import ConsumerRebalance, causes
from cluster.coordinator.consumer_member import MemberState, Owned, Target
from cluster.coordinator.consumer_records import ConsumerFact, GroupEpochDeleted, in_order, topics_in_order
from cluster.coordinator.consumer_regex import Resolved, ResolveRegexes, take_resolved
from cluster.coordinator.context import Heard, RequestContext
from cluster.coordinator.group import Group
from cluster.coordinator.group_records import GroupDeleted
from cluster.coordinator.group_state import GroupState
from cluster.coordinator.journal import Journals
from cluster.coordinator.lane import TIMER, Lane
from cluster.coordinator.shard import Step
from cluster.coordinator.turns import SharedWrite, Turn
from cluster.effects import Ask, Note, Reply
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode, KafkaError
from pylog.typed import TypeAlias

Registry: TypeAlias = "dict[str, Group | ConsumerGroup]"
Done: TypeAlias = Callable[[ErrorCode, int], list[Step]]

_RETRY_MS = 500
_SETTLE = "settle"
_QUESTION = "regex"
_MEMBER_TYPES_SINCE = 1
_CONSUMER, _CLASSIC = 1, 0


class ConsumerCoordinator:
    """`groups`: those of the shard, of both protocols. `again`: serve a request from the beginning; `refuse`: answer it
    with an error; `bare`: put a classic group into `groups` that nothing is known of; `heard`: of members that are
    published; None: none is."""

    def __init__(
        self,
        env: ConsumerEnv,
        groups: Registry,
        journals: Journals,
        again: Callable[[RequestContext, Message, int], list[Step]],
        refuse: Callable[[RequestContext, Message, ErrorCode], object],
        bare: Callable[[str], Group],
        heard: Heard | None = None,
    ) -> None:
        self._env = env
        self._groups = groups
        self._journals = journals
        self._rebalances: dict[str, ConsumerRebalance] = {}  # those that are under way
        self._again = again
        self._refuse = refuse
        self._bare = bare
        self._heard = heard
        self._lanes: dict[str, Lane] = {}
        self._downgrading: set[str] = set()
        self._late: dict[str, list[Change]] = {}  # what was written, and took too long

    # Requests -----------------------------------------------------------------------------------------------------

    def is_busy(self, group_id: str) -> bool:
        """Whether a change of the group is on its way."""
        lane = self._lanes.get(group_id)
        return lane is not None and lane.is_busy

    def later(self, group_id: str, ctx: RequestContext, message: Message, now_ms: int) -> list[Step]:
        """Serve a request when the group's change is done."""
        turn = Turn(partial(self._again, ctx, message), partial(self._refused, ctx, message))
        return self._lane(group_id).take(turn, now_ms)

    def _refused(self, ctx: RequestContext, message: Message, error: ErrorCode, now_ms: int) -> list[Step]:
        return [Reply(ctx.reply_to, self._refuse(ctx, message, error))]

    def timer_later(self, group_id: str, run: Callable[[int], list[Step]], now_ms: int) -> list[Step]:
        """The same for a timer of a group that is about to be another's."""
        return self._lane(group_id).take(Turn(run, lambda error, at_ms: []), now_ms)

    def heartbeat(self, ctx: RequestContext, request: m.ConsumerGroupHeartbeatRequest, now_ms: int) -> list[Step]:
        group_id = request.group_id
        lane = self._lanes.get(group_id)
        if lane is not None and lane.is_busy and not self._is_aside(ctx, request):
            refused = partial(self._refused, ctx, request)
            return lane.take(Turn(partial(self.heartbeat, ctx, request), refused, request.member_id or None), now_ms)
        change = Change(now_ms)
        steps: list[Step] = []
        try:
            consumer_heartbeat.check(self._env, ctx, request)
            if consumer_heartbeat.is_leaving(request):
                group = self._known(group_id)
                response = consumer_heartbeat.leave(self._env, group, request, change)
            else:
                is_joining = request.member_epoch == 0
                group = self._found(group_id, change) if is_joining else self._known(group_id, "Consumer group")
                lane = self._lane(group_id)
                response = consumer_heartbeat.heartbeat(self._env, group, lane.regexes, ctx, request, now_ms, change)
        except KafkaError as error:
            self._tidy(group_id)
            failed = m.ConsumerGroupHeartbeatResponse(error_code=error.code, error_message=error.message)
            shared = self._shared(group_id)
            if shared is None:
                return [Reply(ctx.reply_to, failed)]
            shared.add([], partial(self._answer, ctx, failed))
            return []
        classic = self._groups.get(group_id)
        if isinstance(classic, Group) and change.facts:
            steps += classic.give_way(now_ms)
        steps += self._commit(group_id, change, partial(self._answer, ctx, response), now_ms)
        is_decided = not change.facts and self._shared(group_id) is None
        # Before the answer: its next heartbeat may follow at once.
        return self._open(group, response.member_id) + steps if is_decided else steps

    def _is_aside(self, ctx: RequestContext, request: m.ConsumerGroupHeartbeatRequest) -> bool:
        """Whether what is under way is about others, and there is nothing to decide for this one."""
        group = self._groups.get(request.group_id)
        if not isinstance(group, ConsumerGroup) or self._lanes[request.group_id].is_about(request.member_id):
            return False
        member = group.members.get(request.member_id)
        return member is not None and consumer_heartbeat.is_steady(self._env, group, member, ctx, request)

    def _open_all(self, group_id: str, member_ids: list[str]) -> list[Step]:
        group = self._groups.get(group_id)
        if not isinstance(group, ConsumerGroup):
            return []
        return [step for member_id in member_ids for step in self._open(group, member_id)]

    def _open(self, group: ConsumerGroup, member_id: str | None) -> list[Step]:
        """A heartbeat changed nothing of the group as it is: perhaps those that follow need nobody's thought."""
        member = group.members.get(member_id or "")
        if member is None or not consumer_heartbeat.is_settled(self._env, group, member):
            return []
        interval_ms = self._env.heartbeat_interval_ms(group.group_id)
        return self._lane(group.group_id).published.open(member, interval_ms, self._env.topics.version())

    def _answer(
        self, ctx: RequestContext, response: m.ConsumerGroupHeartbeatResponse, error: ErrorCode, now_ms: int
    ) -> list[Step]:
        if error:
            code = _write_error(error)
            response = m.ConsumerGroupHeartbeatResponse(error_code=code, error_message=code.message)
        return [Reply(ctx.reply_to, response)]

    def join(self, ctx: RequestContext, request: m.JoinGroupRequest, now_ms: int) -> list[Step]:
        """JoinGroup, of a consumer of the classic protocol."""
        group = self._groups[request.group_id]
        assert isinstance(group, ConsumerGroup)
        change = Change(now_ms)
        if not group.members:
            # Nobody is there who would mind: the group begins anew, as a classic one.
            change.facts += group.tombstones()
            return self._commit(group.group_id, change, partial(self._join_anew, ctx, request), now_ms)
        lane = self._lane(group.group_id)
        try:
            response = consumer_classic.join(self._env, group, lane.regexes, ctx, request, now_ms, change)
        except KafkaError as error:
            return [answers.join_failed(ctx, answers.NO_MEMBER_ID, error.code)]

        def done(error: ErrorCode, at_ms: int) -> list[Step]:
            if error:
                return [answers.join_failed(ctx, answers.NO_MEMBER_ID, _write_error(error))]
            return [Reply(ctx.reply_to, response)]

        return self._commit(group.group_id, change, done, now_ms)

    def _join_anew(self, ctx: RequestContext, request: m.JoinGroupRequest, error: ErrorCode, now_ms: int) -> list[Step]:
        if error:
            return [answers.join_failed(ctx, request.member_id, _write_error(error))]
        return self._again(ctx, request, now_ms)

    def sync(self, ctx: RequestContext, request: m.SyncGroupRequest, now_ms: int) -> list[Step]:
        group = self._groups[request.group_id]
        assert isinstance(group, ConsumerGroup)
        change = Change(now_ms)
        try:
            response = consumer_classic.sync(self._env, group, request, change)
        except KafkaError as error:
            response = m.SyncGroupResponse(error_code=error.code)
        return self._commit(group.group_id, change, lambda error, at_ms: [Reply(ctx.reply_to, response)], now_ms)

    def beat(self, ctx: RequestContext, request: m.HeartbeatRequest, now_ms: int) -> list[Step]:
        group = self._groups[request.group_id]
        assert isinstance(group, ConsumerGroup)
        change = Change(now_ms)
        try:
            response = consumer_classic.beat(group, request, change)
        except KafkaError as error:
            response = m.HeartbeatResponse(error_code=error.code)
        return self._commit(group.group_id, change, lambda error, at_ms: [Reply(ctx.reply_to, response)], now_ms)

    def leave(self, ctx: RequestContext, request: m.LeaveGroupRequest, now_ms: int) -> list[Step]:
        group = self._groups[request.group_id]
        assert isinstance(group, ConsumerGroup)
        change = Change(now_ms)
        try:
            results = consumer_classic.leave(self._env, group, answers.leaving(ctx, request), change)
        except KafkaError as error:
            return [Reply(ctx.reply_to, m.LeaveGroupResponse(error_code=error.code))]

        def done(error: ErrorCode, at_ms: int) -> list[Step]:
            if error:
                return [Reply(ctx.reply_to, m.LeaveGroupResponse(error_code=_write_error(error)))]
            return [answers.left(ctx, results)]

        return self._commit(group.group_id, change, done, now_ms)

    def describe(self, ctx: RequestContext, request: m.ConsumerGroupDescribeRequest, now_ms: int) -> list[Step]:
        described = [self._described(ctx, group_id) for group_id in request.group_ids]
        return [Reply(ctx.reply_to, m.ConsumerGroupDescribeResponse(groups=described))]

    # Groups that are decided upon ---------------------------------------------------------------------------------

    def _shared(self, group_id: str) -> SharedWrite | None:
        """What turns before this one have decided about the group, and is not written yet; None: nothing."""
        lane = self._lanes.get(group_id)
        return lane.shared if lane is not None and lane.shared is not None and lane.shared.facts else None

    def _group(self, group_id: str) -> Group | ConsumerGroup | None:
        """A group as the turn that is run finds it."""
        group = self._groups.get(group_id)
        shared = self._shared(group_id)
        return group if shared is None or not isinstance(group, ConsumerGroup) else shared.group(group)

    # Groups -------------------------------------------------------------------------------------------------------

    def _known(self, group_id: str, kind: str = "Group") -> ConsumerGroup:
        """Raises KafkaError. `kind`: what is said not to be there."""
        group = self._group(group_id)
        if group is None:
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"{kind} {group_id} not found.")
        if group.state is GroupState.DEAD:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        if isinstance(group, Group):
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a consumer group.")
        return group

    def _found(self, group_id: str, change: Change) -> ConsumerGroup:
        """The group for somebody who joins: known, new, or a classic one that is upgraded. Raises KafkaError."""
        group = self._group(group_id)
        if group is None:
            return ConsumerGroup(group_id)
        if not isinstance(group, Group) or group.state is GroupState.DEAD:
            return self._known(group_id)
        if group.state is GroupState.EMPTY:
            if group.generation > 0:
                change.facts.append(GroupDeleted(group_id))
            return ConsumerGroup(group_id, group.offsets)
        upgraded = to_consumer(self._env, group, change)
        for member in upgraded.members.values():
            assert member.classic is not None
            change.wait(SESSION, member.member_id, member.classic.session_timeout_ms)
        return upgraded

    def _described(self, ctx: RequestContext, group_id: str) -> m.ConsumerGroupDescribeResponse.DescribedGroup:
        if not group_id:
            return m.ConsumerGroupDescribeResponse.DescribedGroup(error_code=ErrorCode.INVALID_GROUP_ID)
        try:
            group = self._known(group_id)
        except KafkaError as error:
            return m.ConsumerGroupDescribeResponse.DescribedGroup(
                group_id=group_id, error_code=ErrorCode.GROUP_ID_NOT_FOUND, error_message=error.message
            )
        described = m.ConsumerGroupDescribeResponse.DescribedGroup(
            group_id=group_id,
            group_state=group.state.value,
            group_epoch=group.epoch,
            assignment_epoch=group.assignment_epoch,
            assignor_name=group.preferred_assignor(self._env.default_assignor),
        )
        for member in group.members.values():
            entry = m.ConsumerGroupDescribeResponse.Member(
                member_id=member.member_id,
                instance_id=member.instance_id,
                rack_id=member.rack_id,
                member_epoch=member.epoch,
                client_id=member.client_id,
                client_host=member.client_host,
                subscribed_topic_names=sorted(member.topics),
                subscribed_topic_regex=member.topic_regex,
                assignment=self._told(member.owned()),
                target_assignment=self._told(group.targets.get(member.member_id, {})),
            )
            if ctx.api_version >= _MEMBER_TYPES_SINCE:
                entry.member_type = _CONSUMER if member.classic is None else _CLASSIC
            described.members.append(entry)
        return described

    def _told(self, partitions: Target | Owned) -> m.ConsumerGroupDescribeResponse.Assignment:
        """Topics that are no more are not told of."""
        named = [(topic_id, self._env.topics.topic_name(topic_id)) for topic_id in topics_in_order(partitions)]
        return m.ConsumerGroupDescribeResponse.Assignment(
            topic_partitions=[
                m.ConsumerGroupDescribeResponse.TopicPartitions(
                    topic_id=topic_id, topic_name=name, partitions=in_order(partitions[topic_id])
                )
                for topic_id, name in named
                if name is not None
            ]
        )

    # Changes ------------------------------------------------------------------------------------------------------

    def _commit(self, group_id: str, change: Change, done: Done, now_ms: int) -> list[Step]:
        """Have a change written, then `done`; at once if there is nothing to write."""
        lane = self._lane(group_id)
        is_plain = isinstance(self._groups.get(group_id), ConsumerGroup) and not change.is_downgrade
        shared = self._shared(group_id)
        if shared is not None and not is_plain:
            shared.is_unfit = True
            return []
        steps = lane.timers.begin(change.waits, now_ms)
        if change.regexes and not lane.regexes.is_resolving:
            lane.regexes.is_resolving = True
            steps.append(Ask((_QUESTION, group_id), ResolveRegexes(change.regexes)))
        if not change.facts and shared is None:
            steps += lane.timers.end(change.waits) + done(ErrorCode.NONE, now_ms)
            self._tidy(group_id)
            return steps
        if change.is_downgrade:
            self._downgrading.add(group_id)
        if change.begins_epoch:
            change.causes = causes(self._group(group_id), change)
        then = partial(self._written, group_id, change, done)
        if is_plain and lane.shared is not None:
            lane.shared.add(change.facts, then)
        else:
            steps += lane.write(tuple(change.facts), then)
        return steps

    def _written(self, group_id: str, change: Change, done: Done, error: ErrorCode, now_ms: int) -> list[Step]:
        steps = done(error, now_ms)
        if error is ErrorCode.REQUEST_TIMED_OUT:
            # It may be committed all the same, and then the group is what it says: see what became of it.
            self._late.setdefault(group_id, []).append(change)
            late = Change(now_ms)
            late.wait(_SETTLE, "", _RETRY_MS)
            return steps + self._lane(group_id).timers.begin(late.waits, now_ms)
        if not error:
            # Nobody is waited for any more who need not be: not before that is committed, for if it is not, he must.
            steps += self._lane(group_id).timers.end(change.waits)
        return steps + self._settle(group_id, change, now_ms)

    def _settle(self, group_id: str, change: Change, now_ms: int) -> list[Step]:
        """The log has decided about a change. A group that has become classic begins to live."""
        steps: list[Step] = []
        self._downgrading.discard(group_id)
        group = self._groups.get(group_id)
        if change.is_downgrade and isinstance(group, Group):
            steps += self._lane(group_id).timers.clear()
            steps.append(Note(f"Group {group_id}", "Converted to the classic protocol"))
            steps += group.loaded(now_ms)
        steps += self._keep_journal(group_id, change, now_ms)
        self._tidy(group_id)
        return steps

    def _keep_journal(self, group_id: str, change: Change, now_ms: int) -> list[Step]:
        """A change was written, or was not: then the group is not in the epoch that it was to begin."""
        group = self._groups.get(group_id)
        running = self._rebalances.get(group_id)
        if not isinstance(group, ConsumerGroup):
            if running is not None:
                del self._rebalances[group_id]
                if group is None or not change.is_rebalance:
                    self._journals.of(group_id).interrupt(now_ms)
            return []
        if change.causes and group.epoch >= change.epoch:
            kept, why = self._journals.of(group_id), change.causes
            if running is None:
                running = self._rebalances[group_id] = ConsumerRebalance(kept, group, why[0], now_ms)
                why = why[1:]
            for cause in why:
                kept.happened(cause, now_ms)
        done = None if running is None else running.look(group, now_ms)
        if done is None:
            return []
        del self._rebalances[group_id]
        told = (("generation", done.generation), ("members", done.members), ("took_ms", done.took_ms))
        return [Note(f"Group {group_id}", "Rebalanced", told)]

    def _lane(self, group_id: str) -> Lane:
        lane = self._lanes.get(group_id)
        if lane is None:
            lane = self._lanes[group_id] = Lane(group_id, self._heard, partial(self._open_all, group_id))
        return lane

    def _tidy(self, group_id: str) -> None:
        """Forget the lane of a group that needs none."""
        lane = self._lanes.get(group_id)
        if lane is not None and lane.is_idle and not isinstance(self._groups.get(group_id), ConsumerGroup):
            del self._lanes[group_id]

    # Time and answers ---------------------------------------------------------------------------------------------

    def timer(self, key: tuple[str, str, str, str], now_ms: int) -> list[Step]:
        """A member may be late."""
        _, group_id, what, member_id = key
        lane = self._lanes.get(group_id)
        if lane is None:
            return []
        epoch, steps = lane.timers.fired(what, member_id, now_ms)
        if epoch is None:
            return steps
        if what == _SETTLE:
            if not lane.is_busy:
                for change in self._late.pop(group_id):
                    steps += lane.timers.end(change.waits) + self._settle(group_id, change, now_ms)
                return steps
            late = Change(now_ms)
            late.wait(_SETTLE, "", _RETRY_MS)
            return lane.timers.begin(late.waits, now_ms)

        def retry(error: ErrorCode, at_ms: int) -> list[Step]:
            if error in (ErrorCode.NONE, ErrorCode.NOT_COORDINATOR):
                return []
            change = Change(at_ms)
            change.wait(what, member_id, _RETRY_MS, epoch=epoch)
            return self._lane(group_id).timers.begin(change.waits, at_ms)

        def fence(at_ms: int) -> list[Step]:
            group = self._groups.get(group_id)
            if not isinstance(group, ConsumerGroup) or group.is_dead:
                return []
            member = group.members.get(member_id)
            if member is None or epoch not in (-1, member.epoch):
                return []
            change = Change(at_ms)
            change.late_with = what
            told = (("member", member_id), ("late_with", what))
            note = Note(f"Group {group_id}", "Member is fenced", told)
            try:
                consumer_heartbeat.fence(self._env, group, [member], change)
            except KafkaError as error:
                return [Note(f"Group {group_id}", "Could not fence a member", (("why", error.message),), warning=True)]
            return [note, *self._commit(group_id, change, retry, at_ms)]

        return steps + lane.take(Turn(fence, retry), now_ms)

    def told(self, key: Hashable, answer: object, now_ms: int) -> list[Step]:
        """Patterns were resolved."""
        assert isinstance(key, tuple)
        group_id = key[1]
        lane = self._lane(group_id)
        lane.regexes.is_resolving = False

        def take(at_ms: int) -> list[Step]:
            group = self._groups.get(group_id)
            change = Change(at_ms)
            if isinstance(group, ConsumerGroup) and isinstance(answer, Resolved):
                take_resolved(self._env, group, answer, change)
            return self._commit(group_id, change, lambda error, done_ms: [], at_ms)

        return lane.take(Turn(take, lambda error, at_ms: []), now_ms)

    # Records ------------------------------------------------------------------------------------------------------

    def replay(self, fact: ConsumerFact, *, is_loading: bool) -> None:
        group = self._groups.get(fact.group_id)
        if isinstance(fact, GroupEpochDeleted):
            if isinstance(group, ConsumerGroup):
                self._gone(group, is_loading=is_loading)
        elif isinstance(group, ConsumerGroup):
            group.apply(fact)
        elif not type(fact).__name__.endswith("Deleted"):
            # What only kept offsets until now keeps them on; a classic group was deleted by the record before.
            group = ConsumerGroup(fact.group_id, None if group is None else group.offsets)
            self._groups[fact.group_id] = group
            group.apply(fact)
        if self._late:
            self.replayed(fact.group_id, fact)

    def replayed(self, group_id: str, fact: object) -> None:
        lane = self._lanes.get(group_id)
        if lane is not None:
            lane.replayed(fact)

    def _gone(self, group: ConsumerGroup, *, is_loading: bool) -> None:
        """The group was deleted, or becomes a classic one. Offsets that are left are somebody's."""
        group_id = group.group_id
        del self._groups[group_id]
        if group.offsets or group_id in self._downgrading or is_loading:
            self._bare(group_id).offsets = group.offsets
        self._tidy(group_id)

    def takes_over(self, group_id: str) -> bool:
        """Whether a classic group's record that is committed is that of a downgrade."""
        return group_id in self._downgrading

    def loaded(self, now_ms: int) -> list[Step]:
        """Sessions begin anew."""
        steps: list[Step] = []
        for group in list(self._groups.values()):
            if not isinstance(group, ConsumerGroup):
                continue
            change = Change(now_ms)
            for member in group.members.values():
                change.wait(SESSION, member.member_id, self._env.session_timeout_ms(group.group_id))
                if member.state is MemberState.UNREVOKED_PARTITIONS and member.classic is None:
                    change.wait(REBALANCE, member.member_id, member.rebalance_timeout_ms, epoch=member.epoch)
            steps += self._lane(group.group_id).timers.begin(change.waits, now_ms)
        return steps

    def unloaded(self) -> list[Step]:
        steps: list[Step] = []
        for lane in self._lanes.values():
            steps += lane.refuse_all(ErrorCode.NOT_COORDINATOR, 0) + lane.published.forget_all()
        return steps


def is_timer(key: Hashable) -> bool:
    return isinstance(key, tuple) and key[0] == TIMER


def _write_error(error: ErrorCode) -> ErrorCode:
    if error is ErrorCode.REQUEST_TIMED_OUT:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    return answers.group_write_error(error)

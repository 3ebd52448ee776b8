"""One group: joining, syncing, heartbeats, leaving, and the rebalance between two generations.

What stays true:
  - `generation` only rises, and a member is told it once per rebalance;
  - assignments change only when the record of the generation is committed: `replay` sets them, then answers go out;
  - a parked request is answered exactly once; when another takes its place it is told to try again;
  - a rebalance waits for pending members (those with an id of ours who have not come back with it yet), but a
    generation never has them as members.

    Empty      --join-->                       Preparing (the first generation is delayed for more members to come)
    Preparing  --all joined, or timeout-->     Completing, or Empty when nobody is left      `_complete_join`
    Completing --assignment committed-->       Stable                                        `replay`
    Completing, Stable --join, leave, expiry-> Preparing                                     `_prepare`
    any        --deletion, unload-->           Dead                                          `GroupCoordinator`
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

from cluster.coordinator import answers, journal
from cluster.coordinator.answers import NO_MEMBER_ID
from cluster.coordinator.context import GroupConfig, Heard, NewId, RequestContext
from cluster.coordinator.group_records import OVERTAKEN, GroupStored, MemberStored
from cluster.coordinator.group_state import GroupState, may_follow
from cluster.coordinator.journal import Cause, Journal
from cluster.coordinator.members import Attempt, Member, Members
from cluster.coordinator.offsets import Offsets
from cluster.coordinator.sessions import Sessions
from cluster.coordinator.shard import Step, Write
from cluster.coordinator.subscription import CONSUMER_PROTOCOL_TYPE, subscribed_topics
from cluster.effects import CancelTimer, Note, Reply, SetTimer
from cluster.protocol import messages as m
from pylog.errors import ErrorCode

NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60_000
"""A new member cannot heartbeat while its first JoinGroup is parked; this long it is trusted to be there."""

_SHORTEST_RETRY_MS = 1_000
_NO_REASON = "not provided"
_MEMBER_ID_REQUIRED_SINCE = 4
_SKIP_ASSIGNMENT_SINCE = 9

_IN_GENERATION = (GroupState.COMPLETING, GroupState.STABLE)


class Group:
    """One consumer group, or any other sort of group. Sans-io: methods take `now_ms` and return steps.

    A group that never had members (`protocol_type` is None) only keeps offsets. `subscribed`: the topics its members
    read, None when that is not known; then every topic counts as read.
    """

    __slots__ = (
        "_assigning",
        "_config",
        "_initial_left_ms",
        "_initial_wait_ms",
        "_is_overtaken",
        "_joining_deadline_ms",
        "_members_came",
        "_new_id",
        "_sessions",
        "_unsynced",
        "generation",
        "group_id",
        "journal",
        "members",
        "offsets",
        "protocol",
        "protocol_type",
        "state",
        "state_ms",
        "subscribed",
    )

    def __init__(
        self,
        group_id: str,
        config: GroupConfig,
        new_id: NewId,
        kept: Journal,
        now_ms: int | None,
        heard: Heard | None = None,
    ) -> None:
        self.group_id = group_id
        self._config = config
        self._new_id = new_id
        self.state = GroupState.EMPTY
        self.state_ms: int | None = now_ms  # when it got into this state; None: not known
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.generation = 0
        self.subscribed: frozenset[str] | None = None
        self.members = Members()
        self.offsets = Offsets()
        self.journal = kept
        self._sessions = Sessions(group_id, heard)
        self._unsynced: set[str] = set()  # members of this generation who have not sent SyncGroup yet
        self._assigning = -1  # the generation whose assignment is on its way to the log
        self._joining_deadline_ms = -1  # when a rebalance stops waiting; -1: no timer
        self._members_came = False  # since the initial delay began or was last extended
        self._initial_wait_ms = -1  # the part of the initial delay that runs now; -1: this is no initial rebalance
        self._initial_left_ms = 0
        self._is_overtaken = False  # what was loaded is not what the members have

    # Requests -----------------------------------------------------------------------------------------------------

    def join(self, ctx: RequestContext, request: m.JoinGroupRequest, now_ms: int) -> list[Step]:
        """JoinGroup. Parks it until the rebalance is over, unless the group can say at once."""
        out: list[Step] = []
        attempt = _attempt(ctx, request)
        member_id = attempt.member_id
        if self.state is GroupState.DEAD:
            out.append(answers.join_failed(ctx, member_id, ErrorCode.COORDINATOR_NOT_AVAILABLE))
        elif not self._has_room_for(member_id):
            self._drop_unanswered(member_id, out)
            out.append(answers.join_failed(ctx, NO_MEMBER_ID, ErrorCode.GROUP_MAX_SIZE_REACHED))
        elif not self._supports(attempt):
            out.append(answers.join_failed(ctx, member_id, ErrorCode.INCONSISTENT_GROUP_PROTOCOL))
        elif member_id == NO_MEMBER_ID:
            self._join_new(attempt, now_ms, out)
        elif member_id in self._sessions.pending and attempt.instance_id is None:
            self._add_member(attempt, member_id, now_ms, out)
        else:
            self._join_again(attempt, now_ms, out)
        self._try_complete_join(now_ms, out)
        return out

    def sync(self, ctx: RequestContext, request: m.SyncGroupRequest, now_ms: int) -> list[Step]:
        """SyncGroup. The leader's brings the assignment; all wait until that is committed."""
        error = self._check_sync(request)
        if error:
            return [answers.sync_failed(ctx, error)]
        out: list[Step] = []
        member = self.members.get(request.member_id)
        assert member is not None
        self._note_synced(member.member_id, out)
        if self.state is GroupState.STABLE:
            out.append(self._synced(ctx, member))
            self._sessions.touch(member, member.session_timeout_ms, now_ms, out)
            return out
        if member.syncing is not None:
            out.append(answers.sync_failed(member.syncing, ErrorCode.REBALANCE_IN_PROGRESS))
        member.syncing = ctx
        # A second SyncGroup of the leader must not change what the first one may already have told the log.
        if member.member_id == self.members.leader and self._assigning != self.generation:
            self._assigning = self.generation
            assigned = {each.member_id: each.assignment for each in request.assignments}
            missing = sum(each.member_id not in assigned for each in self.members)
            if missing:
                out.append(self._note("The leader assigned nothing to some members", ("members", missing)))
            out.append(Write((self.fact(assigned),), partial(self._assigned, self.generation)))
        return out

    def heartbeat(self, ctx: RequestContext, request: m.HeartbeatRequest, now_ms: int) -> list[Step]:
        """Heartbeat: moves the session's deadline, and tells of a rebalance to join."""
        if self.state is GroupState.DEAD:
            error = ErrorCode.COORDINATOR_NOT_AVAILABLE
        else:
            error = self.check_member(request.member_id, request.group_instance_id)
            if not error and request.generation_id != self.generation:
                error = ErrorCode.ILLEGAL_GENERATION
        out: list[Step] = []
        if not error:
            member = self.members.get(request.member_id)
            assert member is not None
            self._sessions.touch(member, member.session_timeout_ms, now_ms, out)
            if self.state is GroupState.PREPARING:
                error = ErrorCode.REBALANCE_IN_PROGRESS
        out.append(Reply(ctx.reply_to, m.HeartbeatResponse(error_code=error)))
        return out

    def leave(self, ctx: RequestContext, request: m.LeaveGroupRequest, now_ms: int) -> list[Step]:
        """LeaveGroup, for one member or many. Without a member id a static member is named by its instance id."""
        if self.state is GroupState.DEAD:
            return [Reply(ctx.reply_to, m.LeaveGroupResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE))]
        out: list[Step] = []
        results: list[tuple[m.LeaveGroupRequest.MemberIdentity, ErrorCode]] = []
        for who in answers.leaving(ctx, request):
            results.append((who, self._leave_one(who, now_ms, out)))
        out.append(answers.left(ctx, results))
        return out

    def check_commit(
        self, generation: int, member_id: str, instance_id: str | None, *, transactional: bool = False
    ) -> ErrorCode:
        """Whether this sender may commit offsets now. A generation below zero: it does not take part in the group.

        In a transaction it need not say who it is, since old versions of the request cannot; nor need the group have
        its assignment: what the producer read belongs to the generation that it names."""
        if self.state is GroupState.DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        if generation < 0 and self.state is GroupState.EMPTY:
            return ErrorCode.NONE
        if generation < 0 and member_id == NO_MEMBER_ID and instance_id is None:
            return ErrorCode.NONE if transactional else ErrorCode.UNKNOWN_MEMBER_ID
        error = self.check_member(member_id, instance_id)
        if error:
            return error
        if generation != self.generation:
            return ErrorCode.ILLEGAL_GENERATION
        if self.state is GroupState.COMPLETING and not transactional:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def alive(self, member_id: str, now_ms: int) -> list[Step]:
        """A member showed by a commit that it lives; nothing for one that is no member."""
        out: list[Step] = []
        member = self.members.get(member_id)
        if member is not None:
            self._sessions.touch(member, member.session_timeout_ms, now_ms, out)
        return out

    def check_member(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """Whether this is a member, and if it is static, the one that holds the instance id now."""
        if instance_id is not None:
            holder = self.members.static_id(instance_id)
            if holder is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if holder != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        return ErrorCode.NONE if member_id in self.members else ErrorCode.UNKNOWN_MEMBER_ID

    def is_idle(self) -> bool:
        """Whether it has no members and none is about to come."""
        return self.state is GroupState.EMPTY and not self._sessions.pending

    def reads(self, topic: str) -> bool:
        return self.subscribed is None or topic in self.subscribed

    # Durable state ------------------------------------------------------------------------------------------------

    def fact(self, assigned: dict[str, bytes] | None = None) -> GroupStored:
        """This generation as a record. `assigned`: by member id; None: what the members have."""
        return GroupStored(
            self.group_id,
            self.protocol_type or "",
            self.generation,
            self.protocol,
            self.members.leader,
            -1 if self.state_ms is None else self.state_ms,
            tuple(
                MemberStored(
                    each.member_id,
                    each.instance_id,
                    each.client_id,
                    each.client_host,
                    each.rebalance_timeout_ms,
                    each.session_timeout_ms,
                    each.protocols[self.protocol or ""],
                    each.assignment if assigned is None else assigned.get(each.member_id, b""),
                )
                for each in self.members
            ),
        )

    def load(self, stored: GroupStored) -> None:
        """Become what a record says. Only while the shard is loaded, when there is no soft state to lose."""
        self.members = Members()
        self.generation = stored.generation
        self.protocol_type = stored.protocol_type or None
        self.protocol = stored.protocol
        self.state_ms = None if stored.state_ms < 0 else stored.state_ms
        self._is_overtaken = stored.state_ms == OVERTAKEN
        self.state = GroupState.STABLE if stored.members else GroupState.EMPTY
        for each in stored.members:
            self.members.add(
                Member(
                    member_id=each.member_id,
                    instance_id=each.instance_id,
                    client_id=each.client_id,
                    client_host=each.client_host,
                    rebalance_timeout_ms=each.rebalance_timeout_ms,
                    session_timeout_ms=each.session_timeout_ms,
                    protocols={stored.protocol or "": each.subscription},
                    assignment=each.assignment,
                )
            )
        if stored.leader is not None and stored.leader in self.members:
            self.members.leader = stored.leader
        self.subscribed = self._subscriptions()

    def replay(self, stored: GroupStored, now_ms: int) -> None:
        """A record of ours is committed. It matters while this generation waits for it; a newer one will follow."""
        if self.state is GroupState.COMPLETING and stored.generation == self.generation:
            for each in stored.members:
                member = self.members.get(each.member_id)
                if member is not None:
                    member.assignment = each.assignment
            self._go(GroupState.STABLE, now_ms)

    def loaded(self, now_ms: int) -> list[Step]:
        """The shard is loaded: sessions begin anew, and a group that has become too large sheds members. One that was
        of the consumer protocol rebalances if it has not since: whoever left took partitions along, and perhaps not
        everybody had got his."""
        out: list[Step] = []
        for member in self.members:
            self._sessions.touch(member, member.session_timeout_ms, now_ms, out)
        if len(self.members) > self._config.max_size:
            self._prepare(Cause(journal.TOO_LARGE, "The loaded group is larger than group.max.size"), now_ms, out)
        elif self.state is GroupState.STABLE and self._is_overtaken:
            self._prepare(Cause(journal.LEFT, "the last member of the consumer protocol left"), now_ms, out)
        elif self.state is GroupState.STABLE:
            self._sessions.open(self.members, self.generation, out)
        return out

    def unload(self) -> list[Step]:
        """Answer what is parked: this broker no longer decides here."""
        out: list[Step] = []
        self.state = GroupState.DEAD
        self._sessions.forget_all(out)
        for member in self.members:
            self._answer_parked(member, ErrorCode.NOT_COORDINATOR, out, join_member_id=member.member_id)
        return out

    def give_way(self, now_ms: int) -> list[Step]:
        """The group is about to become one of the consumer protocol: who waits is to join that one."""
        out: list[Step] = []
        for member in self.members:
            self._sessions.listen(member, now_ms)
        self._sessions.forget_all(out)
        for member in self.members:
            error = ErrorCode.REBALANCE_IN_PROGRESS
            self._answer_parked(member, error, out, join_member_id=member.member_id)
        return out

    def mark_deleted(self, now_ms: int) -> None:
        self._go(GroupState.DEAD, now_ms)

    def unmark_deleted(self, since_ms: int | None) -> None:
        """The deletion was not written. `since_ms`: from when the group had been empty."""
        assert may_follow(self.state, GroupState.EMPTY)
        self.state = GroupState.EMPTY
        self.state_ms = since_ms

    # Timers -------------------------------------------------------------------------------------------------------

    def session_due(self, member_id: str, now_ms: int) -> list[Step]:
        """The timer of a member or a pending member fired. It may have been heard from since the timer was set."""
        out: list[Step] = []
        member = self.members.get(member_id)
        if member is None:
            if self._sessions.pending_due(member_id, now_ms, out):
                out.append(self._note("Pending member did not come back", ("member", member_id)))
                self._try_complete_join(now_ms, out)
            return out
        member.armed_ms = 0
        if not member.is_new and (member.joining is not None or member.syncing is not None):
            return out  # it waits for us; the answer starts its session again
        self._sessions.listen(member, now_ms)
        if now_ms < member.deadline_ms:
            self._sessions.arm(member, out)
            return out
        out.append(self._note("Member expired", ("member", member_id)))
        self._remove_member(member, _cause(journal.EXPIRED, f"member {member_id} expired", member), now_ms, out)
        return out

    def rebalance_due(self, now_ms: int) -> list[Step]:
        """The time to join is over."""
        out: list[Step] = []
        self._joining_deadline_ms = -1
        if self.state is not GroupState.PREPARING:
            return out
        if self._initial_wait_ms >= 0 and self._members_came and self._initial_left_ms > 0:
            wait_ms = min(self._config.initial_rebalance_delay_ms, self._initial_left_ms)
            self._initial_left_ms = max(self._initial_left_ms - self._initial_wait_ms, 0)
            self._initial_wait_ms = wait_ms
            self._members_came = False
            self._wait_for_joins(wait_ms, now_ms, out)
        else:
            self._complete_join(now_ms, out)
        return out

    def sync_due(self, now_ms: int) -> list[Step]:
        """The time to sync is over: who has not done it goes."""
        out: list[Step] = []
        if self.state not in _IN_GENERATION or not self._unsynced:
            return out
        cause = Cause(journal.NOT_SYNCED, "members did not sync in time")
        for member_id in sorted(self._unsynced):
            member = self.members.get(member_id)
            if member is not None:
                out.append(self._note("Member did not sync in time", ("member", member_id)))
                cause = cause if cause.member_id else _cause(cause.kind, cause.text, member)
                self._drop(member, out)
        self._prepare(cause, now_ms, out)
        return out

    # Joining ------------------------------------------------------------------------------------------------------

    def _has_room_for(self, member_id: str) -> bool:
        """Whether a JoinGroup may be taken under `group.max.size`.

        While a rebalance is prepared those who wait are counted, not the members: the limit may have been lowered, and
        then the last ones to join again are shed.
        """
        if self.state is GroupState.EMPTY:
            return True
        member = self.members.get(member_id)
        if self.state is GroupState.PREPARING:
            is_waiting = member is not None and member.joining is not None
            return is_waiting or self.members.joining_count < self._config.max_size
        return member is not None or len(self.members) < self._config.max_size

    def _supports(self, attempt: Attempt) -> bool:
        if self.state is GroupState.EMPTY:
            return bool(attempt.protocol_type and attempt.protocols)
        return attempt.protocol_type == self.protocol_type and self.members.support(attempt.protocols)

    def _join_new(self, attempt: Attempt, now_ms: int, out: list[Step]) -> None:
        """A member joins that has no id yet, or none any more."""
        ctx, instance_id = attempt.ctx, attempt.instance_id
        member_id = f"{ctx.client_id if instance_id is None else instance_id}-{self._new_id()}"
        if instance_id is not None:
            holder = self.members.get(self.members.static_id(instance_id) or NO_MEMBER_ID)
            if holder is None:
                self._add_member(attempt, member_id, now_ms, out)
            else:
                self._replace_static(attempt, holder, member_id, now_ms, out)
        elif ctx.api_version >= _MEMBER_ID_REQUIRED_SINCE:
            # It takes part only when it comes back with the id: a client that gave up meanwhile leaves no trace.
            self._sessions.expect(member_id, now_ms + attempt.session_timeout_ms, out)
            out.append(answers.join_failed(ctx, member_id, ErrorCode.MEMBER_ID_REQUIRED))
        else:
            self._add_member(attempt, member_id, now_ms, out)

    def _add_member(self, attempt: Attempt, member_id: str, now_ms: int, out: list[Step]) -> None:
        member = Member(
            member_id=member_id,
            instance_id=attempt.instance_id,
            client_id=attempt.ctx.client_id,
            client_host="/" + attempt.ctx.client_host,
            rebalance_timeout_ms=attempt.rebalance_timeout_ms,
            session_timeout_ms=attempt.session_timeout_ms,
            protocols=attempt.protocols,
        )
        member.is_new = True
        if self.state is GroupState.PREPARING and self.generation == 0:
            self._members_came = True
        if not len(self.members):
            self.protocol_type = attempt.protocol_type
        self.members.add(member)
        self._park_join(member, attempt.ctx, out)
        self._sessions.came(member)
        self._sessions.touch(member, NEW_MEMBER_JOIN_TIMEOUT_MS, now_ms, out)
        reason = f"new member {member_id}; client reason: {attempt.reason}"
        self._maybe_prepare(_cause(journal.JOINED, reason, member, attempt.reason), now_ms, out)

    def _join_again(self, attempt: Attempt, now_ms: int, out: list[Step]) -> None:
        """A member joins that says it knows its id."""
        error = self.check_member(attempt.member_id, attempt.instance_id)
        if error:
            out.append(answers.join_failed(attempt.ctx, attempt.member_id, error))
            return
        member = self.members.get(attempt.member_id)
        assert member is not None
        is_leader = member.member_id == self.members.leader
        # A follower with nothing new, or anyone whose answer got lost, is told the generation once more. A leader that
        # joins a stable group wants a rebalance: the topics it reads may have changed.
        if member.offers(attempt.protocols) and (
            self.state is GroupState.COMPLETING or (self.state is GroupState.STABLE and not is_leader)
        ):
            out.append(self._joined(attempt.ctx, member))
            return
        is_changed = not member.offers(attempt.protocols)
        self._update(member, attempt)
        self._park_join(member, attempt.ctx, out)
        if is_changed or self.state is not GroupState.PREPARING:
            who = "the leader" if is_leader else f"member {member.member_id}"
            kind = journal.SUBSCRIPTION_CHANGED if is_changed else journal.LEADER_REJOINED
            reason = f"{who} joined again; client reason: {attempt.reason}"
            self._maybe_prepare(_cause(kind, reason, member, attempt.reason), now_ms, out)

    def _update(self, member: Member, attempt: Attempt) -> None:
        self.members.update(
            member,
            attempt.protocols,
            rebalance_timeout_ms=attempt.rebalance_timeout_ms,
            session_timeout_ms=attempt.session_timeout_ms,
        )

    def _replace_static(self, attempt: Attempt, member: Member, new_id: str, now_ms: int, out: list[Step]) -> None:
        """A static member came back without its id, most likely restarted. The old id is fenced from now on."""
        before = _attempt_before(member, attempt.ctx)
        leader_before = self.members.leader
        self._answer_parked(member, ErrorCode.FENCED_INSTANCE_ID, out, join_member_id=member.member_id)
        self._rename(member, new_id, out)
        self._update(member, attempt)
        self._sessions.touch(member, member.session_timeout_ms, now_ms, out)
        self._park_join(member, attempt.ctx, out)
        if self.state is GroupState.STABLE and self.members.vote() == self.protocol:
            # Nobody has to be assigned anything new; the new id has to outlive this broker before it is told.
            done = partial(self._replaced, member, before, leader_before, self.generation)
            out.append(Write((self.fact(),), done))
        else:
            # In Completing the leader may already be assigning to the old id, whose owner would never hear of it.
            reason = f"static member {attempt.instance_id} came back"
            self._maybe_prepare(_cause(journal.STATIC_REPLACED, reason, member), now_ms, out)

    def _replaced(
        self,
        member: Member,
        before: Attempt,
        leader_before: str | None,
        generation: int,
        error: ErrorCode,
        now_ms: int,
    ) -> list[Step]:
        """The new id of a static member is committed, or is not. `before`: what it was, with the request that waits."""
        out: list[Step] = []
        is_unchanged = self.state is GroupState.STABLE and self.generation == generation
        if member.joining is not before.ctx or not is_unchanged:
            return out  # it was answered, or a rebalance has begun that will answer it
        self.members.take_join(member)
        ctx = before.ctx
        if error:
            told = (("member", member.member_id), ("error", error.name))
            out.append(self._note("Could not store a static member", *told))
            self._rename(member, before.member_id, out)
            self._update(member, before)
            out.append(answers.join_failed(ctx, NO_MEMBER_ID, answers.group_write_error(error)))
        elif ctx.api_version >= _SKIP_ASSIGNMENT_SINCE:
            out.append(self._joined(ctx, member, skip_assignment=member.member_id == self.members.leader))
        else:
            # Told of the old leader's id, a leader of old does not take itself for it and does not assign in vain.
            out.append(self._joined(ctx, member, leader=leader_before))
        self._sessions.touch(member, member.session_timeout_ms, now_ms, out)
        self._sessions.open([member], self.generation, out)
        return out

    # Rebalance ----------------------------------------------------------------------------------------------------

    def _maybe_prepare(self, cause: Cause, now_ms: int, out: list[Step]) -> None:
        if may_follow(self.state, GroupState.PREPARING):
            self._prepare(cause, now_ms, out)
        else:
            self.journal.happened(cause, now_ms)

    def _prepare(self, cause: Cause, now_ms: int, out: list[Step]) -> None:
        """Begin a rebalance: all members are to join again."""
        was_empty = self.state is GroupState.EMPTY
        self._sessions.shut(out)
        if self.state is GroupState.COMPLETING:
            self._answer_syncs(ErrorCode.REBALANCE_IN_PROGRESS, now_ms, out)
        self._clear_unsynced(out)
        self._go(GroupState.PREPARING, now_ms)
        self.journal.begin(cause, self.generation, len(self.members), now_ms)
        out.append(self._note("Preparing to rebalance", ("generation", self.generation), ("reason", cause.text)))
        timeout_ms = self.members.rebalance_timeout_ms()
        self._members_came = False
        if was_empty:
            # The members of a group tend to start together: waiting a little saves a rebalance for each of them.
            self._initial_wait_ms = self._config.initial_rebalance_delay_ms
            self._initial_left_ms = max(timeout_ms - self._initial_wait_ms, 0)
            self._wait_for_joins(self._initial_wait_ms, now_ms, out)
        else:
            self._initial_wait_ms = -1
            self._wait_for_joins(timeout_ms, now_ms, out)
            self._try_complete_join(now_ms, out)

    def _wait_for_joins(self, wait_ms: int, now_ms: int, out: list[Step]) -> None:
        if wait_ms <= 0:
            self._complete_join(now_ms, out)
        else:
            self._joining_deadline_ms = now_ms + wait_ms
            out.append(SetTimer(self._rebalance_key(), self._joining_deadline_ms))

    def _try_complete_join(self, now_ms: int, out: list[Step]) -> None:
        is_waiting = self.state is GroupState.PREPARING and self._initial_wait_ms < 0
        if is_waiting and not self._sessions.pending and self.members.have_all_joined():
            self._complete_join(now_ms, out)

    def _complete_join(self, now_ms: int, out: list[Step]) -> None:
        """Everybody joined, or the time is over: the next generation begins with those who did."""
        if self._joining_deadline_ms >= 0:
            self._joining_deadline_ms = -1
            out.append(CancelTimer(self._rebalance_key()))
        for member in self.members:
            if member.joining is None and member.instance_id is None:
                out.append(self._note("Member did not join in time", ("member", member.member_id)))
                reason = f"member {member.member_id} did not join in time"
                self.journal.happened(_cause(journal.NOT_JOINED, reason, member), now_ms)
                self._drop(member, out)
        if len(self.members) and not self.members.elect_joined_leader():
            # Only static members are left and none is back. Their sessions will end; until then ask again, though
            # never so often that a rebalance timeout of nothing turns into a busy loop.
            out.append(self._note("Nobody joined, waiting on", ("members", len(self.members))))
            self._initial_wait_ms = -1
            self._wait_for_joins(max(self.members.rebalance_timeout_ms(), _SHORTEST_RETRY_MS), now_ms, out)
            return
        self.generation += 1
        self.journal.joined(self.generation, len(self.members), now_ms)
        if len(self.members):
            self._begin_generation(now_ms, out)
        else:
            self._become_empty(now_ms, out)

    def _begin_generation(self, now_ms: int, out: list[Step]) -> None:
        self.protocol = self.members.vote()
        self.subscribed = self._subscriptions()
        self._go(GroupState.COMPLETING, now_ms)
        out.append(self._note("Generation begins", ("generation", self.generation), ("members", len(self.members))))
        for member in self.members:
            ctx = self.members.take_join(member)
            if ctx is not None:
                out.append(self._joined(ctx, member))
            member.is_new = False
            self._unsynced.add(member.member_id)
            self._sessions.touch(member, member.session_timeout_ms, now_ms, out)
        out.append(SetTimer(self._sync_key(), now_ms + self.members.rebalance_timeout_ms()))

    def _become_empty(self, now_ms: int, out: list[Step]) -> None:
        self.protocol = None
        self.subscribed = self._subscriptions()
        self._go(GroupState.EMPTY, now_ms)
        out.append(self._note("Group is empty", ("generation", self.generation)))
        self.journal.end(journal.EMPTY, now_ms)
        out.append(Write((self.fact(),), self._emptied))

    def _emptied(self, error: ErrorCode, now_ms: int) -> list[Step]:
        """Nobody waits for this record. Without it a new coordinator finds the last generation, and expires it."""
        if not error:
            return []
        return [self._note("Could not store the empty group", ("error", error.name), ("at_ms", now_ms))]

    def _assigned(self, generation: int, error: ErrorCode, now_ms: int) -> list[Step]:
        """The assignment of a generation is committed (and replayed), or is not."""
        out: list[Step] = []
        if self._assigning == generation:
            self._assigning = -1
        if generation != self.generation or self.state not in _IN_GENERATION:
            return out
        if self.state is GroupState.STABLE:
            self._note_rebalanced(now_ms, out)
            self._sessions.open(self.members, self.generation, out)
            for member in self.members:
                if member.syncing is not None:
                    ctx, member.syncing = member.syncing, None
                    out.append(self._synced(ctx, member))
                    self._sessions.touch(member, member.session_timeout_ms, now_ms, out)
        elif error:
            self._answer_syncs(answers.group_write_error(error), now_ms, out)
            cause = Cause(journal.NOT_STORED, f"the assignment could not be stored: {error.name}", reason=error.name)
            self._prepare(cause, now_ms, out)
        return out

    def _answer_syncs(self, error: ErrorCode, now_ms: int, out: list[Step]) -> None:
        """What was assigned before stays known: cooperative members have it until they hear of something else."""
        for member in self.members:
            if member.syncing is not None:
                ctx, member.syncing = member.syncing, None
                out.append(answers.sync_failed(ctx, error))
                self._sessions.touch(member, member.session_timeout_ms, now_ms, out)

    def _check_sync(self, request: m.SyncGroupRequest) -> ErrorCode:
        if self.state is GroupState.DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        error = self.check_member(request.member_id, request.group_instance_id)
        if error:
            return error
        if request.generation_id != self.generation:
            return ErrorCode.ILLEGAL_GENERATION
        if request.protocol_type is not None and request.protocol_type != self.protocol_type:
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if request.protocol_name is not None and request.protocol_name != self.protocol:
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        return ErrorCode.REBALANCE_IN_PROGRESS if self.state is GroupState.PREPARING else ErrorCode.NONE

    # Leaving ------------------------------------------------------------------------------------------------------

    def _leave_one(self, who: m.LeaveGroupRequest.MemberIdentity, now_ms: int, out: list[Step]) -> ErrorCode:
        member_id = who.member_id
        if member_id == NO_MEMBER_ID:
            if who.group_instance_id is not None:
                member_id = self.members.static_id(who.group_instance_id) or NO_MEMBER_ID
        elif member_id in self._sessions.pending:
            self._sessions.forget(member_id, out)
            self._try_complete_join(now_ms, out)
            return ErrorCode.NONE
        else:
            error = self.check_member(member_id, who.group_instance_id)
            if error:
                return error
        member = self.members.get(member_id)
        if member is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        reason = f"member {member_id} left; client reason: {who.reason or _NO_REASON}"
        self._remove_member(member, _cause(journal.LEFT, reason, member, who.reason or ""), now_ms, out)
        return ErrorCode.NONE

    def _remove_member(self, member: Member, cause: Cause, now_ms: int, out: list[Step]) -> None:
        self._drop(member, out)
        self._maybe_prepare(cause, now_ms, out)
        if self.state is GroupState.PREPARING:
            self._try_complete_join(now_ms, out)

    def _drop(self, member: Member, out: list[Step]) -> None:
        """Take a member out, and nothing more. What it has parked is told that it is not known any more."""
        self._answer_parked(member, ErrorCode.UNKNOWN_MEMBER_ID, out, join_member_id=NO_MEMBER_ID)
        self.members.remove(member)
        self._unsynced.discard(member.member_id)
        self._sessions.disarm(member, out)

    def _drop_unanswered(self, member_id: str, out: list[Step]) -> None:
        """Forget a member or pending member that finds the group full."""
        member = self.members.get(member_id)
        if member is not None:
            self._drop(member, out)
        elif member_id in self._sessions.pending:
            self._sessions.forget(member_id, out)

    # Small parts --------------------------------------------------------------------------------------------------

    def _go(self, state: GroupState, now_ms: int) -> None:
        assert may_follow(self.state, state), f"{self.group_id}: {self.state} -> {state}"
        self.state = state
        self.state_ms = now_ms

    def _park_join(self, member: Member, ctx: RequestContext, out: list[Step]) -> None:
        superseded = self.members.park_join(member, ctx)
        if superseded is not None:
            out.append(answers.join_failed(superseded, member.member_id, ErrorCode.REBALANCE_IN_PROGRESS))

    def _answer_parked(self, member: Member, error: ErrorCode, out: list[Step], *, join_member_id: str) -> None:
        joining = self.members.take_join(member)
        if joining is not None:
            out.append(answers.join_failed(joining, join_member_id, error))
        if member.syncing is not None:
            syncing, member.syncing = member.syncing, None
            out.append(answers.sync_failed(syncing, error))

    def _rename(self, member: Member, new_id: str, out: list[Step]) -> None:
        """Give a static member another id; its timer goes by the id."""
        was_unsynced = member.member_id in self._unsynced
        self._unsynced.discard(member.member_id)
        self._sessions.disarm(member, out)
        self.members.rename(member, new_id)
        if was_unsynced:
            self._unsynced.add(new_id)

    def _joined(
        self, ctx: RequestContext, member: Member, *, leader: str | None = None, skip_assignment: bool = False
    ) -> Reply:
        """The answer to a JoinGroup. `leader`: who is said to lead; None: who does."""
        named = self.members.leader if leader is None else leader
        return answers.joined(
            ctx,
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader=named,
            member_id=member.member_id,
            members=list(self.members) if named == member.member_id else [],
            skip_assignment=skip_assignment,
        )

    def _synced(self, ctx: RequestContext, member: Member) -> Reply:
        return answers.synced(
            ctx, protocol_type=self.protocol_type, protocol=self.protocol, assignment=member.assignment
        )

    def _note_synced(self, member_id: str, out: list[Step]) -> None:
        if member_id in self._unsynced:
            self._unsynced.discard(member_id)
            if not self._unsynced:
                out.append(CancelTimer(self._sync_key()))

    def _clear_unsynced(self, out: list[Step]) -> None:
        if self._unsynced:
            self._unsynced.clear()
            out.append(CancelTimer(self._sync_key()))

    def _subscriptions(self) -> frozenset[str] | None:
        if self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            return None
        protocol = self.protocol
        if protocol is None:
            return None if len(self.members) else frozenset()
        return subscribed_topics(each.protocols[protocol] for each in self.members)

    def _rebalance_key(self) -> Hashable:
        return ("rebalance", self.group_id)

    def _sync_key(self) -> Hashable:
        return ("sync", self.group_id)

    def _note_rebalanced(self, now_ms: int, out: list[Step]) -> None:
        done = self.journal.end(journal.STABLE, now_ms)
        if done is not None:
            told = (("generation", done.generation), ("members", done.members), ("took_ms", done.took_ms))
            out.append(self._note("Rebalanced", *told))

    def _note(self, message: str, *fields: tuple[str, object]) -> Note:
        return Note(f"Group {self.group_id}", message, fields)


def _cause(kind: str, text: str, member: Member, reason: str = "") -> Cause:
    if reason == _NO_REASON:
        reason = ""
    return Cause(kind, text, member.member_id, member.client_id, member.client_host, reason)


def _attempt(ctx: RequestContext, request: m.JoinGroupRequest) -> Attempt:
    protocols: dict[str, bytes] = {}
    for each in request.protocols:
        protocols.setdefault(each.name, each.metadata)
    return Attempt(
        ctx,
        request.member_id,
        request.group_instance_id,
        request.protocol_type,
        protocols,
        request.session_timeout_ms if ctx.api_version == 0 else request.rebalance_timeout_ms,
        request.session_timeout_ms,
        request.reason or _NO_REASON,
    )


def _attempt_before(member: Member, ctx: RequestContext) -> Attempt:
    """What a member would have to send to become what it is."""
    return Attempt(
        ctx,
        member.member_id,
        member.instance_id,
        "",
        member.protocols,
        member.rebalance_timeout_ms,
        member.session_timeout_ms,
        "",
    )

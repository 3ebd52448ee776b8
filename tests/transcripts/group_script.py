"""Speaks the commands of the group transcripts to a driven coordinator, and tells its effects in words.

    join WHO [group= instance= version= session= rebalance= protocols=A,B type=]   with the id WHO has, if any
    forget WHO                     WHO restarts and no longer knows its id
    sync WHO [WHO=ASSIGNMENT ...]  with the generation WHO was told
    heartbeat WHO | leave WHO ... | describe [GROUP] | delete GROUP
    commit WHO|- TOPIC-N=OFFSET ...   `-`: somebody who is no member
    txn PRODUCER WHO|- TOPIC-N=OFFSET ...   the same within a transaction; end PRODUCER commit|abort
    fetch [stable]
    advance MS
    replication off|on             whether appends commit at once; `on` commits what is there
    disk CODE|ok                   what appends fail with
    delete-topic TOPIC
    failover [cut] | unload | load

Times are told as `+ms` from when they are set.
"""

from __future__ import annotations

from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_records import GroupDeleted, GroupStored, OffsetCommitted, decode
from cluster.coordinator.runtime import TimerKey
from cluster.effects import Append, CancelTimer, Effect, Note, Reply, SetTimer
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import Driver, subscription


class GroupScript:
    def __init__(self) -> None:
        self.driver = Driver(GroupConfig(offsets_topic_partitions=1))
        self.forget_effects()
        self.members: dict[str, str] = {}
        self.generations: dict[str, int] = {}
        self.instances: dict[str, str | None] = {}
        self.requests = 0

    def say(self, command: str) -> list[str]:
        verb, *words = command.split()
        answer = getattr(self, "do_" + verb.replace("-", "_"))(*words)
        lines = [self.tell(*each) for each in zip(self.driver.seen, self.driver.seen_ms, strict=True)]
        self.forget_effects()
        if answer is not None:
            lines += answer
        return [line for line in lines if line] or ["nothing"]

    # Commands -----------------------------------------------------------------------------------------------------

    def do_join(self, who: str, *words: str) -> None:
        asked = dict(word.split("=", 1) for word in words)
        names = asked.get("protocols", "range").split(",")
        self.instances[who] = asked.get("instance")
        self.driver.join(
            self.name(who),
            group=asked.get("group", "g"),
            member=self.members.get(who, ""),
            instance=asked.get("instance"),
            version=int(asked.get("version", 9)),
            session_ms=int(asked.get("session", 10_000)),
            rebalance_ms=int(asked.get("rebalance", 60_000)),
            protocol_type=asked.get("type", "consumer"),
            protocols=[(name, subscription("t")) for name in names],
        )

    def do_forget(self, who: str) -> None:
        del self.members[who]

    def do_sync(self, who: str, *words: str) -> None:
        assign = {self.members[name]: what.encode() for name, what in (word.split("=", 1) for word in words)}
        self.driver.sync(
            self.name(who),
            member=self.members[who],
            instance=self.instances[who],
            generation=self.generations[who],
            assign=assign,
        )

    def do_heartbeat(self, who: str) -> None:
        request = m.HeartbeatRequest(
            group_id="g",
            generation_id=self.generations[who],
            member_id=self.members[who],
            group_instance_id=self.instances[who],
        )
        self.driver.send(self.name(who), request, 4)

    def do_leave(self, *names: str) -> None:
        members = [
            m.LeaveGroupRequest.MemberIdentity(member_id=self.members[who], group_instance_id=self.instances[who])
            for who in names
        ]
        self.driver.send(self.name(names[0]), m.LeaveGroupRequest(group_id="g", members=members), 5)

    def do_commit(self, who: str, *words: str) -> None:
        self.driver.send_commit(
            self.name(who),
            offsets_of(words),
            member=self.members.get(who, ""),
            generation=self.generations.get(who, -1),
            instance=self.instances.get(who),
        )

    def do_txn(self, producer: str, who: str, *words: str) -> None:
        self.driver.send_txn_commit(
            self.name(who),
            offsets_of(words),
            producer=int(producer),
            member=self.members.get(who, ""),
            generation=self.generations.get(who, -1),
            instance=self.instances.get(who),
        )

    def do_end(self, producer: str, how: str) -> None:
        self.driver.end_transaction(int(producer), commit=how == "commit")

    def do_fetch(self, *words: str) -> list[str]:
        found = self.driver.fetch(stable="stable" in words)
        self.forget_effects()
        told = [
            f"{topic}-{number}={offset if offset >= 0 else ErrorCode(-offset).name}"
            for (topic, number), offset in sorted(found.items())
        ]
        return ["offsets " + (" ".join(told) or "none")]

    def do_describe(self, group: str = "g") -> list[str]:
        described = self.driver.describe(group)
        self.forget_effects()
        members = " ".join(f"{each.member_id}={each.member_assignment.decode() or '-'}" for each in described.members)
        return [f"{described.group_state} {described.protocol_data} {members}".rstrip()]

    def do_delete(self, group: str) -> None:
        self.driver.send(self.name("admin"), m.DeleteGroupsRequest(groups_names=[group]), 2)

    def do_delete_topic(self, topic: str) -> None:
        self.driver.carry_out(self.driver.runtime.on_topics_deleted([topic], self.driver.now_ms))

    def do_advance(self, ms: str) -> None:
        self.driver.advance(int(ms))

    def do_replication(self, how: str) -> None:
        self.driver.commits = how == "on"
        if self.driver.commits:
            self.driver.commit()

    def do_disk(self, what: str) -> None:
        self.driver.write_error = None if what == "ok" else ErrorCode[what]

    def do_failover(self, *words: str) -> None:
        self.driver.restart(cut="cut" in words)

    def do_unload(self) -> None:
        self.driver.unload()

    def do_load(self) -> None:
        self.driver.load()

    # Effects ------------------------------------------------------------------------------------------------------

    def forget_effects(self) -> None:
        self.driver.seen.clear()
        self.driver.seen_ms.clear()

    def name(self, who: str) -> tuple[str, int]:
        self.requests += 1
        return who, self.requests

    def tell(self, effect: Effect, at_ms: int) -> str:
        if isinstance(effect, Reply):
            return self.tell_reply(effect)
        if isinstance(effect, SetTimer):
            key = self.tell_key(effect.key)
            # The check for what has expired comes again and again, whatever happens.
            return "" if key == "expiry" else f"timer {key} +{effect.deadline_ms - at_ms}"
        if isinstance(effect, CancelTimer):
            return f"cancel {self.tell_key(effect.key)}"
        if isinstance(effect, Append):
            owner = "" if effect.producer is None else f"transaction of {effect.producer.producer_id}: "
            return "\n".join(f"append {effect.shard}: {owner}{tell_record(*record)}" for record in effect.records)
        assert isinstance(effect, Note)
        fields = "".join(f" {name}={value}" for name, value in effect.fields)
        return f"log {effect.subject}: {effect.message}{fields}"

    def tell_key(self, key: object) -> str:
        assert isinstance(key, TimerKey)
        return "writes" if key.inner is None else " ".join(map(str, key.inner))  # type: ignore[call-overload]

    def tell_reply(self, reply: Reply) -> str:
        assert isinstance(reply.reply_to, tuple)
        who = reply.reply_to[0]
        answer = self.driver.answers[reply.reply_to]
        if isinstance(answer, m.JoinGroupResponse):
            error = ErrorCode(answer.error_code)
            if error in (ErrorCode.NONE, ErrorCode.MEMBER_ID_REQUIRED):
                self.members[who] = answer.member_id
            if error:
                return f"{who}: JoinGroup {error.name} member={answer.member_id or '-'}"
            self.generations[who] = answer.generation_id
            members = ",".join(each.member_id for each in answer.members) or "-"
            skip = " skip-assignment" if answer.skip_assignment else ""
            return (
                f"{who}: JoinGroup generation={answer.generation_id} protocol={answer.protocol_name} "
                f"member={answer.member_id} leader={answer.leader} members={members}{skip}"
            )
        name = type(answer).__name__.removesuffix("Response")
        if isinstance(answer, m.SyncGroupResponse) and not answer.error_code:
            return f"{who}: SyncGroup assignment={answer.assignment.decode() or '-'}"
        if isinstance(answer, m.OffsetCommitResponse | m.TxnOffsetCommitResponse):
            codes = [ErrorCode(each.error_code).name for topic in answer.topics for each in topic.partitions]
            return f"{who}: {name} {' '.join(codes)}"
        if isinstance(answer, m.DeleteGroupsResponse):
            return f"{who}: DeleteGroups {' '.join(ErrorCode(each.error_code).name for each in answer.results)}"
        if isinstance(answer, m.LeaveGroupResponse) and not answer.error_code:
            return f"{who}: LeaveGroup {' '.join(ErrorCode(each.error_code).name for each in answer.members)}"
        code: int = getattr(answer, "error_code")  # noqa: B009
        return f"{who}: {name} {ErrorCode(code).name}"


def offsets_of(words: tuple[str, ...]) -> dict[tuple[str, int], int]:
    """TOPIC-N=OFFSET ..."""
    offsets = {}
    for word in words:
        partition, offset = word.split("=")
        topic, _, number = partition.rpartition("-")
        offsets[topic, int(number)] = int(offset)
    return offsets


def tell_record(key: bytes, value: bytes | None) -> str:
    fact = decode(key, value)
    if isinstance(fact, OffsetCommitted):
        return f"offset {fact.group_id} {fact.topic}-{fact.partition}={fact.offset}"
    if isinstance(fact, GroupStored):
        members = " ".join(f"{each.member_id}={each.assignment.decode() or '-'}" for each in fact.members)
        return f"group {fact.group_id} generation={fact.generation} protocol={fact.protocol} {members}".rstrip()
    if isinstance(fact, GroupDeleted):
        return f"no group {fact.group_id}"
    assert fact is not None
    return f"no offset {fact.group_id} {fact.topic}-{fact.partition}"  # type: ignore[attr-defined]

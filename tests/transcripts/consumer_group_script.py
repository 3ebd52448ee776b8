"""Speaks the commands of the transcripts of consumer-protocol groups: members as consumers are, and what they are told.

    join WHO [topics=t,u regex= instance= assignor=]   at epoch 0, with nothing
    beat WHO [topics= owned=t:0,1/u:0 regex= epoch=]   at the epoch WHO was told; owned: what it says it has
    leave WHO [for-a-while]
    classic WHO [owned=t:0,1 instance=]    JoinGroup of the classic protocol, and SyncGroup behind it
    rejoin WHO [owned= instance=]          the same without the SyncGroup
    alive WHO                    its Heartbeat
    describe | topic NAME COUNT | found | advance MS | failover
    replication off|on | disk CODE|ok

`found`: patterns are resolved. Facts are what is appended, in the words of consumer_records.py and group_records.py.
"""

from __future__ import annotations

from cluster.coordinator.consumer_protocol import read_assignment
from cluster.coordinator.consumer_records import CurrentStored, GroupEpoch, MemberStored, TargetStored
from cluster.coordinator.consumer_regex import Resolved, matching
from cluster.coordinator.context import ConsumerConfig, GroupConfig
from cluster.coordinator.group_records import OVERTAKEN, GroupStored, decode
from cluster.effects import Append, Effect, Note, Reply
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.group_driver import OFFSETS, Driver, subscription


class ConsumerGroupScript:
    def __init__(self) -> None:
        consumer = ConsumerConfig(assignment_interval_ms=0, assignors=("range", "uniform"))
        config = GroupConfig(offsets_topic_partitions=1, initial_rebalance_delay_ms=0, consumer=consumer)
        self.driver = Driver(config)
        self.driver.seen.clear()
        self.epochs: dict[str, int] = {}
        self.instances: dict[str, str | None] = {}
        self.ids: dict[str, str] = {}
        self.requests = 0

    def say(self, command: str) -> list[str]:
        verb, *words = command.split()
        getattr(self, "do_" + verb)(*words)
        lines = [line for effect in self.driver.seen for line in self.tell(effect)]
        self.driver.seen.clear()
        return lines or ["nothing"]

    # Commands -----------------------------------------------------------------------------------------------------

    def do_join(self, who: str, *words: str) -> None:
        asked = dict(word.split("=", 1) for word in words)
        self.instances[who] = asked.get("instance")
        topics = None if "regex" in asked else asked.get("topics", "t").split(",")
        self.send(who, 0, topics, asked)

    def do_beat(self, who: str, *words: str) -> None:
        asked = dict(word.split("=", 1) for word in words)
        epoch = int(asked.get("epoch", self.epochs[who]))
        self.send(who, epoch, asked["topics"].split(",") if "topics" in asked else None, asked)

    def do_leave(self, who: str, how: str = "") -> None:
        self.send(who, -2 if how == "for-a-while" else -1, None, {})

    def do_rejoin(self, who: str, *words: str) -> None:
        asked = dict(word.split("=", 1) for word in words)
        self.join_classic(who, asked)

    def do_classic(self, who: str, *words: str) -> None:
        asked = dict(word.split("=", 1) for word in words)
        answer = self.join_classic(who, asked)
        if isinstance(answer, m.JoinGroupResponse) and not answer.error_code:
            mine = {
                answer.member_id: b"\0\1\0\0\0\1\0\1t\0\0\0\4"
                + bytes.fromhex("00000000000000010000000200000003ffffffff")
            }
            assign = mine if answer.members else {}
            self.driver.sync(self.name(who), member=answer.member_id, generation=answer.generation_id, assign=assign)

    def join_classic(self, who: str, asked: dict[str, str]) -> object:
        held = m.ConsumerProtocolSubscription.TopicPartition
        owned = [held(topic=topic, partitions=of) for topic, of in partitions(asked.get("owned", "")).items()]
        name = self.name(who)
        metadata = subscription("t") if not owned else subscription_with(owned)
        self.driver.join(
            name,
            member=self.ids.get(who, ""),
            session_ms=45_000,
            protocols=[("range", metadata)],
            instance=asked.get("instance"),
            version=5 if "instance" in asked else 3,
        )
        answer = self.driver.answers.get(name)
        if isinstance(answer, m.JoinGroupResponse) and not answer.error_code:
            self.ids[who], self.epochs[who] = answer.member_id, answer.generation_id
        return answer

    def do_alive(self, who: str) -> None:
        request = m.HeartbeatRequest(group_id="g", member_id=self.ids[who], generation_id=self.epochs[who])
        self.driver.send(self.name(who), request, 3)

    def do_describe(self) -> None:
        self.driver.send(self.name("describe"), m.ConsumerGroupDescribeRequest(group_ids=["g"]), 1)

    def do_topic(self, name: str, count: str) -> None:
        self.driver.topics.put(name, int(count))

    def do_found(self) -> None:
        for ask in self.driver.take_questions():
            names = [name for name in self.driver.topics.counts if name != OFFSETS]
            found = matching(ask.question.regexes, names)  # type: ignore[attr-defined]
            self.driver.tell(ask, Resolved(found, self.driver.topics.version(), self.driver.now_ms))

    def do_advance(self, ms: str) -> None:
        self.driver.advance(int(ms))

    def do_failover(self) -> None:
        self.driver.restart(cut=True)

    def do_replication(self, how: str) -> None:
        self.driver.commits = how == "on"
        if self.driver.commits:
            self.driver.commit()

    def do_disk(self, how: str) -> None:
        self.driver.write_error = None if how == "ok" else ErrorCode[how]

    def name(self, who: str) -> tuple[str, int]:
        self.requests += 1
        return who, self.requests

    def send(self, who: str, epoch: int, topics: list[str] | None, asked: dict[str, str]) -> None:
        entry = m.ConsumerGroupHeartbeatRequest.TopicPartitions
        has = None
        if epoch == 0 or "owned" in asked:
            owned = partitions(asked.get("owned", ""))
            has = [entry(topic_id=self.id(topic), partitions=of) for topic, of in owned.items()]
        request = m.ConsumerGroupHeartbeatRequest(
            group_id="g",
            member_id=who,
            member_epoch=epoch,
            instance_id=self.instances[who],
            rebalance_timeout_ms=60_000 if epoch == 0 else -1,
            subscribed_topic_names=topics,
            subscribed_topic_regex=asked.get("regex"),
            server_assignor=asked.get("assignor"),
            topic_partitions=has,
        )
        self.driver.send(self.name(who), request, 1)

    def id(self, topic: str) -> bytes:
        found = self.driver.topics.topic_id(topic)
        assert found is not None
        return found

    # Words --------------------------------------------------------------------------------------------------------

    def tell(self, effect: Effect) -> list[str]:
        if isinstance(effect, Append):
            return [f"write {self.fact(decode(*record))}" for record in effect.records]
        if isinstance(effect, Note):
            return ["log " + " ".join([effect.message, *(f"{name}={value}" for name, value in effect.fields)])]
        if isinstance(effect, Reply):
            assert isinstance(effect.reply_to, tuple)
            return self.told(effect.reply_to[0], effect.message)
        return []

    def told(self, who: str, message: object) -> list[str]:
        if isinstance(message, m.ConsumerGroupDescribeResponse):
            (group,) = message.groups
            lines = [f"{group.group_state} epoch={group.group_epoch} assignment={group.assignment_epoch}"]
            for each in group.members:
                has = self.places({tp.topic_id: tp.partitions for tp in each.assignment.topic_partitions})
                target = self.places({tp.topic_id: tp.partitions for tp in each.target_assignment.topic_partitions})
                lines.append(f"  {each.member_id} epoch={each.member_epoch} has={has} target={target}")
            return lines
        name = type(message).__name__.removesuffix("Response")
        code = getattr(message, "error_code", 0)
        if code:
            return [f"{who}: {name} {ErrorCode(code).name}"]
        if isinstance(message, m.ConsumerGroupHeartbeatResponse):
            self.epochs[who] = message.member_epoch
            has = ""
            if message.assignment is not None:
                has = " has=" + self.places({tp.topic_id: tp.partitions for tp in message.assignment.topic_partitions})
            return [f"{who}: epoch={message.member_epoch}{has}"]
        return [f"{who}: {name} ok"]

    def places(self, owned: dict[bytes, object]) -> str:
        named = [
            f"{self.driver.topics.topic_name(topic_id)}:{','.join(str(each) for each in sorted(of))}"  # type: ignore[call-overload]
            for topic_id, of in owned.items()
        ]
        return "/".join(sorted(named)) or "-"

    def assigned(self, data: bytes) -> str:
        found = read_assignment(data).assigned_partitions if data else []
        return "/".join(f"{each.topic}:{','.join(map(str, each.partitions))}" for each in found) or "-"

    def fact(self, fact: object) -> str:
        name = type(fact).__name__
        if isinstance(fact, GroupEpoch):
            return f"{name} {fact.epoch}"
        if isinstance(fact, MemberStored):
            reads = fact.member.topic_regex or ",".join(sorted(fact.member.topics))
            return f"{name} {fact.member.member_id} reads={reads}{' classic' if fact.member.classic else ''}"
        if isinstance(fact, TargetStored):
            return f"{name} {fact.member_id} {self.places(dict(fact.partitions))}"
        if isinstance(fact, CurrentStored):
            gives = f" gives-up={self.places(dict(fact.revoking))}" if fact.revoking else ""
            has = self.places(dict(fact.assigned))
            return f"{name} {fact.member_id} epoch={fact.epoch} {fact.state.name} has={has}{gives}"
        if isinstance(fact, GroupStored):
            overtaken = " overtaken" if fact.state_ms == OVERTAKEN else ""
            has = " ".join(f"{each.member_id}={self.assigned(each.assignment)}" for each in fact.members)
            return f"{name} classic generation={fact.generation}{overtaken} {has}".rstrip()
        return f"{name} {getattr(fact, 'member_id', getattr(fact, 'epoch', getattr(fact, 'regex', '')))}".rstrip()


def partitions(text: str) -> dict[str, list[int]]:
    """t:0,1/u:0"""
    found = (part.split(":") for part in text.split("/") if part)
    return {topic: [int(each) for each in of.split(",") if each] for topic, of in found}


def subscription_with(owned: list[m.ConsumerProtocolSubscription.TopicPartition]) -> bytes:
    said = m.ConsumerProtocolSubscription(topics=["t"], owned_partitions=owned)
    return b"\0\1" + said.encode(1)

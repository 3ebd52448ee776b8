"""The lives of some groups, as requests: said to Apache Kafka by `make.py`, and to our coordinator by a test.

What stays true: a script reads nothing of an answer but ids that the coordinator made. Topics: a (4 partitions), b (3),
c (2), found by name in what `Asker.id` gives. Groups with several topics use `range`, whose targets do not depend on
the topics' ids.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol, TypeAlias

from cluster.protocol import messages as m
from cluster.protocol.message import Message
from cluster.protocol.records import encode_versioned

TOPICS = {"a": 4, "b": 3, "c": 2}


class Asker(Protocol):
    def id(self, topic: str) -> bytes: ...


class Ask(NamedTuple):
    """`settles`: what is still being found out, or not yet committed, is waited for before it or after it."""

    label: str
    request: Message
    version: int = 1
    settles: bool = False


Script: TypeAlias = Generator[Ask, Any, None]
H = m.ConsumerGroupHeartbeatRequest


def beat(
    asker: Asker,
    label: str,
    member: str,
    epoch: int,
    *,
    topics: list[str] | None = None,
    regex: str | None = None,
    owned: dict[str, list[int]] | None = None,
    instance: str | None = None,
    rack: str | None = None,
    timeout_ms: int = -1,
    assignor: str | None = None,
    group: str = "g",
    version: int = 1,
) -> Ask:
    partitions = None
    if owned is not None:
        partitions = [H.TopicPartitions(topic_id=asker.id(each), partitions=of) for each, of in owned.items()]
    request = H(
        group_id=group,
        member_id=member,
        member_epoch=epoch,
        instance_id=instance,
        rack_id=rack,
        rebalance_timeout_ms=timeout_ms,
        subscribed_topic_names=topics,
        subscribed_topic_regex=regex,
        server_assignor=assignor,
        topic_partitions=partitions,
    )
    return Ask(label, request, version)


def join(asker: Asker, label: str, member: str, topics: list[str] | None, **more: Any) -> Ask:
    return beat(asker, label, member, 0, topics=topics, owned={}, timeout_ms=60_000, **more)


def describe(label: str, *groups: str) -> Ask:
    return Ask(label, m.ConsumerGroupDescribeRequest(group_ids=list(groups)), 1, settles=True)


def commit(
    asker: Asker,
    label: str,
    member: str,
    epoch: int,
    *partitions: int,
    version: int = 9,
    instance: str | None = None,
) -> Ask:
    entry = m.OffsetCommitRequest.OffsetCommitRequestPartition
    topic = m.OffsetCommitRequest.OffsetCommitRequestTopic(
        name="" if version >= 10 else "a",
        topic_id=asker.id("a") if version >= 10 else bytes(16),
        partitions=[entry(partition_index=each, committed_offset=5) for each in partitions],
    )
    request = m.OffsetCommitRequest(
        group_id="g",
        generation_id_or_member_epoch=epoch,
        member_id=member,
        group_instance_id=instance,
        topics=[topic],
    )
    return Ask(label, request, version)


def fetch(label: str, member: str | None, epoch: int) -> Ask:
    topic = m.OffsetFetchRequest.OffsetFetchRequestTopics(name="a", partition_indexes=[0])
    group = m.OffsetFetchRequest.OffsetFetchRequestGroup(
        group_id="g", member_id=member, member_epoch=epoch, topics=[topic]
    )
    return Ask(label, m.OffsetFetchRequest(groups=[group]), 9)


def refusals(asker: Asker) -> Script:
    yield beat(asker, "a group that is not there", "m1", 3)
    yield beat(asker, "nobody leaves", "m1", -1)
    yield beat(asker, "no rebalance timeout", "m1", 0, topics=["a"], owned={})
    yield beat(asker, "joins with partitions", "m1", 0, topics=["a"], owned={"a": [0]}, timeout_ms=1000)
    yield beat(asker, "joins without topics", "m1", 0, owned={}, timeout_ms=1000)
    yield join(asker, "no member id", "", ["a"])
    yield join(asker, "an assignor that is not there", "m1", ["a"], assignor="sticky")
    yield beat(asker, "an epoch that means nothing", "m1", -3)
    yield beat(asker, "leaves for a while without a name", "m1", -2)
    yield join(asker, "an empty instance id", "m1", ["a"], instance="")
    yield join(asker, "an empty rack", "m1", ["a"], rack="")
    yield join(asker, "a pattern that is none", "m1", None, regex="(a")


def two_members(asker: Asker) -> Script:
    yield join(asker, "the first", "m1", ["a"])
    yield beat(asker, "nothing new", "m1", 2)
    yield beat(asker, "an epoch to come", "m1", 5)
    yield beat(asker, "says what it has", "m1", 2, owned={"a": [0, 1, 2, 3]})
    yield beat(asker, "says all", "m1", 2, topics=["a"], owned={"a": [0, 1, 2, 3]}, timeout_ms=60_000)
    yield join(asker, "the second", "m2", ["a"])
    yield beat(asker, "waits", "m2", 3)
    yield beat(asker, "is told to give up two", "m1", 2)
    yield beat(asker, "still has all", "m1", 2, owned={"a": [0, 1, 2, 3]})
    yield describe("on the way", "g", "nobody")
    yield beat(asker, "has given them up", "m1", 2, owned={"a": [0, 1]})
    yield beat(asker, "the answer was lost", "m1", 2, owned={"a": [0]})
    yield beat(asker, "an old epoch, and says nothing", "m1", 2)
    yield beat(asker, "gets them", "m2", 3)
    yield beat(asker, "nothing new for the first", "m1", 3)
    yield describe("settled", "g")
    yield Ask("as a classic group", m.DescribeGroupsRequest(groups=["g"]), 6)
    yield Ask("as a classic group of old", m.DescribeGroupsRequest(groups=["g"]), 5)
    yield Ask("deleted while somebody is there", m.DeleteGroupsRequest(groups_names=["g"]), 2)
    yield commit(asker, "a commit", "m1", 3, 0)
    yield commit(asker, "an epoch behind, but its own since then", "m1", 2, 0)
    yield commit(asker, "an epoch behind, of a partition that is another's", "m1", 2, 2)
    yield commit(asker, "an epoch ahead", "m1", 7, 0)
    yield commit(asker, "of nobody", "mx", 2, 0)
    yield commit(asker, "in a version without epochs", "m1", 3, 0, version=8)
    yield commit(asker, "of no member", "", -1, 0)
    yield commit(asker, "by topic id", "m2", 3, 2, version=10)
    yield fetch("who is not asked", None, -1)
    yield fetch("a member", "m1", 3)
    yield fetch("an epoch behind", "m1", 2)
    yield fetch("nobody", "mx", 3)
    yield beat(asker, "asks for range", "m1", 3, assignor="range")
    yield beat(asker, "reads c too", "m1", 3, topics=["a", "c"], owned={"a": [0, 1]}, timeout_ms=60_000)
    yield beat(asker, "the second follows", "m2", 3, owned={"a": [2, 3]})
    yield beat(asker, "the second leaves", "m2", -1)
    yield beat(asker, "the first has the rest", "m1", 4)
    yield beat(asker, "reads c alone", "m1", 5, topics=["c"])
    yield beat(asker, "and gave a up", "m1", 5, owned={"c": [0, 1]})
    yield beat(asker, "joins again", "m1", 0, topics=["c"], owned={}, timeout_ms=60_000)
    yield beat(asker, "the first leaves", "m1", -1)
    yield describe("empty", "g")
    yield commit(asker, "an administrator resets", "", -1, 1)
    yield Ask("deleted", m.DeleteGroupsRequest(groups_names=["g"]), 2)
    yield describe("gone", "g")


def static(asker: Asker) -> Script:
    yield join(asker, "a static member", "m1", ["a"], instance="i1")
    yield join(asker, "its name is taken", "m2", ["a"], instance="i1")
    yield beat(asker, "under a name that nobody has", "m1", 2, instance="i9")
    yield beat(asker, "under another's name", "m3", 2, instance="i1")
    yield join(asker, "a dynamic one", "d1", ["a"])
    yield beat(asker, "leaves for a while", "m1", -2, instance="i1")
    yield describe("gone for a while", "g")
    yield beat(asker, "the other waits", "d1", 3)
    yield join(asker, "it is back", "m2", ["a"], instance="i1")
    yield beat(asker, "who it was is fenced", "m1", 2, instance="i1")
    yield beat(asker, "gives up two", "m2", 2, instance="i1", owned={"a": [0, 1]})
    yield beat(asker, "the other gets them", "d1", 3)
    yield beat(asker, "leaves for a while again", "m2", -2, instance="i1")
    yield join(asker, "comes back with other topics", "m3", ["a", "b"], instance="i1", assignor="range")
    yield beat(asker, "leaves for good", "m3", -1, instance="i1")
    yield beat(asker, "the other", "d1", 3)


def patterns(asker: Asker) -> Script:
    yield join(asker, "by pattern", "m1", None, regex="a|b", assignor="range")._replace(settles=True)
    yield beat(asker, "gets what matches", "m1", 1)
    yield beat(asker, "nothing new", "m1", 2)
    yield join(asker, "another, by the same pattern", "m2", None, regex="a|b", assignor="range")
    yield beat(asker, "gives up some", "m1", 2, owned={"a": [0, 1], "b": [0, 1]})
    yield describe("both", "g")
    yield beat(asker, "by name from now on", "m2", 3, topics=["c"], regex="")
    yield beat(asker, "leaves, and the pattern with it", "m1", -1)
    yield beat(asker, "the last one", "m2", 3)


def subscription(*topics: str, version: int = 1, owned: dict[str, list[int]] | None = None) -> bytes:
    partition = m.ConsumerProtocolSubscription.TopicPartition
    has = [partition(topic=topic, partitions=partitions) for topic, partitions in (owned or {}).items()]
    return encode_versioned(m.ConsumerProtocolSubscription(topics=list(topics), owned_partitions=has), version)


def assignment(**partitions: list[int]) -> bytes:
    entry = m.ConsumerProtocolAssignment.TopicPartition
    assigned = [entry(topic=topic, partitions=of) for topic, of in partitions.items()]
    return encode_versioned(m.ConsumerProtocolAssignment(assigned_partitions=assigned), 1)


def classic_join(label: str, member: str, metadata: bytes, *, version: int = 5, instance: str | None = None) -> Ask:
    request = m.JoinGroupRequest(
        group_id="g",
        session_timeout_ms=45_000,
        rebalance_timeout_ms=60_000,
        member_id=member,
        group_instance_id=instance,
        protocol_type="consumer",
        protocols=[m.JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=metadata)],
    )
    return Ask(label, request, version)


def classic_sync(label: str, member: str, generation: int, assigned: bytes | None = None) -> Ask:
    entry = m.SyncGroupRequest.SyncGroupRequestAssignment
    request = m.SyncGroupRequest(
        group_id="g",
        generation_id=generation,
        member_id=member,
        assignments=[] if assigned is None else [entry(member_id=member, assignment=assigned)],
    )
    return Ask(label, request, 3)


def classic_beat(label: str, member: str, generation: int) -> Ask:
    return Ask(label, m.HeartbeatRequest(group_id="g", generation_id=generation, member_id=member), 3)


def conversion(asker: Asker) -> Script:
    """A classic member, then one of the consumer protocol, who leaves again."""
    first = (yield classic_join("is given an id", "", subscription("a"))).member_id
    yield classic_join("a classic group", first, subscription("a"))
    yield classic_sync("has all", first, 1, assignment(a=[0, 1, 2, 3]))
    yield classic_beat("is well", first, 1)
    yield join(asker, "upgraded", "m1", ["a"])
    yield describe("both kinds", "g")
    yield classic_beat("is to join again", first, 1)
    yield beat(asker, "waits", "m1", 2)
    yield classic_join("joins again", first, subscription("a", owned={"a": [0, 1, 2, 3]}))
    yield classic_sync("collects what is left", first, 1)
    yield classic_beat("is to join once more", first, 1)
    yield classic_join("has given them up", first, subscription("a", owned={"a": [0, 1]}))
    yield classic_sync("collects again", first, 2)
    yield classic_beat("is well again", first, 2)
    yield beat(asker, "gets its part", "m1", 2)
    yield classic_sync("a generation of old", first, 1)
    yield classic_beat("nobody", "mx", 2)
    yield classic_join("by other means", "", b"\0\1", version=0)
    yield beat(asker, "leaves, and the group is classic", "m1", -1)
    yield classic_beat("is to join the classic group", first, 2)


def empty_again(asker: Asker) -> Script:
    """An empty group takes either protocol."""
    yield join(asker, "the consumer protocol", "m1", ["a"])
    yield commit(asker, "a commit", "m1", 2, 0)
    yield beat(asker, "leaves", "m1", -1)
    first = (yield classic_join("is given an id", "", subscription("a"))).member_id
    yield classic_join("a classic group", first, subscription("a"))
    yield classic_sync("has all", first, 1, assignment(a=[0, 1, 2, 3]))
    leaver = m.LeaveGroupRequest.MemberIdentity(member_id=first)
    yield Ask("leaves too", m.LeaveGroupRequest(group_id="g", members=[leaver]), 3)
    yield join(asker, "the consumer protocol again", "m2", ["a"])
    yield fetch("the offset is there", None, -1)


SCRIPTS: dict[str, Callable[[Asker], Script]] = {
    script.__name__: script for script in (refusals, two_members, static, patterns, conversion, empty_again)
}

"""Sessions: short lives of topics, logs and groups with something odd at every step, and requests of any kind.

The requests of a life are mostly right, so that it gets somewhere; each may be replaced by one with a wrong epoch,
member, generation, offset or name.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from tests.differential.session import Session, Step, ask, batches, placeholder, receive
from tests.differential.values import T0, Generator, World

Ranges = Mapping[str, tuple[int, int]]


class Script:
    """Builds one session."""

    def __init__(self, seed: int, prefix: str, ranges: Ranges) -> None:
        self.random = Random(seed)
        self.ranges = ranges
        self.world = World(prefix, [f"{prefix}-a", f"{prefix}-b"])
        self.generator = Generator(self.random, self.world)
        self.steps: Session = []

    def build(self) -> Session:
        life = self.random.choice([self.anything, self.anything, self.group, self.log, self.topics, self.broken])
        life()
        return self.steps

    # ------------------------------------------------------------------------------------------------- pieces

    def version(self, api: str, low: int = 0, high: int = 99) -> int:
        lowest, highest = self.ranges[api]
        return self.random.randint(max(low, lowest), min(high, highest))

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def add(self, api: str, version: int, body: dict[str, Any], **more: Any) -> Step:
        if self.chance(0.05):
            more["client"] = self.random.choice([None, "", "cl\u00efent", "x" * 100])
        if self.chance(0.1):
            more["tags"] = self.random.choice(["015800", "025801aa5900", "01ffffffff0703010203"])
        if self.chance(0.05):
            more["header_tags"] = self.random.choice(["01070101", "02000001025a5a"])
        step = ask(api, version, body, **more)
        self.steps.append(step)
        return step

    def drawn(self, api: str) -> Step:
        version = self.version(api, 3 if api == "Produce" else 0)
        return self.add(api, version, self.generator.body(api, version))

    def make_topics(self, *settings: tuple[str, str]) -> None:
        topics = [
            {
                "name": name,
                "num_partitions": 2 if index == 0 else 1,
                "replication_factor": 1,
                "configs": [{"name": key, "value": value} for key, value in settings if index == 0],
            }
            for index, name in enumerate(self.world.topics)
        ]
        self.steps.append(ask("CreateTopics", self.version("CreateTopics"), {"topics": topics, "timeout_ms": 15_000}))

    def produce(self, records: Any, name: str = "", partition: int = 0, acks: int = -1, version: int = 0) -> None:
        version = version or self.version("Produce", 3, 12)
        data = {"index": partition, "records": records}
        topic = {"name": name or self.world.topics[0], "partition_data": [data]}
        self.add("Produce", version, {"acks": acks, "timeout_ms": 5000, "topic_data": [topic]})

    def records(self, count: int, at: int, **more: Any) -> dict[str, Any]:
        return batches({"records": [[f"k{i % 3}", f"v{i}"] for i in range(count)], "timestamp": at, **more})

    # ------------------------------------------------------------------------------------------------- lives

    def anything(self) -> None:
        self.make_topics()
        self.produce(self.records(5, T0))
        for _ in range(12):
            self.drawn(self.random.choice(sorted(self.ranges)))

    def broken(self) -> None:
        """Bodies cut, stretched and overwritten."""
        self.make_topics()
        for _ in range(12):
            step = self.drawn(self.random.choice(sorted(self.ranges)))
            kind = self.random.choice(["cut", "cut", "more", "ff", "7f"])
            step["damage"] = [kind, self.random.choice([1, 2, 3, 4, 8, 10, 15, 30])]

    def topics(self) -> None:
        self.make_topics(self.good_setting())
        name = self.world.topics[0]
        for _ in range(8):
            what = self.random.choice(
                ["CreateTopics", "CreateTopics", "CreatePartitions", "IncrementalAlterConfigs", "AlterConfigs"]
            )
            self.drawn(what)
            self.drawn(self.random.choice(["DescribeConfigs", "Metadata", "Metadata", "DescribeLogDirs"]))
        self.describe_configs(name)
        self.drawn("DeleteTopics")
        self.drawn("Metadata")
        body = {"topic_names": [name], "timeout_ms": 15_000}
        self.add("DeleteTopics", self.version("DeleteTopics", 0, 5), body)
        for api in ("Metadata", "Fetch", "ListOffsets", "OffsetCommit", "Produce", "DescribeProducers"):
            self.drawn(api)

    def good_setting(self) -> tuple[str, str]:
        return self.random.choice(
            [
                ("cleanup.policy", "compact"),
                ("cleanup.policy", "compact,delete"),
                ("max.message.bytes", "200"),
                ("message.timestamp.type", "LogAppendTime"),
                ("compression.type", "gzip"),
                ("retention.ms", "-1"),
                ("message.timestamp.before.max.ms", "3600000"),
                ("segment.bytes", "1048576"),
                ("min.insync.replicas", "2"),
            ]
        )

    def describe_configs(self, name: str) -> None:
        resource = {"resource_type": 2, "resource_name": name, "configuration_keys": None}
        body = {"resources": [resource], "include_synonyms": self.chance(0.5)}
        self.add("DescribeConfigs", self.version("DescribeConfigs"), body)

    def log(self) -> None:
        """Records of several kinds, then every question about offsets; cut off at the start; asked again."""
        self.make_topics(*([self.good_setting()] if self.chance(0.7) else []))
        self.add("InitProducerId", self.version("InitProducerId", 0, 2), self.idempotent(), save="p")
        sequence = 0
        for lap in range(self.random.randint(3, 7)):
            at = T0 + lap * 1000 - (5000 if self.chance(0.2) else 0)
            count = self.random.choice([1, 2, 5])
            if self.chance(0.4):
                shift = self.random.choice([0, 0, 0, 0, 1, -1, -count])
                epoch = self.random.choice([0] * 8 + [1])
                self.produce(self.records(count, at, producer=["p", epoch, sequence + shift]))
                sequence += count if not shift and not epoch else 0
            elif self.chance(0.7):
                self.produce(self.records(count, at), acks=self.random.choice([-1, 1, 0]))
            else:
                self.drawn("Produce")
        for _ in range(2):
            for api in ("ListOffsets", "ListOffsets", "Fetch", "Fetch", "OffsetForLeaderEpoch", "DescribeProducers"):
                self.drawn(api)
            self.offsets()
            self.fetch_session()
            self.delete_records()

    def idempotent(self) -> dict[str, Any]:
        return {"transactional_id": None, "transaction_timeout_ms": 60_000}

    def offsets(self) -> None:
        stamps = [-1, -2, -3, -4, -5, T0 - 1, T0, T0 + 1, T0 + 1000, T0 + 2500, T0 + 10**6]
        partitions = [{"partition_index": 0, "timestamp": stamp} for stamp in self.random.sample(stamps, 4)]
        topic = {"name": self.world.topics[0], "partitions": partitions[:1] if self.chance(0.5) else partitions}
        body = {"replica_id": -1, "topics": [topic]}
        self.add("ListOffsets", self.version("ListOffsets"), body)

    def fetch_session(self) -> None:
        version = self.version("Fetch", 7)

        def fetch(session: Any, epoch: int, partitions: list[int], forget: list[int], **more: Any) -> None:
            name = self.world.topics[0]
            key, value = ("topic_id", placeholder("topic_id", name)) if version >= 13 else ("topic", name)
            parts = [
                {"partition": p, "fetch_offset": self.random.choice([0, 1, 3]), "partition_max_bytes": 1 << 20}
                for p in partitions
            ]
            body = {
                "max_wait_ms": 0,
                "min_bytes": 0,
                "session_id": session,
                "session_epoch": epoch,
                "topics": [{key: value, "partitions": parts}] if parts else [],
                "forgotten_topics_data": [{key: value, "partitions": forget}] if forget else [],
            }
            self.add("Fetch", version, body, **more)

        fetch(0, 0, self.random.choice([[0], [0, 1], [0, 7], [7]]), [], save="f")
        label = placeholder("session", "f")
        fetch(label, 1, [], [])
        fetch(label, 2, self.random.choice([[], [0], [1]]), self.random.choice([[], [0], [1], [9]]))
        fetch(label, self.random.choice([3, 3, 2, 9, 0, -1, -3]), self.random.choice([[], [0]]), [])
        fetch(label, self.random.choice([4, 1, 0, -1]), [], [])

    def delete_records(self) -> None:
        partitions = [
            {
                "partition_index": self.random.choice([0, 0, 0, 1, 9]),
                "offset": self.random.choice([0, 1, 2, 3, 4, -1, 99, -2]),
            }
            for _ in range(self.random.choice([1, 1, 2]))
        ]
        topic = {"name": self.world.topics[0], "partitions": partitions}
        body = {"topics": [topic], "timeout_ms": 15_000}
        self.add("DeleteRecords", self.version("DeleteRecords"), body)

    # ------------------------------------------------------------------------------------------------- groups

    def group(self) -> None:
        """One member, then a second; commits and questions between; both leave, and the group is deleted."""
        self.make_topics()
        group = self.world.groups[0]
        instance = self.random.choice([None, None, "i1"])
        self.join(group, "m", 0, instance)
        self.odd_group_requests(2)
        self.sync(group, "m")
        self.odd_group_requests(4)
        self.commit(group, "m")
        self.questions(group)
        if self.chance(0.5):
            self.second_member(group)
        self.questions(group)
        self.leave(group, "m", instance)
        self.commit(group, "")
        self.questions(group)
        self.drawn("OffsetDelete")
        self.add(
            "DeleteGroups",
            self.version("DeleteGroups"),
            {"groups_names": [group, "nobody", group][: self.random.randint(1, 3)]},
        )
        self.questions(group)

    def join(self, group: str, label: str, conn: int, instance: str | None = None, **more: Any) -> int:
        version = self.version("JoinGroup", 5 if instance else 0)
        body = {
            "group_id": group,
            "session_timeout_ms": 10_000,
            "member_id": "",
            "protocol_type": "consumer",
            "protocols": [{"name": name, "metadata": placeholder("hex", "0000")} for name in ("range", "roundrobin")],
        }
        body |= {"rebalance_timeout_ms": 10_000} if version >= 1 else {}
        body |= {"group_instance_id": instance} if instance else {}
        known = version >= 4 and not instance
        self.add("JoinGroup", version, body, save=label, conn=conn, wait=more.get("wait", True) or known)
        if known:
            self.add(
                "JoinGroup", version, {**body, "member_id": placeholder("member", label)}, save=label, conn=conn, **more
            )
        return version

    def sync(self, group: str, label: str, **more: Any) -> None:
        version = self.version("SyncGroup")
        member = placeholder("member", label)
        body: dict[str, Any] = {
            "group_id": group,
            "generation_id": placeholder("generation", label),
            "member_id": member,
            "assignments": [{"member_id": member, "assignment": placeholder("hex", "0001")}],
        }
        if version >= 5:
            body |= {"protocol_type": "consumer", "protocol_name": self.random.choice(["range", "range", "other"])}
        self.add("SyncGroup", version, body, **more)

    def second_member(self, group: str) -> None:
        """It waits until the first joins again."""
        self.join(group, "n", 1, wait=False)
        self.heartbeat(group, "m")
        self.commit(group, "m")
        self.questions(group)
        body = {
            "group_id": group,
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 10_000,
            "member_id": placeholder("member", "m"),
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": placeholder("hex", "0000")}],
        }
        self.add("JoinGroup", self.version("JoinGroup", 1), body, save="m")
        self.steps.append(receive(1))
        self.questions(group)
        self.sync(group, "m")
        self.heartbeat(group, "m")

    def heartbeat(self, group: str, label: str) -> None:
        body = {
            "group_id": group,
            "generation_id": placeholder("generation", label),
            "member_id": placeholder("member", label),
        }
        self.add("Heartbeat", self.version("Heartbeat"), body)

    def commit(self, group: str, label: str) -> None:
        """label "": as somebody without a group."""
        version = self.version("OffsetCommit")
        name = self.world.topics[0]
        key, value = ("topic_id", placeholder("topic_id", name)) if version >= 10 else ("name", name)
        parts = [{"partition_index": p, "committed_offset": 3, "committed_metadata": "m"} for p in (0, 1, 7)]
        body: dict[str, Any] = {"group_id": group, "topics": [{key: value, "partitions": parts}]}
        if label:
            body["generation_id_or_member_epoch"] = placeholder("generation", label)
            body["member_id"] = placeholder("member", label)
        self.add("OffsetCommit", version, body)

    def leave(self, group: str, label: str, instance: str | None) -> None:
        version = self.version("LeaveGroup")
        member = placeholder("member", label)
        if version < 3:
            self.add("LeaveGroup", version, {"group_id": group, "member_id": member})
            return
        members = [{"member_id": member}, {"member_id": "who"}]
        if instance:
            members.append({"member_id": "", "group_instance_id": instance})
        self.random.shuffle(members)
        self.add("LeaveGroup", version, {"group_id": group, "members": members})

    def questions(self, group: str) -> None:
        """What anybody may ask about a group."""
        self.add("DescribeGroups", self.version("DescribeGroups"), {"groups": [group, "nobody"]})
        version = self.version("OffsetFetch")
        topics: list[dict[str, Any]] = [
            {"name": self.world.topics[0], "partition_indexes": [0, 1, 9]},
            {"name": "nope", "partition_indexes": [0]},
        ]
        if version >= 10:
            topics = [{"topic_id": placeholder("topic_id", t["name"]), "partition_indexes": [0, 9]} for t in topics]
        chosen = None if version >= 2 and self.chance(0.4) else topics
        if version < 8:
            self.add("OffsetFetch", version, {"group_id": group, "topics": chosen})
        else:
            asked = [{"group_id": group, "topics": chosen}, {"group_id": "nobody", "topics": topics}]
            self.add("OffsetFetch", version, {"groups": asked})

    def odd_group_requests(self, count: int) -> None:
        apis = ["SyncGroup", "Heartbeat", "OffsetCommit", "OffsetFetch", "LeaveGroup", "OffsetDelete", "DeleteGroups"]
        for _ in range(count):
            step = self.drawn(self.random.choice([*apis, "DescribeGroups", "ListGroups"]))
            if "group_id" in step["body"]:
                step["body"]["group_id"] = self.world.groups[0]

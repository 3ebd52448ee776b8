"""Lives of one group of the consumer protocol (KIP-848): members join, report, change what they read, are told, leave
and come back, rightly and wrongly; members of the classic protocol in between, so that the group is converted to and
fro; topics that are made, grow and go.

What stays true: members give themselves their ids, and those of the classic protocol are told apart by the names of
their clients, so that whoever breaks ties by an id's hash breaks them alike; `uniform`, which goes by the ids of topics
too, is asked for where one topic is read.
"""

from __future__ import annotations

from typing import Any

from tests.differential.offsets import OffsetScript
from tests.differential.scripts import Ranges
from tests.differential.session import Session, placeholder

#: Besides oracle.SETTINGS: targets are made at once, by `range` unless somebody asks for another.
CONSUMER_SETTINGS = {
    "group.consumer.assignment.interval.ms": "0",
    "group.consumer.assignors": "range,uniform",
    "group.consumer.session.timeout.ms": "60000",
    "group.consumer.max.size": "4",
}
_TIMEOUT_MS = 1_200_000
_TARDY_MS = 400
_GROUP_RESOURCE = 32
_SETTINGS = [
    ("consumer.heartbeat.interval.ms", ["500", "3000", "15000", "15001", "x"]),
    ("consumer.session.timeout.ms", ["60000", "50000", "60001", "1"]),
    ("nonsense", ["1"]),
]
_INSTANCES = {"u": None, "v": None, "w": None, "s": "i-s", "t": "i-s", "k": None, "l": "i-l", "n": "i-n"}
_CLASSIC = ("k", "l", "n")


class ConsumerScript(OffsetScript):
    """Builds one session. u, v and w are dynamic, s and t claim to be the same static member; of the classic protocol k
    is dynamic, l and n are static. Dynamic members are sorted by their ids, so k is with no other."""

    def __init__(self, seed: int, prefix: str, ranges: Ranges) -> None:
        super().__init__(seed, prefix, ranges)
        self.instance = None
        self.is_uniform = self.random.random() < 0.3
        self.modern, self.classic = self.random.choice(
            [
                (["u", "v", "w", "s", "t"], [] if self.is_uniform else ["l", "n"]),
                (["s", "t"], ["k", "l"]) if not self.is_uniform else (["u", "v", "w"], []),
            ]
        )
        #: Whom a request made a member, as far as a script can tell.
        self.joined: set[str] = set()
        self.conn = 0

    def build(self) -> Session:
        counts = [self.random.choice([1, 3, 4]), 2]
        topics = [
            {"name": name, "num_partitions": count, "replication_factor": 1}
            for name, count in zip(self.world.topics, counts, strict=True)
        ]
        self.add("CreateTopics", 7, {"topics": topics, "timeout_ms": 15_000})
        doing = [
            *[self.enter] * 4,
            *[self.beat] * 6,
            *[self.converge] * 3,
            *[self.subscribe] * 3,
            *[self.odd_beat] * 3,
            *[self.go] * 2,
            *[self.commit_as_member] * 3,
            *[self.fetch_as_member] * 2,
            *[self.look] * 4,
            self.change_topics,
            self.change_settings,
            self.remove,
            self.delete,
            *([self.classic_life] * 6 if self.classic else []),
        ]
        if "u" in self.modern and self.random.random() < 0.15:
            self.tardy()
        for _ in range(self.random.randint(25, 40)):
            self.random.choice(doing)()
        self.converge()
        self.look()
        for label in [*self.joined]:
            self.leave_as(label)
        self.describe_all()
        self.fetch_as_member()
        self.add("DeleteGroups", self.version("DeleteGroups"), {"groups_names": [self.group]})
        return self.steps

    # ------------------------------------------------------------------------------------------------- heartbeats

    def who_is(self, label: str) -> dict[str, Any]:
        instance = _INSTANCES[label]
        known = {"group_id": self.group, "member_id": f"member-{label}"}
        return known | ({"instance_id": instance} if instance else {})

    def send(self, label: str, version: int, body: dict[str, Any]) -> None:
        self.add("ConsumerGroupHeartbeat", version, body, save=label, keep=True, client=f"client-{label}")
        if body.get("subscribed_topic_regex"):  # what it matches is found out behind the answer, but not again for 10 s
            self.steps.append({"settled": self.group})

    def reading(self, version: int) -> dict[str, Any]:
        """What it subscribes to."""
        names = self.world.topics[:1] if self.is_uniform else self.world.topics
        prefix = self.world.prefix
        if version >= 1 and self.chance(0.2):
            pattern = self.random.choice(
                [f"{prefix}-a", f"{prefix}-(a|c)", f"{prefix}-never", "", f"{prefix}-(", f"{prefix}-."]
            )
            if self.is_uniform and pattern.endswith((".", "c)")):
                pattern = f"{prefix}-a.*"
            named = {"subscribed_topic_names": self.random.choice([names[:1], []])} if self.chance(0.4) else {}
            return {"subscribed_topic_regex": pattern, **named}
        some = [names, names, names[:1], names[-1:], [], [*names, f"{prefix}-c"], ["nope"]]
        return {"subscribed_topic_names": self.random.choice(some[:3] if self.chance(0.6) else some)}

    def join_body(self, label: str, version: int) -> dict[str, Any]:
        assignor = "uniform" if self.is_uniform else self.random.choice([None, "range"])
        body = {
            **self.who_is(label),
            "member_epoch": 0,
            "rebalance_timeout_ms": _TIMEOUT_MS,
            "topic_partitions": [],
            **self.reading(version),
        }
        if not body.get("subscribed_topic_names"):
            # 4.3.1 takes members that name nothing for readers of what the others read, until there is another epoch.
            body["subscribed_topic_names"] = self.world.topics[:1]
        body |= {"server_assignor": assignor} if assignor else {}
        return body | ({"rack_id": "r"} if self.chance(0.1) else {})

    def enter(self) -> None:
        label = self.random.choice(self.modern)
        version = self.version("ConsumerGroupHeartbeat")
        body = self.join_body(label, version)
        if self.chance(0.2):
            self.spoil_join(body)
        self.send(label, version, body)
        self.joined.add(label)

    def spoil_join(self, body: dict[str, Any]) -> None:
        body |= self.random.choice(
            [
                {"member_id": ""},
                {"group_id": ""},
                {"group_id": "  "},
                {"instance_id": ""},
                {"instance_id": "i-s"},
                {"rack_id": ""},
                {"rebalance_timeout_ms": -1},
                {"rebalance_timeout_ms": 0},
                {"topic_partitions": None},
                {"topic_partitions": [{"topic_id": placeholder("topic_id", self.world.topics[0]), "partitions": [0]}]},
                {"subscribed_topic_names": None},
                {"server_assignor": "nonsense"},
                {"server_assignor": ""},
                {"member_epoch": 1},
                {"member_epoch": -3},
            ]
        )
        if (
            body["member_id"] == ""
        ):  # what a broker names breaks ties as it likes: by a name of the script's, so not at all
            body["rebalance_timeout_ms"] = -1

    def epoch_of(self, label: str, add: int = 0) -> dict[str, Any]:
        return placeholder("member_epoch", label, **({"add": add} if add else {}))

    def someone(self) -> str:
        return self.random.choice([*sorted(self.joined & {*self.modern})] or self.modern)

    def beat(self, label: str | None = None) -> None:
        """As clients do: they say what they have when that has changed, or everything after an error."""
        label = label or self.someone()
        body = {**self.who_is(label), "member_epoch": self.epoch_of(label)}
        if self.chance(0.7):
            body["topic_partitions"] = placeholder("assigned", label)
        self.send(label, self.version("ConsumerGroupHeartbeat"), body)

    def converge(self) -> None:
        """Everybody tells what was told, as often as it takes two of them to hand something over."""
        for _ in range(self.random.choice([1, 2, 3])):
            for label in sorted(self.joined & {*self.modern}):
                body = {
                    **self.who_is(label),
                    "member_epoch": self.epoch_of(label),
                    "topic_partitions": placeholder("assigned", label),
                }
                self.send(label, self.version("ConsumerGroupHeartbeat"), body)
            for label in sorted(self.joined & {*self.classic}):
                self.classic_beat(label)
        self.describe_all()

    def subscribe(self) -> None:
        label = self.someone()
        version = self.version("ConsumerGroupHeartbeat")
        body = {**self.who_is(label), "member_epoch": self.epoch_of(label), **self.reading(version)}
        if self.chance(0.3):
            body |= {"topic_partitions": placeholder("assigned", label), "rebalance_timeout_ms": _TIMEOUT_MS}
        self.send(label, version, body)

    def odd_beat(self) -> None:
        """Epochs behind and ahead, other people's names, partitions that it has not got, or not any more."""
        label = self.random.choice(self.modern)
        topic = placeholder("topic_id", self.random.choice([*self.world.topics, "nope"]))
        body: dict[str, Any] = {**self.who_is(label), "member_epoch": self.epoch_of(label)}
        owned: list[Any] = [
            placeholder("assigned", label),
            placeholder("assigned", label, first=1),
            placeholder("assigned", self.random.choice(self.modern)),
            [],
            None,
            [{"topic_id": topic, "partitions": [0, 7]}],
            [{"topic_id": topic, "partitions": []}, {"topic_id": topic, "partitions": [1]}],
        ]
        body["topic_partitions"] = self.random.choice(owned)
        body |= self.random.choice(
            [
                {"member_epoch": self.epoch_of(label, -1)},
                {"member_epoch": self.epoch_of(label, -1)},
                {"member_epoch": self.epoch_of(label, 1)},
                {"member_epoch": self.random.choice([1, 2, 3, 99])},
                {"member_id": "stranger"},
                {"member_id": ""},
                {"instance_id": self.random.choice(["i-s", "i-nobody", "i-l"])},
                {"rack_id": self.random.choice(["r", "q"])},
                {"server_assignor": self.random.choice(["range", "nonsense"])},
                {"rebalance_timeout_ms": self.random.choice([0, -2, _TIMEOUT_MS])},
                {"group_id": self.random.choice([self.other, f"{self.world.prefix}-never"])},
                {},
                {},
            ]
        )
        self.send(label, self.version("ConsumerGroupHeartbeat"), body)

    # ------------------------------------------------------------------------------------------------- the end

    def go(self) -> None:
        self.leave_as(self.random.choice(self.modern))

    def leave_as(self, label: str) -> None:
        if label in self.classic:
            self.classic_leave(label)
            return
        epoch = self.random.choice([-1, -1, -2])
        member = self.random.choice(["", "stranger"]) if self.chance(0.1) else f"member-{label}"
        body = {**self.who_is(label), "member_id": member, "member_epoch": epoch}
        self.add("ConsumerGroupHeartbeat", self.version("ConsumerGroupHeartbeat"), body, client=f"client-{label}")
        if member.startswith("member") and epoch == -1:
            self.joined.discard(label)

    def remove(self) -> None:
        """By an administrator."""
        label = self.random.choice([*self.modern, *self.classic])
        instance = _INSTANCES[label]
        who: dict[str, Any] = {"member_id": self.member_of(label)}
        if instance:
            who = {"member_id": self.random.choice(["", self.member_of(label)]), "group_instance_id": instance}
        body = {"group_id": self.group, "members": [who]}
        self.add("LeaveGroup", self.version("LeaveGroup", 3), body)
        self.steps.append({"poll": True})

    def member_of(self, label: str) -> Any:
        return placeholder("member", label) if label in _CLASSIC else f"member-{label}"

    def tardy(self) -> None:
        """One is too slow to give something up, and is put out."""
        reads = {"subscribed_topic_names": self.world.topics[:1]}
        first = self.join_body("u", 0)
        first.pop("subscribed_topic_regex", None)
        body = {**first, **reads, "rebalance_timeout_ms": _TARDY_MS}
        self.send("u", 0, body)
        self.send("v", 0, {**body, **self.who_is("v"), "rebalance_timeout_ms": _TIMEOUT_MS})
        self.joined |= {"u", "v"}
        count = placeholder("assigned", "u")
        self.send("u", 0, {**self.who_is("u"), "member_epoch": self.epoch_of("u"), "topic_partitions": count})
        self.steps.append({"settled": self.group, "without": "member-u"})

    # ------------------------------------------------------------------------------------------------- offsets

    def commit_as_member(self) -> None:
        label = self.random.choice([self.someone(), *self.modern, *self.classic])
        version = self.version("OffsetCommit", 7 if self.chance(0.3) else 9)
        instance = _INSTANCES[label]
        modern = label not in _CLASSIC
        epoch: Any = self.epoch_of(label) if modern else placeholder("generation", label)
        if self.chance(0.3):
            epoch = self.random.choice([-1, 0, 1, 99, {**epoch, "add": -1}, {**epoch, "add": 1}])
        member = self.random.choice(["", "stranger"]) if self.chance(0.15) else self.member_of(label)
        body: dict[str, Any] = {
            "group_id": self.group if self.chance(0.9) else self.any_group(),
            "generation_id_or_member_epoch": epoch,
            "member_id": member,
            "topics": self.topics(version, odd=False),
        }
        body |= {"group_instance_id": instance} if instance and self.chance(0.7) else {}
        self.add("OffsetCommit", version, body)

    def fetch_as_member(self) -> None:
        version = self.version("OffsetFetch", 8)
        group: dict[str, Any] = {"group_id": self.group, "topics": self.asked(version)}
        if version >= 9 and self.chance(0.7):
            label = self.random.choice([self.someone(), *self.modern])
            epoch = self.random.choice([self.epoch_of(label)] * 3 + [self.epoch_of(label, -1), -1, 0, 99])
            member = self.random.choice([f"member-{label}"] * 4 + [None, "", "stranger"])
            group |= {"member_id": member, "member_epoch": epoch}
        self.add("OffsetFetch", version, {"groups": [group], "require_stable": self.chance(0.5)})

    # ------------------------------------------------------------------------------------------------- questions

    def look(self) -> None:
        self.random.choice([self.describe_all, self.describe_all, self.describe, self.list_groups])()

    def describe_all(self) -> None:
        names = [self.group, *self.some([self.other, "", f"{self.world.prefix}-never"], 0, 1)]
        body = {"group_ids": names, "include_authorized_operations": self.chance(0.2)}
        self.add("ConsumerGroupDescribe", self.version("ConsumerGroupDescribe"), body)

    # ------------------------------------------------------------------------------------------------- what they read

    def change_topics(self) -> None:
        first, second = self.world.topics
        third = f"{self.world.prefix}-c"
        made = {"num_partitions": 2, "replication_factor": 1}
        grown = {
            "name": self.random.choice([first, second]),
            "count": self.random.choice([3, 5]),
            "assignments": None,
        }
        kind = self.random.choice(["grow", "grow", "make", "make", "drop", "again"])
        if kind == "grow":
            body = {"topics": [grown], "timeout_ms": 15_000, "validate_only": False}
            self.add("CreatePartitions", self.version("CreatePartitions"), body)
        elif kind == "drop":
            names = [self.random.choice([second, third])]
            self.add("DeleteTopics", self.version("DeleteTopics", 0, 5), {"topic_names": names, "timeout_ms": 15_000})
        else:
            name = third if kind == "make" else second
            self.add("CreateTopics", 7, {"topics": [{"name": name, **made}], "timeout_ms": 15_000})

    def change_settings(self) -> None:
        name, values = self.random.choice(_SETTINGS)
        change = {"name": name, "config_operation": self.random.choice([0, 0, 1]), "value": self.random.choice(values)}
        resource = {"resource_type": _GROUP_RESOURCE, "resource_name": self.group, "configs": [change]}
        self.add("IncrementalAlterConfigs", self.version("IncrementalAlterConfigs"), {"resources": [resource]})

    # ------------------------------------------------------------------------------------------------- the classic ones

    def classic_life(self) -> None:
        label = self.random.choice(self.classic)
        doing = [self.classic_join, self.classic_join, self.classic_enter, self.classic_sync, self.classic_beat]
        self.random.choice([*doing, self.classic_beat, self.classic_leave])(label)

    def classic_enter(self, label: str) -> None:
        self.classic_join(label)
        self.classic_sync(label)

    def park(self, api: str, version: int, body: dict[str, Any], label: str) -> None:
        """Where only members of the classic protocol are they may wait for one another."""
        self.conn += 1
        told = {"save": label, "keep": True, "client": f"client-{label}"}
        self.add(api, version, {"group_id": self.group, **body}, conn=self.conn, park=True, **told)
        self.steps.append({"poll": True})

    def classic_who(self, label: str) -> dict[str, Any]:
        instance = _INSTANCES[label]
        known: dict[str, Any] = {"member_id": placeholder("member", label)}
        return known | ({"group_instance_id": instance} if instance else {})

    def classic_join(self, label: str) -> None:
        instance = _INSTANCES[label]
        version = self.version("JoinGroup", 5 if instance else 4)
        read = self.random.choice([self.world.topics, self.world.topics[:1]])
        owned = self.random.choice(["all", "all", "none"])
        metadata = placeholder(
            "subscription", label, topics=read, owned=owned, version=self.random.choice([1, 1, 2, 3])
        )
        body: dict[str, Any] = {
            **self.classic_who(label),
            "session_timeout_ms": 60_000,
            "rebalance_timeout_ms": _TIMEOUT_MS,
            "protocol_type": "consumer",
            "protocols": [{"name": self.random.choice(["range", "range", "other"]), "metadata": metadata}],
        }
        if label not in self.joined:
            body["member_id"] = ""
        self.park("JoinGroup", version, body, label)
        if label not in self.joined and not instance:
            self.park("JoinGroup", version, {**body, "member_id": placeholder("member", label)}, label)
        self.joined.add(label)

    def classic_sync(self, label: str) -> None:
        version = self.version("SyncGroup", 3)
        given = {"k": [0, 1], "l": [2], "n": [0]}
        first = self.world.topics[0]
        assignments = [
            {
                "member_id": placeholder("member", each),
                "assignment": placeholder("assignment", "", topic=first, partitions=given[each]),
            }
            for each in self.classic
        ]
        body = {
            **self.classic_who(label),
            "generation_id": placeholder("generation", label),
            "assignments": assignments,
        }
        self.park("SyncGroup", version, body, label)

    def classic_beat(self, label: str) -> None:
        """What a client does when it is told of a rebalance it does too."""
        who = {**self.classic_who(label), "generation_id": placeholder("generation", label)}
        self.add("Heartbeat", self.version("Heartbeat", 3), {"group_id": self.group, **who})
        if self.chance(0.5):
            self.classic_enter(label)

    def classic_leave(self, label: str) -> None:
        who = self.classic_who(label)
        self.add("LeaveGroup", self.version("LeaveGroup", 3), {"group_id": self.group, "members": [who]})
        self.steps.append({"poll": True})
        self.joined.discard(label)

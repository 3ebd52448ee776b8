"""Lives of one classic group with several members, whose requests wait for one another.

What stays true: a member's JoinGroup and SyncGroup go out on connections of their own and are not waited for; after
each the player looks who has been answered (a `poll` step), so that the two brokers are compared in when they answer
and not only in what. Whatever Kafka leaves to chance makes no difference: preferences never tie, everybody brings the
same assignments, and who leads is not told apart (the player sees to that).
"""

from __future__ import annotations

from random import Random
from typing import Any

from tests.differential.scripts import Ranges
from tests.differential.session import Session, Step, ask, placeholder
from tests.differential.values import World

_PROTOCOLS = ("range", "roundrobin", "cooperative-sticky")
_TIMEOUT_MS = 1_200_000  # longer than all sessions take: nobody expires
_SOON = [14, 15, 16, 51]  # what is said while a coordinator is not there yet, or ends the transaction before
_STATIC_SINCE = {
    "JoinGroup": 5,
    "SyncGroup": 3,
    "Heartbeat": 3,
    "LeaveGroup": 3,
    "OffsetCommit": 7,
    "TxnOffsetCommit": 3,
}


class GroupScript:
    """Builds one session. Members a and b are dynamic, c and d static; d2 claims to be d too."""

    def __init__(self, seed: int, prefix: str, ranges: Ranges) -> None:
        self.random = Random(seed)
        self.ranges = ranges
        self.world = World(prefix, [f"{prefix}-a", f"{prefix}-b"])
        self.group = self.world.groups[0]
        self.members = {"a": None, "b": None, "c": "i-c", "d": "i-d", "d2": "i-d"}
        self.steps: Session = []
        self.conn = 0

    def build(self) -> Session:
        topics = [{"name": name, "num_partitions": 2, "replication_factor": 1} for name in self.world.topics]
        self.steps.append(ask("CreateTopics", 4, {"topics": topics, "timeout_ms": 15_000}))
        for _ in range(self.random.randint(8, 14)):
            self.act()
        self.all_leave()
        self.all_leave()  # also those who have just heard their id
        self.simple()
        self.admin()
        self.describe()
        self.admin()
        return self.steps

    # ------------------------------------------------------------------------------------------------- choices

    def act(self) -> None:
        random = self.random
        doing = random.choices(
            [
                self.rebalance,
                self.one_joins,
                self.one_syncs,
                self.one_leaves,
                self.simple,
                self.admin,
                self.look,
                self.transaction,
            ],
            [5, 5, 3, 3, 2, 1, 3, 2],
        )[0]
        doing()

    def rebalance(self) -> None:
        """Everybody joins and then brings the assignment: mostly that ends in a stable group."""
        who = self.random.sample(["a", "b", "c", "d"], self.random.randint(1, 4))
        for label in who * self.random.choice([1, 1, 2]):
            self.join(label)
        for label in who:
            self.sync(label)
        self.describe()

    def one_joins(self) -> None:
        label = self.random.choice([*self.members])
        self.join(label, odd=self.random.random() < 0.3)
        self.heartbeat(self.random.choice([*self.members]))

    def one_syncs(self) -> None:
        self.sync(self.random.choice([*self.members]), odd=self.random.random() < 0.4)

    def one_leaves(self) -> None:
        self.leave(self.random.sample([*self.members], self.random.choice([1, 1, 2, 3])))
        self.describe()

    def look(self) -> None:
        self.heartbeat(self.random.choice([*self.members]), odd=self.random.random() < 0.3)
        self.commit(self.random.choice([*self.members]), odd=self.random.random() < 0.3)
        self.fetch()
        self.describe()

    # ------------------------------------------------------------------------------------------------- requests

    def version(self, api: str, low: int = 0) -> int:
        lowest, highest = self.ranges[api]
        return self.random.randint(max(low, lowest), highest)

    def add(self, api: str, version: int, body: dict[str, Any], **more: Any) -> Step:
        step = ask(api, version, {"group_id": self.group, **body}, **more)
        self.steps.append(step)
        return step

    def park(self, api: str, version: int, body: dict[str, Any], **more: Any) -> None:
        self.conn += 1
        self.add(api, version, body, conn=self.conn, park=True, **more)
        self.steps.append({"poll": True})

    def identity(self, api: str, label: str, version: int, odd: bool) -> dict[str, Any]:
        """Who it says it is; odd: nobody, or another."""
        member: Any = placeholder("member", label)
        instance = self.members[label]
        if odd:
            member = self.random.choice(["", "stranger", placeholder("member", self.random.choice([*self.members]))])
            instance = self.random.choice([instance, "i-nobody", "i-c", None])
        known = {"member_id": member}
        if instance is not None and version >= _STATIC_SINCE[api]:
            known["group_instance_id"] = instance
        return known

    def join(self, label: str, odd: bool = False) -> None:
        """A dynamic member that is new gets its id first, and comes back with it at once or with its next join."""
        random = self.random
        version = self.version("JoinGroup", 5 if self.members[label] else 0)
        first = random.randint(0, 1)
        names = _PROTOCOLS[first : random.randint(first + 1, 3)] if odd or random.random() < 0.1 else _PROTOCOLS
        topics = random.choice([[0], [0], [0], [0, 1]])
        who = self.identity("JoinGroup", label, version, odd)
        if self.members[label] and random.random() < 0.25:
            who["member_id"] = ""  # restarted
        elif not any(step.get("save") == label for step in self.steps):
            who["member_id"] = ""
        body = {
            **who,
            "session_timeout_ms": random.choice([_TIMEOUT_MS, 10]) if odd else _TIMEOUT_MS,
            "protocol_type": random.choice(["consumer", "connect", ""]) if odd else "consumer",
            "protocols": [{"name": name, "metadata": placeholder("hex", self.subscription(topics))} for name in names],
        }
        body |= {"rebalance_timeout_ms": _TIMEOUT_MS} if version >= 1 else {}
        body |= {"reason": "because"} if version >= 8 else {}
        # The client's name is in the member's id: members that nobody has named yet can be told apart.
        told = {"save": label, "keep": True, "client": label}
        self.park("JoinGroup", version, body, **told)
        if version >= 4 and who["member_id"] == "" and not self.members[label] and random.random() < 0.9:
            again = {**body, "member_id": placeholder("member", label)}
            self.park("JoinGroup", version, again, **told)

    def subscription(self, topics: list[int]) -> str:
        names = [self.world.topics[each].encode() for each in topics]
        listed = b"".join(len(name).to_bytes(2, "big") + name for name in names)
        return (b"\0\0" + len(names).to_bytes(4, "big") + listed + b"\xff\xff\xff\xff").hex()

    def generation(self, label: str, odd: bool) -> Any:
        return self.random.choice([-1, 0, 1, 2, 3]) if odd else placeholder("generation", label)

    def sync(self, label: str, odd: bool = False) -> None:
        random = self.random
        version = self.version("SyncGroup", 3 if self.members[label] else 0)
        body: dict[str, Any] = {
            **self.identity("SyncGroup", label, version, odd and random.random() < 0.5),
            "generation_id": self.generation(label, odd),
            "assignments": [
                {"member_id": placeholder("member", each), "assignment": placeholder("hex", each.encode().hex())}
                for each in self.members
                if each != "d2"
            ],
        }
        if version >= 5:
            body["protocol_type"] = random.choice(["consumer", "connect"]) if odd else "consumer"
            body["protocol_name"] = random.choice(_PROTOCOLS) if odd else "range"
        self.park("SyncGroup", version, body)

    def heartbeat(self, label: str, odd: bool = False) -> None:
        version = self.version("Heartbeat", 3 if self.members[label] else 0)
        self.add(
            "Heartbeat",
            version,
            {
                **self.identity("Heartbeat", label, version, odd and self.random.random() < 0.5),
                "generation_id": self.generation(label, odd),
            },
        )

    def leave(self, labels: list[str]) -> None:
        version = self.version("LeaveGroup", 3 if len(labels) > 1 or self.members[labels[0]] else 0)
        if version < 3:
            self.add("LeaveGroup", version, {"member_id": placeholder("member", labels[0])})
        else:
            leaving = []
            for label in labels:
                who = self.identity("LeaveGroup", label, version, self.random.random() < 0.15)
                if self.members[label] and self.random.random() < 0.5:
                    who["member_id"] = ""  # as an administrator names a static member
                leaving.append(who)
            self.add("LeaveGroup", version, {"members": leaving})
        self.steps.append({"poll": True})

    def all_leave(self) -> None:
        for label in self.members:
            self.leave([label])
        self.leave(["c"])
        self.describe()

    def commit(self, label: str, odd: bool = False) -> None:
        version = self.version("OffsetCommit", 7 if self.members[label] else 0)
        who = self.identity("OffsetCommit", label, version, odd and self.random.random() < 0.5)
        self.commit_as({**who, "generation_id_or_member_epoch": self.generation(label, odd)}, version)

    def commit_as(self, who: dict[str, Any], version: int) -> None:
        random = self.random
        name = random.choice(self.world.topics)
        key, value = ("topic_id", placeholder("topic_id", name)) if version >= 10 else ("name", name)
        offset = random.randint(0, 99)
        parts = [
            {"partition_index": part, "committed_offset": offset, "committed_metadata": random.choice(["", "m", None])}
            for part in (0, 1)
        ]
        body: dict[str, Any] = {**(who if version >= 1 else {}), "topics": [{key: value, "partitions": parts}]}
        if 2 <= version <= 4:
            body["retention_time_ms"] = random.choice([-1, 3_600_000])
        self.add("OffsetCommit", version, body)

    def simple(self) -> None:
        """Somebody who takes no part in the group commits and asks."""
        self.commit_as({}, self.version("OffsetCommit"))
        self.fetch()

    def transaction(self) -> None:
        """Offsets within a transaction, of members and of somebody; other commits meanwhile; then it ends. Nothing is
        deleted meanwhile: 3.9 forgets what is held without a word in the log, ours writes it down as 4.x does."""
        random = self.random
        name = f"{self.world.prefix}-x"
        found = {"key": name, "key_type": 1}
        started = {"transactional_id": name, "transaction_timeout_ms": 60_000}
        self.steps.append(ask("FindCoordinator", 2, found, again=_SOON))
        self.steps.append(ask("InitProducerId", 2, started, save="x", again=_SOON))
        producer = {"producer_id": placeholder("producer", "x"), "producer_epoch": placeholder("epoch", "x")}
        owner = {"transactional_id": name, **producer}
        self.add("AddOffsetsToTxn", self.version("AddOffsetsToTxn"), owner, again=_SOON)
        for _ in range(random.randint(1, 4)):
            label = random.choice([*self.members])
            odd = random.random() < 0.4
            version = min(3, self.version("TxnOffsetCommit"))  # from 4 on producers speak another protocol
            who: dict[str, Any] = {}
            if version >= 3 and random.random() < 0.7:
                who = self.identity("TxnOffsetCommit", label, version, odd and random.random() < 0.5)
                who["generation_id"] = self.generation(label, odd)
            self.add("TxnOffsetCommit", version, {**owner, **who, "topics": self.txn_topics(odd)})
            random.choice([self.fetch, self.simple, self.describe])()
        end = {**owner, "committed": random.random() < 0.6}
        self.steps.append(ask("EndTxn", min(3, self.version("EndTxn")), end))
        self.steps.append({"stable": self.group, "topics": self.world.topics})

    def txn_topics(self, odd: bool) -> list[dict[str, Any]]:
        """odd: some of it does not exist, or is too long."""
        random = self.random
        names = random.sample([*self.world.topics, *(["nope"] if odd else [])], 2)
        entries = [
            {
                "partition_index": part,
                "committed_offset": random.randint(0, 99),
                "committed_metadata": "m" * (5_000 if odd and random.random() < 0.2 else 1),
            }
            for part in random.sample([0, 1, 7] if odd else [0, 1], 2)
        ]
        return [{"name": name, "partitions": entries} for name in names]

    def fetch(self) -> None:
        version = self.version("OffsetFetch", 1)
        if version < 8:
            topics = None if version >= 2 and self.random.random() < 0.5 else self.asked_topics(version)
            more = {"require_stable": True} if version >= 7 else {}
            self.add("OffsetFetch", version, {"topics": topics, **more})
            return
        groups = [{"group_id": self.group, "topics": self.random.choice([None, self.asked_topics(version)])}]
        self.steps.append(ask("OffsetFetch", version, {"groups": groups, "require_stable": True}))

    def asked_topics(self, version: int) -> list[dict[str, Any]]:
        return [
            {"topic_id": placeholder("topic_id", name), "partition_indexes": [0, 1]}
            if version >= 10
            else {"name": name, "partition_indexes": [0, 1]}
            for name in self.world.topics
        ]

    def describe(self) -> None:
        version = self.version("DescribeGroups")
        more = {"include_authorized_operations": self.random.random() < 0.5} if version >= 3 else {}
        self.steps.append(ask("DescribeGroups", version, {"groups": [self.group], **more}))

    def admin(self) -> None:
        """Deleting what is in use, and what is not."""
        if self.random.random() < 0.6:
            topics = [{"name": name, "partitions": [{"partition_index": 0}]} for name in self.world.topics]
            self.add("OffsetDelete", self.version("OffsetDelete"), {"topics": topics})
        if self.random.random() < 0.5:
            self.steps.append(ask("DeleteGroups", self.version("DeleteGroups"), {"groups_names": [self.group]}))
        version = self.version("ListGroups", 4)
        more = {"types_filter": self.random.choice([[], ["Classic"], ["consumer"]])} if version >= 5 else {}
        states = self.random.choice([[], ["Stable"], ["Empty", "preparingRebalance"], ["Dead"]])
        self.steps.append(ask("ListGroups", version, {"states_filter": states, **more}))
        self.fetch()

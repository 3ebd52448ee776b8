"""Lives of committed offsets: one group with one member or a static one, one that nobody is in, and everything that is
asked about groups and their offsets, in every version, rightly and wrongly.

What stays true: nothing waits for anything, so the answers depend on the requests alone; a group has one member at a
time, who is its leader.
"""

from __future__ import annotations

from random import Random
from typing import Any

from tests.differential.scripts import Ranges
from tests.differential.session import Session, Step, ask, placeholder
from tests.differential.values import BIG64, World

_TIMEOUT_MS = 1_200_000  # longer than all sessions take: nobody expires
_LONG = [placeholder("text", each, times=4_096 + more) for each in ("m", "\u00e9") for more in (0, 1)]
_METADATA = ["", "", "m", "m", None, "\u00e9" * 10, *_LONG]
_STATES = ("Stable", "Empty", "Dead", "PreparingRebalance", "CompletingRebalance", "empty", "STABLE", "Nonsense", "")
_TYPES = ("classic", "Classic", "CONSUMER", "consumer", "share", "nonsense", "")


class OffsetScript:
    """Builds one session."""

    def __init__(self, seed: int, prefix: str, ranges: Ranges) -> None:
        self.random = Random(seed)
        self.ranges = ranges
        self.world = World(prefix, [f"{prefix}-a", f"{prefix}-b"])
        self.group, self.other = self.world.groups
        self.instance = self.random.choice([None, "i-m"])
        #: 4.x takes each entry for a partition by itself; 3.9, as ours, the last of them.
        self.of_4 = ranges["OffsetCommit"][1] >= 10
        self.inside = False  # as far as requests can tell
        self.steps: Session = []

    def build(self) -> Session:
        topics = [{"name": name, "num_partitions": 2, "replication_factor": 1} for name in self.world.topics]
        self.steps.append(ask("CreateTopics", 7, {"topics": topics, "timeout_ms": 15_000}))
        doing = [self.commit, self.commit, self.commit, self.fetch, self.fetch, self.look, self.delete, self.live]
        for _ in range(self.random.randint(25, 35)):
            self.random.choice(doing)()
        self.everything()
        self.end_group()
        self.everything()
        return self.steps

    # ------------------------------------------------------------------------------------------------- pieces

    def version(self, api: str, low: int = 0, high: int = 99) -> int:
        lowest, highest = self.ranges[api]
        return self.random.randint(max(low, lowest), min(high, highest))

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def add(self, api: str, version: int, body: dict[str, Any], **more: Any) -> Step:
        step = ask(api, version, body, **more)
        self.steps.append(step)
        return step

    def some(self, values: Any, least: int = 0, most: int = 3) -> list[Any]:
        """With repetitions."""
        return [self.random.choice(values) for _ in range(self.random.randint(least, most))]

    def any_group(self) -> str:
        return self.random.choice([self.group] * 5 + [self.other] * 3 + [f"{self.world.prefix}-never", ""])

    def who(self, *, static: bool, odd: bool) -> dict[str, Any]:
        """A member of the group, or somebody else. static: this version names instances."""
        member: Any = placeholder("member", "m")
        instance = self.instance
        if odd:
            member = self.random.choice([member, "", "stranger"])
            instance = self.random.choice([instance, "i-m", "i-nobody", "", None])
        return {"member_id": member} | ({"group_instance_id": instance} if static and instance is not None else {})

    def generation(self, *, odd: bool) -> Any:
        right = placeholder("generation", "m")
        return self.random.choice([right, -1, -1, 0, 1, 2, 99, -2]) if odd else right

    # ------------------------------------------------------------------------------------------------- the member

    def live(self) -> None:
        self.random.choice([self.enter, self.enter, self.join, self.sync, self.leave, self.heartbeat])()

    def enter(self) -> None:
        self.join()
        self.sync()

    def join(self) -> None:
        version = self.version("JoinGroup", 5 if self.instance else 1)
        subscribed = b"".join(
            len(name).to_bytes(2, "big") + name.encode()
            for name in self.random.choice([self.world.topics, self.world.topics[:1]])
        )
        count = 2 if self.world.topics[1].encode() in subscribed else 1
        metadata = b"\0\0" + count.to_bytes(4, "big") + subscribed + b"\xff\xff\xff\xff"
        known, self.inside = self.inside, True
        body: dict[str, Any] = {
            "group_id": self.group,
            "session_timeout_ms": _TIMEOUT_MS,
            "rebalance_timeout_ms": _TIMEOUT_MS,
            "member_id": placeholder("member", "m") if known else "",
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": placeholder("hex", metadata.hex())}],
        }
        body |= {"group_instance_id": self.instance} if self.instance else {}
        self.add("JoinGroup", version, body, save="m", keep=True)
        if not known and version >= 4 and not self.instance:
            self.add("JoinGroup", version, {**body, "member_id": placeholder("member", "m")}, save="m", keep=True)

    def sync(self) -> None:
        odd = self.chance(0.1)
        version = self.version("SyncGroup", 3 if self.instance else 0)
        member = placeholder("member", "m")
        body: dict[str, Any] = {
            "group_id": self.group,
            "generation_id": self.generation(odd=odd),
            **self.who(static=version >= 3, odd=odd),
            "assignments": [{"member_id": member, "assignment": placeholder("hex", "0001")}],
        }
        if version >= 5:
            body |= {"protocol_type": "consumer", "protocol_name": "range"}
        self.add("SyncGroup", version, body)

    def heartbeat(self) -> None:
        odd = self.chance(0.4)
        version = self.version("Heartbeat", 3 if self.instance else 0)
        who = self.who(static=version >= 3, odd=odd)
        self.add("Heartbeat", version, {"group_id": self.group, "generation_id": self.generation(odd=odd), **who})

    def leave(self) -> None:
        if self.chance(0.5):
            self.leave_for_good()
            return
        version = self.version("LeaveGroup")
        member = placeholder("member", "m")
        if version < 3:
            body: dict[str, Any] = {"member_id": self.random.choice([member, member, "stranger", ""])}
        else:
            leaving = [self.who(static=True, odd=self.chance(0.5)) for _ in range(self.random.choice([0, 1, 1, 2, 3]))]
            for each in leaving if version >= 5 else []:
                each["reason"] = self.random.choice([None, "", "because"])
            body = {"members": leaving}
        self.add("LeaveGroup", version, {"group_id": self.any_group(), **body})

    def leave_for_good(self) -> None:
        self.inside = False
        leaving: list[dict[str, Any]] = [{"member_id": placeholder("member", "m")}]
        leaving += [{"member_id": "", "group_instance_id": self.instance}] if self.instance else []
        self.add("LeaveGroup", self.version("LeaveGroup", 3), {"group_id": self.group, "members": leaving})

    def end_group(self) -> None:
        """The member leaves, whoever it is, and the offsets that are left are seen and deleted."""
        self.leave_for_good()
        self.everything()
        self.delete()
        self.fetch()
        names = [self.group, self.other, f"{self.world.prefix}-never", self.group]
        self.random.shuffle(names)
        self.add("DeleteGroups", self.version("DeleteGroups"), {"groups_names": names})

    # ------------------------------------------------------------------------------------------------- commits

    def commit(self) -> None:
        """By the member, in its version of it; by somebody who takes no part; by neither."""
        version = self.version("OffsetCommit")
        kind = self.random.choice(["member", "member", "odd", "simple"])
        group = self.group if kind == "member" else self.any_group()
        odd = kind == "odd"
        body: dict[str, Any] = {"group_id": group, "topics": self.topics(version, odd=self.chance(0.5))}
        if kind == "simple":
            body |= {"generation_id_or_member_epoch": -1, "member_id": ""}
        else:
            body |= {
                "generation_id_or_member_epoch": self.generation(odd=odd),
                **self.who(static=version >= 7, odd=odd),
            }
        if 2 <= version <= 4:
            body["retention_time_ms"] = self.random.choice([-1, -1, 3_600_000, BIG64])
        self.add("OffsetCommit", version, body)

    def topics(self, version: int, *, odd: bool, by_id_since: int = 10, epochs_since: int = 6) -> list[dict[str, Any]]:
        """What is committed. odd: some of it is not there, named again, too long, or nothing at all."""
        names: list[Any] = self.random.sample(self.world.topics, self.random.randint(1, 2))
        if odd:
            names = self.some([*self.world.topics, *self.world.topics, "nope", "", "bad name!"], 0, 5)
        if self.of_4:
            names = [*dict.fromkeys(names)]
        made = []
        for name in names:
            key, value = ("topic_id", placeholder("topic_id", name)) if version >= by_id_since else ("name", name)
            parts = self.some([0, 0, 1, 1, 2, 7, -1], 0, 4) if odd else self.random.sample([0, 1], 2)
            if self.of_4:
                parts = [*dict.fromkeys(parts)]
            entries = [self.entry(part, odd=odd, epochs=version >= epochs_since) for part in parts]
            made.append({key: value, "partitions": entries})
        return made

    def entry(self, part: int, *, odd: bool, epochs: bool) -> dict[str, Any]:
        random = self.random
        offset = random.choice([0, 5, -1, -2, BIG64]) if odd and random.random() < 0.2 else random.randint(0, 99)
        metadata = random.choice(_METADATA if odd else _METADATA[:7])
        made: dict[str, Any] = {"partition_index": part, "committed_offset": offset, "committed_metadata": metadata}
        if epochs and random.random() < 0.5:
            made["committed_leader_epoch"] = random.choice([0, 0, 5, -1] + ([-3, 2_147_483_647] if odd else []))
        return made

    # ------------------------------------------------------------------------------------------------- questions

    def fetch(self) -> None:
        version = self.version("OffsetFetch", 1)
        more = {"require_stable": self.chance(0.5)} if version >= 7 else {}
        if version < 8:
            body = {"group_id": self.any_group(), "topics": self.asked(version)}
            self.add("OffsetFetch", version, {**body, **more})
            return
        groups = [self.any_group() for _ in range(self.random.randint(1, 3))]
        # One that is named again may be answered twice or once: that is a hash table's affair.
        asked = [{"group_id": group, "topics": self.asked(version)} for group in dict.fromkeys(groups)]
        for each in asked if version >= 9 else []:
            if self.chance(0.4):
                who = self.who(static=False, odd=self.chance(0.5))
                each |= {**who, "member_epoch": self.generation(odd=self.chance(0.5))}
        self.add("OffsetFetch", version, {"groups": asked, **more})

    def asked(self, version: int) -> Any:
        """Which partitions; all there are, in versions that can say so."""
        if version >= 2 and self.chance(0.35):
            return None
        if self.chance(0.5):
            names, parts = [*self.world.topics], [0, 1]
        else:
            names = [*dict.fromkeys(self.some([*self.world.topics, "nope", "", "bad name!"], 0, 4))]
            parts = [*dict.fromkeys(self.some([0, 1, 7, -1], 0, 4))]
        key = (
            (lambda name: {"topic_id": placeholder("topic_id", name)})
            if version >= 10
            else (lambda name: {"name": name})
        )
        return [{**key(name), "partition_indexes": parts} for name in names]

    def look(self) -> None:
        self.random.choice([self.describe, self.describe, self.list_groups, self.heartbeat])()

    def describe(self) -> None:
        version = self.version("DescribeGroups")
        more = {"include_authorized_operations": self.chance(0.5)} if version >= 3 else {}
        groups = [*dict.fromkeys(self.any_group() for _ in range(self.random.randint(0, 3)))]
        self.add("DescribeGroups", version, {"groups": groups, **more})

    def list_groups(self) -> None:
        version = self.version("ListGroups")
        more: dict[str, Any] = {"states_filter": self.some(_STATES)} if version >= 4 else {}
        more |= {"types_filter": self.some(_TYPES)} if version >= 5 else {}
        self.add("ListGroups", version, more)

    def everything(self) -> None:
        """What there is now."""
        for group in (self.group, self.other):
            self.add("OffsetFetch", 7, {"group_id": group, "topics": None, "require_stable": False})
        self.add("DescribeGroups", 4, {"groups": [self.group, self.other]})
        self.add("ListGroups", self.version("ListGroups"), {})

    def delete(self) -> None:
        """Deleting what is in use, and what is not."""
        if self.chance(0.8):
            names = self.some([*self.world.topics, *self.world.topics, "nope"], 0, 3)
            topics = [
                {"name": name, "partitions": [{"partition_index": part} for part in self.some([0, 0, 1, 7, -1])]}
                for name in dict.fromkeys(names)
            ]
            self.add("OffsetDelete", self.version("OffsetDelete"), {"group_id": self.any_group(), "topics": topics})
            return
        names = [self.any_group() for _ in range(self.random.randint(0, 3))]
        self.add("DeleteGroups", self.version("DeleteGroups"), {"groups_names": names})

"""Odd values for the fields of any request, by what the fields are called.

What stays true: the same random source gives the same request; nothing drawn here disturbs another session (names of
topics, groups and clients carry the session's prefix), stops a broker, or waits for long.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeAlias

from cluster.protocol.tables import Field, Struct, read_table
from tests.differential.session import Tree, batches, placeholder

Draw: TypeAlias = Callable[[Random, "World"], Any]

BIG32, BIG64 = 2**31 - 1, 2**63 - 1
T0 = 1_700_000_000_000

TOPIC_SETTINGS: list[tuple[str, list[str | None]]] = [
    ("retention.ms", ["-1", "1000", "86400000", "-2", "abc", "", None, " 5 ", "1e3", "9223372036854775808"]),
    ("retention.bytes", ["-1", "0", "100000", "-5", "x"]),
    ("cleanup.policy", ["delete", "compact", "compact,delete", "delete, compact", "", "foo", "delete,delete", None]),
    ("segment.bytes", ["1048576", "14", "1", "2147483648", "1073741824"]),
    ("segment.ms", ["1", "0", "-1", "604800000"]),
    ("max.message.bytes", ["1048588", "0", "-1", "2147483647", "2147483648"]),
    ("min.insync.replicas", ["1", "2", "0", "x", None]),
    ("compression.type", ["gzip", "GZIP", "producer", "zstd", "none", ""]),
    ("compression.gzip.level", ["-1", "0", "1", "9", "10"]),
    ("message.timestamp.type", ["CreateTime", "LogAppendTime", "createtime", ""]),
    ("min.cleanable.dirty.ratio", ["0.5", "0", "1", "1.5", "-0.1", "NaN", "abc"]),
    ("unclean.leader.election.enable", ["true", "FALSE", "yes", "", "1"]),
    ("preallocate", ["true", "false", "no"]),
    ("min.compaction.lag.ms", ["0", "-1", "100"]),
    ("max.compaction.lag.ms", ["1", "0", "9223372036854775807"]),
    ("delete.retention.ms", ["0", "-1", "86400000"]),
    ("flush.messages", ["1", "0", "9223372036854775807"]),
    ("flush.ms", ["0", "-1", "5"]),
    ("index.interval.bytes", ["0", "-1", "4096"]),
    ("segment.index.bytes", ["4", "3", "10485760"]),
    ("segment.jitter.ms", ["0", "-1", "10"]),
    ("file.delete.delay.ms", ["0", "-1", "60000"]),
    ("message.timestamp.before.max.ms", ["9223372036854775807", "-1", "0"]),
    ("message.timestamp.after.max.ms", ["9223372036854775807", "-1"]),
    ("message.format.version", ["3.0-IV1", "0.10.0", "nonsense"]),
    ("message.downconversion.enable", ["true", "false", "x"]),
    ("leader.replication.throttled.replicas", ["", "*", "0:0", "none", "0:0,1:0", "a:b", None]),
    ("follower.replication.throttled.replicas", ["", "*", "0:0"]),
    ("remote.storage.enable", ["false", "x"]),
    ("local.retention.ms", ["-2", "-3", "1000"]),
    ("local.retention.bytes", ["-2", "-3"]),
    ("no.such.config", ["1", None]),
    ("", ["1"]),
    ("Retention.Ms", ["1"]),
]
BROKER_SETTINGS: list[tuple[str, list[str | None]]] = [
    ("log.cleaner.io.buffer.size", ["524288", "-1", "x"]),
    ("log.retention.ms", ["600000000", "-2", "abc"]),
    ("num.io.threads", ["8", "0", "x"]),
    ("background.threads", ["10", "0"]),
    ("zookeeper.connect", ["x:1"]),
    ("broker.id", ["3"]),
    ("log.dirs", ["x"]),
    ("num.partitions", ["3"]),
    ("ssl.keystore.location", ["x"]),
    ("no.such.broker.config", ["1", None]),
    ("", ["1"]),
]


class World:
    """What a session has: its prefix, its topics and its groups."""

    def __init__(self, prefix: str, topics: list[str]) -> None:
        self.prefix = prefix
        self.topics = topics
        self.groups = [f"{prefix}-g", f"{prefix}-g2"]
        self.serial = 0

    def fresh(self, kind: str) -> str:
        self.serial += 1
        return f"{self.prefix}-{kind}{self.serial}"


def topic(random: Random, world: World) -> str:
    odd = ["nope", "bad name!", "", ".", "..", "x" * 249, "x" * 250, "t\u00f8pic", world.topics[0] + "x", "__nope"]
    return random.choice(world.topics) if random.random() < 0.75 else random.choice(odd)


def new_topic(random: Random, world: World) -> str:
    p = world.prefix
    odd = [f"{p}.new", f"{p}_new", f"{p}-new", "bad name!", "", ".", "..", "x" * 250, "t\u00f8pic", world.topics[0]]
    return world.fresh("t") if random.random() < 0.4 else random.choice(odd)


def group(random: Random, world: World) -> str:
    return random.choice([*world.groups * 3, "", f"{world.prefix}-never", "g\u00fc"])


def topic_id(random: Random, world: World) -> Any:
    named = placeholder("topic_id", random.choice(world.topics))
    return random.choice([named] * 6 + [placeholder("topic_id", "nope"), placeholder("hex", "00" * 16)])


def one_of(*values: Any) -> Draw:
    return lambda random, world: random.choice(values)


def wrong_producer(random: Random, world: World) -> list[Any]:
    return [random.choice([-1, -1, -1, 500_000]), random.choice([0, -1, 3]), random.choice([0, 5, -1, BIG32])]


def some_batches(random: Random, world: World) -> Any:
    """Mostly one good batch; sometimes wrong in one way."""
    count = random.choice([1, 1, 2, 5])
    records = [[random.choice(["k", "", None]), random.choice(["v", "", None, "x" * 50])] for _ in range(count)]
    stamp: Any = random.choice([T0, T0 + 1000, T0 - 5, 0, -1, placeholder("now", "", add=0)])
    spec: dict[str, Any] = {"records": records, "timestamp": stamp}
    wrong: list[dict[str, Any]] = [
        {"crc_error": 1},
        {"count": 7},
        {"count": 0},
        {"count": -1},
        {"last_delta": 9},
        {"last_delta": -1},
        {"base_offset": 1000},
        {"base_offset": -1},
        {"magic": 1},
        {"magic": 0},
        {"magic": 3},
        {"magic": -1},
        {"attributes": 7},
        {"attributes": 8},
        {"attributes": 0x10},
        {"attributes": 0x20},
        {"attributes": 0x40},
        {"attributes": 0x7F80},
        {"cut": -1},
        {"cut": 20},
        {"cut": 61},
        {"cut": 3},
        {"records": []},
        {"producer": wrong_producer(random, world)},
        {"producer": wrong_producer(random, world)},
        {"timestamp": placeholder("now", "", add=7_300_000)},
        {"timestamp": BIG64},
    ]
    if random.random() < 0.45:
        spec |= random.choice(wrong)
    if random.random() < 0.08:
        return batches(spec, {"records": [["k", "v"]]})
    return batches() if random.random() < 0.03 else batches(spec)


def setting(random: Random, of_broker: bool = False) -> tuple[str, str | None]:
    name, values = random.choice(BROKER_SETTINGS if of_broker else TOPIC_SETTINGS)
    return name, random.choice(values)


PARTITION = one_of(0, 0, 0, 0, 1, 1, -1, 2, 99, BIG32, -BIG32 - 1)
EPOCH = one_of(-1, -1, -1, 0, 0, 1, 9, -5, BIG32)
OFFSET = one_of(0, 0, 1, 2, 5, 20, -1, -2, 10**6, BIG64, -BIG64 - 1)
MEMBER = one_of("", "who", "who", "m\u00fcller", "x" * 300)
TIMEOUT = one_of(15_000, 15_000, 15_000, BIG32)

#: By field, or by API and field where a name means something else there.
FIELDS: dict[str, Draw] = {
    "name": topic,
    "topic": topic,
    "topic_names": topic,
    "topic_name": topic,
    "topic_id": topic_id,
    "partition": PARTITION,
    "partitions": PARTITION,
    "partition_index": PARTITION,
    "partition_indexes": PARTITION,
    "index": PARTITION,
    "offset": OFFSET,
    "fetch_offset": OFFSET,
    "committed_offset": OFFSET,
    "committed_leader_epoch": EPOCH,
    "current_leader_epoch": EPOCH,
    "leader_epoch": EPOCH,
    "last_fetched_epoch": one_of(-1, -1, -1, -1, 0, 3),
    "log_start_offset": one_of(-1, -1, 0, 5),
    "committed_metadata": one_of("", None, "m", "\u00e9" * 10, "x" * 4096, "x" * 4097),
    "timestamp": one_of(-1, -1, -2, -2, -3, -4, -5, -6, -7, 0, T0, T0 + 1, T0 + 10**6, BIG64, -BIG64 - 1),
    "timeout_ms": TIMEOUT,
    "isolation_level": one_of(0, 0, 0, 1, 1, 2, -1),
    "replica_id": one_of(-1, -1, -1, -1, -1, -2, 0, 7, -3),
    "replica_epoch": one_of(-1, 0, 5),
    "max_wait_ms": one_of(0, 1, 20, -1),
    "min_bytes": one_of(0, 1, 1, 10**6, -1),
    "max_bytes": one_of(BIG32, 1 << 20, 1, 0, -1, 100),
    "partition_max_bytes": one_of(1 << 20, 1 << 20, 1, 0, -1, 100, BIG32),
    "session_id": one_of(0, 0, 0, 0, 4711, -1),
    "session_epoch": one_of(-1, -1, -1, -1, 5, -2),
    "rack_id": one_of("", "r1"),
    "cluster_id": one_of(None, None, "other"),
    "acks": one_of(-1, -1, -1, 1, 1, 0, 2, -2, 5),
    "transactional_id": one_of(None, None, None, None, ""),
    "transaction_timeout_ms": one_of(60_000, 0, -1, BIG32),
    "producer_id": one_of(-1, -1, 0, 99, -5),
    "producer_epoch": one_of(-1, -1, 0, 7, -5),
    "records": some_batches,
    "group_id": group,
    "groups": group,
    "groups_names": group,
    "member_id": MEMBER,
    "generation_id": one_of(-1, 0, 1, 9, BIG32),
    "generation_id_or_member_epoch": one_of(-1, -1, -1, 0, 1, 9),
    "group_instance_id": one_of(None, None, None, "i1", ""),
    "member_epoch": one_of(-1, -1, 0, 1),
    "session_timeout_ms": one_of(10_000, 10_000, 1, 0, -1, BIG32, 999, 1_800_000, 1_800_001),
    "rebalance_timeout_ms": one_of(10_000, -1, 0, 1),
    "protocol_type": one_of("consumer", "consumer", "connect", ""),
    "protocol_name": one_of("range", "range", "", None),
    "metadata": one_of(
        placeholder("hex", ""), placeholder("hex", "0000000000000000ffffffff"), placeholder("hex", "ff")
    ),
    "assignment": one_of(placeholder("hex", ""), placeholder("hex", "abcd")),
    "reason": one_of(None, "", "because", "x" * 300),
    "retention_time_ms": one_of(-1, -1, 0, 1, BIG64),
    "require_stable": one_of(False, True),
    "states_filter": one_of("Stable", "Empty", "empty", "Nonsense", "", "Dead"),
    "types_filter": one_of("classic", "Classic", "consumer", "nonsense", ""),
    "key": group,
    "coordinator_keys": group,
    "key_type": one_of(0, 0, 0, 0, 2, 5, -1, 127),
    "resource_type": one_of(2, 2, 2, 2, 4, 0, 1, 3, 8, 16, 32, 99, -1),
    "config_operation": one_of(0, 0, 0, 1, 1, 2, 3, 4, -1, 127),
    "count": one_of(1, 2, 3, 0, -1),
    "num_partitions": one_of(1, 2, -1, -1, 0, -5),
    "replication_factor": one_of(1, 1, -1, 0, -2, 2, 3, 32767),
    "broker_ids": one_of(0, 0, 0, 7, -1),
    "client_software_name": one_of("raw", "raw", "", "bad name", "-x", "a.b-c"),
    "client_software_version": one_of("1.0", "1.0", "", "1 0", "1.0."),
    "endpoint_type": one_of(1, 1, 2, 3, 0, -1),
    "include_fenced_brokers": one_of(False, True),
    "response_partition_limit": one_of(2000, 1, 2, 0, -1),
    "value": one_of("1", None),
    "replica_directory_id": one_of(placeholder("hex", "00" * 16), placeholder("hex", "07" * 16)),
    "high_watermark": one_of(BIG64, 0, -1),
}


def _once(items: list[Tree]) -> list[Tree]:
    """Each topic and partition once."""
    found: dict[str, Tree] = {}
    for item in items:
        name = item
        if isinstance(item, dict):
            name = [item.get(key) for key in ("name", "topic", "topic_id", "index", "partition")]
        found.setdefault(repr(name), item)
    return list(found.values())


class Generator:
    """Draws requests of any API at any version.

    Not drawn, since both sides' answers are of no use to anybody: a partition that is named twice in one Produce or
    Fetch (Kafka takes the last, ours each), a topic without partitions there (Kafka leaves it out of the answer), and
    an isolation level of Fetch that there is none of (Kafka answers UNKNOWN_SERVER_ERROR, ours reads uncommitted),
    and an epoch or a timestamp below 0 in a batch (Kafka fails only where it has to compress the batch anew).
    """

    def __init__(self, random: Random, world: World) -> None:
        self.random = random
        self.world = world

    def body(self, api: str, version: int) -> dict[str, Tree]:
        return self._struct(api, read_table(api + "Request").struct, version, {})

    def _struct(self, api: str, table: Struct, version: int, above: dict[str, Any]) -> dict[str, Tree]:
        made: dict[str, Tree] = {}
        for field in table.fields:
            if version not in field.versions or (version in field.tagged and self.random.random() < 0.7):
                continue
            made[field.name] = self._field(api, field, version, {**above, **made})
        return self._settled(api, table.name, made, above)

    def _field(self, api: str, field: Field, version: int, above: dict[str, Any]) -> Tree:
        random = self.random
        if version in field.nullable and (field.is_array or field.struct is not None) and random.random() < 0.15:
            return None
        if not field.is_array:
            return self._one(api, field, version, above)
        plain = api in ("Produce", "Fetch", "JoinGroup")
        count = random.choice([1 if plain else 0, 1, 1, 1, 1, 2, 2, 3])
        items = [self._one(api, field, version, above) for _ in range(count)]
        if plain:
            return _once(items)
        if items and random.random() < 0.15:
            items.append(random.choice(items))
        return items

    def _one(self, api: str, field: Field, version: int, above: dict[str, Any]) -> Tree:
        random, world = self.random, self.world
        if field.struct is not None:
            return self._struct(api, field.struct, version, above)
        if field.type == "bool":
            return random.random() < 0.5
        if field.name == "configuration_keys":
            return random.choice(["retention.ms", "cleanup.policy", "num.partitions", "nope", ""])
        if field.name == "resource_name":
            return self._resource(above["resource_type"])
        if field.name == "name" and "resource_type" in above:
            return setting(random, above["resource_type"] == 4)[0]
        if field.name == "isolation_level" and api == "Fetch":
            return random.choice([0, 0, 1])
        value = FIELDS[field.name](random, world)
        if value is None and version not in field.nullable:
            return ""
        return value

    def _resource(self, kind: int) -> str:
        if kind == 4:
            return self.random.choice(["0", "0", "1", "", "x", "-1", "00"])
        return topic(self.random, self.world)

    def _settled(self, api: str, struct: str, made: dict[str, Tree], above: dict[str, Any]) -> dict[str, Tree]:
        """What hangs together in one struct, and what would disturb others."""
        random, world = self.random, self.world
        if struct == "CreatableTopic":
            made["name"] = new_topic(random, world)
            if made["assignments"] and random.random() < 0.7:
                made["num_partitions"] = made["replication_factor"] = -1
            elif random.random() < 0.8:
                made["assignments"] = []
        if struct in ("CreatableTopicConfig", "AlterableConfig"):
            name, value = setting(random, above.get("resource_type") == 4)
            made |= {"name": name, "value": value}
        if struct == "JoinGroupRequestProtocol":
            made["name"] = random.choice(["range", "range", "roundrobin", ""])
        if api == "JoinGroup" and struct == "JoinGroupRequest":
            made["group_id"] = world.fresh("join") if made["group_id"] else ""
        if struct == "ProduceRequest" and made["acks"] not in (-1, 0, 1):  # one thing wrong at a time
            for partition in [each for topic in made["topic_data"] for each in topic["partition_data"]]:
                partition["records"] = batches({"records": [["k", "v"]]})
        if struct == "DeleteTopicState" and made["name"] and random.random() < 0.9:
            made["topic_id"] = placeholder("hex", "00" * 16)
        if struct == "DeleteTopicState" and not made["name"] and random.random() < 0.7:
            made["name"] = None
        if api in ("AlterConfigs", "IncrementalAlterConfigs") and struct.endswith("Request"):
            made["validate_only"] = made["validate_only"] or any(r["resource_type"] != 2 for r in made["resources"])
        return made

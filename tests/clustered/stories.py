"""What is done to a cluster of either kind: the story of a tree, and the story of answers.

Broker 1 is the controller, 1 and 2 are in one rack. Replicas are said wherever chance would choose them; topics whose
names begin with `chance`, and Kafka's own, are those where it does.
"""

from __future__ import annotations

from typing import Any

from tests.clustered.stage import Step, Story, asked
from tests.differential.session import ask, batches, placeholder

CONTROLLER = 1
OTHER = 2
TIMEOUT_MS = 15_000
TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)
NO_ID = placeholder("hex", "00" * 16)


def do(what: str, broker: int) -> Step:
    return {"do": what, "broker": broker}


def tree(name: str) -> Step:
    return {"tree": name}


def new_topic(
    name: str, *replicas: list[int], count: int = -1, factor: int = -1, **settings: str | None
) -> dict[str, Any]:
    """Its replicas, or how many; settings with `_` for `.`."""
    assignments = [{"partition_index": index, "broker_ids": brokers} for index, brokers in enumerate(replicas)]
    configs = [{"name": key.replace("_", "."), "value": value} for key, value in settings.items()]
    return {
        "name": name,
        "num_partitions": count,
        "replication_factor": factor,
        "assignments": assignments,
        "configs": configs,
    }


def create(
    *topics: dict[str, Any],
    at: int = CONTROLLER,
    validate: bool = False,
    timeout_ms: int = TIMEOUT_MS,
    version: int = 7,
) -> Step:
    body = {"topics": list(topics), "timeout_ms": timeout_ms, "validate_only": validate}
    return asked(ask("CreateTopics", version, body), at)


def delete(*names: str, at: int = CONTROLLER, timeout_ms: int = TIMEOUT_MS) -> Step:
    topics = [{"name": name, "topic_id": NO_ID} for name in names]
    return asked(ask("DeleteTopics", 6, {"topics": topics, "timeout_ms": timeout_ms}), at)


def delete_ids(*ids: dict[str, Any], at: int = CONTROLLER) -> Step:
    topics = [{"name": None, "topic_id": each} for each in ids]
    return asked(ask("DeleteTopics", 6, {"topics": topics, "timeout_ms": TIMEOUT_MS}), at)


def grow(
    name: str,
    count: int,
    *replicas: list[int],
    at: int = CONTROLLER,
    validate: bool = False,
    twice: bool = False,
    timeout_ms: int = TIMEOUT_MS,
) -> Step:
    lists = [{"broker_ids": brokers} for brokers in replicas] or None
    topics = [{"name": name, "count": count, "assignments": lists}] * (2 if twice else 1)
    body = {"topics": topics, "timeout_ms": timeout_ms, "validate_only": validate}
    return asked(ask("CreatePartitions", 3, body), at)


def change(
    kind: int, name: str, *changes: tuple[int, str, str | None], at: int = CONTROLLER, validate: bool = False
) -> Step:
    configs = [{"name": key, "config_operation": how, "value": value} for how, key, value in changes]
    resource = {"resource_type": kind, "resource_name": name, "configs": configs}
    return asked(ask("IncrementalAlterConfigs", 1, {"resources": [resource], "validate_only": validate}), at)


def replace(kind: int, name: str, at: int = CONTROLLER, **settings: str | None) -> Step:
    configs = [{"name": key.replace("_", "."), "value": value} for key, value in settings.items()]
    resource = {"resource_type": kind, "resource_name": name, "configs": configs}
    return asked(ask("AlterConfigs", 2, {"resources": [resource], "validate_only": False}), at)


def described(kind: int, name: str, *keys: str, at: int, synonyms: bool = True) -> Step:
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": list(keys) or None}
    body = {"resources": [resource], "include_synonyms": synonyms, "include_documentation": False}
    return asked(ask("DescribeConfigs", 4, body), at)


def reassign(name: str, *wanted: tuple[int, list[int] | None], at: int = CONTROLLER) -> Step:
    partitions = [{"partition_index": index, "replicas": replicas} for index, replicas in wanted]
    body = {"timeout_ms": TIMEOUT_MS, "topics": [{"name": name, "partitions": partitions}]}
    return asked(ask("AlterPartitionReassignments", 0, body), at)


def reassignments(*topics: tuple[str, list[int]], at: int = CONTROLLER) -> Step:
    named = [{"name": name, "partition_indexes": indexes} for name, indexes in topics] or None
    return asked(ask("ListPartitionReassignments", 0, {"timeout_ms": TIMEOUT_MS, "topics": named}), at)


def elect(
    *topics: tuple[str, list[int]], kind: int = 0, at: int = CONTROLLER, version: int = 2, timeout_ms: int = TIMEOUT_MS
) -> Step:
    named = [{"topic": name, "partitions": indexes} for name, indexes in topics] or None
    body: dict[str, Any] = {"topic_partitions": named, "timeout_ms": timeout_ms}
    if version >= 1:
        body["election_type"] = kind
    return asked(ask("ElectLeaders", version, body), at)


def metadata(*names: str, at: int, version: int = 12, create: bool = False, once: bool = False) -> Step:
    """Of all topics, when none is named."""
    topics = [{"name": name, "topic_id": NO_ID} if version >= 10 else {"name": name} for name in names] or None
    body: dict[str, Any] = {"topics": topics}
    if version >= 4:
        body["allow_auto_topic_creation"] = create
    if version >= 8:
        body["include_topic_authorized_operations"] = True
    return asked(ask("Metadata", version, body), at, once=once)


def produce(name: str, index: int, *specs: dict[str, Any], at: int, version: int = 9, acks: int = -1) -> Step:
    partition = {"index": index, "records": batches(*specs)}
    body = {"acks": acks, "timeout_ms": TIMEOUT_MS, "topic_data": [{"name": name, "partition_data": [partition]}]}
    return asked(ask("Produce", version, body), at)


def fetch(name: str, index: int, at: int, version: int = 12, epoch: int = -1, offset: int = 0) -> Step:
    partition = {
        "partition": index,
        "current_leader_epoch": epoch,
        "fetch_offset": offset,
        "last_fetched_epoch": -1,
        "log_start_offset": -1,
        "partition_max_bytes": 1 << 20,
    }
    topic = {"topic_id": placeholder("topic_id", name)} if version >= 13 else {"topic": name}
    body: dict[str, Any] = {
        "max_wait_ms": 0,
        "min_bytes": 0,
        "max_bytes": 1 << 20,
        "session_id": 0,
        "session_epoch": -1,
        "topics": [{**topic, "partitions": [partition]}],
        "rack_id": "",
    }
    if version < 15:
        body["replica_id"] = -1
    return asked(ask("Fetch", version, body), at)


def producer_id(at: int) -> Step:
    return asked(ask("InitProducerId", 4, {"transactional_id": None, "transaction_timeout_ms": 60_000}), at)


def coordinator(group: str, at: int, once: bool = False) -> Step:
    return asked(ask("FindCoordinator", 4, {"key_type": 0, "coordinator_keys": [group]}), at, once=once)


def of_broker(number: int, add: int = 0) -> dict[str, Any]:
    return placeholder("broker_epoch", "x") | {"of": number, "add": add}


ONE_RECORD = {"records": [["k", "v"]], "timestamp": 1_700_000_000_000}
LARGE = {"records": [["k", "v" * 900]], "timestamp": 1_700_000_000_000}

TREE: Story = [
    tree("three brokers"),
    create(new_topic("assigned", [3, 1, 2], [1, 2, 3], [2, 3, 1])),
    create(
        new_topic("configured", [1, 2], retention_ms="-1", segment_bytes="1048576", cleanup_policy="compact,delete")
    ),
    create(new_topic("single", [3]), new_topic("pair", [3, 1])),
    create(new_topic("validated", [1, 2]), validate=True),
    create(new_topic("chance-all", count=3, factor=3), new_topic("chance-racks", count=6, factor=2)),
    create(new_topic("chance-default")),
    tree("topics"),
    grow("configured", 3, [2, 3], [3, 1]),
    grow("chance-racks", 7),
    tree("grown"),
    delete("chance-all", "chance-racks"),
    {"wait": "/brokers/topics/chance-racks", "there": False},
    change(TOPIC, "configured", (SET, "retention.ms", "3600000"), (DELETE, "segment.bytes", None), at=2),
    change(TOPIC, "configured", (SUBTRACT, "cleanup.policy", "compact"), at=3),
    change(TOPIC, "configured", (SET, "retention.bytes", "1"), validate=True),
    replace(TOPIC, "assigned", at=3, max_message_bytes="2000000", flush_messages="9"),
    replace(TOPIC, "single"),
    change(BROKER, "2", (SET, "log.cleaner.threads", "2"), at=2),
    change(BROKER, "", (SET, "message.max.bytes", "1100000"), (SET, "log.retention.ms", "600000000"), at=3),
    change(BROKER, "", (DELETE, "log.retention.ms", None), at=1),
    change(BROKER, "2", (DELETE, "log.cleaner.threads", None), at=2),
    described(BROKER, "1", "log.retention.ms", at=1),
    described(BROKER, "2", "log.retention.ms", at=2),
    tree("settings"),
    reassign("single", (0, [1])),
    tree("moved"),
    reassign("pair", (0, [3, 1, 2])),
    tree("one replica more"),
    reassign("pair", (0, [1])),
    tree("two replicas less"),
    reassign("assigned", (0, [1, 2, 3])),
    tree("in another order"),
    elect(("assigned", [0])),
    tree("preferred"),
    create(new_topic("slow", [1, 2], follower_replication_throttled_replicas="*")),
    change(BROKER, "3", (SET, "follower.replication.throttled.rate", "1"), at=3),
    *[produce("slow", 0, LARGE, at=1) for _ in range(12)],
    reassign("slow", (0, [1, 3])),
    tree("moved in spite of a throttle"),
    reassign("slow", (0, None)),
    tree("nothing to cancel"),
    change(BROKER, "3", (DELETE, "follower.replication.throttled.rate", None), at=3),
    do("kill", 3),
    {"wait": "/brokers/ids/3", "there": False},
    tree("a broker killed"),
    do("start", 3),
    tree("it came back"),
    elect(("assigned", [0, 1, 2]), ("configured", [0, 1, 2])),
    tree("its partitions given back"),
    do("stop", 2),
    tree("a broker stopped"),
    do("start", 2),
    tree("it came back too"),
    {
        "write": "/admin/preferred_replica_election",
        "data": '{"version":1,"partitions":[{"topic":"assigned","partition":2}]}',
    },
    {"wait": "/admin/preferred_replica_election", "there": False},
    tree("an election by an old tool"),
    {
        "write": "/admin/reassign_partitions",
        "data": '{"version":1,"partitions":[{"topic":"single","partition":0,"replicas":[2]}]}',
    },
    {"wait": "/admin/reassign_partitions", "there": False},
    tree("a reassignment by an old tool"),
    delete("assigned", "chance-default"),
    {"wait": "/brokers/topics/assigned", "there": False},
    tree("deleted"),
    producer_id(2),
    tree("a block of producer ids"),
    producer_id(3),
    tree("another one"),
    coordinator("group", 2, once=True),
    {"wait": "/brokers/topics/__consumer_offsets", "there": True},
    tree("the offsets topic"),
    create(new_topic("only-three", [3]), new_topic("three-first", [3, 2])),
    do("stop", 3),
    tree("the only replica stopped"),
    delete("only-three"),
    tree("a deletion that waits"),
    do("kill", 1),
    {"wait": "/brokers/ids/1", "there": False},
    tree("another controller"),
    do("start", 3),
    {"wait": "/admin/delete_topics/only-three", "there": False},
    tree("the deletion went on"),
    do("start", 1),
    tree("all three again"),
    do("join", 4),
    {"wait": "/brokers/ids/1001", "there": True},
    tree("a broker without an id"),
    do("stop", 4),
    tree("it went"),
]

THREE = [3, 1, 2]


def led(controller_id: int = 1, controller_epoch: int = 0) -> dict[str, Any]:
    return {"controller_id": controller_id, "controller_epoch": controller_epoch}


def stale(at: int) -> list[Step]:
    """What a controller of before says, and what one says to an incarnation of before."""
    found = []
    for controller_epoch, add in ((0, 0), (1, -1), (9, -1)):
        told = {**led(1, controller_epoch), "broker_epoch": of_broker(at, add)}
        found += [
            asked(ask("LeaderAndIsr", 7, {**told, "type": 0, "topic_states": [], "live_leaders": []}), at),
            asked(ask("UpdateMetadata", 8, {**told, "topic_states": [], "live_brokers": []}), at),
            asked(ask("StopReplica", 4, {**told, "topic_states": []}), at),
        ]
    return found


def isr_change(name: str, at: int, broker: int = 3, add: int = 0, **more: Any) -> Step:
    """AlterPartition of partition 0 that leaves the ISR as it is, unless told otherwise."""
    part = {
        "partition_index": more.get("index", 0),
        "leader_epoch": more.get("leader_epoch", 0),
        "new_isr_with_epochs": [{"broker_id": each, "broker_epoch": -1} for each in more.get("isr", THREE)],
        "leader_recovery_state": 0,
        "partition_epoch": more.get("partition_epoch", 0),
    }
    topic = {"topic_id": placeholder("topic_id", name), "partitions": [part]}
    body = {"broker_id": broker, "broker_epoch": of_broker(broker, add), "topics": [topic]}
    return asked(ask("AlterPartition", 3, body), at)


def asked_of_leaders(name: str, index: int, at: int) -> list[Step]:
    """What only a leader answers."""
    latest = {"partition_index": index, "current_leader_epoch": -1, "timestamp": -1}
    end = {"partition": index, "current_leader_epoch": -1, "leader_epoch": 0}
    cut = {"partition_index": index, "offset": 0}
    offsets = {"replica_id": -1, "isolation_level": 0, "topics": [{"name": name, "partitions": [latest]}]}
    requests = [
        ask("ListOffsets", 7, offsets),
        ask("ListOffsets", 7, {**offsets, "replica_id": -2}),
        ask("OffsetForLeaderEpoch", 4, {"replica_id": -1, "topics": [{"topic": name, "partitions": [end]}]}),
        ask("DeleteRecords", 2, {"topics": [{"name": name, "partitions": [cut]}], "timeout_ms": TIMEOUT_MS}),
        ask("DescribeProducers", 0, {"topics": [{"name": name, "partition_indexes": [index, 9]}]}),
    ]
    return [
        *[asked(each, at) for each in requests],
        fetch(name, index, at, 11),
        fetch(name, index, at, 12),
        fetch(name, index, at, 16),
        fetch(name, index, at, 17, epoch=0),
        fetch(name, index, at, 17, epoch=5),
        produce(name, index, ONE_RECORD, at=at, version=9),
        produce(name, index, ONE_RECORD, at=at, version=10),
        produce(name, index, ONE_RECORD, at=at, version=11, acks=1),
    ]


def log_dirs(name: str, indexes: list[int], at: int) -> Step:
    return asked(ask("DescribeLogDirs", 4, {"topics": [{"topic": name, "partitions": indexes}]}), at)


ADMIN: Story = [
    *[asked(ask("ApiVersions", 0, {}), at) for at in (CONTROLLER, OTHER)],
    *[asked(ask("DescribeCluster", 1, {"endpoint_type": 1}), at) for at in (CONTROLLER, OTHER)],
    asked(ask("DescribeCluster", 0, {"include_cluster_authorized_operations": True}), OTHER),
    *[metadata(at=at, version=version) for at in (CONTROLLER, OTHER) for version in (1, 12)],
    asked(ask("DescribeQuorum", 0, {"topics": []}), CONTROLLER),
    asked(ask("DescribeTopicPartitions", 0, {"topics": [], "response_partition_limit": 9}), CONTROLLER),
    # topics
    *[create(new_topic("valid", THREE, [1, 2, 3]), validate=True, at=at) for at in (CONTROLLER, OTHER)],
    create(new_topic("a", [1]), new_topic("a", [1]), new_topic("bad name!"), at=OTHER),
    *[create(new_topic("refused", [1]), at=OTHER, version=version) for version in (2, 4, 5)],
    create(new_topic("four", count=1, factor=4)),
    create(new_topic("four", count=1, factor=4), validate=True),
    create(new_topic("zero", count=1, factor=0), new_topic("none", count=0, factor=1)),
    create(new_topic("both", [1], count=1, factor=1)),
    create(new_topic("uneven", [1, 2], [3])),
    create(new_topic("doubled", [1, 1])),
    create(new_topic("gaps", [1, 2]) | {"assignments": [{"partition_index": 1, "broker_ids": [1]}]}),
    create(new_topic("wrong", [1], no_such="1"), new_topic("wrong2", [1], retention_ms="x")),
    create(new_topic("orders", THREE, [1, 2, 3], [2, 3, 1], retention_ms="-1")),
    create(new_topic("orders", THREE), new_topic("o_rders", [1])),
    create(new_topic("o.rders", [1])),
    create(new_topic("elsewhere", [1, 2])),
    create(new_topic("defaults", [2, 1]), version=2),
    create(new_topic("hurried", [1, 2, 3]), timeout_ms=0),
    create(new_topic("throttled", [1, 2, 3])),
    *[metadata("orders", "missing", "bad name!", at=at) for at in (1, 2, 3)],
    metadata("orders", at=OTHER, version=7),
    # growth
    grow("orders", 4, at=OTHER),
    grow("orders", 2),
    grow("orders", 3),
    grow("orders", 4, [1, 2]),
    grow("orders", 4, [1, 2, 9]),
    grow("orders", 4, [1, 2, 2]),
    grow("orders", 5, [1, 2, 3]),
    grow("orders", 4, []),
    grow("orders", 4, [1, 2, 3], twice=True),
    grow("missing", 4),
    grow("orders", 4, [1, 2, 3], validate=True),
    grow("orders", 4, [1, 2, 3]),
    grow("o_rders", 2, [2], timeout_ms=0),
    grow("o_rders", 3, timeout_ms=0, validate=True),
    metadata("orders", "o_rders", at=3),
    # settings
    change(BROKER, "2", (SET, "log.cleaner.threads", "2"), at=CONTROLLER),
    change(BROKER, "1", (SET, "log.cleaner.threads", "2"), at=OTHER, validate=True),
    change(BROKER, "2", (SET, "log.cleaner.threads", "2"), at=OTHER),
    change(BROKER, "9", (SET, "log.cleaner.threads", "2"), at=CONTROLLER),
    change(BROKER, "", (SET, "log.retention.ms", "600000000"), at=OTHER),
    change(BROKER, "", (SET, "leader.replication.throttled.rate", "1000"), at=OTHER),
    change(BROKER, "2", (SET, "leader.replication.throttled.rate", "1000"), at=OTHER),
    change(BROKER, "2", (DELETE, "leader.replication.throttled.rate", None), at=OTHER),
    replace(BROKER, "1", at=OTHER, log_cleaner_threads="2"),
    replace(BROKER, "9", at=OTHER, log_cleaner_threads="2"),
    change(TOPIC, "orders", (SET, "retention.bytes", "5000000"), at=OTHER),
    change(TOPIC, "orders", (APPEND, "leader.replication.throttled.replicas", "0:1,0:2"), at=3),
    change(TOPIC, "missing", (SET, "retention.bytes", "5000000"), at=OTHER),
    replace(TOPIC, "missing", at=OTHER, retention_bytes="5"),
    described(
        TOPIC, "orders", "retention.bytes", "retention.ms", "leader.replication.throttled.replicas", at=CONTROLLER
    ),
    described(TOPIC, "missing", at=CONTROLLER),
    described(BROKER, "2", "log.cleaner.threads", "log.retention.ms", at=OTHER),
    described(BROKER, "2", at=CONTROLLER),
    described(BROKER, "9", at=CONTROLLER),
    described(BROKER, "", at=3),
    described(BROKER, "1", "broker.rack", "broker.id", "min.insync.replicas", at=CONTROLLER),
    # elections
    elect(("orders", [0]), at=OTHER),
    elect(("orders", [0, 1])),
    elect(("orders", [0]), kind=1),
    elect(("orders", [0]), kind=7),
    elect(("orders", [99]), ("missing", [0])),
    elect(("orders", [0, 0])),
    elect(kind=1),
    elect(version=0),
    elect(version=1),
    # reassignments
    reassign("orders", (0, THREE), at=OTHER),
    reassign("orders", (0, [1, 9])),
    reassign("orders", (0, [1, 1])),
    reassign("orders", (0, [])),
    reassign("orders", (0, [-1])),
    reassign("orders", (0, None)),
    reassign("orders", (99, [1])),
    reassign("missing", (0, [1])),
    reassign("missing", (0, None)),
    reassign("defaults", (0, [2, 1])),
    reassign("defaults", (0, [2, 1, 3])),
    reassignments(),
    reassignments(("orders", [0, 77]), ("missing", [0])),
    reassignments(at=OTHER),
    metadata("defaults", at=3),
    # brokers to the controller
    asked(ask("AllocateProducerIds", 0, {"broker_id": 2, "broker_epoch": of_broker(2)}), OTHER),
    asked(ask("AllocateProducerIds", 0, {"broker_id": 2, "broker_epoch": of_broker(2, -1)}), CONTROLLER),
    asked(ask("AllocateProducerIds", 0, {"broker_id": 9, "broker_epoch": 1}), CONTROLLER),
    asked(ask("ControlledShutdown", 3, {"broker_id": 2, "broker_epoch": of_broker(2)}), OTHER),
    asked(ask("ControlledShutdown", 3, {"broker_id": 2, "broker_epoch": of_broker(2, -1)}), CONTROLLER),
    asked(ask("ControlledShutdown", 3, {"broker_id": 9, "broker_epoch": 5}), CONTROLLER),
    asked(ask("ControlledShutdown", 3, {"broker_id": 9, "broker_epoch": -1}), CONTROLLER),
    isr_change("throttled", OTHER, broker=1),
    isr_change("throttled", CONTROLLER, broker=1, add=-1),
    isr_change("throttled", CONTROLLER, broker=9) | {"ask": ask("AlterPartition", 3, {"broker_id": 9, "topics": []})},
    isr_change("throttled", CONTROLLER, broker=1, leader_epoch=-1),
    isr_change("throttled", CONTROLLER, broker=1, leader_epoch=5),
    isr_change("throttled", CONTROLLER, broker=1, index=7),
    isr_change("throttled", CONTROLLER, broker=1, partition_epoch=7),
    isr_change("throttled", CONTROLLER, broker=1, isr=[1, 2, 3]),
    isr_change("nobody's", CONTROLLER, broker=1),
    *[step for at in (CONTROLLER, OTHER) for step in stale(at)],
    # followers
    *asked_of_leaders("orders", 0, at=OTHER),
    *asked_of_leaders("orders", 99, at=OTHER),
    *asked_of_leaders("elsewhere", 0, at=3),
    *asked_of_leaders("missing", 0, at=OTHER),
    produce("orders", 0, ONE_RECORD, at=3),
    log_dirs("orders", [0, 1], at=OTHER),
    log_dirs("elsewhere", [0], at=3),
    # topics that come with being asked for
    metadata("came", at=OTHER, create=True, once=True),
    metadata("came", at=OTHER, create=True),
    metadata("came2", "bad name!", at=OTHER, version=1, once=True),
    metadata("came2", at=3, version=1),
    # a broker is missing
    do("kill", 3),
    {"wait": "/brokers/ids/3", "there": False},
    metadata("orders", at=OTHER),
    metadata("orders", at=OTHER, version=4),
    asked(ask("DescribeCluster", 1, {"endpoint_type": 1}), OTHER),
    create(new_topic("four", count=1, factor=3)),
    create(new_topic("dead", [3])),
    elect(("orders", [0])),
    elect(("orders", [0]), kind=1),
    elect(kind=1),
    reassign("throttled", (0, [1, 3])),
    grow("orders", 5, [1, 2, 3]),
    metadata("four", at=OTHER, create=True, once=True),
    coordinator("first", OTHER, once=True),
    metadata("__consumer_offsets", at=OTHER, create=True, once=True),
    coordinator("first", OTHER),
    produce("orders", 0, ONE_RECORD, at=1),
    produce("orders", 1, ONE_RECORD, at=1),
    produce("orders", 1, ONE_RECORD, at=2),
    fetch("orders", 0, 2, 17),
    # deletion
    delete("orders", at=OTHER),
    delete("missing", "missing", at=OTHER),
    delete("missing", "defaults", "missing"),
    delete("hurried", timeout_ms=0),
    delete_ids(placeholder("topic_id", "throttled"), at=OTHER),
    delete_ids(placeholder("hex", "11" * 16), at=OTHER),
    delete_ids(placeholder("hex", "11" * 16)),
    delete_ids(placeholder("topic_id", "came")),
    asked(ask("DeleteTopics", 3, {"topic_names": ["orders", "missing"], "timeout_ms": 500}), CONTROLLER),
    create(new_topic("orders", [1])),
    grow("orders", 9),
]

STORIES = {"tree": (TREE, {}), "admin": (ADMIN, {"auto.create.topics.enable": "true"})}

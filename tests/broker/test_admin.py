"""Topics and configurations: what is refused, with which code and in which words; what is there afterwards.

The same tests run against Apache Kafka with PYLOG_TEST_BROKER=kafka39 or kafka4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster.protocol import messages as m
from tests.broker.kafkas import either, said
from tests.broker.raw import Raw
from tests.support.brokers import Broker, chosen_kind, start_broker, unavailable

TOPIC = 2
BROKER = 4
LONG = "x" * 250


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    why = unavailable()
    if why is not None:
        pytest.skip(why)
    with start_broker(tmp_path_factory.mktemp("admin"), {"num.partitions": "3"}) as started:
        raw = Raw(started.port)
        assert create(raw, "b1", 2, 1)[0] == 0
        assert create(raw, "a.b", 1, 1)[0] == 0
        raw.close()
        yield started


@pytest.fixture
def raw(broker: Broker) -> Iterator[Raw]:
    connection = Raw(broker.port)
    yield connection
    connection.close()


def create(
    raw: Raw,
    name: str,
    partitions: int = 1,
    factor: int = 1,
    configs: dict[str, str | None] | None = None,
    assignment: dict[int, list[int]] | None = None,
    validate_only: bool = False,
) -> tuple[int, str | None]:
    """(error code, message)"""
    answer = create_answer(raw, name, partitions, factor, configs, assignment, validate_only)
    return answer.error_code, answer.error_message


def create_answer(
    raw: Raw,
    name: str,
    partitions: int = 1,
    factor: int = 1,
    configs: dict[str, str | None] | None = None,
    assignment: dict[int, list[int]] | None = None,
    validate_only: bool = False,
) -> Any:
    topic = m.CreateTopicsRequest.CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=factor,
        assignments=[
            m.CreateTopicsRequest.CreatableReplicaAssignment(partition_index=index, broker_ids=brokers)
            for index, brokers in (assignment or {}).items()
        ],
        configs=[m.CreateTopicsRequest.CreatableTopicConfig(name=k, value=v) for k, v in (configs or {}).items()],
    )
    request = m.CreateTopicsRequest(topics=[topic], timeout_ms=15_000, validate_only=validate_only)
    return raw.ask(request, 7).topics[0]


REFUSED = [
    (("b1",), 36, "Topic 'b1' already exists."),
    (("rf", 1, 3), 38, "Replication factor: 3 larger than available brokers: 1."),
    (("rf", 1, 0), 38, "Replication factor must be larger than 0."),
    (("none", 0, 1), 37, "Number of partitions must be larger than 0."),
    (("none", -5, 1), 37, "Number of partitions must be larger than 0."),
    (
        ("bad name!",),
        17,
        "Topic name is invalid: 'bad name!' contains one or more characters other than ASCII alphanumerics, "
        "'.', '_' and '-'",
    ),
    ((".",), 17, "Topic name is invalid: '.' is not allowed"),
    (("..",), 17, "Topic name is invalid: '..' is not allowed"),
    ((LONG,), 17, f"Topic name is invalid: the length of '{LONG}' is longer than the max allowed length 249"),
    (("a_b",), 17, "Topic 'a_b' collides with existing topics: a.b"),
    (("c1", 1, 1, {"no.such.config": "1"}), 40, "Unknown topic config name: no.such.config"),
    (
        ("c2", 1, 1, {"retention.ms": "abc"}),
        40,
        "Invalid value abc for configuration retention.ms: Not a number of type LONG",
    ),
    (
        ("c3", 1, 1, {"cleanup.policy": "foo"}),
        40,
        "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
    ),
    (
        ("c4", 1, 1, {"segment.bytes": "1"}),
        40,
        "Invalid value 1 for configuration segment.bytes: Value must be at least 14",
    ),
    (
        ("c5", 1, 1, {"compression.type": "foo"}),
        40,
        "Invalid value foo for configuration compression.type: String must be one of: uncompressed, zstd, lz4, "
        "snappy, gzip, producer",
    ),
    (
        ("gap", -1, -1, None, {0: [0], 2: [0]}),
        39,
        "partitions should be a consecutive 0-based integer sequence",
    ),
    (
        ("both", 2, 1, None, {0: [0]}),
        42,
        "Both numPartitions or replicationFactor and replicasAssignments were set. "
        "Both cannot be used at the same time.",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "message"), REFUSED, ids=[f"{c[1]}-{i}" for i, c in enumerate(REFUSED)])
def test_create_refused(raw: Raw, arguments: tuple[Any, ...], code: int, message: str) -> None:
    assert create(raw, *arguments) == (code, said(message))


def test_create_shows_what_was_made(raw: Raw) -> None:
    made = create_answer(raw, "shown", -1, -1, {"retention.ms": "1000"})
    assert (made.error_code, made.num_partitions, made.replication_factor) == (0, 3, 1)
    assert made.topic_id != b"\0" * 16
    config = {c.name: (c.value, c.config_source) for c in made.configs}
    assert config["retention.ms"] == ("1000", 1)
    assert config["cleanup.policy"][0] == "delete"
    checked = create_answer(raw, "checked", 2, 1, validate_only=True)
    assert (checked.error_code, checked.num_partitions) == (0, 2)
    assert create(raw, "checked")[0] == 0, "validate only made nothing"


def test_create_twice_in_one_request(raw: Raw) -> None:
    topic = m.CreateTopicsRequest.CreatableTopic(name="twice", num_partitions=1, replication_factor=1)
    answer = raw.ask(m.CreateTopicsRequest(topics=[topic, topic], timeout_ms=15_000), 5)
    assert {t.error_code for t in answer.topics} == {42}


def grow(raw: Raw, name: str, count: int, assignments: list[list[int]] | None = None) -> tuple[int, str | None]:
    lists = None
    if assignments is not None:
        lists = [m.CreatePartitionsRequest.CreatePartitionsAssignment(broker_ids=ids) for ids in assignments]
    topic = m.CreatePartitionsRequest.CreatePartitionsTopic(name=name, count=count, assignments=lists)
    answer = raw.ask(m.CreatePartitionsRequest(topics=[topic], timeout_ms=15_000), 3).results[0]
    return answer.error_code, answer.error_message


def test_create_partitions(raw: Raw) -> None:
    assert create(raw, "grow", 2)[0] == 0
    fewer = said("Topic currently has 2 partitions, which is higher than the requested 1.")
    assert grow(raw, "grow", 1) == (37, fewer)
    assert grow(raw, "grow", 2) == (37, said("Topic already has 2 partitions."))
    assert grow(raw, "nope", 2) == (3, either("The topic 'nope' does not exist.", None))
    assert grow(raw, "grow", 4, [[0]]) == (
        39,
        said("Increasing the number of partitions by 2 but 1 assignments provided."),
    )
    assert grow(raw, "grow", 3, [[7]]) == (39, said("Unknown broker(s) in replica assignment: 7."))
    assert grow(raw, "grow", 4)[0] == 0
    for _ in range(200):  # Kafka's metadata follow a little later
        found = raw.ask(m.MetadataRequest(topics=[m.MetadataRequest.MetadataRequestTopic(name="grow")]), 8).topics[0]
        if len(found.partitions) == 4 and all(p.leader_id == 0 for p in found.partitions):
            break
    assert sorted(p.partition_index for p in found.partitions) == [0, 1, 2, 3]


def test_delete_topics(raw: Raw) -> None:
    assert create(raw, "gone", 2)[0] == 0
    assert [t.error_code for t in delete(raw, "gone")] == [0]
    code = 0
    for _ in range(2000):  # Kafka answers when its controller has seen the deletion, other requests may not yet
        code = metadata_error(raw, "gone")
        if code == 3:
            break
    assert code == 3
    assert [t.error_code for t in delete(raw, "nope")] == [3]
    by_id = m.DeleteTopicsRequest.DeleteTopicState(name=None, topic_id=b"\1" * 16)
    assert [t.error_code for t in raw.ask(m.DeleteTopicsRequest(topics=[by_id], timeout_ms=9000), 6).responses] == [100]


def delete(raw: Raw, name: str) -> Any:
    return raw.ask(m.DeleteTopicsRequest(topic_names=[name], timeout_ms=15_000), 4).responses


def metadata_error(raw: Raw, name: str) -> int:
    asked = m.MetadataRequest.MetadataRequestTopic(name=name)
    answer = raw.ask(m.MetadataRequest(topics=[asked], allow_auto_topic_creation=False), 8)
    return int(answer.topics[0].error_code)


def describe(raw: Raw, kind: int, name: str, keys: list[str] | None = None) -> Any:
    resource = m.DescribeConfigsRequest.DescribeConfigsResource(
        resource_type=kind, resource_name=name, configuration_keys=keys
    )
    return raw.ask(m.DescribeConfigsRequest(resources=[resource], include_synonyms=True), 4).results[0]


def alter(raw: Raw, kind: int, name: str, *changes: tuple[str, int, str | None]) -> tuple[int, str | None]:
    resource = m.IncrementalAlterConfigsRequest.AlterConfigsResource(
        resource_type=kind,
        resource_name=name,
        configs=[
            m.IncrementalAlterConfigsRequest.AlterableConfig(name=key, config_operation=operation, value=value)
            for key, operation, value in changes
        ],
    )
    answer = raw.ask(m.IncrementalAlterConfigsRequest(resources=[resource]), 1).responses[0]
    return answer.error_code, answer.error_message


SET, DELETE, APPEND, SUBTRACT = range(4)


def test_configs_refused(raw: Raw) -> None:
    assert describe(raw, TOPIC, "nope").error_code == 3
    assert alter(raw, TOPIC, "nope", ("retention.ms", SET, "1")) == (3, "The topic 'nope' does not exist.")
    assert alter(raw, TOPIC, "b1", ("foo.bar", SET, "1")) == (40, "Unknown topic config name: foo.bar")
    small = (
        "Invalid config value for resource ConfigResource(type=TOPIC, name='b1'): Invalid value 0 for configuration "
        "min.insync.replicas: Value must be at least 1"
    )
    assert alter(raw, TOPIC, "b1", ("min.insync.replicas", SET, "0")) == (40, said(small))
    assert alter(raw, TOPIC, "b1", ("retention.ms", APPEND, "1")) == (
        40,
        said("Config value append is not allowed for config key: retention.ms"),
    )
    assert alter(raw, TOPIC, "b1", ("retention.ms", SET, None)) == (42, "Null value not supported for : retention.ms")
    twice = (("retention.ms", SET, "1"), ("retention.ms", SET, "2"))
    assert alter(raw, TOPIC, "b1", *twice) == (42, "Error due to duplicate config keys")
    fixed = (42, "Cannot update these configs dynamically: Set(zookeeper.connect)")
    taken = (0, None)  # 4.x has no such setting, and keeps any that it does not know
    assert alter(raw, BROKER, "0", ("zookeeper.connect", SET, "x")) == either(fixed, taken)


def test_topic_configs(raw: Raw) -> None:
    def shown(key: str) -> tuple[str | None, int]:
        one = describe(raw, TOPIC, "b1", [key]).configs[0]
        return one.value, one.config_source

    assert shown("retention.bytes") == ("-1", 5)
    assert alter(raw, TOPIC, "b1", ("retention.bytes", SET, "4096"))[0] == 0
    for _ in range(500):  # Kafka takes a change up when its notification comes round
        if shown("retention.bytes") == ("4096", 1):
            break
    assert shown("retention.bytes") == ("4096", 1)
    assert alter(raw, TOPIC, "b1", ("cleanup.policy", APPEND, "compact"))[0] == 0
    for _ in range(500):
        if shown("cleanup.policy")[1] == 1:
            break
    assert shown("cleanup.policy") == ("delete,compact", 1)
    assert alter(raw, TOPIC, "b1", ("cleanup.policy", DELETE, None), ("retention.bytes", DELETE, None))[0] == 0
    for _ in range(500):
        if shown("retention.bytes")[1] == 5:
            break
    assert shown("retention.bytes") == ("-1", 5)


def test_broker_configs(raw: Raw) -> None:
    configs = {c.name: c for c in describe(raw, BROKER, "0").configs}
    assert configs["num.partitions"].value == "3"
    assert configs["num.partitions"].config_source == 4
    assert configs["num.partitions"].read_only
    assert not configs["log.retention.bytes"].read_only
    assert configs["log.retention.hours"].value == "168"
    assert configs["ssl.keystore.password"].is_sensitive
    assert configs["ssl.keystore.password"].value is None


def test_all_topic_configs_are_kafkas(raw: Raw) -> None:
    names = {c.name for c in describe(raw, TOPIC, "a.b").configs}
    assert len(names) >= 33
    assert {"cleanup.policy", "segment.bytes", "retention.ms", "min.insync.replicas", "compression.type"} <= names


def test_delete_records(raw: Raw) -> None:
    from tests.broker.batches import batch
    from tests.broker.test_errors import list_offset, produce

    assert create(raw, "trim")[0] == 0
    for _ in range(500):
        if produce(raw, batch([(b"k", b"v")] * 10), topic="trim")[0] == 0:
            break

    def cut(offset: int, topic: str = "trim") -> tuple[int, int]:
        part = m.DeleteRecordsRequest.DeleteRecordsPartition(partition_index=0, offset=offset)
        asked = m.DeleteRecordsRequest.DeleteRecordsTopic(name=topic, partitions=[part])
        one = raw.ask(m.DeleteRecordsRequest(topics=[asked], timeout_ms=9000), 1).topics[0].partitions[0]
        return one.error_code, one.low_watermark

    assert cut(4) == (0, 4)
    assert list_offset(raw, -2, topic="trim") == (0, 4)
    assert cut(100) == (1, -1)
    assert cut(-1)[0] == 0
    assert list_offset(raw, -2, topic="trim") == list_offset(raw, -1, topic="trim")
    assert cut(0, topic="nope") == (3, -1)


def test_log_dirs(raw: Raw, broker: Broker) -> None:
    answer = raw.ask(m.DescribeLogDirsRequest(topics=None), 4)
    (one,) = answer.results
    assert one.log_dir == str(broker.data)
    assert "b1" in {topic.name for topic in one.topics}
    assert one.total_bytes >= one.usable_bytes > 0


def test_describe_cluster(raw: Raw) -> None:
    answer = raw.ask(m.DescribeClusterRequest(include_cluster_authorized_operations=True), 1)
    assert [b.broker_id for b in answer.brokers] == [0]
    assert answer.controller_id == 0
    assert len(answer.cluster_id) == 22
    if chosen_kind() == "kafka39":
        assert answer.cluster_authorized_operations == 8096, "what handlers/metadata.py says too"
    topic = m.MetadataRequest.MetadataRequestTopic(name="b1")
    found = raw.ask(m.MetadataRequest(topics=[topic], include_topic_authorized_operations=True), 9)
    assert found.topics[0].topic_authorized_operations == 3576
    assert found.brokers[0].host == "127.0.0.1"

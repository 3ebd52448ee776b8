"""AlterConfigs and IncrementalAlterConfigs: the cases of one run against Kafka 3.9.1, in their order."""

import json
from pathlib import Path

import pytest

from cluster.controller.configs import (
    APPEND,
    DELETE,
    SET,
    SUBTRACT,
    ConfigChange,
    ConfigPlan,
    alter_broker,
    alter_topic,
    replace_broker,
    replace_topic,
)
from cluster.controller.topics import NewTopic, plan_creation
from cluster.metadata import paths
from pylog.errors import ErrorCode, KafkaError
from tests.unit.cluster.controller.support import Cluster, configure

GOLDEN = Path(__file__).parents[3] / "golden" / "controller" / "admin.jsonl"
OPERATIONS = {"SET": SET, "DELETE": DELETE, "APPEND": APPEND, "SUBTRACT": SUBTRACT}


def cases() -> list[dict[str, object]]:
    return [case for case in map(json.loads, GOLDEN.read_text().splitlines()) if "resource" in case]


def change(text: str) -> ConfigChange:
    operation, _, rest = text.partition(" ")
    name, equals, value = rest.partition("=")
    return ConfigChange(name, OPERATIONS[operation], value if equals else None)


def pair(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name, value if equals else None


def ask(cluster: Cluster, case: dict[str, object]) -> ConfigPlan:
    kind, _, name = str(case["resource"]).partition(":")
    config = configure(listeners="PLAINTEXT://127.0.0.1:9092")
    operations, settings = case.get("operations"), case.get("settings")
    if isinstance(operations, list):
        changes = [change(text) for text in operations]
        if kind == "TOPIC":
            return alter_topic(cluster.context, config, name, changes)
        return alter_broker(cluster.context, config, 1, name, changes)
    assert isinstance(settings, list)
    pairs = [pair(text) for text in settings]
    if kind == "TOPIC":
        return replace_topic(cluster.context, config, name, pairs)
    return replace_broker(cluster.context, config, 1, name, pairs)


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    new = NewTopic("t1", 1, 1, {}, {"retention.ms": "1000", "cleanup.policy": "compact"})
    cluster.carry_out(plan_creation(cluster.context, configure(), new, topic_id=bytes(15) + b"1", start_index=0))
    return cluster


def carry_out(cluster: Cluster, plan: ConfigPlan) -> None:
    cluster.write(plan.groups, fenced=False)
    cluster.context.put_config(plan.kind, plan.entity, plan.settings)


def in_order(message: str) -> str:
    """The names of a hash set come in no order that means anything."""
    head, marker, names = message.partition("HashSet(")
    return head + marker + ", ".join(sorted(names.removesuffix(")").split(", ")))


def test_like_kafka(cluster: Cluster) -> None:
    changed = 0
    for case in cases():
        try:
            plan = ask(cluster, case)
        except KafkaError as error:
            assert int(error.code) == case["code"], case
            assert in_order(error.message) == in_order(str(case.get("message"))), case
        else:
            assert case["code"] == 0, case
            carry_out(cluster, plan)
            changed += 1
    assert changed > 40
    assert cluster.agrees_with_the_tree()
    assert cluster.context.topic_configs["t1"] == {}, "the last one replaced all by nothing"
    assert len(cluster.store.children(paths.CONFIG_CHANGES)) == changed, "each was announced"


def test_lists(cluster: Cluster) -> None:
    def policy(*texts: str) -> str | None:
        for text in texts:
            carry_out(cluster, alter_topic(cluster.context, configure(), "t1", [change(text)]))
        return cluster.context.topic_configs["t1"].get("cleanup.policy")

    assert policy("APPEND cleanup.policy=delete", "APPEND cleanup.policy=delete") == "compact,delete"
    assert policy("SUBTRACT cleanup.policy=compact") == "delete"
    assert policy("SUBTRACT cleanup.policy=delete") == ""
    assert policy("DELETE cleanup.policy", "APPEND cleanup.policy=compact") == "delete,compact", "begins at the default"


def test_what_is_written(cluster: Cluster) -> None:
    carry_out(cluster, alter_topic(cluster.context, configure(), "t1", [change("SET max.message.bytes=2000000")]))
    carry_out(cluster, alter_broker(cluster.context, configure(), 1, "1", [change("SET log.cleaner.threads=2")]))
    carry_out(cluster, alter_broker(cluster.context, configure(), 1, "", [change("SET message.max.bytes=1100000")]))
    carry_out(cluster, alter_broker(cluster.context, configure(), 1, "1", [change("DELETE log.cleaner.threads")]))
    data = {path: cluster.store.get(path)[0] for path in ("/config/brokers/1", "/config/brokers/<default>")}
    assert data == {
        "/config/brokers/1": b'{"version":1,"config":{}}',
        "/config/brokers/<default>": b'{"version":1,"config":{"message.max.bytes":"1100000"}}',
    }
    announced = [cluster.store.get(f"{paths.CONFIG_CHANGES}/config_change_{n:010d}")[0] for n in range(4)]
    assert announced == [
        b'{"version":2,"entity_path":"topics/t1"}',
        b'{"version":2,"entity_path":"brokers/1"}',
        b'{"version":2,"entity_path":"brokers/<default>"}',
        b'{"version":2,"entity_path":"brokers/1"}',
    ]


OURS = [
    ("9", "SET log.cleaner.threads=2", "Unexpected broker id, expected 1, but received 9"),
    ("x", "SET log.cleaner.threads=2", "Node id must be an integer, but it is: x"),
    ("1", "SET sasl.jaas.config=secret", "Passwords cannot be kept in the metadata tree by this broker: "
     "Set(sasl.jaas.config)"),
    ("1", "SET pylog.disk.threads=2", "Cannot update these configs dynamically: Set(pylog.disk.threads)"),
    ("1", "SET log.cleaner.threads=1000",
     "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), OURS)
def test_other_refusals(cluster: Cluster, name: str, text: str, message: str) -> None:
    with pytest.raises(KafkaError) as caught:
        alter_broker(cluster.context, configure(), 1, name, [change(text)])
    assert (caught.value.code, caught.value.message) == (ErrorCode.INVALID_REQUEST, message)


def test_lists_of_unknown_names_and_operations(cluster: Cluster) -> None:
    with pytest.raises(KafkaError) as caught:
        alter_topic(cluster.context, configure(), "t1", [change("APPEND no.such=1")])
    assert (caught.value.code, caught.value.message) == (ErrorCode.INVALID_CONFIG, "Unknown config name: no.such")
    with pytest.raises(KafkaError) as caught:
        alter_topic(cluster.context, configure(), "t1", [ConfigChange("retention.ms", 9, "1")])
    assert (caught.value.code, caught.value.message) == (ErrorCode.INVALID_REQUEST, "Unknown operations type 9")

"""Kafka's own Java tools and client, 3.9.1 and 4.3.1, where Java and Maven are at hand."""

import re
import subprocess
from collections.abc import Callable

import pytest

from tests.support import confluent, peers, records
from tests.support.brokers import Broker

PARTITIONS = 4
MILLION = 1_000_000
TOOLS = "org.apache.kafka.tools."
CONSOLE_PRODUCER = {"kafka39": "kafka.tools.ConsoleProducer", "kafka4": TOOLS + "ConsoleProducer"}
CONSOLE_CONSUMER = TOOLS + "consumer.ConsoleConsumer"
GROUPS = TOOLS + "consumer.group.ConsumerGroupCommand"
CONFIGS = "kafka.admin.ConfigCommand"


class Tools:
    """The command line tools of one Kafka version, pointed at the broker."""

    def __init__(self, name: str, broker: Broker) -> None:
        self.name = name
        self._broker = broker

    def run(self, main_class: str, *arguments: str, lines: bytes | None = None, timeout_s: float = 110) -> str:
        """What it printed. A failure, or an error in its log, fails the test."""
        command = peers.java(self.name, main_class, list(arguments))
        done = subprocess.run(command, input=lines or b"", capture_output=True, timeout=timeout_s, check=False)
        errors = done.stderr.decode("utf-8", "replace")
        assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-1000:] + errors[-3000:]
        assert " ERROR " not in errors, errors[-3000:]
        return done.stdout.decode("utf-8", "replace")

    def at_broker(self, main_class: str, *arguments: str, lines: bytes | None = None) -> str:
        return self.run(main_class, "--bootstrap-server", self._broker.bootstrap, *arguments, lines=lines)


@pytest.fixture(params=["kafka39", "kafka4"])
def tools(request: pytest.FixtureRequest, broker: Broker) -> Tools:
    reason = peers.unavailable(request.param)
    if reason:
        pytest.skip(f"Apache Kafka's Java tools: {reason}")
    return Tools(request.param, broker)


@pytest.mark.timeout(180)
def test_a_million_records_through_the_client(tools: Tools, broker: Broker, new_topic: Callable[..., str]) -> None:
    topic = new_topic(PARTITIONS)
    program = str(peers.ROOT / "tests" / "clients" / "java" / "Verify.java")
    printed = tools.run(program, broker.bootstrap, topic, str(PARTITIONS), str(MILLION // PARTITIONS), timeout_s=170)
    assert printed.strip() == f"ok {MILLION} records"


@pytest.mark.timeout(240)
def test_a_million_lines_through_the_console(tools: Tools, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    lines = b"\n".join(records.values(0, MILLION)) + b"\n"
    batches = ("--producer-property", "batch.size=131072", "--producer-property", "linger.ms=20")
    tools.at_broker(CONSOLE_PRODUCER[tools.name], "--topic", topic, *batches, lines=lines)
    read = ("--from-beginning", "--max-messages", str(MILLION), "--timeout-ms", "30000")
    printed = tools.at_broker(CONSOLE_CONSUMER, "--topic", topic, *read)
    assert printed.encode() == lines


def test_console_keys_and_headers(tools: Tools, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    parse = ("--property", "parse.key=true", "--property", "parse.headers=true")
    tools.at_broker(CONSOLE_PRODUCER[tools.name], "--topic", topic, *parse, lines=b"h:1\tk1\tv1\nh:2\tk2\tv2\n")
    shown = ("--property", "print.key=true", "--property", "print.headers=true", "--property", "print.offset=true")
    printed = tools.at_broker(CONSOLE_CONSUMER, "--topic", topic, "--from-beginning", "--max-messages", "2", *shown)
    # 4.x remarks on the options' names before the records.
    assert printed.splitlines()[-2:] == ["Offset:0\th:1\tk1\tv1", "Offset:1\th:2\tk2\tv2"]


def test_topics_tool(tools: Tools, fresh_name: Callable[[str], str]) -> None:
    name = fresh_name("topic")
    topics = TOOLS + "TopicCommand"
    tools.at_broker(
        topics,
        "--create",
        "--topic",
        name,
        "--partitions",
        "3",
        "--replication-factor",
        "1",
        "--config",
        "retention.ms=7000",
    )
    assert name in tools.at_broker(topics, "--list").split()
    described = tools.at_broker(topics, "--describe", "--topic", name)
    assert re.search(rf"Topic: {name}\s+TopicId: \S{{22}}\s+PartitionCount: 3\s+ReplicationFactor: 1", described)
    assert "retention.ms=7000" in described
    assert len(re.findall(r"Partition: \d+\s+Leader: 0\s+Replicas: 0\s+Isr: 0", described)) == 3
    tools.at_broker(topics, "--alter", "--topic", name, "--partitions", "5")
    assert "PartitionCount: 5" in tools.at_broker(topics, "--describe", "--topic", name)
    tools.at_broker(topics, "--delete", "--topic", name)
    assert name not in tools.at_broker(topics, "--list").split()


def test_configs_tool(tools: Tools, new_topic: Callable[..., str]) -> None:
    entity = ("--entity-type", "topics", "--entity-name", new_topic())
    tools.at_broker(CONFIGS, "--alter", *entity, "--add-config", "retention.ms=12345,cleanup.policy=[compact,delete]")
    described = tools.at_broker(CONFIGS, "--describe", *entity)
    assert "retention.ms=12345 " in described and "cleanup.policy=compact,delete " in described
    tools.at_broker(CONFIGS, "--alter", *entity, "--delete-config", "retention.ms")
    assert "retention.ms" not in tools.at_broker(CONFIGS, "--describe", *entity)
    broker_settings = tools.at_broker(CONFIGS, "--describe", "--all", "--entity-type", "brokers", "--entity-name", "0")
    assert "log.segment.bytes=1073741824 " in broker_settings


def test_consumer_groups_tool(
    tools: Tools, broker: Broker, new_topic: Callable[..., str], fresh_name: Callable[[str], str]
) -> None:
    topic, group = new_topic(), fresh_name("group")
    confluent.produce_all(broker.bootstrap, topic, 0, records.values(0, 100))
    read = ("--from-beginning", "--max-messages", "40", "--consumer-property", "auto.commit.interval.ms=100")
    tools.at_broker(CONSOLE_CONSUMER, "--topic", topic, "--group", group, *read)
    assert group in tools.at_broker(GROUPS, "--list").split()
    assert re.search(rf"{group}\s+{topic}\s+0\s+40\s+100\s+60", tools.at_broker(GROUPS, "--describe", "--group", group))
    reset = ("--reset-offsets", "--to-offset", "10", "--execute")
    tools.at_broker(GROUPS, "--group", group, "--topic", topic, *reset)
    assert re.search(rf"{topic}\s+0\s+10\s+100\s+90", tools.at_broker(GROUPS, "--describe", "--group", group))
    assert re.search(rf"{group}\s.*Empty", tools.at_broker(GROUPS, "--describe", "--group", group, "--state"))
    tools.at_broker(GROUPS, "--delete", "--group", group)
    assert group not in tools.at_broker(GROUPS, "--list").split()


@pytest.mark.timeout(180)
def test_performance_tools(tools: Tools, broker: Broker, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    settings = ("--producer-props", f"bootstrap.servers={broker.bootstrap}", "linger.ms=5", "batch.size=65536")
    count = ("--num-records", str(MILLION), "--record-size", "100", "--throughput", "-1")
    printed = tools.run(TOOLS + "ProducerPerformance", "--topic", topic, *count, *settings)
    assert f"{MILLION} records sent" in printed
    printed = tools.at_broker(TOOLS + "ConsumerPerformance", "--topic", topic, "--messages", str(MILLION))
    row = printed.strip().splitlines()[-1].split(", ")
    assert int(row[4]) >= MILLION, printed


def test_offsets_and_log_dirs_tools(tools: Tools, broker: Broker, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    confluent.produce_all(broker.bootstrap, topic, 0, records.values(0, 10))
    assert tools.at_broker(TOOLS + "GetOffsetShell", "--topic", topic).split() == [f"{topic}:0:10"]
    assert tools.at_broker(TOOLS + "GetOffsetShell", "--topic", topic, "--time", "-2").split() == [f"{topic}:0:0"]
    described = tools.at_broker(TOOLS + "LogDirsCommand", "--describe", "--topic-list", topic)
    assert f'"partition":"{topic}-0"' in described and '"error":null' in described


def test_transactions(tools: Tools, broker: Broker, new_topic: Callable[..., str]) -> None:
    """Read, process and write. Producers of Kafka 4 get another epoch with each, where the broker does so."""
    program = str(peers.ROOT / "tests" / "clients" / "java" / "Transactions.java")
    epochs = "each" if tools.name == "kafka4" and broker.kind != "kafka39" else "one"
    printed = tools.run(program, broker.bootstrap, new_topic(2), new_topic(2), epochs)
    assert re.fullmatch(r"ok [3-9]\d\n", printed), printed

"""server.properties: values, refusals and descriptions as Kafka 3.9.1 gave them (tests/golden/config)."""

import gzip
import json
from pathlib import Path

import pytest

from cluster.config import Config, ConfigError, load, may_change
from cluster.config.broker_config import find_row
from cluster.config.describe import describe_broker, describe_cluster_defaults, describe_topic
from cluster.config.keys import BROKER_KEYS, PYLOG_KEYS, WITHOUT_EFFECT
from cluster.config.properties import parse_properties
from pylog.config_value import TYPE_CODES, ConfigEntry, parse_value, show_value

GOLDEN = Path(__file__).parents[2] / "golden" / "config"
SOURCES = {
    "DYNAMIC_TOPIC_CONFIG": 1,
    "DYNAMIC_BROKER_CONFIG": 2,
    "DYNAMIC_DEFAULT_BROKER_CONFIG": 3,
    "STATIC_BROKER_CONFIG": 4,
    "DEFAULT_CONFIG": 5,
}


def read(tmp_path: Path, text: str, **overrides: str) -> Config:
    path = tmp_path / "server.properties"
    path.write_text(text, encoding="latin-1")
    return load(str(path), {key.replace("_", "."): value for key, value in overrides.items()})


# ---------------------------------------------------------------------------------------------- values of every key


def kafka_groups() -> list[dict[str, object]]:
    groups: list[dict[str, object]] = json.loads(gzip.decompress((GOLDEN / "parsed_values.json.gz").read_bytes()))
    return groups


@pytest.mark.parametrize("group", kafka_groups(), ids=lambda group: (group["broker"] + group["topic"])[0])
def test_broker_keys_read_like_kafka(group: dict[str, object]) -> None:
    keys, answers = group["broker"], group["answers"]
    assert isinstance(keys, list) and isinstance(answers, dict)
    for key in keys:
        kind, _, rule, *_ = BROKER_KEYS[key]
        if key in ("controller.quorum.voters", "controller.quorum.bootstrap.servers"):
            continue  # KRaft's own grammar; nothing here reads it
        for text, answer in answers.items():
            try:
                value = parse_value(key, kind, rule, text)
            except ConfigError as error:
                assert str(error).replace(key, "KEY") == answer, key
            else:
                shown = "[hidden]" if kind == "password" else show_value(value)
                assert f"ok {shown}" == answer, key


def test_the_table() -> None:
    assert len(BROKER_KEYS) == 330
    assert list(BROKER_KEYS) == sorted(BROKER_KEYS)
    for name, (kind, default, _, importance, dynamic, internal) in (BROKER_KEYS | PYLOG_KEYS).items():
        assert kind in TYPE_CODES and importance in ("high", "medium", "low") and dynamic in ("", "cluster", "broker")
        assert isinstance(internal, bool)
        if default is not None:
            parse_value(name, kind, None, default)
    assert all(any(name.startswith(prefix) for name in BROKER_KEYS) for prefix in WITHOUT_EFFECT)


def test_what_may_change_at_run_time() -> None:
    assert may_change("log.retention.ms", for_all=True) and may_change("log.retention.ms", for_all=False)
    assert may_change("listeners", for_all=False) and not may_change("listeners", for_all=True)
    assert not may_change("broker.id", for_all=False) and not may_change("no.such.key", for_all=False)
    assert may_change("listener.name.x.max.connections", for_all=True)
    assert not may_change("listener.name.x.ssl.keystore.location", for_all=True)


# ------------------------------------------------------------------------------------------------ whole files

_LISTENERS = "Error creating broker listeners from"
_PER_IP = "Error parsing configuration property 'max.connections.per.ip.overrides'"
OURS = {  # where this broker differs on purpose; None: it accepts
    "listeners=PLAINTEXT://host:99999": f"{_LISTENERS} 'PLAINTEXT://host:99999': "
    "Unable to parse PLAINTEXT://host:99999 to a broker endpoint",
    "listeners=PLAINTEXT://host:-1": f"{_LISTENERS} 'PLAINTEXT://host:-1': "
    "Unable to parse PLAINTEXT://host:-1 to a broker endpoint",
    "listeners=PLAINTEXT://0.0.0.0:9092": None,  # each client is told the address by which it came
    "listeners=FOO://:9092|listener.security.protocol.map=FOO": "Error parsing configuration property "
    "'listener.security.protocol.map': 'FOO' is not NAME:PROTOCOL",
    "max.connections.per.ip.overrides=zz": f"{_PER_IP}: 'zz' is not HOST:COUNT",
    "max.connections.per.ip.overrides=127.0.0.1:5,10.0.0.1:x": f"{_PER_IP}: '10.0.0.1:x' is not HOST:COUNT",
    "inter.broker.protocol.version=0.8.2": None,
    "principal.builder.class=foo": None,  # Java classes are not looked for
    "control.plane.listener.name=CONTROL": None,
    "process.roles=broker": None,
    "": None,  # no ZooKeeper: the embedded store
}


def kafka_files() -> list[dict[str, object]]:
    return [json.loads(line) for line in (GOLDEN / "server_properties.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", kafka_files(), ids=lambda case: " ".join(f"{k}={v}" for k, v in case["set"].items()))
def test_a_file_is_read_or_refused_like_kafka_does(case: dict[str, object], tmp_path: Path) -> None:
    settings = case["set"]
    assert isinstance(settings, dict)
    text = "".join(f"{key}={value}\n" for key, value in settings.items())
    if "zookeeper.connect" not in settings and settings:
        text += "zookeeper.connect=localhost:2181\n"
    whole = "|".join(f"{key}={value}" for key, value in settings.items())
    refused = OURS[whole] if whole in OURS else case.get("refused")
    if refused is not None:
        with pytest.raises(ConfigError) as caught:
            read(tmp_path, text)
        assert str(caught.value) == refused
        return
    config = read(tmp_path, text)
    if "listeners" not in case:
        return  # accepted by us alone
    endpoints = ", ".join(
        f"EndPoint({listener.host or 'null'},{listener.port},ListenerName({listener.name}),{listener.protocol})"
        for listener in config.listeners
    )
    assert case["listeners"] == f"ArrayBuffer({endpoints})"
    assert case["log_dirs"] == f"Buffer({', '.join(config.log_dirs)})"
    assert case["broker_id"] == config.broker_id
    assert case["inter_broker"] == config.inter_broker_listener
    assert case["retention_ms"] == config.log_config.retention_ms
    assert case["roll_ms"] == config.log_config.segment_ms
    assert case["flush_ms"] == config.log_config.flush_ms


def test_defaults_without_a_file() -> None:
    config = load()
    assert [str(listener) for listener in config.listeners] == ["PLAINTEXT://localhost:9092"]
    assert config.advertised_listeners == ()
    assert config.log_dirs == ("./pylog-data",)
    assert config.broker_id == 1 and not config.broker_id_is_set
    assert config.int("offsets.topic.replication.factor") == 1
    assert config.int("transaction.state.log.min.isr") == 1
    assert config.int("group.initial.rebalance.delay.ms") == 3000
    assert config.warnings == ()


def test_a_cluster_keeps_kafkas_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, "zookeeper.connect=localhost:2181\n")
    assert config.int("offsets.topic.replication.factor") == 3
    assert config.log_dirs == ("/tmp/kafka-logs",)
    assert config.broker_id == -1
    assert [str(listener) for listener in config.listeners] == ["PLAINTEXT://:9092"]


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    config = read(tmp_path, "num.partitions=3\nlog.dirs=/a,/b\n", num_partitions="7", log_dirs=" /c , /d")
    assert config.int("num.partitions") == 7
    assert config.log_dirs == ("/c", "/d")
    assert load(overrides={"log.dir": "/x"}).log_dirs == ("/x",)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(str(tmp_path / "none"))


def test_typed_reading(tmp_path: Path) -> None:
    config = read(
        tmp_path, "auto.create.topics.enable=FALSE\nbroker.rack= r1 \nsasl.enabled.mechanisms=PLAIN, GSSAPI\n"
    )
    assert config.bool("auto.create.topics.enable") is False
    assert config.str("broker.rack") == "r1"
    assert config.list("sasl.enabled.mechanisms") == ("PLAIN", "GSSAPI")
    assert config.float("log.cleaner.io.buffer.load.factor") == 0.9
    assert config.optional_int("log.retention.ms") is None
    assert config.optional_str("zookeeper.connect") is None
    with pytest.raises(AssertionError):
        config.int("broker.rack")


def test_a_listener_has_its_own_values(tmp_path: Path) -> None:
    config = read(tmp_path, "max.connections=9\nlistener.name.plaintext.max.connections=5\n")
    assert config.for_listener("PLAINTEXT", "max.connections") == 5
    assert config.for_listener("SSL", "max.connections") == 9
    with pytest.raises(ConfigError, match="Not a number of type INT"):
        read(tmp_path, "listener.name.plaintext.max.connections=x\n")
    assert find_row("listener.name.a.plain.sasl.jaas.config") == BROKER_KEYS["sasl.jaas.config"]


def test_node_id_is_broker_id(tmp_path: Path) -> None:
    config = read(tmp_path, "broker.id=4\n")
    assert config.int("node.id") == 4 and config.broker_id_is_set


def test_a_kraft_file_starts_one_broker(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@localhost:9093\n"
        "listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n"
        "advertised.listeners=PLAINTEXT://localhost:9092\ncontroller.listener.names=CONTROLLER\n"
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\n",
    )
    assert [listener.name for listener in config.listeners] == ["PLAINTEXT"]
    assert config.broker_id == 1
    assert config.warnings == ("No effect here: controller.quorum.voters, process.roles",)
    with pytest.raises(ConfigError, match="KRaft controller"):
        read(tmp_path, "process.roles=controller\nnode.id=1\n")


def test_warnings_name_the_nearest_key(tmp_path: Path) -> None:
    config = read(tmp_path, "num.partitons=3\nzzz=1\nsuper.users=User:a\nlistener.name.plaintext.ssl.protocol=x\n")
    assert config.warnings == ("Unknown setting num.partitons; did you mean num.partitions?", "Unknown setting zzz")


# ------------------------------------------------------------------------------------------------ at run time


def test_dynamic_layers(tmp_path: Path) -> None:
    base = read(tmp_path, "log.retention.ms=5\nmessage.max.bytes=100\n")
    config = base.with_dynamic({"log.retention.ms": "7"}, {"log.retention.ms": "6", "message.max.bytes": "200"})
    assert config.log_config.retention_ms == 7
    assert config.log_config.max_message_bytes == 200
    assert base.log_config.retention_ms == 5
    assert config.with_dynamic({}, {}).log_config == base.log_config


def test_unusable_dynamic_values_are_left_out(tmp_path: Path) -> None:
    base = read(tmp_path, "")
    config = base.with_dynamic(
        {"num.partitions": "3", "message.max.bytes": "x", "unknown.here": "1"}, {"listeners": "PLAINTEXT://:1"}
    )
    assert config.warnings == (
        "Dynamic setting message.max.bytes is left out: "
        "Invalid value x for configuration message.max.bytes: Not a number of type INT",
        "Dynamic setting num.partitions is left out: it cannot be changed at run time",
        "Dynamic setting listeners is left out: it cannot be set for all brokers",
    )
    assert config.int("num.partitions") == 1 and config.listeners == base.listeners
    with pytest.raises(ConfigError, match="at least 1MB per cleaner thread"):
        base.with_dynamic({"log.cleaner.threads": "1000"}, {})


# ------------------------------------------------------------------------------------------------ DescribeConfigs


def kafka_description(resource: str) -> list[ConfigEntry]:
    for described in json.loads(gzip.decompress((GOLDEN / "described.json.gz").read_bytes())):
        if described["resource"] == resource:
            return [
                ConfigEntry(
                    name,
                    value,
                    SOURCES[source],
                    read_only,
                    sensitive,
                    TYPE_CODES.get(kind.lower(), 0),
                    tuple((synonym, text, SOURCES[where]) for synonym, text, where in synonyms),
                )
                for name, value, source, read_only, sensitive, kind, synonyms in described["entries"]
            ]
    raise AssertionError(resource)


def layer(entries: list[ConfigEntry], source: str) -> dict[str, str]:
    """What was set in one layer when Kafka described itself; what it hides is written as "x"."""
    found: dict[str, str] = {}
    for entry in entries:
        for name, value, where in entry.synonyms:
            if where == SOURCES[source] and (name == entry.name or find_row(name) is not None):
                found[name] = "x" if value is None else value
    return found


@pytest.fixture
def described_broker(tmp_path: Path) -> Config:
    entries = kafka_description("broker 1")
    static = layer(entries, "STATIC_BROKER_CONFIG")
    base = read(tmp_path, "".join(f"{key}={value}\n" for key, value in static.items() if key != "node.id"))
    dynamic = layer(entries, "DYNAMIC_BROKER_CONFIG")
    return base.with_dynamic(dynamic, layer(entries, "DYNAMIC_DEFAULT_BROKER_CONFIG"))


def test_the_broker_is_described_like_kafka_describes_itself(described_broker: Config) -> None:
    assert described_broker.warnings == ()
    ours = {entry.name: entry for entry in describe_broker(described_broker) if entry.name not in PYLOG_KEYS}
    for name in ("socket.receive.buffer.bytes", "socket.send.buffer.bytes"):
        set_by_user, default = ours[name].synonyms
        assert default == (name, "-1", SOURCES["DEFAULT_CONFIG"])  # Kafka's is 102400; DECISIONS says why ours is not
        ours[name] = ours[name]._replace(synonyms=(set_by_user, (name, "102400", SOURCES["DEFAULT_CONFIG"])))
    assert list(ours.values()) == kafka_description("broker 1")


def test_the_cluster_defaults_are_described_like_kafka(described_broker: Config) -> None:
    assert describe_cluster_defaults(described_broker) == kafka_description("broker default")
    assert [entry.name for entry in describe_cluster_defaults(described_broker, ["num.io.threads", "x"])] == [
        "num.io.threads"
    ]


def test_topics_are_described_like_kafka(described_broker: Config) -> None:
    def described(config: Config, overrides: dict[str, str]) -> list[ConfigEntry]:
        return sorted(describe_topic(config, overrides))

    assert described(described_broker, {}) == kafka_description("topic t2 after")
    at_start = described_broker.with_dynamic({}, {})
    assert described(at_start, {"retention.ms": "1000", "cleanup.policy": "compact"}) == kafka_description("topic t1")
    overrides = {
        "compression.type": " gzip ",
        "leader.replication.throttled.replicas": "0:1,1:1",
        "cleanup.policy": "delete",
        "retention.ms": " 77 ",
    }
    assert described(at_start, overrides) == kafka_description("topic t1 after")
    assert [entry.name for entry in describe_topic(at_start, {}, ["retention.ms", "nope"])] == ["retention.ms"]


def test_named_keys_only(described_broker: Config) -> None:
    entries = describe_broker(described_broker, ["broker.id", "no.such.key", "ssl.key.password"])
    assert [(entry.name, entry.value, entry.sensitive) for entry in entries] == [
        ("broker.id", "1", False),
        ("ssl.key.password", None, True),
    ]


# ------------------------------------------------------------------------------------------------ .properties syntax


def java_readings() -> list[dict[str, object]]:
    """Texts at random and what java.util.Properties read in them; null: it refused."""
    return [json.loads(line) for line in (GOLDEN / "properties.jsonl").read_text().splitlines()]


def test_properties_are_read_like_java_reads_them() -> None:
    readings = java_readings()
    assert len(readings) > 400
    for reading in readings:
        try:
            found = parse_properties(str(reading["text"]).encode("latin-1"))
        except ConfigError:
            assert reading["read"] is None, reading["text"]
        else:
            assert found == reading["read"], reading["text"]


def test_comments_continuations_and_escapes() -> None:
    text = b"# c \\\na = 1 \\\n   2\r\nb:\\u00e9\\t\\q\n! x\nc\\ d=\n"
    assert parse_properties(text) == {"a": "1 2", "b": "\xe9\tq", "c d": ""}


def test_a_broken_escape_is_refused() -> None:
    with pytest.raises(ConfigError, match="Malformed"):
        parse_properties(b"a=\\u12g4\n")


# ---------------------------------------------------------------------------------------------- our own


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("localhost:9404", ("localhost", 9404)),
        ("[::1]:9404", ("::1", 9404)),
        (":0", ("", 0)),
        ("", None),
    ],
)
def test_where_figures_are_served(tmp_path: Path, text: str, wanted: tuple[str, int] | None) -> None:
    config = read(tmp_path, f"pylog.metrics.listener={text}")
    assert config.metrics_listener == wanted
    assert config.warnings == ()
    assert read(tmp_path, "").metrics_listener is None


@pytest.mark.parametrize(
    "text", ["9404", "host:", "host:99999", "host:-1", "http://host:9404", "a b:1", "host:9404/metrics"]
)
def test_where_figures_cannot_be_served(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, f"pylog.metrics.listener={text}")
    assert str(refused.value) == f"Invalid value {text} for configuration pylog.metrics.listener: it is not HOST:PORT"

"""`Config`: every setting of one broker, from the layer that is in force.

What stays true: a key's value comes from the first layer that has it: set at run time for this broker, set at run time
for all brokers, the file with its overrides, our own defaults, Kafka's default. Reading never fails: whatever is set
was checked when the Config was made.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping

from cluster.config.checks import check_together
from cluster.config.keys import BROKER_KEYS, PLUGIN_KEYS, PYLOG_KEYS, QUOTA_KEYS, WITHOUT_EFFECT, Row
from cluster.config.listeners import Address, choose_listeners, parse_address
from pylog.config import LogConfig, log_config_of_broker
from pylog.config_value import ConfigError, Value, parse_value
from pylog.facts import NamedTuple

# A node without ZooKeeper is alone: Kafka's defaults for clusters could never be met. And it need not get on with
# brokers of old, which do not know the newer group protocol: there Kafka 4's defaults hold.
_SINGLE_NODE = {
    "group.consumer.migration.policy": "bidirectional",
    "group.coordinator.rebalance.protocols": "classic,consumer",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.replication.factor": "1",
}
# The kernel sizes socket buffers better than 100 KB does: large batches cost half the CPU (DECISIONS.md).
_ALWAYS = {
    "socket.receive.buffer.bytes": "-1",
    "socket.send.buffer.bytes": "-1",
}
# With no file at all.
_NO_FILE = {
    "broker.id": "1",
    "listeners": "PLAINTEXT://localhost:9092",
    "log.dir": "./pylog-data",
    "node.id": "1",
}
_LISTENER_PREFIX = "listener.name."
_PLAIN_TEXT: Row = ("string", None, None, "low", "", False)


class Layers(NamedTuple):
    """Texts by key, the strongest layer first."""

    node: Mapping[str, str]
    cluster: Mapping[str, str]
    static: Mapping[str, str]
    own_defaults: Mapping[str, str]


def base_key(name: str) -> str:
    """The key behind `listener.name.<listener>.[<mechanism>.]<key>`; other names are their own."""
    if not name.startswith(_LISTENER_PREFIX):
        return name
    rest = name[len(_LISTENER_PREFIX) :].partition(".")[2]
    behind_mechanism = rest.partition(".")[2]
    return behind_mechanism if rest not in BROKER_KEYS and behind_mechanism in BROKER_KEYS else rest


def find_row(name: str) -> Row | None:
    """The table's row for a key, plain or with a listener's prefix; None for a name that the tables do not have."""
    row = BROKER_KEYS.get(name) or PYLOG_KEYS.get(name) or QUOTA_KEYS.get(name)
    if row is None and name.startswith(_LISTENER_PREFIX):
        row = BROKER_KEYS.get(base_key(name))
    return row


class Config:
    """The settings of one broker. Immutable; any thread."""

    __slots__ = (
        "_values",
        "advertised_listeners",
        "inter_broker_listener",
        "layers",
        "listeners",
        "log_config",
        "metrics_listener",
        "warnings",
    )

    def __init__(self, layers: Layers, warnings: tuple[str, ...] = ()) -> None:
        """Check everything that is set, alone and together; raises ConfigError."""
        self.layers = layers
        self.warnings = warnings  # one line each
        self._values: dict[str, Value] = {}
        for layer in (layers.static, layers.cluster, layers.node):
            for name in sorted(layer):
                self.value(name)
        self.log_config: LogConfig = log_config_of_broker(self.value)  # what a topic without own settings gets
        choice = choose_listeners(self.value, self.text)
        self.listeners = choice.listeners  # sockets to open
        self.advertised_listeners = choice.advertised  # as configured; none: tell each client the address it came by
        self.inter_broker_listener = choice.inter_broker
        self.metrics_listener: Address | None = None  # where figures are served; None: nowhere
        if metrics_listener := self.optional_str("pylog.metrics.listener"):
            self.metrics_listener = parse_address("pylog.metrics.listener", metrics_listener)
        check_together(self.value, self.log_config)

    def with_dynamic(self, node: Mapping[str, str], cluster: Mapping[str, str]) -> Config:
        """This configuration with what /config/brokers holds for this broker and for all of them.

        Keys that cannot be set so, or whose value cannot be read, are left out with a warning: somebody else wrote
        them. Raises ConfigError when the values contradict one another; the caller keeps what it has.
        """
        warnings: list[str] = []
        node = _usable(node, warnings, for_all=False)
        cluster = _usable(cluster, warnings, for_all=True)
        return Config(self.layers._replace(node=node, cluster=cluster), tuple(warnings))

    # ------------------------------------------------------------------ typed reading

    def value(self, name: builtins.str) -> Value:
        """The value in force; None where there is none. A name that no table has is a text."""
        try:
            return self._values[name]
        except KeyError:
            pass
        kind, default, rule = (find_row(name) or PLUGIN_KEYS.get(name) or _PLAIN_TEXT)[:3]
        text = self.text(name)
        if text is not None:
            value = parse_value(name, kind, rule, text)
        else:
            text = self.layers.own_defaults.get(name, default)
            value = None if text is None else parse_value(name, kind, None, text)
        self._values[name] = value
        return value

    def text(self, name: builtins.str) -> builtins.str | None:
        """What somebody set, as written; None when only a default holds."""
        for layer in self.layers[:3]:
            if name in layer:
                return layer[name]
        return None

    def for_listener(self, listener: builtins.str, key: builtins.str) -> Value:
        """The value of `key` on one listener: its own `listener.name.<listener>.<key>`, else the broker's."""
        name = f"{_LISTENER_PREFIX}{listener.lower()}.{key}"
        return self.value(name) if self.text(name) is not None else self.value(key)

    def int(self, name: builtins.str) -> builtins.int:
        value = self.value(name)
        assert type(value) is builtins.int, name
        return value

    def optional_int(self, name: builtins.str) -> builtins.int | None:
        return None if self.value(name) is None else self.int(name)

    def float(self, name: builtins.str) -> builtins.float:
        value = self.value(name)
        assert type(value) is builtins.float, name
        return value

    def bool(self, name: builtins.str) -> builtins.bool:
        value = self.value(name)
        assert type(value) is builtins.bool, name
        return value

    def str(self, name: builtins.str) -> builtins.str:
        value = self.value(name)
        assert type(value) is builtins.str, name
        return value

    def optional_str(self, name: builtins.str) -> builtins.str | None:
        return None if self.value(name) is None else self.str(name)

    def list(self, name: builtins.str) -> tuple[builtins.str, ...]:
        value = self.value(name)
        assert type(value) is tuple, name
        return value

    @property
    def broker_id(self) -> builtins.int:
        """-1: have one generated. Either way the id in meta.properties comes first unless `broker_id_is_set`."""
        return self.int("broker.id")

    @property
    def broker_id_is_set(self) -> builtins.bool:
        return self.text("broker.id") is not None and self.broker_id != -1

    @property
    def log_dirs(self) -> tuple[builtins.str, ...]:
        text = self.optional_str("log.dirs")
        if text is None:
            text = self.str("log.dir")
        return tuple(part for part in (part.strip() for part in text.split(",")) if part)


def load(path: str | None = None, overrides: Mapping[str, str] | None = None) -> Config:
    """Read a server.properties file (None: no file) and apply overrides. Raises ConfigError or OSError."""
    settings: dict[str, str] = {}
    if path is not None:
        from cluster.config.properties import parse_properties

        with open(path, "rb") as file:
            settings = parse_properties(file.read())
    settings.update(overrides or {})
    own_defaults = dict(_ALWAYS)
    if not settings.get("zookeeper.connect"):
        own_defaults |= _SINGLE_NODE
    if path is None:
        own_defaults |= _NO_FILE
    layers = Layers({}, {}, _with_one_node_id(settings), own_defaults)
    return Config(layers, tuple(_load_warnings(settings)))


def _with_one_node_id(settings: dict[str, str]) -> dict[str, str]:
    """`broker.id` and `node.id` are one setting under two names."""
    broker, node = settings.get("broker.id"), settings.get("node.id")
    if broker is not None and node is not None and broker.strip() != node.strip():
        raise ConfigError("You must set `node.id` to the same value as `broker.id`.")
    if broker is None and node is None:
        return settings
    either = broker if broker is not None else node
    assert either is not None
    return settings | {"broker.id": either, "node.id": either}


def _load_warnings(settings: Mapping[str, str]) -> list[str]:
    """Names that no table has, each with the nearest known one; and names that change nothing here."""
    warnings: list[str] = []
    idle = sorted(name for name in settings if base_key(name).startswith(WITHOUT_EFFECT))
    for name in sorted(settings):
        if find_row(name) is None and name not in PLUGIN_KEYS and name not in idle:
            from difflib import get_close_matches

            near = get_close_matches(name, [*BROKER_KEYS, *PLUGIN_KEYS, *PYLOG_KEYS], 1, 0.6)
            warnings.append(f"Unknown setting {name}" + (f"; did you mean {near[0]}?" if near else ""))
    if idle:
        warnings.append(f"No effect here: {', '.join(idle)}")
    return warnings


def _usable(texts: Mapping[str, str], warnings: list[str], *, for_all: bool) -> dict[str, str]:
    """The settings of /config/brokers that may be set at run time and can be read."""
    usable: dict[str, str] = {}
    for name in sorted(texts):
        row = find_row(name)
        reason = None
        if row is not None and not may_change(name, for_all=for_all):
            reason = "it cannot be changed at run time" if not for_all else "it cannot be set for all brokers"
        elif row is not None:
            try:
                parse_value(name, row[0], row[2], texts[name])
            except ConfigError as error:
                reason = str(error)
        if reason is None:
            usable[name] = texts[name]
        else:
            warnings.append(f"Dynamic setting {name} is left out: {reason}")
    return usable


def may_change(name: str, *, for_all: bool) -> bool:
    """True when AlterConfigs may set the key `name`, for one broker or (`for_all`) for all of them."""
    row = find_row(name)
    if name.startswith(_LISTENER_PREFIX):  # any key may be set for a listener; for all brokers only a cluster-wide one
        return not for_all or (row is not None and row[4] == "cluster")
    return row is not None and row[4] in (("cluster",) if for_all else ("cluster", "broker"))

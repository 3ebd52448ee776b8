"""What DescribeConfigs says: each key with its value, where that comes from, and what it would fall back to.

What stays true: the lines, their sources and the order of synonyms are those of Kafka 3.9. Passwords, and names that no
table has, are sensitive: their values never leave this module.
"""

from collections.abc import Iterable, Mapping

from cluster.config.broker_config import Config, base_key, find_row
from cluster.config.keys import BROKER_KEYS, PYLOG_KEYS
from pylog.config import TOPIC_KEYS, field_name
from pylog.config_value import (
    SOURCE_DEFAULT,
    SOURCE_DYNAMIC_BROKER,
    SOURCE_DYNAMIC_DEFAULT,
    SOURCE_STATIC,
    SOURCE_TOPIC,
    TYPE_CODES,
    ConfigEntry,
    show_value,
)

Synonym = tuple[str, str | None, int]

# One setting in several units: setting any of them is seen from all.
_UNITS = (
    ("log.roll.ms", "log.roll.hours"),
    ("log.roll.jitter.ms", "log.roll.jitter.hours"),
    ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
)


def describe_broker(config: Config, names: Iterable[str] | None = None) -> list[ConfigEntry]:
    """The settings of this broker, sorted; `names`: only these (a client may ask so)."""
    known = {name for table in (BROKER_KEYS, PYLOG_KEYS) for name, row in table.items() if not row[5]}
    known.update(*config.layers[:3])
    wanted = known if names is None else known.intersection(names)
    return [_broker_entry(config, name) for name in sorted(wanted)]


def describe_cluster_defaults(config: Config, names: Iterable[str] | None = None) -> list[ConfigEntry]:
    """The settings made at run time for all brokers."""
    layer = config.layers.cluster
    wanted = layer if names is None else set(names).intersection(layer)
    entries = []
    for name in sorted(wanted):
        sensitive = _is_sensitive(name)
        text = None if sensitive else layer[name]
        synonyms = ((name, text, SOURCE_DYNAMIC_DEFAULT),)
        entries.append(_entry(name, text, SOURCE_DYNAMIC_DEFAULT, sensitive, synonyms))
    return entries


def describe_topic(
    config: Config, overrides: Mapping[str, str], names: Iterable[str] | None = None
) -> list[ConfigEntry]:
    """The settings of a topic. Raises ConfigError when an override cannot be read."""
    log_config = config.log_config.with_overrides(overrides)
    wanted = set(TOPIC_KEYS if names is None else names)
    entries = []
    for key, topic_key in TOPIC_KEYS.items():
        if key not in wanted:
            continue
        value = show_value(getattr(log_config, field_name(key)))
        synonyms = _synonyms(config, topic_key.fallbacks[0][0]) if topic_key.fallbacks else ()
        if key in overrides:
            synonyms = ((key, value, SOURCE_TOPIC), *synonyms)
        source = synonyms[0][2] if synonyms else SOURCE_DEFAULT
        entries.append(ConfigEntry(key, value, source, False, False, TYPE_CODES[topic_key.kind], synonyms))
    return entries


def _broker_entry(config: Config, name: str) -> ConfigEntry:
    sensitive = _is_sensitive(name)
    synonyms = _synonyms(config, name)
    if sensitive:
        synonyms = tuple((synonym, None, source) for synonym, _, source in synonyms)
    value = None if sensitive else show_value(config.value(name))
    return _entry(name, value, synonyms[0][2] if synonyms else SOURCE_DEFAULT, sensitive, synonyms)


def _entry(name: str, value: str | None, source: int, sensitive: bool, synonyms: tuple[Synonym, ...]) -> ConfigEntry:
    row = find_row(name)
    broker_row = BROKER_KEYS.get(name)
    read_only = broker_row is None or broker_row[4] == ""
    return ConfigEntry(name, value, source, read_only, sensitive, TYPE_CODES[row[0]] if row else 0, synonyms)


def _is_sensitive(name: str) -> bool:
    row = find_row(name)
    return row is None or row[0] == "password"


def _synonyms(config: Config, name: str) -> tuple[Synonym, ...]:
    """Layer by layer, in each the names from the strongest; those that are stronger than `name` itself do not count."""
    names = _names(name)
    layers = config.layers
    found: list[Synonym] = []
    for layer, source in (
        (layers.node, SOURCE_DYNAMIC_BROKER),
        (layers.cluster, SOURCE_DYNAMIC_DEFAULT),
        (layers.static, SOURCE_STATIC),
    ):
        found += [(synonym, layer[synonym], source) for synonym in names if synonym in layer]
    for synonym in names:
        row = BROKER_KEYS.get(synonym) or PYLOG_KEYS.get(synonym)
        default = layers.own_defaults.get(synonym, row[1] if row else None)
        if default is not None:
            found.append((synonym, default, SOURCE_DEFAULT))
    while found and found[0][0] != name:
        del found[0]
    return tuple(found)


def _names(name: str) -> tuple[str, ...]:
    for units in _UNITS:
        if name in units:
            return units
    if name == "log.flush.interval.ms":
        return (name, "log.flush.scheduler.interval.ms")
    base = base_key(name)
    return (name,) if base == name else (name, base)

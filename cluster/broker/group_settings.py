"""Settings that a group has of its own (KIP-848, resource type GROUP), on a single node.

What stays true: a setting is kept as the client wrote it, in the metadata tree under /config/groups, and was within the
broker's bounds when it was written; whoever uses it keeps it within the bounds as they are then. Control thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, unquote

from cluster.controller.configs import DELETE, SET, ConfigChange, check_changes
from cluster.metadata import paths
from cluster.metadata.store import Create, Op, SetData, Store, StoreError
from pylog.config_value import SOURCE_DEFAULT, SOURCE_STATIC, TYPE_CODES, ConfigEntry, ConfigError, parse_value
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.config import Config

_PARENT: Final = "/config/groups"
_SOURCE_GROUP: Final = 8


class _Setting(NamedTuple):
    """`behind`: the broker's setting that holds for groups without one; `least`, `most`: those that bound it."""

    behind: str
    least: str
    most: str


_SETTINGS: Final = {
    "consumer.heartbeat.interval.ms": _Setting(
        "group.consumer.heartbeat.interval.ms",
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    "consumer.session.timeout.ms": _Setting(
        "group.consumer.session.timeout.ms",
        "group.consumer.min.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
}


class GroupSettings:
    def __init__(self, store: Store) -> None:
        """Raises StoreError."""
        self._store = store
        self._has_parent = store.exists(_PARENT) is not None
        names = store.children(_PARENT) if self._has_parent else []
        self._settings = {unquote(name): paths.decode_config(store.get(f"{_PARENT}/{name}")[0]) for name in names}

    def of(self, group_id: str) -> Mapping[str, str]:
        return self._settings.get(group_id, {})

    def describe(self, config: Config, group_id: str, names: Iterable[str] | None = None) -> list[ConfigEntry]:
        """What holds for a group, known or not. Raises KafkaError."""
        _check_named(group_id)
        wanted = _SETTINGS if names is None else [name for name in _SETTINGS if name in set(names)]
        return [_entry(config, name, self.of(group_id).get(name)) for name in wanted]

    def replace(
        self, config: Config, group_id: str, settings: Sequence[tuple[str, str | None]], validate_only: bool
    ) -> None:
        """These settings and no others. Raises KafkaError."""
        check_changes([ConfigChange(name, SET, value) for name, value in settings])
        self._put(config, group_id, {name: value for name, value in settings if value is not None}, validate_only)

    def change(self, config: Config, group_id: str, changes: Sequence[ConfigChange], validate_only: bool) -> None:
        """Some settings. Raises KafkaError."""
        check_changes(changes)
        settings = dict(self.of(group_id))
        for name, operation, value in changes:
            if operation == DELETE:
                settings.pop(name, None)
            elif operation == SET:
                settings[name] = value or ""
            else:
                text = f"Config value append is not allowed for config key: {name}"
                raise KafkaError(ErrorCode.INVALID_CONFIG, text)
        self._put(config, group_id, settings, validate_only)

    def _put(self, config: Config, group_id: str, settings: dict[str, str], validate_only: bool) -> None:
        _check_named(group_id)
        _check(config, settings)
        if validate_only:
            return
        path, data = f"{_PARENT}/{quote(group_id, safe='')}", paths.encode_config(settings)
        ops: list[Op] = [] if self._has_parent else [Create(_PARENT)]
        ops.append(SetData(path, data) if group_id in self._settings else Create(path, data))
        try:
            self._store.multi(ops)
        except StoreError as error:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"metadata tree: {error}") from error
        self._has_parent = True
        self._settings[group_id] = settings


def _check_named(group_id: str) -> None:
    if not group_id:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Default group resources are not allowed.")


def _check(config: Config, settings: Mapping[str, str]) -> None:
    """Raises KafkaError(INVALID_CONFIG)."""
    values = {}
    for name, text in settings.items():
        row = _SETTINGS.get(name)
        if row is None:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown group config name: {name}")
        try:
            value = parse_value(name, "int", ">=1", text)
        except ConfigError as error:
            raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from error
        assert isinstance(value, int)
        if value < config.int(row.least):
            text = f"{name} must be greater than or equal to {row.least}"
            raise KafkaError(ErrorCode.INVALID_CONFIG, text)
        if value > config.int(row.most):
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"{name} must be less than or equal to {row.most}")
        values[name] = value
    session, interval = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
    session_ms = values.get(session, config.int(_SETTINGS[session].behind))
    if session_ms <= values.get(interval, config.int(_SETTINGS[interval].behind)):
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"{session} must be greater than {interval}")


def _entry(config: Config, name: str, own: str | None) -> ConfigEntry:
    behind = _SETTINGS[name].behind
    synonyms: list[tuple[str, str | None, int]] = []
    if own is not None:
        synonyms.append((name, own, _SOURCE_GROUP))
    default = str(config.int(behind))
    if config.text(behind) is not None:
        synonyms.append((behind, default, SOURCE_STATIC))
    else:
        synonyms.append((behind, default, SOURCE_DEFAULT))
    return ConfigEntry(name, synonyms[0][1], synonyms[0][2], False, False, TYPE_CODES["int"], tuple(synonyms))

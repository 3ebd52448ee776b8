"""What a group of the consumer protocol is decided with: settings, topics, assignors; and what a decision is made of.

What stays true: a `Change` only collects. Nothing of it happens before the request is decided whole, and its facts
become the group's only when they are committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster.coordinator.assignor import Assignor, assignors
from cluster.coordinator.consumer_records import ConsumerFact, GroupEpoch
from cluster.coordinator.context import GroupConfig, NewId, Overrides, Topics
from cluster.coordinator.group_records import GroupDeleted, GroupStored
from cluster.coordinator.hash_order import copied_table, hash_order, string_hash
from cluster.coordinator.journal import Cause
from cluster.coordinator.topic_hash import group_hash, topic_hash
from pylog.facts import NamedTuple
from pylog.typed import TypeAlias

SESSION, REBALANCE, JOIN, SYNC = "session", "rebalance", "join", "sync"
"""What a member may be late with: living; giving up partitions; joining again and syncing (the classic protocol's)."""

_MOST_SUBSCRIPTIONS = 1_000

AnyFact: TypeAlias = ConsumerFact | GroupStored | GroupDeleted


class Wait(NamedTuple):
    """Give a member so long for something; None: it need not be waited for. `epoch`: the wait is void once the member
    has left this epoch; -1: never. `renew`: begin anew if one runs already."""

    what: str
    member_id: str
    timeout_ms: int | None
    epoch: int = -1
    renew: bool = True


class Change:
    """`is_upgrade`: the group was classic until now. `is_downgrade`: it is so once this is committed; `is_rebalance`:
    and is to rebalance at once. `regexes`: to be resolved. `late_with`: what the members were late with that are to go;
    "": they went themselves. `causes`: of the rebalance that it begins or prolongs, for the journal."""

    __slots__ = (
        "causes",
        "facts",
        "is_downgrade",
        "is_rebalance",
        "is_upgrade",
        "late_with",
        "now_ms",
        "regexes",
        "waits",
    )

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.facts: list[AnyFact] = []
        self.waits: list[Wait] = []
        self.is_upgrade = False
        self.is_downgrade = False
        self.is_rebalance = False
        self.regexes: tuple[str, ...] = ()
        self.late_with = ""
        self.causes: tuple[Cause, ...] = ()

    @property
    def begins_epoch(self) -> bool:
        return GroupEpoch in map(type, self.facts)

    @property
    def epoch(self) -> int:
        """The group's, once this is committed; -1: as it was."""
        return max((fact.epoch for fact in self.facts if isinstance(fact, GroupEpoch)), default=-1)

    def wait(self, what: str, member_id: str, timeout_ms: int, *, epoch: int = -1, renew: bool = True) -> None:
        self.waits.append(Wait(what, member_id, timeout_ms, epoch, renew))

    def wait_no_more(self, member_id: str, *what: str) -> None:
        self.waits += [Wait(each, member_id, None) for each in what]


class ConsumerEnv:
    __slots__ = (
        "_hashes",
        "_ids",
        "_known_version",
        "_overrides",
        "assignors",
        "config",
        "default_assignor",
        "new_id",
        "topics",
    )

    def __init__(self, config: GroupConfig, new_id: NewId, topics: Topics, overrides: Overrides) -> None:
        self.config = config
        self.new_id = new_id
        self.topics = topics
        self.assignors: dict[str, Assignor] = assignors(config.consumer.assignors)
        self.default_assignor = next(iter(self.assignors))
        self._overrides = overrides
        # Of the topics as they were in this version.
        self._known_version = -1
        self._hashes: dict[str, int] = {}
        self._ids: dict[frozenset[str], dict[bytes, None]] = {}  # by subscription

    def session_timeout_ms(self, group_id: str) -> int:
        config = self.config.consumer
        return self._setting(
            group_id,
            "consumer.session.timeout.ms",
            config.session_timeout_ms,
            config.min_session_timeout_ms,
            config.max_session_timeout_ms,
        )

    def heartbeat_interval_ms(self, group_id: str) -> int:
        config = self.config.consumer
        return self._setting(
            group_id,
            "consumer.heartbeat.interval.ms",
            config.heartbeat_interval_ms,
            config.min_heartbeat_interval_ms,
            config.max_heartbeat_interval_ms,
        )

    def _setting(self, group_id: str, name: str, default: int, least: int, most: int) -> int:
        """A group's own setting, within the broker's bounds as they are now; else the broker's."""
        own = self._overrides(group_id).get(name)
        return default if own is None else min(max(int(own), least), most)

    def may_upgrade(self) -> bool:
        return self.config.consumer.migration_policy.lower() in ("bidirectional", "upgrade")

    def may_downgrade(self) -> bool:
        return self.config.consumer.migration_policy.lower() in ("bidirectional", "downgrade")

    def metadata_hash(self, names: Iterable[str]) -> int:
        """Of the topics of these names that exist."""
        self._look()
        found = {}
        for name in names:
            value = self._hashes.get(name)
            if value is None:
                topic_id = self.topics.topic_id(name)
                if topic_id is None:
                    continue
                value = self._hashes[name] = topic_hash(name, topic_id, self.topics.partition_racks(name))
            found[name] = value
        return group_hash(found)

    def topic_ids(self, names: frozenset[str]) -> Mapping[bytes, None]:
        """The ids of the topics of these names that exist, as a set in Kafka's order."""
        self._look()
        found = self._ids.get(names)
        if found is None:
            if len(self._ids) >= _MOST_SUBSCRIPTIONS:
                self._ids.clear()
            ordered = hash_order(sorted(names), string_hash, copied_table(len(names)))
            ids = (self.topics.topic_id(name) for name in ordered)
            found = self._ids[names] = {topic_id: None for topic_id in ids if topic_id is not None}
        return found

    def _look(self) -> None:
        """Nothing is known of topics that may have changed."""
        version = self.topics.version()
        if version != self._known_version:
            self._hashes.clear()
            self._ids.clear()
            self._known_version = version

"""Topics and settings changed in a cluster: written to the tree here, done by the controller and the brokers.

What stays true: what a client asks for is checked as Kafka checks it and written as Kafka writes it, so that a
controller of either kind carries it out; topics are made, grown and deleted by the broker that is the controller, but
those that somebody just asks about, which any broker makes; a change of settings is announced after it is written. An
answer waits until this broker has heard of what was made or deleted, for as long as its client wants to wait.

It is asked on the tree's threads (handlers marked `tree`), and may wait for ZooKeeper there; what the control thread
asks is answered from what is known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from cluster.broker import identity
from cluster.broker.admin import (
    Created,
    internal_settings,
    internal_topic,
    new_topic_id,
    unknown_topic,
    unsupported,
)
from cluster.broker.apis import Held
from cluster.broker.member import Member, no_session
from cluster.broker.producer_ids import RpcProducerIds
from cluster.controller import configs as config_plans
from cluster.controller.context import DEFAULT_ENTITY, ControllerContext
from cluster.controller.topics import NewTopic, TopicPlan, plan_creation, plan_growth
from cluster.metadata import paths
from cluster.metadata.store import NodeExists, NoNode, StoreError
from cluster.model import Broker as BrokerFact
from cluster.model import BrokerEpoch, BrokerId, ClusterFacts, EndPoint, TopicDescription
from cluster.protocol.message import Message
from pylog.errors import ErrorCode, KafkaError
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final
from pylog.types import ZERO_TOPIC_ID, TopicPartition

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.group_settings import GroupSettings
    from pylog.config import LogConfig

_TOPIC: Final = 2
_BROKER: Final = 4
_GROUP: Final = 32


class ClusterAdmin:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._log = Logger("Admin")
        self._log_configs: dict[str, LogConfig] = {}
        self._being_created: set[str] = set()
        self._broker_settings: dict[str, dict[str, str]] = {}
        self.cluster_id = ""
        self.broker_id = -1

    # ------------------------------------------------------------------------------------------------- start and stop

    def open_tree(self, directories: Sequence[str]) -> int:
        """Begin the session and learn who we are; returns the broker's id. Raises KafkaError, OSError."""
        try:
            self.member = self._broker.member = Member(self._broker, self)
            self.broker_id, self.cluster_id = identity.establish(self._broker.config, directories, self.member.store)
            self._broker.broker_id = self.broker_id
            self._broker_settings = self.member.broker_settings()
        except StoreError as error:
            raise KafkaError(
                ErrorCode.UNKNOWN_SERVER_ERROR, f"zookeeper.connect: {error}; is ZooKeeper running there?"
            ) from error
        except ValueError as error:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"zookeeper.connect: {error}") from error
        self._use_broker_settings()
        return self.broker_id

    def producer_ids(self) -> RpcProducerIds:
        member = self.member
        return RpcProducerIds(self.broker_id, lambda: int(member.broker_epoch), lambda *ask: member.client.ask(*ask))

    def load(self, endpoints: Iterable[EndPoint]) -> None:
        """Register; the controller tells the rest. Raises KafkaError."""
        try:
            self.member.join(list(endpoints))
        except StoreError as error:
            raise no_session(error) from error

    def wait_until_told(self) -> None:
        self.member.wait_for_controller()

    def leave(self) -> None:
        self.member.leave()

    def stop(self) -> None:
        self.member.stop()

    def close(self) -> None:
        self.member.close()

    # ------------------------------------------------------------------------------------------------- what holds

    def log_config(self, topic: str) -> LogConfig:
        """The settings of a hosted topic, with the broker's where it has none of its own. Any thread."""
        found = self._log_configs.get(topic)
        if found is None:
            found = self._broker.config.log_config.with_overrides(self.member.settings_of(topic))
            self._log_configs[topic] = found
        return found

    def topic_overrides(self, topic: str) -> dict[str, str]:
        """As the tree has them now: the topic need not be hosted here. A thread of the tree."""
        return self._read_config("topics", topic) or {}

    def group_settings(self) -> GroupSettings:
        """Kafka brokers in ZooKeeper mode know of none. Raises KafkaError."""
        raise unsupported(_GROUP)

    def group_overrides(self, group_id: str) -> dict[str, str]:
        return {}

    def unknown_topic(self, name: str) -> ErrorCode:
        return unknown_topic(name)

    def topic_settings_changed(self, topic: str) -> None:
        """Control thread."""
        self._log_configs.pop(topic, None)
        known = self._broker.metadata.topics.get(topic)
        if known is not None:
            self._broker.replicas.configure(known)
            names = [TopicPartition(topic, each.partition) for each in known.partitions]
            self.member.replication.configure_partitions(names)

    def take_up_broker_settings(self, settings: dict[str, dict[str, str]]) -> None:
        """Control thread."""
        self._broker_settings = settings
        was_unclean = self._broker.config.bool("unclean.leader.election.enable")
        self._use_broker_settings()
        self._broker.keep_room()
        self._broker.verify_transactions()
        self.member.settings_changed(was_unclean)
        for topic in list(self._broker.metadata.topics.values()):
            self._broker.replicas.configure(topic)
        self._broker.engine.invalidate()

    def _use_broker_settings(self) -> None:
        node = self._broker_settings.get(str(self.broker_id), {})
        everybody = self._broker_settings.get(DEFAULT_ENTITY, {})
        config = self._broker.config
        if node or everybody or config.layers.node or config.layers.cluster:
            self._broker.config = config.with_dynamic(node, everybody)
            for warning in self._broker.config.warnings:
                self._log.warn(warning)
        self._log_configs.clear()

    # ------------------------------------------------------------------------------------------------- topics

    def check_controller(self) -> None:
        """Raises NOT_CONTROLLER: the client asks again elsewhere."""
        if not self.member.is_controller:
            raise KafkaError(ErrorCode.NOT_CONTROLLER)

    def create_topics(self, wanted: Sequence[NewTopic], validate_only: bool = False) -> list[Created | KafkaError]:
        """Make topics, each for itself: for each what was made, or why it was not."""
        self.check_controller()
        return [self._create(new, validate_only) for new in wanted]

    def _create(self, new: NewTopic, validate_only: bool) -> Created | KafkaError:
        try:
            plan = self._plan(new)
            if not validate_only:
                self._write_topic(plan)
        except KafkaError as error:
            return error
        except StoreError as error:
            return no_session(error)
        parts = plan.description.partitions
        topic_id = ZERO_TOPIC_ID if validate_only else plan.description.topic_id
        return Created(new.name, topic_id, len(parts), len(parts[0].replicas), plan.settings)

    def _plan(self, new: NewTopic, marked: bool = True) -> TopicPlan:
        deleting = {new.name} if marked and self._is_marked(new.name) else set()
        context = self._context(self._known_topics(), deleting)
        start = int.from_bytes(os.urandom(2), "big")
        return plan_creation(context, self._broker.config, new, topic_id=new_topic_id(), start_index=start)

    def _is_marked(self, topic: str) -> bool:
        return self.member.store.exists(paths.delete_topic(topic)) is not None

    def _known_topics(self) -> dict[str, TopicDescription]:
        known = dict(self._broker.metadata.topics)  # the control thread goes on changing it
        return {name: TopicDescription(name, each.topic_id, ()) for name, each in known.items()}

    def _context(self, topics: dict[str, TopicDescription], deleting: Iterable[str]) -> ControllerContext:
        """What this broker was told, as the rules of topics ask it."""
        brokers = {
            each.broker_id: BrokerFact(BrokerId(each.broker_id), (), each.rack, BrokerEpoch(-1))
            for each in list(self._broker.metadata.brokers.values())
        }
        return ControllerContext(ClusterFacts("", 0, brokers, topics, {}, {}, {}, frozenset(deleting)))

    def _write_topic(self, plan: TopicPlan) -> None:
        """The settings first: brokers look for them when the topic is there. Raises TOPIC_ALREADY_EXISTS."""
        store, name = self.member.store, plan.description.name
        if store.exists(paths.topic(name)) is not None:
            raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        self._put_config("topics", name, plan.settings)
        try:
            store.create(paths.topic(name), paths.encode_topic(plan.description))
        except NodeExists:
            raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.") from None

    def _put_config(self, kind: str, entity: str, settings: dict[str, str]) -> None:
        path, data = paths.config(kind, entity), paths.encode_config(settings)
        try:
            self.member.store.set(path, data)
        except NoNode:
            self.member.store.create(path, data)

    def create_partitions(
        self, name: str, count: int, assignments: Sequence[Sequence[int]] | None, validate_only: bool
    ) -> None:
        """Give a topic more partitions, `count` in all. Raises KafkaError."""
        self.check_controller()
        store = self.member.store
        try:
            try:
                data, stat = store.get(paths.topic(name))
            except NoNode:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.") from None
            topics = {name: paths.decode_topic(name, data)}
            context = self._context(topics, {name} if self._is_marked(name) else ())
            plan = plan_growth(context, name, count, assignments)
            if not validate_only:
                store.set(paths.topic(name), paths.encode_topic(plan.description), stat.version)
        except StoreError as error:
            raise no_session(error) from error

    def delete_topics(self, names: Sequence[str]) -> list[KafkaError | None]:
        """Mark topics to be deleted: for each None, or why it is not."""
        self.check_controller()
        return [self._delete(name) for name in names]

    def _delete(self, name: str) -> KafkaError | None:
        if not self._broker.config.bool("delete.topic.enable"):
            return KafkaError(ErrorCode.TOPIC_DELETION_DISABLED, "Topic deletion is disabled.")
        try:
            if self.member.store.exists(paths.topic(name)) is None:
                return KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            self.member.store.create(paths.delete_topic(name))
        except NodeExists:
            return None  # marked already: it goes
        except StoreError as error:
            return no_session(error)
        return None

    def auto_create(self, name: str, internal: bool = False) -> ErrorCode:
        """Begin to make a topic that somebody asks about, if it may be; NONE when it is there now. Control thread."""
        if name in self._broker.metadata.topics:
            return ErrorCode.NONE
        code = unknown_topic(name)
        if code is ErrorCode.INVALID_TOPIC_EXCEPTION:
            return code
        config = self._broker.config
        settings = internal_settings(config, name)
        if not internal and not config.bool("auto.create.topics.enable"):
            return code
        new = NewTopic(name) if settings is None else internal_topic(config, name, settings)
        try:
            self._plan(new, marked=False)
        except KafkaError as error:
            self._log.warn("topic not created", topic=name, why=error.message)
            return error.code
        if name not in self._being_created:
            self._being_created.add(name)
            self.member.on_tree(lambda: self._auto_create(new))
        return ErrorCode.LEADER_NOT_AVAILABLE

    def _auto_create(self, new: NewTopic) -> None:
        """A thread of the tree."""
        try:
            made = self._create(new, validate_only=False)
        finally:
            self._being_created.discard(new.name)
        if isinstance(made, KafkaError) and made.code is not ErrorCode.TOPIC_ALREADY_EXISTS:
            self._log.warn("topic not created", topic=new.name, why=made.message)

    # ------------------------------------------------------------------------------------------------- waiting

    def hold_created(
        self, answer: Message, counts: dict[str, int], timeout_ms: int, late: Callable[[list[str]], None]
    ) -> Held:
        """Give the answer when all these topics have so many partitions with leaders here; `late` is told those that
        have not when time is up, and changes the answer."""

        def missing() -> list[str]:
            return [name for name, count in counts.items() if not self._has_leaders(name, count)]

        return Held(answer, missing, timeout_ms, late)

    def hold_deleted(
        self, answer: Message, names: Iterable[str], timeout_ms: int, late: Callable[[list[str]], None]
    ) -> Held:
        doomed = list(names)
        topics = self._broker.metadata.topics
        return Held(answer, lambda: [name for name in doomed if name in topics], timeout_ms, late)

    def _has_leaders(self, name: str, count: int) -> bool:
        known = self._broker.metadata.topics.get(name)
        return known is not None and sum(each.leader >= 0 for each in known.partitions) >= count

    # ------------------------------------------------------------------------------------------------- settings

    def alter_configs(
        self, kind: int, name: str, settings: Sequence[tuple[str, str | None]], validate_only: bool
    ) -> None:
        """AlterConfigs: these settings and no others. Raises KafkaError."""
        config = self._broker.config
        if kind == _TOPIC:
            plan = config_plans.replace_topic(self._config_context("topics", name), config, name, settings)
        elif kind == _BROKER:
            context = self._config_context("brokers", name or DEFAULT_ENTITY)
            plan = config_plans.replace_broker(context, config, self.broker_id, name, settings)
        else:
            config_plans.check_changes([config_plans.ConfigChange(key, 0, value) for key, value in settings])
            raise unsupported(kind)
        self._configure(plan, validate_only)

    def change_configs(
        self, kind: int, name: str, changes: Sequence[tuple[str, int, str | None]], validate_only: bool
    ) -> None:
        """IncrementalAlterConfigs. Raises KafkaError."""
        wanted = [config_plans.ConfigChange(*change) for change in changes]
        config = self._broker.config
        if kind == _TOPIC:
            plan = config_plans.alter_topic(self._config_context("topics", name), config, name, wanted)
        elif kind == _BROKER:
            context = self._config_context("brokers", name or DEFAULT_ENTITY)
            plan = config_plans.alter_broker(context, config, self.broker_id, name, wanted)
        else:
            config_plans.check_changes(wanted)
            raise unsupported(kind)
        self._configure(plan, validate_only)

    def _config_context(self, kind: str, entity: str) -> ControllerContext:
        """What the rules of settings look at: the entity as the tree has it now."""
        context = self._context(self._known_topics(), ())
        try:
            settings = self._read_config(kind, entity)
        except StoreError as error:
            raise no_session(error) from error
        if settings is not None:
            context.put_config(kind, entity, settings)
        return context

    def _read_config(self, kind: str, entity: str) -> dict[str, str] | None:
        try:
            return paths.decode_config(self.member.store.get(paths.config(kind, entity))[0])
        except NoNode:
            return None

    def _configure(self, plan: config_plans.ConfigPlan, validate_only: bool) -> None:
        """Write them, then tell all brokers, this one too, to look."""
        if validate_only:
            return
        store = self.member.store
        try:
            self._put_config(plan.kind, plan.entity, plan.settings)
            change = paths.ConfigChange(f"{plan.kind}/{plan.entity}")
            store.create(paths.CONFIG_CHANGE_PREFIX, change.encode(), sequential=True)
        except StoreError as error:
            raise no_session(error) from error

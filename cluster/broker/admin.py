"""Topics and settings changed: what the controller decided is written to the tree, then done, then answered.

What stays true:
- the tree is written before anything else follows it, and what follows is finished before the change is answered:
  when a topic's creation is answered its partitions can be written to, when its deletion is answered its name is free;
- answers kept by the data plane are forgotten after the new truth is readable and before the change is answered;
- a creation or deletion that was cut short is finished at the next start.

Control thread; `open_tree` and `load` on the starting thread, before it runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from cluster.broker import identity
from cluster.broker.apis import Message
from cluster.broker.metadata_cache import (
    GROUP_METADATA_TOPIC,
    TRANSACTION_STATE_TOPIC,
    BrokerMetadata,
    PartitionMetadata,
    TopicMetadata,
)
from cluster.broker.producer_ids import ProducerIds
from cluster.controller import configs as config_plans
from cluster.controller.context import DEFAULT_ENTITY, ControllerContext
from cluster.controller.partitions import settle
from cluster.controller.topics import NewTopic, TopicPlan, check_name, plan_creation, plan_deletion, plan_growth
from cluster.metadata import paths
from cluster.metadata.local import FILE_NAME, LocalStore
from cluster.metadata.reader import read_brokers, read_cluster
from cluster.metadata.startup import become_controller, outdated_changes, register_broker, tidy_up
from cluster.metadata.store import Op, Store, StoreError
from cluster.metadata.writes import operations, removals, transactions
from cluster.model import (
    EndPoint,
    LeaderAndIsr,
    PartitionAssignment,
    PutConfig,
    PutPartitionState,
    PutTopic,
    TopicDescription,
    Write,
    WriteGroup,
)
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final
from pylog.types import ZERO_TOPIC_ID, TopicPartition, id_text

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.group_settings import GroupSettings
    from cluster.config import Config
    from pylog.config import LogConfig
    from pylog.log import Log

_TOPIC: Final = 2
_BROKER: Final = 4
_CLIENT_METRICS: Final = 16
_GROUP: Final = 32


class Created(NamedTuple):
    """A topic that was made, or would be (`topic_id` all zero)."""

    name: str
    topic_id: bytes
    partitions: int
    replication_factor: int
    overrides: dict[str, str]


def new_topic_id() -> bytes:
    """16 random bytes as of a UUID version 4; Kafka keeps away from texts that begin with a dash."""
    while True:
        raw = bytearray(os.urandom(16))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        if not id_text(bytes(raw)).startswith("-"):
            return bytes(raw)


class Admin:
    """The controller's hands. `context` is what the tree says."""

    store: Store
    context: ControllerContext

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._fence = 0
        self._log_configs: dict[str, LogConfig] = {}
        self._group_settings: GroupSettings | None = None
        self._log = Logger("Controller")
        self.cluster_id = ""
        self.broker_id = -1

    # ------------------------------------------------------------------------------------------------- start and stop

    def open_tree(self, directories: Sequence[str]) -> int:
        """Open the metadata tree and read it; returns the broker's id. Raises KafkaError, OSError."""
        offline = self._broker.logs.offline_directories()
        path = os.path.join(identity.tree_directory(directories, FILE_NAME, offline), FILE_NAME)
        try:
            self.store = LocalStore(path, self._broker.now_ms)
            self.broker_id, self.cluster_id = identity.establish(self._broker.config, directories, self.store)
            self.context = ControllerContext(read_cluster(self.store))
        except (StoreError, ValueError) as error:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"metadata tree: {error}") from error
        self._take_up_broker_configs()
        return self.broker_id

    def load(self, endpoints: Iterable[EndPoint]) -> None:
        """Register, become the controller, finish what was cut short, host every partition. Raises KafkaError."""
        try:
            registration = paths.BrokerRegistration(tuple(endpoints), self._rack(), self._broker.now_ms())
            register_broker(self.store, self.broker_id, registration)
            self.context.epoch, self._fence = become_controller(self.store, self.broker_id, self._broker.now_ms())
            tidy_up(self.store)
            self.context.brokers = read_brokers(self.store)
        except StoreError as error:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"metadata tree: {error}") from error
        self._adopt_logs()
        for name in sorted(self.context.deleting):
            try:
                self._finish_deletions([name])
            except KafkaError as error:
                self._log.warn("deletion is not finished yet", topic=name, why=error.message)
        self._write_all(settle(self.context, {self.broker_id}, self._unclean))
        self._refresh_brokers()
        self._publish([name for name in self.context.topics if name not in self.context.deleting], known=True)

    def close(self) -> None:
        """End the session: the broker's registration and the controller's node go."""
        try:
            self.store.close()
        except StoreError as error:
            self._log.error("metadata tree is not closed in order, nothing that was answered is lost", why=error)

    def wait_until_told(self) -> None:
        """What there is is known."""

    def leave(self) -> None:
        """There is nobody to hand anything over to."""

    def stop(self) -> None:
        """Nothing of the tree runs by itself."""

    def producer_ids(self) -> ProducerIds:
        self._producer_ids = ProducerIds(self.store, self.broker_id)
        return self._producer_ids

    def _rack(self) -> str | None:
        return self._broker.config.optional_str("broker.rack")

    def _unclean(self, topic: str) -> bool:
        return self.log_config(topic).unclean_leader_election_enable

    def _refresh_brokers(self) -> None:
        brokers = [
            BrokerMetadata(each.id, {end.listener: (end.host, end.port) for end in each.endpoints}, each.rack)
            for each in self.context.live_brokers()
        ]
        self._broker.metadata.set_brokers(brokers, self.broker_id)

    def _adopt_logs(self) -> None:
        """Topics whose logs lie in the data directories and that the tree does not know: a directory that Kafka
        wrote, or a tree that was lost. Their settings are not in the directory, so the broker's defaults hold."""
        found: dict[str, dict[int, Log]] = {}
        last_producer_id = -1
        for log in self._broker.logs.logs():
            if log.partition.topic not in self.context.topics and log.partition.topic not in self.context.deleting:
                found.setdefault(log.partition.topic, {})[log.partition.partition] = log
                last_producer_id = max(last_producer_id, *(p.producer_id for p in log.native.producers()), -1)
        if found:
            self._producer_ids.skip(last_producer_id)
        for name, logs in sorted(found.items()):
            ids = {log.topic_id for log in logs.values() if log.topic_id not in (None, ZERO_TOPIC_ID)}
            topic_id = ids.pop() if len(ids) == 1 else new_topic_id()
            replicas = PartitionAssignment((self.broker_id,))
            description = TopicDescription(name, topic_id, (replicas,) * (max(logs) + 1))
            settings = internal_settings(self._broker.config, name) or {}
            known = name in self.context.topic_configs
            self._write(
                (
                    PutConfig("topics", name, settings, is_new=not known, announce=False),
                    PutTopic(description, is_new=True),
                    *(PutPartitionState(name, i, self._adopted_state(logs.get(i))) for i in range(max(logs) + 1)),
                )
            )
            self._log.warn("topic found in the data directories and adopted", topic=name, partitions=max(logs) + 1)

    def _adopted_state(self, log: Log | None) -> LeaderAndIsr:
        """Lead it in an epoch after the newest one in the log."""
        epoch = -1 if log is None else log.info().latest_epoch
        return LeaderAndIsr(self.broker_id, epoch + 1, (self.broker_id,), self.context.epoch)

    # ------------------------------------------------------------------------------------------------- what holds

    def log_config(self, topic: str) -> LogConfig:
        """The settings of a topic, with the broker's where it has none of its own. Any thread."""
        found = self._log_configs.get(topic)
        if found is None:
            overrides = self.context.topic_configs.get(topic, {})
            found = self._broker.config.log_config.with_overrides(overrides)
            self._log_configs[topic] = found
        return found

    def topic_overrides(self, topic: str) -> dict[str, str]:
        return self.context.topic_configs.get(topic, {})

    def group_settings(self) -> GroupSettings:
        """Those of groups; read when they are first asked for."""
        if self._group_settings is None:
            from cluster.broker.group_settings import GroupSettings

            self._group_settings = GroupSettings(self.store)
        return self._group_settings

    def group_overrides(self, group_id: str) -> Mapping[str, str]:
        return self.group_settings().of(group_id)

    def unknown_topic(self, name: str) -> ErrorCode:
        """What a client is told about a topic that is not there."""
        return unknown_topic(name)

    # ------------------------------------------------------------------------------------------------- topics

    def create_topics(self, wanted: Sequence[NewTopic], validate_only: bool = False) -> list[Created | KafkaError]:
        """Make topics, each for itself but written and hosted together: for each what was made, or why it was not.

        With validate_only nothing is made, and the ids are all zero.
        """
        results: list[Created | KafkaError] = []
        plans: dict[str, TopicPlan] = {}
        for new in wanted:
            key = new.name.replace(".", "_")
            if key in plans:  # this one may collide with that one, once it is there
                self._make(plans, results)
            try:
                plan = self._plan(new)
            except KafkaError as error:
                results.append(error)
                continue
            count, factor = len(plan.description.partitions), len(plan.description.partitions[0].replicas)
            topic_id = ZERO_TOPIC_ID if validate_only else plan.description.topic_id
            results.append(Created(new.name, topic_id, count, factor, plan.settings))
            if not validate_only:
                plans[key] = plan
        self._make(plans, results)
        return results

    def _plan(self, new: NewTopic) -> TopicPlan:
        start = int.from_bytes(os.urandom(2), "big")
        return plan_creation(self.context, self._broker.config, new, topic_id=new_topic_id(), start_index=start)

    def _make(self, plans: dict[str, TopicPlan], results: list[Created | KafkaError]) -> None:
        """Carry out the plans collected; the results of those that cannot be become the error."""
        errors = self._carry_out(plans.values())
        plans.clear()
        for at, made in enumerate(results):
            if isinstance(made, KafkaError):
                continue
            error = errors.pop(made.name, None)
            if error is not None:
                results[at] = error

    def create_partitions(
        self, name: str, count: int, assignments: Sequence[Sequence[int]] | None, validate_only: bool
    ) -> None:
        """Give a topic more partitions, `count` in all. Raises KafkaError."""
        plan = plan_growth(self.context, name, count, assignments)
        if not validate_only:
            for error in self._carry_out([plan]).values():
                raise error

    def hold_created(
        self, answer: Message, counts: dict[str, int], timeout_ms: int, late: Callable[[list[str]], None]
    ) -> Message:
        """What was made is there already."""
        return answer

    def hold_deleted(
        self, answer: Message, names: Iterable[str], timeout_ms: int, late: Callable[[list[str]], None]
    ) -> Message:
        """What was deleted is gone already."""
        return answer

    def delete_topics(self, names: Sequence[str]) -> list[KafkaError | None]:
        """Delete topics, their names free when it returns: for each None, or why it is not deleted."""
        results: list[KafkaError | None] = []
        marks: list[WriteGroup] = []
        doomed: list[str] = []
        for name in names:
            try:
                marks += plan_deletion(self.context, self._broker.config, name)
                doomed.append(name)
                results.append(None)
            except KafkaError as error:
                results.append(error)
        try:
            self._write_all(marks)
            self._finish_deletions(doomed)
        except KafkaError as error:
            return [error if result is None else result for result in results]
        self._broker.engine.invalidate()
        for name in doomed:
            self._log.info("topic deleted", topic=name)
        return results

    def auto_create(self, name: str, internal: bool = False) -> ErrorCode:
        """Make a topic that somebody asks about, if it may be; NONE when it is there now. `internal`: the broker
        itself asks."""
        if name in self._broker.metadata.topics:
            return ErrorCode.NONE
        code = self.unknown_topic(name)
        if code is ErrorCode.INVALID_TOPIC_EXCEPTION:
            return code
        settings = internal_settings(self._broker.config, name)
        if not internal and not self._broker.config.bool("auto.create.topics.enable"):
            return code
        new = NewTopic(name) if settings is None else internal_topic(self._broker.config, name, settings)
        (made,) = self.create_topics([new])
        if isinstance(made, KafkaError):
            self._log.warn("topic not created", topic=name, why=made.message)
            return made.code
        return ErrorCode.NONE

    def _carry_out(self, plans: Collection[TopicPlan]) -> dict[str, KafkaError]:
        """Write plans, and let everybody know what is written. Returns the topics that could not be written whole; the
        next start finishes what there is of them."""
        failed: dict[str, KafkaError] = {}
        try:
            self._write_all(group for plan in plans for group in plan.groups)
        except KafkaError as error:
            failed = {plan.description.name: error for plan in plans if not self._is_written(plan)}
        written = [plan for plan in plans if plan.description.name not in failed]
        for plan in written:
            self._log_configs.pop(plan.description.name, None)
        self._publish(plan.description.name for plan in written)
        self._broker.engine.invalidate()
        for plan in written:
            count = len(plan.description.partitions)
            text = "topic created" if len(plan.states) == count else "partitions created"
            self._log.info(text, topic=plan.description.name, partitions=count)
        return failed

    def _is_written(self, plan: TopicPlan) -> bool:
        name = plan.description.name
        states = self.context.states
        return self.context.topics.get(name) == plan.description and all(
            TopicPartition(name, index) in states for index in plan.states
        )

    def _publish(self, names: Iterable[str], known: bool = False) -> None:
        """Let everybody here know topics as the tree has them: hosted, shown to clients, their coordinators loaded.
        known: from before this start, their logs should be there."""
        topics = [self._as_published(name) for name in names]
        for partition, error in self._broker.replicas.host(topics, known=known):
            self._log.error("partition cannot be hosted", partition=partition, why=error.message)
        for topic in map(self._broker.replicas.as_shown, topics):
            self._broker.metadata.put(topic)
            if topic.internal:
                self._broker.coordinators.load(topic)

    def _as_published(self, name: str) -> TopicMetadata:
        description = self.context.topics[name]
        partitions = []
        for index, assignment in enumerate(description.partitions):
            state = self.context.states.get(TopicPartition(name, index))
            leader, epoch, isr = (-1, -1, ()) if state is None else (state.leader, state.leader_epoch, state.isr)
            partitions.append(PartitionMetadata(index, leader, epoch, assignment.replicas, isr))
        return TopicMetadata(name, description.topic_id, tuple(partitions))

    def _finish_deletions(self, names: Sequence[str]) -> None:
        """Take topics that are marked for deletion away: logs first, then the tree, the marks last."""
        shown = [topic for name in names if (topic := self._broker.metadata.topics.get(name)) is not None]
        partitions = []
        for name in names:
            self._broker.metadata.drop(name)
            description = self.context.topics.get(name)
            count = 0 if description is None else len(description.partitions)
            partitions += [TopicPartition(name, index) for index in range(count)]
        for topic in shown:
            if topic.internal:
                for partition in topic.partitions:
                    self._broker.coordinators.unload(topic.name, partition.partition)
        self._broker.replicas.delete(partitions)
        try:
            for ops in removals(self.store, names, self._fence):
                self.store.multi(ops)
        except StoreError as error:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"metadata tree: {error}") from error
        for name in names:
            self.context.forget_topic(name)
            self._log_configs.pop(name, None)
        if shown:
            self._broker.topics_deleted([topic.name for topic in shown])

    # ------------------------------------------------------------------------------------------------- settings

    def alter_configs(
        self, kind: int, name: str, settings: Sequence[tuple[str, str | None]], validate_only: bool
    ) -> None:
        """AlterConfigs: these settings and no others. Raises KafkaError."""
        if kind == _TOPIC:
            plan = config_plans.replace_topic(self.context, self._broker.config, name, settings)
        elif kind == _BROKER:
            plan = config_plans.replace_broker(self.context, self._broker.config, self.broker_id, name, settings)
        elif kind == _GROUP:
            self.group_settings().replace(self._broker.config, name, settings, validate_only)
            if not validate_only:
                self._broker.metadata.changes()
            return
        else:
            config_plans.check_changes([config_plans.ConfigChange(key, 0, value) for key, value in settings])
            raise unsupported(kind)
        self._configure(plan, validate_only)

    def change_configs(
        self, kind: int, name: str, changes: Sequence[tuple[str, int, str | None]], validate_only: bool
    ) -> None:
        """IncrementalAlterConfigs. Raises KafkaError."""
        wanted = [config_plans.ConfigChange(*change) for change in changes]
        if kind == _TOPIC:
            plan = config_plans.alter_topic(self.context, self._broker.config, name, wanted)
        elif kind == _BROKER:
            plan = config_plans.alter_broker(self.context, self._broker.config, self.broker_id, name, wanted)
        elif kind == _GROUP:
            self.group_settings().change(self._broker.config, name, wanted, validate_only)
            if not validate_only:
                self._broker.metadata.changes()
            return
        else:
            config_plans.check_changes(wanted)
            raise unsupported(kind)
        self._configure(plan, validate_only)

    def _configure(self, plan: config_plans.ConfigPlan, validate_only: bool) -> None:
        if validate_only:
            return
        for group in plan.groups:
            self._write(group, fenced=False)
        self._drop_outdated_changes()
        if plan.kind == "topics":
            self._log_configs.pop(plan.entity, None)
            self._broker.replicas.configure(self._broker.metadata.topics[plan.entity])
        else:
            self._take_up_broker_configs()
            self._broker.keep_room()
            self._broker.verify_transactions()
            for topic in self._broker.metadata.topics.values():
                self._broker.replicas.configure(topic)
        self._broker.engine.invalidate()

    def _take_up_broker_configs(self) -> None:
        """The broker's settings with what the tree says of it, and of all brokers."""
        configs = self.context.broker_configs
        node, everybody = configs.get(str(self.broker_id), {}), configs.get(DEFAULT_ENTITY, {})
        if node or everybody or self._broker.config.layers.node or self._broker.config.layers.cluster:
            self._broker.config = self._broker.config.with_dynamic(node, everybody)
            for warning in self._broker.config.warnings:
                self._log.warn(warning)
            logs = self._broker.logs
            logs.config = logs.config._replace(
                producer_id_expiration_ms=self._broker.config.int("producer.id.expiration.ms")
            )
        self._log_configs.clear()

    def _drop_outdated_changes(self) -> None:
        names = self.store.children(paths.CONFIG_CHANGES)
        ops = outdated_changes(self.store, names, self._broker.now_ms())
        if ops:
            self.store.multi(ops)

    # ------------------------------------------------------------------------------------------------- writing

    def _write_all(self, groups: Iterable[WriteGroup]) -> None:
        """Write groups as the controller, as few at a time as the tree takes. Raises KAFKA_STORAGE_ERROR; what was
        written before that is."""
        for ops, writes in transactions(groups, self._fence):
            self._apply(ops, writes)

    def _write(self, group: WriteGroup, fenced: bool = True) -> None:
        """Write a group. Raises KAFKA_STORAGE_ERROR."""
        self._apply(operations(group, self._fence if fenced else None), group)

    def _apply(self, ops: Sequence[Op], writes: Iterable[Write]) -> None:
        """Do it to the tree, and only then to the context. Raises KAFKA_STORAGE_ERROR."""
        try:
            self.store.multi(ops)
        except StoreError as error:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"metadata tree: {error}") from error
        for write in writes:
            if isinstance(write, PutTopic):
                self.context.put_topic(write.description)
            elif isinstance(write, PutPartitionState):
                state = write.state._replace(version=write.state.version + 1)
                self.context.put_state(TopicPartition(write.topic, write.partition), state)
            elif isinstance(write, PutConfig):
                self.context.put_config(write.kind, write.entity, write.settings)
            else:
                self.context.mark_deleted(write.topic)


def unknown_topic(name: str) -> ErrorCode:
    """What a client is told about a topic that is not there."""
    try:
        check_name(name)
    except KafkaError as error:
        return error.code
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def internal_settings(config: Config, name: str) -> dict[str, str] | None:
    """What Kafka sets on its internal topics; None for others."""
    if name == GROUP_METADATA_TOPIC:
        segment_bytes = str(config.int("offsets.topic.segment.bytes"))
        return {"compression.type": "producer", "cleanup.policy": "compact", "segment.bytes": segment_bytes}
    if name == TRANSACTION_STATE_TOPIC:
        return {
            "compression.type": "uncompressed",
            "cleanup.policy": "compact",
            "min.insync.replicas": str(config.int("transaction.state.log.min.isr")),
            "segment.bytes": str(config.int("transaction.state.log.segment.bytes")),
            "unclean.leader.election.enable": "false",
        }
    return None


def internal_topic(config: Config, name: str, settings: dict[str, str]) -> NewTopic:
    """The internal topic as a broker makes it when it first needs it."""
    prefix = "offsets.topic" if name == GROUP_METADATA_TOPIC else "transaction.state.log"
    count, factor = config.int(f"{prefix}.num.partitions"), config.int(f"{prefix}.replication.factor")
    return NewTopic(name, count, factor, {}, settings)


def unsupported(kind: int) -> KafkaError:
    text = f"Unknown resource type {kind}"
    if kind == _CLIENT_METRICS:
        text = "AlterConfigs is only supported for topics and brokers, but resource type is CLIENT_METRICS"
    return KafkaError(ErrorCode.INVALID_REQUEST, text)

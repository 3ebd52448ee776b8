"""The controller's steps on the metadata tree: facts in and out, znodes in between.

What stays true:
- every write carries a check of /controller_epoch, alone or at the head of a batch; when the check fails nothing of it
  is written and ControllerMoved is raised;
- a state is written or not on its own: many go in one transaction, and one that is in conflict has the others of its
  transaction written again one by one;
- at most one watch is set for a path and kind; it fires once, posts its event, and is set again by the next reading.

One thread (the controller's); watches fire on the store's own and only post.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cluster.controller import events, steps
from cluster.controller.events import Event
from cluster.controller.steps import ControllerMoved, Elected, Notices, ProducerIdBlockRead, StatesWritten, Step
from cluster.metadata import paths
from cluster.metadata.startup import become_controller, feature_ops
from cluster.metadata.store import (
    BadVersion,
    Check,
    ConnectionLoss,
    Create,
    Delete,
    NodeExists,
    NoNode,
    Op,
    OpResult,
    SessionExpired,
    SetData,
    Stat,
    StoreError,
    StoreFailed,
    Watch,
    WatchEvent,
)
from cluster.metadata.writes import removals
from cluster.model import Broker, LeaderAndIsr, TopicDescription
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final
from pylog.types import TopicPartition

if TYPE_CHECKING:
    from cluster.metadata.store import BatchingStore

#: States in one transaction: far below what ZooKeeper takes in a request, and enough that its log is synced seldom.
_STATES_PER_MULTI: Final = 200
_OVER: Final = (SessionExpired, ConnectionLoss, StoreFailed)


class ControllerStore:
    """`post`: where events go that watches make; any thread may call it."""

    def __init__(
        self,
        store: BatchingStore,
        broker_id: int,
        now_ms: Callable[[], int],
        new_topic_id: Callable[[], bytes],
        post: Callable[[Event], None],
        *,
        controller_version: int = 2,
        feature_version: int = 2,
    ) -> None:
        self._store = store
        self._broker_id = broker_id
        self._now_ms = now_ms
        self._new_topic_id = new_topic_id
        self._post = post
        self._controller_version = controller_version
        self._feature_version = feature_version
        self._watched: set[tuple[str, str]] = set()
        self._log = Logger(f"Controller id={broker_id}")

    def carry_out(self, step: Step) -> object:
        """The result of a step that is about the tree. Raises ControllerMoved, StoreUnavailable."""
        try:
            carry_out = _STEPS[type(step)]
            return carry_out(self, step)
        except _OVER as error:
            raise steps.StoreUnavailable(str(error)) from error

    # ------------------------------------------------------------------------------------------------- watches

    def _watch(self, kind: str, path: str, event: Event) -> Watch | None:
        """A watch that posts this event; None when one is set already."""
        key = (kind, path)
        if key in self._watched:
            return None
        self._watched.add(key)

        def fired(_: WatchEvent) -> None:
            self._watched.discard(key)
            self._post(event)

        return fired

    def _watch_node(self, path: str, event: Event) -> None:
        """Hear of the node whether it is there or not."""
        watch = self._watch("data", path, event)
        if watch is not None:
            self._store.exists(path, watch)

    def _children(self, path: str, event: Event) -> list[str]:
        watch = self._watch("children", path, event)
        try:
            return self._store.children(path, watch)
        except NoNode:
            self._watched.discard(("children", path))
            return []

    def _get_all(self, wanted: Mapping[str, Event | None]) -> dict[str, tuple[bytes | None, Stat]]:
        """What is there of these paths, each watched for its event."""
        plain = [path for path, event in wanted.items() if event is None]
        found: dict[str, tuple[bytes | None, Stat]] = {}
        watched: list[tuple[str, Watch | None]] = [(path, None) for path in plain]
        watched += [(path, self._watch("data", path, event)) for path, event in wanted.items() if event is not None]
        for (path, _), result in zip(watched, self._store.get_many(watched), strict=True):
            if isinstance(result, NoNode):
                self._watched.discard(("data", path))
            elif isinstance(result, StoreError):
                raise result
            else:
                found[path] = result
        return found

    # ------------------------------------------------------------------------------------------------- elections

    def _read_controller(self, _: steps.ReadController) -> int:
        self._watch_node(paths.CONTROLLER, events.ControllerChanged())
        try:
            data, _stat = self._store.get(paths.CONTROLLER)
        except NoNode:
            return -1
        return paths.ControllerNode.decode(data).broker_id

    def _elect(self, _: steps.ElectController) -> Elected | None:
        try:
            epoch, fence = become_controller(
                self._store, self._broker_id, self._now_ms(), version=self._controller_version
            )
        except (NodeExists, BadVersion):
            return self._elected_before()
        return Elected(epoch, fence)

    def _elected_before(self) -> Elected | None:
        """The node may be ours: written by a try whose answer was lost."""
        stat = self._store.exists(paths.CONTROLLER)
        if stat is None or stat.ephemeral_owner != self._store.session_id:
            return None
        data, epoch_stat = self._store.get(paths.CONTROLLER_EPOCH)
        return Elected(paths.decode_controller_epoch(data), epoch_stat.version)

    def _give_up(self, step: steps.GiveUpController) -> None:
        try:
            self._multi(step.fence, [Delete(paths.CONTROLLER)])
        except NoNode:
            pass

    def _set_up_features(self, step: steps.SetUpFeatures) -> None:
        ops = feature_ops(self._store, paths.FeatureNode(int(step.enabled), self._feature_version))
        if ops:
            self._multi(step.fence, ops)

    # ------------------------------------------------------------------------------------------------- reading

    def _read_brokers(self, _: steps.ReadBrokers) -> dict[int, Broker]:
        ids = [int(name) for name in self._children(paths.BROKER_IDS, events.BrokersChanged())]
        found = self._get_all({paths.broker(each): events.BrokerModified(each) for each in ids})
        return {each: self._broker(each, *found[paths.broker(each)]) for each in ids if paths.broker(each) in found}

    def _read_broker(self, step: steps.ReadBroker) -> Broker | None:
        path = paths.broker(step.broker_id)
        found = self._get_all({path: events.BrokerModified(step.broker_id)})
        return self._broker(step.broker_id, *found[path]) if path in found else None

    @staticmethod
    def _broker(broker_id: int, data: bytes | None, stat: Stat) -> Broker:
        return paths.BrokerRegistration.decode(data).broker(broker_id, stat.czxid)

    def _read_topic_names(self, _: steps.ReadTopicNames) -> list[str]:
        return self._children(paths.TOPICS, events.TopicsChanged())

    def _read_topics(self, step: steps.ReadTopics) -> dict[str, TopicDescription]:
        found = self._get_all({paths.topic(name): events.PartitionsChanged(name) for name in step.names})
        topics: dict[str, TopicDescription] = {}
        for name in step.names:
            node = found.get(paths.topic(name))
            if node is not None:
                topics[name] = paths.decode_topic(name, node[0])
        return topics

    def _read_states(self, step: steps.ReadStates) -> dict[TopicPartition, LeaderAndIsr]:
        by_path = {paths.partition_state(*each): each for each in step.partitions}
        found = self._get_all(dict.fromkeys(by_path))
        return {by_path[path]: paths.decode_partition_state(data, stat.version) for path, (data, stat) in found.items()}

    def _read_topic_configs(self, step: steps.ReadTopicConfigs) -> dict[str, dict[str, str]]:
        by_path = {paths.config("topics", name): name for name in step.topics}
        found = self._get_all(dict.fromkeys(by_path))
        configs: dict[str, dict[str, str]] = {name: {} for name in step.topics}
        for path, (data, _) in found.items():
            configs[by_path[path]] = paths.decode_config(data)
        return configs

    def _read_deletions(self, _: steps.ReadDeletions) -> list[str]:
        return self._children(paths.DELETE_TOPICS, events.DeletionsChanged())

    def _read_isr_changes(self, _: steps.ReadIsrChanges) -> Notices:
        names = self._children(paths.ISR_CHANGES, events.IsrChangesNoticed())
        partitions: list[TopicPartition] = []
        for path, (data, _stat) in self._get_all({f"{paths.ISR_CHANGES}/{name}": None for name in names}).items():
            try:
                partitions += [TopicPartition(*each) for each in paths.IsrChange.decode(data).partitions]
            except ValueError as error:
                self._log.warn("notice cannot be read", path=path, why=error)
        return Notices(tuple(names), tuple(partitions))

    def _read_log_dir_events(self, _: steps.ReadLogDirEvents) -> Notices:
        names = self._children(paths.LOG_DIR_EVENTS, events.LogDirEventsNoticed())
        brokers: list[int] = []
        for path, (data, _stat) in self._get_all({f"{paths.LOG_DIR_EVENTS}/{name}": None for name in names}).items():
            try:
                brokers.append(paths.LogDirEvent.decode(data).broker_id)
            except ValueError as error:
                self._log.warn("notice cannot be read", path=path, why=error)
        return Notices(tuple(names), broker_ids=tuple(brokers))

    def _read_reassignments(self, _: steps.ReadReassignments) -> dict[TopicPartition, tuple[int, ...]] | None:
        self._watch_node(paths.REASSIGN_PARTITIONS, events.ReassignmentsRequested())
        try:
            data, _stat = self._store.get(paths.REASSIGN_PARTITIONS)
            moves = paths.ReassignPartitions.decode(data).partitions
        except NoNode:
            return None
        except ValueError as error:
            self._log.warn("cannot be read", path=paths.REASSIGN_PARTITIONS, why=error)
            return {}
        return {TopicPartition(topic, index): replicas for topic, index, replicas in moves}

    def _read_preferred_election(self, _: steps.ReadPreferredElection) -> tuple[TopicPartition, ...] | None:
        self._watch_node(paths.PREFERRED_REPLICA_ELECTION, events.PreferredElectionRequested())
        try:
            data, _stat = self._store.get(paths.PREFERRED_REPLICA_ELECTION)
            return tuple(TopicPartition(*each) for each in paths.PreferredElection.decode(data).partitions)
        except NoNode:
            return None
        except ValueError as error:
            self._log.warn("cannot be read", path=paths.PREFERRED_REPLICA_ELECTION, why=error)
            return ()

    def _read_producer_id_block(self, _: steps.ReadProducerIdBlock) -> ProducerIdBlockRead:
        data, stat = self._store.get(paths.LATEST_PRODUCER_ID_BLOCK)
        return ProducerIdBlockRead(paths.ProducerIdBlock.decode(data).end + 1 if data else 0, stat.version)

    # ------------------------------------------------------------------------------------------------- writing

    def _multi(self, fence: int, ops: Sequence[Op]) -> list[OpResult]:
        """All of them, as the controller. Raises ControllerMoved, and what an operation raises."""
        try:
            return self._store.multi([Check(paths.CONTROLLER_EPOCH, fence), *ops])[1:]
        except StoreError as error:
            self._check_fence(error)
            raise

    @staticmethod
    def _check_fence(error: StoreError) -> None:
        if isinstance(error, BadVersion) and error.op_index == 0:
            raise ControllerMoved(f"{paths.CONTROLLER_EPOCH} is another's") from error

    def _multi_many(self, fence: int, groups: Sequence[Sequence[Op]]) -> list[list[OpResult] | StoreError]:
        """Each group for itself. Raises ControllerMoved and what ends the session."""
        check = Check(paths.CONTROLLER_EPOCH, fence)
        results = self._store.multi_many([[check, *ops] for ops in groups])
        outcomes: list[list[OpResult] | StoreError] = []
        for result in results:
            if isinstance(result, StoreError):
                self._check_fence(result)
                if isinstance(result, _OVER):
                    raise result
                outcomes.append(result)
            else:
                outcomes.append(result[1:])
        return outcomes

    def _each(self, fence: int, ops: Sequence[Op]) -> list[OpResult | StoreError]:
        """Each operation for itself, many in one transaction as long as none of them fails."""
        chunks = [ops[at : at + _STATES_PER_MULTI] for at in range(0, len(ops), _STATES_PER_MULTI)]
        outcomes: list[OpResult | StoreError] = []
        for chunk, result in zip(chunks, self._multi_many(fence, chunks), strict=True):
            if not isinstance(result, StoreError):
                outcomes += result
            elif len(chunk) == 1:
                outcomes.append(result)
            else:
                for single in self._multi_many(fence, [[op] for op in chunk]):
                    outcomes.append(single if isinstance(single, StoreError) else single[0])
        return outcomes

    def _create_missing(self, fence: int, created: Iterable[str]) -> None:
        """Nodes without data, some of which may be there. Raises what else goes wrong: their children would fail."""
        missing = [Create(path) for path in created]
        for op, result in zip(missing, self._each(fence, missing), strict=True):
            if isinstance(result, StoreError) and not isinstance(result, (NodeExists, NoNode)):
                raise result
            if isinstance(result, NoNode):
                self._log.warn("its parent is gone", path=op.path)

    def _create_states(self, step: steps.CreateStates) -> StatesWritten:
        self._create_missing(step.fence, dict.fromkeys(paths.partitions(each.topic) for each in step.states))
        self._create_missing(step.fence, (paths.partition(*each) for each in step.states))
        ops = [
            Create(paths.partition_state(*each), paths.encode_partition_state(state))
            for each, state in step.states.items()
        ]
        return self._outcome(step.states, self._each(step.fence, ops), NodeExists)

    def _write_states(self, step: steps.WriteStates) -> StatesWritten:
        ops = [
            SetData(paths.partition_state(*each), paths.encode_partition_state(state), state.version)
            for each, state in step.states.items()
        ]
        return self._outcome(step.states, self._each(step.fence, ops), BadVersion)

    @staticmethod
    def _outcome(
        states: Iterable[TopicPartition], results: Iterable[OpResult | StoreError], conflict: type[StoreError]
    ) -> StatesWritten:
        written = StatesWritten({}, [], {})
        for each, result in zip(states, results, strict=True):
            if isinstance(result, conflict):
                written.conflicts.append(each)
            elif isinstance(result, StoreError):
                written.failed[each] = str(result)
            else:
                written.versions[each] = result.version if isinstance(result, Stat) else 0
        return written

    def _write_topic(self, step: steps.WriteTopic) -> bool:
        description = step.description
        try:
            self._multi(step.fence, [SetData(paths.topic(description.name), paths.encode_topic(description))])
        except NoNode:
            return False
        return True

    def _give_topic_ids(self, step: steps.GiveTopicIds) -> dict[str, bytes]:
        given = {each.name: each._replace(topic_id=self._new_topic_id()) for each in step.descriptions}
        ops = [SetData(paths.topic(name), paths.encode_topic(each)) for name, each in given.items()]
        ids: dict[str, bytes] = {}
        for (name, each), result in zip(given.items(), self._each(step.fence, ops), strict=True):
            if isinstance(result, NoNode):
                continue
            if isinstance(result, StoreError):
                raise result
            ids[name] = each.topic_id
        return ids

    def _remove_topic(self, step: steps.RemoveTopic) -> None:
        for ops in removals(self._store, [step.name], step.fence):
            try:
                self._store.multi(ops)
            except StoreError as error:
                self._check_fence(error)
                raise

    def _remove_all(self, fence: int, doomed: Iterable[str]) -> None:
        ops = [Delete(path) for path in doomed]
        for result in self._each(fence, ops):
            if isinstance(result, StoreError) and not isinstance(result, NoNode):
                raise result

    def _remove_deletion_marks(self, step: steps.RemoveDeletionMarks) -> None:
        self._remove_all(step.fence, [paths.delete_topic(name) for name in step.names])

    def _remove_isr_changes(self, step: steps.RemoveIsrChanges) -> None:
        self._remove_notices(step.fence, paths.ISR_CHANGES, step.names)

    def _remove_log_dir_events(self, step: steps.RemoveLogDirEvents) -> None:
        self._remove_notices(step.fence, paths.LOG_DIR_EVENTS, step.names)

    def _remove_notices(self, fence: int, parent: str, names: Sequence[str] | None) -> None:
        chosen = self._store.children(parent) if names is None else names
        self._remove_all(fence, [f"{parent}/{name}" for name in chosen])

    def _write_reassignments(self, step: steps.WriteReassignments) -> None:
        moves = tuple((name.topic, name.partition, replicas) for name, replicas in step.reassignments.items())
        data = paths.ReassignPartitions(moves).encode()
        there = self._store.exists(paths.REASSIGN_PARTITIONS) is not None
        if moves:
            put = SetData(paths.REASSIGN_PARTITIONS, data) if there else Create(paths.REASSIGN_PARTITIONS, data)
            self._multi(step.fence, [put])
        elif there:
            self._remove_all(step.fence, [paths.REASSIGN_PARTITIONS])

    def _remove_preferred_election(self, step: steps.RemovePreferredElection) -> None:
        self._remove_all(step.fence, [paths.PREFERRED_REPLICA_ELECTION])

    def _write_producer_id_block(self, step: steps.WriteProducerIdBlock) -> bool:
        block = paths.ProducerIdBlock(step.broker_id, step.first, step.last)
        try:
            self._store.set(paths.LATEST_PRODUCER_ID_BLOCK, block.encode(), step.version)
        except BadVersion:
            return False
        return True


_STEPS: Final[dict[type, Callable[..., object]]] = {
    steps.ReadController: ControllerStore._read_controller,
    steps.ElectController: ControllerStore._elect,
    steps.GiveUpController: ControllerStore._give_up,
    steps.SetUpFeatures: ControllerStore._set_up_features,
    steps.ReadBrokers: ControllerStore._read_brokers,
    steps.ReadBroker: ControllerStore._read_broker,
    steps.ReadTopicNames: ControllerStore._read_topic_names,
    steps.ReadTopics: ControllerStore._read_topics,
    steps.ReadStates: ControllerStore._read_states,
    steps.ReadTopicConfigs: ControllerStore._read_topic_configs,
    steps.ReadDeletions: ControllerStore._read_deletions,
    steps.ReadIsrChanges: ControllerStore._read_isr_changes,
    steps.ReadLogDirEvents: ControllerStore._read_log_dir_events,
    steps.ReadReassignments: ControllerStore._read_reassignments,
    steps.ReadPreferredElection: ControllerStore._read_preferred_election,
    steps.ReadProducerIdBlock: ControllerStore._read_producer_id_block,
    steps.CreateStates: ControllerStore._create_states,
    steps.WriteStates: ControllerStore._write_states,
    steps.WriteTopic: ControllerStore._write_topic,
    steps.GiveTopicIds: ControllerStore._give_topic_ids,
    steps.RemoveTopic: ControllerStore._remove_topic,
    steps.RemoveDeletionMarks: ControllerStore._remove_deletion_marks,
    steps.RemoveIsrChanges: ControllerStore._remove_isr_changes,
    steps.RemoveLogDirEvents: ControllerStore._remove_log_dir_events,
    steps.WriteReassignments: ControllerStore._write_reassignments,
    steps.RemovePreferredElection: ControllerStore._remove_preferred_election,
    steps.WriteProducerIdBlock: ControllerStore._write_producer_id_block,
}

"""One broker's term as the controller: from its election until another's, or the end of its session.

What stays true: it begins with reading the whole tree, tells every broker who is alive before it tells any what to
lead, and finishes what the controller before it began: first states, reassignments, deletions, preferred elections.
What it does for an event, and in which order, is what Kafka 3.9 does. A term that is over is dropped, with all that it
knew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cluster.controller.batch import RequestBatch
from cluster.controller.controlled_shutdown import shut_down
from cluster.controller.election import Strategy
from cluster.controller.events import (
    AllocateProducerIdsReceived,
    AlterPartitionReceived,
    Answered,
    BrokerModified,
    BrokersChanged,
    ControlledShutdownReceived,
    DeletionsChanged,
    ElectLeadersReceived,
    Event,
    IsrChangesNoticed,
    ListReassignmentsReceived,
    LogDirEventsNoticed,
    Outcome,
    PartitionResults,
    PartitionsChanged,
    PreferredElectionRequested,
    ReassignmentsListed,
    ReassignmentsRequested,
    ReassignReceived,
    Request,
    TimerFired,
    TopicsChanged,
    UncleanElectionEnabled,
)
from cluster.controller.image import Image, PartitionState, Replicas, ReplicaState
from cluster.controller.isr_change import alter_partitions
from cluster.controller.leader_election import LeaderElection
from cluster.controller.partition_states import PartitionStates
from cluster.controller.producer_ids import allocate_producer_ids
from cluster.controller.reassignment import Reassignment
from cluster.controller.replica_states import ReplicaStates
from cluster.controller.settings import Settings
from cluster.controller.steps import (
    Elected,
    RemoveIsrChanges,
    RemoveLogDirEvents,
    Run,
    SetUpFeatures,
    StartChannel,
    StopChannel,
    WriteTopic,
    give_topic_ids,
    read_broker,
    read_brokers,
    read_deletions,
    read_isr_changes,
    read_log_dir_events,
    read_states,
    read_topic_names,
    read_topics,
)
from cluster.controller.topic_deletion import TopicDeletion
from cluster.effects import CancelTimer, Note, SetTimer
from cluster.model import Broker, TopicDescription
from cluster.protocol.messages import (
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    StopReplicaRequest,
    StopReplicaResponse,
    UpdateMetadataRequest,
    UpdateMetadataResponse,
)
from pylog.errors import ErrorCode, error_code
from pylog.types import ZERO_TOPIC_ID, TopicPartition

BALANCE = "balance"
"""The key of the timer."""
FIRST_BALANCE_MS = 5_000


class Term:
    """`elected`: with which epoch, and what fences its writes."""

    __slots__ = (
        "_batch",
        "_channels",
        "_deletion",
        "_election",
        "_handlers",
        "_isr_changed",
        "_now_ms",
        "_partitions",
        "_reassignment",
        "_replicas",
        "image",
    )

    def __init__(self, settings: Settings, elected: Elected) -> None:
        self.image = Image(settings, elected.epoch, elected.fence)
        self._batch = RequestBatch(self.image)
        self._partitions = PartitionStates(self.image, self._batch)
        self._replicas = ReplicaStates(self.image, self._batch)
        self._deletion = TopicDeletion(self.image, self._batch, self._partitions, self._replicas)
        self._reassignment = Reassignment(self.image, self._batch, self._partitions, self._replicas, self._deletion)
        self._election = LeaderElection(self.image, self._partitions)
        self._isr_changed: list[TopicPartition] = []
        self._channels: set[int] = set()  # to whom there is one: while a broker's return is told, it is in no image
        self._now_ms = 0
        self._handlers: dict[type, Callable[..., Run[None]]] = {
            BrokersChanged: self._on_brokers,
            BrokerModified: self._on_broker,
            TopicsChanged: self._on_topics,
            PartitionsChanged: self._on_partitions,
            DeletionsChanged: self._on_deletions,
            IsrChangesNoticed: self._on_isr_changes,
            LogDirEventsNoticed: self._on_log_dir_events,
            ReassignmentsRequested: self._on_reassignments,
            PreferredElectionRequested: self._on_preferred_election,
            UncleanElectionEnabled: self._on_unclean_election,
            Answered: self._on_answer,
            TimerFired: self._on_timer,
        }

    def handle(self, event: Event, now_ms: int) -> Run[None]:
        self._now_ms = now_ms
        return self._handlers[type(event)](event)

    # ------------------------------------------------------------------ beginning, end

    def begin(self, now_ms: int) -> Run[None]:
        image = self.image
        yield SetUpFeatures(image.fence, image.settings.has_features)
        # What they tell of is read now; those that come later are heard of.
        yield RemoveLogDirEvents(image.fence, (yield from read_log_dir_events()).names)
        yield RemoveIsrChanges(image.fence, (yield from read_isr_changes()).names)
        yield from self._read_cluster()
        marked = yield from read_deletions()
        yield from self._deletion.begin(marked)
        yield from self._tell_brokers(image.brokers)
        yield from self._replicas.startup()
        yield from self._partitions.startup()
        fields = (("brokers", sorted(image.brokers)), ("partitions", len(image.assignments)))
        yield Note("Controller", "Serves", (("epoch", image.epoch), *fields))
        begun = yield from self._reassignment.start_requested()
        yield from self._reassignment.resume(sorted(image.reassigning - begun))
        yield from self._deletion.resume(image.deleting)
        yield from self._election.elect_requested()
        if image.settings.balance:
            yield SetTimer(BALANCE, now_ms + FIRST_BALANCE_MS)

    def _read_cluster(self) -> Run[None]:
        image = self.image
        for _, broker in sorted((yield from read_brokers()).items()):
            image.add_broker(broker)
        names = yield from read_topic_names()
        yield from self._learn_topics(names)
        for partition, assignment in image.assignments.items():
            if assignment.is_reassigning:
                image.reassigning.add(partition)
        image.leadership = yield from read_states(list(image.assignments))
        for broker_id in sorted(image.brokers):
            yield self._start_channel(image.brokers[broker_id])

    def end(self) -> Run[None]:
        for broker_id in sorted(self._channels):
            yield self._stop_channel(broker_id)
        yield CancelTimer(BALANCE)
        yield Note("Controller", "Resigned", (("epoch", self.image.epoch),))

    def change_settings(self, settings: Settings, now_ms: int) -> Run[None]:
        before, self.image.settings = self.image.settings, settings
        if settings.unclean_by_default and not before.unclean_by_default:
            yield from self._partitions.bring_online()
        if settings.balance != before.balance:
            yield SetTimer(BALANCE, now_ms + FIRST_BALANCE_MS) if settings.balance else CancelTimer(BALANCE)

    # ------------------------------------------------------------------ brokers

    def _on_brokers(self, _: BrokersChanged) -> Run[None]:
        image = self.image
        registered = yield from read_brokers()
        new = sorted(registered.keys() - image.brokers.keys())
        dead = sorted(image.brokers.keys() - registered.keys())
        bounced = sorted(
            broker_id
            for broker_id in registered.keys() & image.brokers.keys()
            if registered[broker_id].epoch > image.brokers[broker_id].epoch
        )
        if not (new or dead or bounced):
            return
        fields = (("new", new), ("gone", dead), ("back", bounced), ("all", sorted(registered)))
        yield Note("Controller", "Brokers changed", fields)
        for broker_id in bounced + dead:
            yield self._stop_channel(broker_id)
        for broker_id in new + bounced:
            yield self._start_channel(registered[broker_id])
        for broker_id in new:
            image.add_broker(registered[broker_id])
        yield from self._broker_startup(new)
        for broker_id in bounced:
            image.remove_broker(broker_id)
        yield from self._broker_failure(bounced)
        for broker_id in bounced:
            image.add_broker(registered[broker_id])
        yield from self._broker_startup(bounced)
        for broker_id in dead:
            image.remove_broker(broker_id)
        yield from self._broker_failure(dead)

    def _start_channel(self, broker: Broker) -> StartChannel:
        self._channels.add(int(broker.id))
        return StartChannel(broker)

    def _stop_channel(self, broker_id: int) -> StopChannel:
        self._channels.remove(broker_id)
        return StopChannel(broker_id)

    def _on_broker(self, event: BrokerModified) -> Run[None]:
        """Its endpoints changed, while it runs."""
        image = self.image
        now = yield from read_broker(event.broker_id)
        before = image.brokers.get(event.broker_id)
        if now is not None and before is not None and now.endpoints != before.endpoints:
            image.brokers[event.broker_id] = now._replace(epoch=before.epoch)
            yield Note("Controller", "A broker has other endpoints", (("broker", event.broker_id),))
            yield from self._tell_brokers(image.brokers)

    def _broker_startup(self, brokers: Sequence[int]) -> Run[None]:
        if not brokers:
            return
        image = self.image
        for broker_id in brokers:
            image.offline_dirs.pop(broker_id, None)
        yield from self._tell_brokers([broker_id for broker_id in image.brokers if broker_id not in brokers])
        yield from self._tell_brokers(brokers, image.partitions_with_leaders())
        # First of all a broker hears of everything it has a replica of.
        replicas: Replicas = {broker_id: image.replicas_on(broker_id) for broker_id in brokers}
        yield from self._replicas.move(replicas, ReplicaState.ONLINE)
        yield from self._partitions.bring_online()
        waiting = [
            partition
            for partition in sorted(image.reassigning)
            if not set(brokers).isdisjoint(image.assignments[partition].target)
        ]
        yield from self._reassignment.resume(waiting)
        topics = {partition.topic for partitions in replicas.values() for partition in partitions}
        yield from self._deletion.resume_for(topics)

    def _broker_failure(self, brokers: Sequence[int]) -> Run[None]:
        if not brokers:
            return
        for broker_id in brokers:
            self.image.offline_dirs.pop(broker_id, None)
        yield from self._replicas_offline({broker_id: self.image.replicas_on(broker_id) for broker_id in brokers})

    def _replicas_offline(self, replicas: Replicas) -> Run[None]:
        """Of brokers that went, or of directories that failed."""
        image = self.image
        leaving = image.leaving()
        going: Replicas = {}
        staying: Replicas = {}
        for broker_id, partitions in replicas.items():
            for partition in partitions:
                chosen = going if partition.topic in leaving else staying
                chosen.setdefault(broker_id, []).append(partition)
        yield from self._partitions.move(image.partitions_with_offline_leader(), PartitionState.OFFLINE)
        elected = yield from self._partitions.bring_online()
        yield from self._replicas.move(staying, ReplicaState.OFFLINE)
        yield from self._deletion.failed(going)
        if not (staying or elected.done):  # nobody has heard yet who went
            yield from self._tell_brokers(image.brokers)

    def _tell_brokers(self, brokers: Iterable[int], partitions: Iterable[TopicPartition] = ()) -> Run[None]:
        self._batch.add_update_metadata(brokers, partitions)
        yield from self._batch.send()

    def _on_log_dir_events(self, _: LogDirEventsNoticed) -> Run[None]:
        """The brokers are asked about all their replicas; their answers say which are in a directory that failed."""
        image = self.image
        notices = yield from read_log_dir_events()
        if not notices.names:
            return
        brokers = sorted(image.brokers.keys() & set(notices.broker_ids))
        yield Note("Controller", "Log directories failed", (("brokers", brokers),))
        replicas: Replicas = {broker_id: image.replicas_on(broker_id) for broker_id in brokers}
        yield from self._replicas.move(replicas, ReplicaState.ONLINE)
        yield RemoveLogDirEvents(image.fence, notices.names)

    # ------------------------------------------------------------------ topics

    def _learn_topics(self, names: Sequence[str]) -> Run[list[TopicPartition]]:
        """Read topics that are new; returns their partitions."""
        image = self.image
        found = yield from read_topics(names)
        if image.settings.has_topic_ids:
            nameless = [topic for topic in found.values() if topic.topic_id == ZERO_TOPIC_ID]
            for name, topic_id in (yield from give_topic_ids(image.fence, nameless)).items():
                found[name] = found[name]._replace(topic_id=topic_id)
        return [partition for name in sorted(found) for partition in image.put_topic(found[name])]

    def _on_topics(self, _: TopicsChanged) -> Run[None]:
        image = self.image
        names = set((yield from read_topic_names()))
        for topic in sorted(image.topics.keys() - names):
            image.remove_topic(topic)
            yield Note("Controller", "A topic is gone from the tree", (("topic", topic),), warning=True)
        new = sorted(names - image.topics.keys())
        added = yield from self._learn_topics(new)
        if added:
            yield Note("Controller", "Topics are new", (("topics", new), ("partitions", len(added))))
        yield from self._create_partitions(added)

    def _on_partitions(self, event: PartitionsChanged) -> Run[None]:
        image = self.image
        found = (yield from read_topics([event.topic])).get(event.topic)
        known = image.topics.get(event.topic)
        if found is None or known is None or len(found.partitions) <= len(known):
            return
        if event.topic in image.deleting:
            yield Note("Controller", "A topic that is being deleted gets no more partitions", (("topic", event.topic),))
            yield WriteTopic(image.fence, image.describe_topic(event.topic))
            return
        added = image.put_topic(TopicDescription(found.name, ZERO_TOPIC_ID, found.partitions))
        yield Note("Controller", "A topic has more partitions", (("topic", event.topic), ("new", len(added))))
        yield from self._create_partitions(added)

    def _create_partitions(self, partitions: Sequence[TopicPartition]) -> Run[None]:
        if partitions:
            yield from self._partitions.move(partitions, PartitionState.NEW)
            yield from self._replicas.move(self.image.replicas_of(partitions), ReplicaState.NEW)
            yield from self._partitions.elect(partitions, Strategy.OFFLINE)
            yield from self._replicas.move(self.image.replicas_of(partitions), ReplicaState.ONLINE)

    def _on_deletions(self, _: DeletionsChanged) -> Run[None]:
        marked = yield from read_deletions()
        yield from self._deletion.enqueue(marked)

    # ------------------------------------------------------------------ who leads

    def _on_isr_changes(self, _: IsrChangesNoticed) -> Run[None]:
        """Leaders of an old protocol wrote their states themselves."""
        image = self.image
        notices = yield from read_isr_changes()
        if not notices.names:
            return
        partitions = [partition for partition in dict.fromkeys(notices.partitions) if partition in image.assignments]
        image.leadership.update((yield from read_states(partitions)))
        if partitions:
            yield from self._tell_brokers(image.brokers, partitions)
            yield from self._reassignment.complete(partitions)
        yield RemoveIsrChanges(image.fence, notices.names)

    def _on_reassignments(self, _: ReassignmentsRequested) -> Run[None]:
        yield from self._reassignment.start_requested()

    def _on_preferred_election(self, _: PreferredElectionRequested) -> Run[None]:
        yield from self._election.elect_requested()

    def _on_unclean_election(self, event: UncleanElectionEnabled) -> Run[None]:
        yield from self._partitions.bring_online(event.topic)

    def _on_timer(self, event: TimerFired) -> Run[None]:
        settings = self.image.settings
        if event.key == BALANCE and settings.balance:
            yield SetTimer(BALANCE, self._now_ms + settings.balance_interval_ms)
            yield from self._election.balance()

    # ------------------------------------------------------------------ answers of brokers

    def _on_answer(self, event: Answered) -> Run[None]:
        """Answers to an earlier term, or of an earlier life of the broker, say nothing any more."""
        request = event.message
        assert isinstance(request, LeaderAndIsrRequest | StopReplicaRequest | UpdateMetadataRequest)
        broker = self.image.brokers.get(event.broker_id)
        if broker is None or (request.controller_epoch, request.broker_epoch) != (self.image.epoch, broker.epoch):
            return
        response = event.response
        assert isinstance(response, LeaderAndIsrResponse | StopReplicaResponse | UpdateMetadataResponse)
        if response.error_code:
            error = error_code(response.error_code)
            fields = (("broker", event.broker_id), ("request", type(request).__name__), ("error", error.name))
            yield Note("Controller", "A broker refuses a request", fields, warning=True)
        if isinstance(request, StopReplicaRequest) and isinstance(response, StopReplicaResponse):
            yield from self._on_stopped(event.broker_id, request, response)
        elif isinstance(response, LeaderAndIsrResponse) and not response.error_code:
            yield from self._on_told_leaders(event.broker_id, response)

    def _on_told_leaders(self, broker_id: int, response: LeaderAndIsrResponse) -> Run[None]:
        image = self.image
        names = image.topic_names
        told = [(each.topic_name, each) for each in response.partition_errors]
        told += [
            (names[topic.topic_id], each)
            for topic in response.topics
            if topic.topic_id in names
            for each in topic.partition_errors
        ]
        before = image.offline_dirs.get(broker_id, set())
        now = set(before)
        for topic, each in told:
            partition = TopicPartition(topic, each.partition_index)
            if each.error_code == ErrorCode.KAFKA_STORAGE_ERROR:
                now.add(partition)
            elif each.error_code == ErrorCode.NONE:
                now.discard(partition)
        if now:
            image.offline_dirs[broker_id] = now
        else:
            image.offline_dirs.pop(broker_id, None)
        new = [partition for partition in sorted(now - before) if partition in image.assignments]
        if new:
            fields = (("broker", broker_id), ("partitions", len(new)))
            yield Note("Controller", "Replicas are in a directory that failed", fields, warning=True)
            yield from self._replicas_offline({broker_id: new})

    def _on_stopped(self, broker_id: int, request: StopReplicaRequest, response: StopReplicaResponse) -> Run[None]:
        """Replicas of topics that are being deleted, which were told to delete."""
        deleting = {
            TopicPartition(topic.topic_name, each.partition_index)
            for topic in request.topic_states
            if topic.topic_name in self.image.deletion_begun
            for each in topic.partition_states
            if each.delete_partition
        }
        if not deleting:
            return
        failed: list[TopicPartition] = []
        deleted: list[TopicPartition] = []
        for each in response.partition_errors:
            partition = TopicPartition(each.topic_name, each.partition_index)
            if partition in deleting:
                (failed if each.error_code or response.error_code else deleted).append(partition)
        if failed:
            yield from self._deletion.failed({broker_id: failed})
        if deleted:
            yield from self._deletion.completed({broker_id: deleted})

    # ------------------------------------------------------------------ requests

    def answer(self, request: Request) -> Run[object]:
        """The message of the Reply; then `go_on` does what need not be waited for."""
        image = self.image
        if isinstance(request, AlterPartitionReceived):
            altered = yield from alter_partitions(image, request.request, request.version)
            if altered.told:
                yield from self._tell_brokers(image.brokers, altered.told)
            self._isr_changed = altered.changed
            return altered.response
        if isinstance(request, ControlledShutdownReceived):
            return (yield from shut_down(image, self._batch, self._partitions, self._replicas, request.request))
        if isinstance(request, AllocateProducerIdsReceived):
            return (yield from allocate_producer_ids(image, request.request))
        if isinstance(request, ReassignReceived):
            return PartitionResults(Outcome(), (yield from self._reassignment.start(request.targets)))
        if isinstance(request, ListReassignmentsReceived):
            asked = sorted(image.reassigning) if request.partitions is None else request.partitions
            moving = {each: image.assignments[each] for each in asked if each in image.assignments}
            return ReassignmentsListed(
                Outcome(), {each: assignment for each, assignment in moving.items() if assignment.is_reassigning}
            )
        assert isinstance(request, ElectLeadersReceived)
        return (yield from self._election.elect(request.partitions, request.election_type))

    def go_on(self) -> Run[None]:
        changed, self._isr_changed = self._isr_changed, []
        yield from self._reassignment.complete(changed)

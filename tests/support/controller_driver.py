"""A cluster of controllers in memory: every broker is a session on one tree, a machine, and what it was told to do.

What stays true: steps are carried out on the tree by the broker's own code; every message goes through its bytes;
events are handled one at a time and in order, brokers by turns in the order of their start; nothing happens by itself,
and a run is the same whenever it is run again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

from cluster.broker.controller_store import ControllerStore
from cluster.controller import events
from cluster.controller.controller import Controller
from cluster.controller.events import Event
from cluster.controller.settings import Settings
from cluster.controller.steps import ControllerMoved, Send, StartChannel, Step, StopChannel, StoreUnavailable
from cluster.effects import CancelTimer, Note, Reply, SetTimer
from cluster.metadata import paths, startup
from cluster.metadata.memory import MemoryStore, MemoryTree
from cluster.metadata.reader import read_cluster
from cluster.metadata.store import NodeExists
from cluster.metadata.writes import operations
from cluster.model import ClusterFacts, EndPoint, PartitionAssignment, PutConfig, PutTopic, TopicDescription, Write
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from pylog.types import ZERO_TOPIC_ID, TopicPartition

WALL_MS = 1_795_345_304_076
_TURNS = 300
_EVENTS = 3_000
_STEPS = 5_000  # of one event: more is an endless loop


class Seen(NamedTuple):
    """A step that a broker's controller took."""

    broker_id: int
    step: Step
    at_ms: int


class Node:
    """One broker: its session, its controller, the requests that wait for it."""

    def __init__(self, cluster: Cluster, broker_id: int, settings: Settings) -> None:
        self.cluster = cluster
        self.broker_id = broker_id
        self.machine = Controller(settings)
        self.queue: deque[Event] = deque()
        self.channels: dict[int, deque[Send]] = {}
        self.timers: dict[Hashable, int] = {}
        self.failed_logs: set[TopicPartition] = set()
        self.told: list[Message] = []
        self.answers = True
        """Whether it answers the controller; what it is sent waits meanwhile."""
        self.is_up = False
        self.session: MemoryStore
        self.store: ControllerStore

    def connect(self) -> None:
        self.session = self.cluster.tree.connect()
        self.store = ControllerStore(
            self.session, self.broker_id, lambda: WALL_MS, self.cluster.new_topic_id, self.queue.append
        )

    def carry_out(self, step: Step) -> object:
        if isinstance(step, Send):
            through = _through_bytes(step.message, step.version)
            assert through.encode(step.version) == step.message.encode(step.version)
            if step.broker_id in self.channels:
                self.channels[step.broker_id].append(step)
        elif isinstance(step, StartChannel):
            assert step.broker.id not in self.channels, f"a second channel to {step.broker.id}"
            self.channels[step.broker.id] = deque()
        elif isinstance(step, StopChannel):
            self.channels.pop(step.broker_id, None)
        elif isinstance(step, SetTimer):
            self.timers[step.key] = step.deadline_ms
        elif isinstance(step, CancelTimer):
            self.timers.pop(step.key, None)
        elif isinstance(step, Reply):
            assert step.reply_to not in self.cluster.replies, f"a second answer to {step.reply_to}"
            self.cluster.replies[step.reply_to] = step.message
        elif not isinstance(step, Note):
            return self.store.carry_out(step)
        return None

    def handle(self, event: Event) -> None:
        run = self.machine.handle(event, self.cluster.now_ms)
        result: object = None
        failure: Exception | None = None
        for _ in range(_STEPS):
            try:
                step = run.send(result) if failure is None else run.throw(failure)
            except StopIteration:
                return
            result, failure = None, None
            interrupt = self.cluster.interrupt
            if interrupt is not None and interrupt(self.broker_id, step):
                self.cluster.interrupt = None
                raise Interrupted
            self.cluster.seen.append(Seen(self.broker_id, step, self.cluster.now_ms))
            try:
                result = self.carry_out(step)
            except (ControllerMoved, StoreUnavailable) as error:
                failure = error
        raise AssertionError(f"{event} has no end")

    def told_by_controller(self, version: int, message: Message) -> Message:
        """What the broker answers."""
        self.told.append(message)
        if isinstance(message, m.UpdateMetadataRequest):
            return m.UpdateMetadataResponse()
        if isinstance(message, m.StopReplicaRequest):
            errors = [
                m.StopReplicaResponse.StopReplicaPartitionError(
                    topic_name=topic.topic_name,
                    partition_index=each.partition_index,
                    error_code=self._log_error(topic.topic_name, each.partition_index),
                )
                for topic in message.topic_states
                for each in topic.partition_states
            ]
            return m.StopReplicaResponse(partition_errors=errors)
        assert isinstance(message, m.LeaderAndIsrRequest)
        told = [
            (
                topic.topic_id,
                [
                    m.LeaderAndIsrResponse.LeaderAndIsrPartitionError(
                        topic_name=topic.topic_name,
                        partition_index=each.partition_index,
                        error_code=self._log_error(topic.topic_name, each.partition_index),
                    )
                    for each in topic.partition_states
                ],
            )
            for topic in message.topic_states
        ]
        if version < 5:
            return m.LeaderAndIsrResponse(partition_errors=[each for _, errors in told for each in errors])
        return m.LeaderAndIsrResponse(
            topics=[
                m.LeaderAndIsrResponse.LeaderAndIsrTopicError(topic_id=topic_id, partition_errors=errors)
                for topic_id, errors in told
            ]
        )

    def _log_error(self, topic: str, partition: int) -> int:
        failed = TopicPartition(topic, partition) in self.failed_logs
        return int(ErrorCode.KAFKA_STORAGE_ERROR if failed else ErrorCode.NONE)


class Interrupted(Exception):
    """The broker dies in the middle of what its controller does."""


class Cluster:
    """`protocol`, and what else Settings has, is the same for all brokers."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.tree = MemoryTree(lambda: WALL_MS)
        self.settings = settings or Settings(0)
        self.admin = self.tree.connect()
        startup.prepare_tree(self.admin, "BqAbZzJcRyCV7ufzNcp56A")
        self.nodes: dict[int, Node] = {}
        self.now_ms = 0
        self.seen: list[Seen] = []
        self.replies: dict[Hashable, object] = {}
        self.interrupt: Callable[[int, Step], bool] | None = None
        """Before which step of whose controller that broker dies."""
        self.events_left = 0
        self._requests = 0
        self._topic_ids = 0

    def new_topic_id(self) -> bytes:
        self._topic_ids += 1
        return self._topic_ids.to_bytes(16, "big")

    # ------------------------------------------------------------------ brokers

    def start(self, broker_id: int, rack: str | None = None) -> Node:
        """Register it, and let it take part in elections."""
        node = Node(self, broker_id, self.settings._replace(broker_id=broker_id))
        node.connect()
        self.nodes[broker_id] = node
        self._register(node, rack)
        node.queue.append(events.Startup())
        return node

    def _register(self, node: Node, rack: str | None, port: int = 9092) -> None:
        endpoints = (EndPoint("PLAINTEXT", f"host{node.broker_id}", port, "PLAINTEXT"),)
        startup.register_broker(node.session, node.broker_id, paths.BrokerRegistration(endpoints, rack, WALL_MS))
        node.is_up = True

    def move(self, broker_id: int, port: int) -> None:
        """Its listener gets another port."""
        endpoints = (EndPoint("PLAINTEXT", f"host{broker_id}", port, "PLAINTEXT"),)
        self.admin.set(paths.broker(broker_id), paths.BrokerRegistration(endpoints, None, WALL_MS).encode())

    def kill(self, broker_id: int) -> None:
        """The process is gone, and its session expires."""
        node = self.nodes[broker_id]
        node.is_up = False
        node.queue.clear()
        node.session.close()

    def expire(self, broker_id: int) -> None:
        """The session is over, the process lives: it registers again."""
        node = self.nodes[broker_id]
        node.queue.clear()
        node.session.close()
        node.queue.append(events.SessionExpired())
        node.connect()
        self._register(node, None)
        node.queue.append(events.SessionStarted())

    def controller(self) -> Node:
        """Who has /controller."""
        return self.nodes[paths.ControllerNode.decode(self.admin.get(paths.CONTROLLER)[0]).broker_id]

    # ------------------------------------------------------------------ the world turns

    def run(self) -> None:
        """Until nobody has anything to do, which has to be some time."""
        self.events_left = _EVENTS
        for _ in range(_TURNS):
            if not self._turn():
                return
        raise AssertionError(f"no rest, and still to do: {[list(node.queue)[:5] for node in self.nodes.values()]}")

    def _turn(self) -> bool:
        did = False
        for node in list(self.nodes.values()):
            while node.is_up and node.queue:
                did = True
                self.events_left -= 1
                assert self.events_left, "events without end"
                try:
                    node.handle(node.queue.popleft())
                except Interrupted:
                    self.kill(node.broker_id)
            did |= self._deliver(node)
        return did

    def _deliver(self, node: Node) -> bool:
        """The requests of one controller to all brokers, in their order."""
        did = False
        for broker_id, waiting in list(node.channels.items()):
            there = self.nodes[broker_id]
            while waiting and node.is_up and there.is_up and there.answers:
                _, version, message = waiting.popleft()
                answer = there.told_by_controller(version, _through_bytes(message, version))
                node.queue.append(events.Answered(broker_id, message, _through_bytes(answer, version)))
                did = True
        return did

    def advance(self, ms: int) -> None:
        self.now_ms += ms
        for node in self.nodes.values():
            for key, due_ms in list(node.timers.items()):
                if due_ms <= self.now_ms and node.is_up:
                    del node.timers[key]
                    node.queue.append(events.TimerFired(key))

    # ------------------------------------------------------------------ what clients and brokers do

    def ask(self, make: Callable[[Hashable], Event], broker_id: int | None = None) -> object:
        """Hand a request to a broker's controller, by default to the elected one; returns the answer."""
        self._requests += 1
        node = self.controller() if broker_id is None else self.nodes[broker_id]
        node.queue.append(make(self._requests))
        self.run()
        return self.replies.get(self._requests)

    def write(self, *writes: Write) -> None:
        self.admin.multi(operations(writes))

    def create(self, name: str, replicas: Sequence[Sequence[int]], *, with_id: bool = True, **settings: str) -> None:
        topic_id = self.new_topic_id() if with_id else ZERO_TOPIC_ID
        parts = tuple(PartitionAssignment(tuple(each)) for each in replicas)
        self.write(PutConfig("topics", name, settings, is_new=True, announce=False))
        self.admin.create(paths.topic(name), paths.encode_topic(TopicDescription(name, topic_id, parts)))

    def grow(self, name: str, replicas: Iterable[Sequence[int]]) -> None:
        topic = self.facts().topics[name]
        more = tuple(PartitionAssignment(tuple(each)) for each in replicas)
        self.write(PutTopic(topic._replace(partitions=topic.partitions + more), is_new=False))

    def delete(self, *names: str) -> None:
        for name in names:
            try:
                self.admin.create(paths.delete_topic(name))
            except NodeExists:
                continue

    def alter_partition(
        self,
        broker_id: int,
        isr: dict[TopicPartition, Sequence[int]],
        *,
        version: int = 3,
        broker_epoch: int | None = None,
        leader_epoch: int | None = None,
        partition_epoch: int | None = None,
        topic_id: bytes | None = None,
        recovering: bool = False,
    ) -> m.AlterPartitionResponse | None:
        """As the leader would, who knows the state as it is unless something else is said."""
        facts = self.facts()
        topics = []
        for partition, members in isr.items():
            state = facts.states.get(partition)
            topic = facts.topics.get(partition.topic)
            data = m.AlterPartitionRequest.PartitionData(
                partition_index=partition.partition,
                leader_epoch=state.leader_epoch if leader_epoch is None and state else leader_epoch or 0,
                new_isr=list(members) if version < 3 else [],
                new_isr_with_epochs=[
                    m.AlterPartitionRequest.BrokerState(broker_id=each) for each in (members if version >= 3 else ())
                ],
                leader_recovery_state=int(recovering),
                partition_epoch=state.version if partition_epoch is None and state else partition_epoch or 0,
            )
            known_id = topic.topic_id if topic else ZERO_TOPIC_ID
            topics.append(
                m.AlterPartitionRequest.TopicData(
                    topic_name=partition.topic, topic_id=topic_id or known_id, partitions=[data]
                )
            )
        if broker_epoch is None:
            broker_epoch = facts.brokers[broker_id].epoch if broker_id in facts.brokers else 0
        request = m.AlterPartitionRequest(broker_id=broker_id, broker_epoch=broker_epoch, topics=topics)
        request = m.AlterPartitionRequest.decode(request.encode(version), version)
        answer = self.ask(lambda reply_to: events.AlterPartitionReceived(reply_to, version, request))
        if answer is None:
            return None
        assert isinstance(answer, m.AlterPartitionResponse)
        return m.AlterPartitionResponse.decode(answer.encode(version), version)

    def shut_down(self, broker_id: int, broker_epoch: int | None = None) -> m.ControlledShutdownResponse:
        if broker_epoch is None:
            broker_epoch = self.facts().brokers[broker_id].epoch
        request = m.ControlledShutdownRequest(broker_id=broker_id, broker_epoch=broker_epoch)
        answer = self.ask(lambda reply_to: events.ControlledShutdownReceived(reply_to, request))
        assert isinstance(answer, m.ControlledShutdownResponse)
        return m.ControlledShutdownResponse.decode(answer.encode(3), 3)

    def fail_logs(self, broker_id: int, partitions: Iterable[TopicPartition]) -> None:
        """The directory with these goes offline."""
        self.nodes[broker_id].failed_logs.update(partitions)
        event = paths.LogDirEvent(broker_id).encode()
        self.nodes[broker_id].session.create(paths.LOG_DIR_EVENT_PREFIX, event, sequential=True)

    # ------------------------------------------------------------------ what is true

    def facts(self) -> ClusterFacts:
        return read_cluster(self.admin)


def _through_bytes(message: Message, version: int) -> Message:
    return type(message).decode(message.encode(version), version)

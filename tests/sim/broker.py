"""One life of a broker: its control thread and its controller, on the simulated network, ensemble and disks.

What stays true: Leadership, Replication (IsrKeeper, Replicator), ReplicaManager, MetadataCache, the handlers of the
controller's requests and the controller are the broker's own; played are the threads that carry requests (channels,
the client of the controller, the questions to leaders) and the session's renewal, in the order in which Member does it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cluster.broker.apis import Handler, Request
from cluster.broker.handlers.replication import HANDLERS
from cluster.broker.leader_offsets import OffsetAnswer, OffsetQuestion
from cluster.broker.leadership import Leadership
from cluster.broker.metadata_cache import BrokerMetadata, MetadataCache, PartitionMetadata
from cluster.broker.replica_manager import ReplicaManager
from cluster.broker.replication import Replication
from cluster.config.broker_config import Config, load
from cluster.controller import events
from cluster.controller.settings import Settings
from cluster.metadata import paths, startup
from cluster.metadata.store import NodeExists, NoNode, StoreError
from cluster.model import EndPoint
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from cluster.replication.follower import LATEST
from pylog.config import LogConfig
from pylog.errors import ErrorCode
from pylog.types import TopicPartition
from tests.sim.controller_host import ControllerHost, through_bytes
from tests.sim.data_plane import DataPlane
from tests.sim.logs import SimLogs, Site
from tests.sim.network import Answer
from tests.sim.world import US_PER_MS, Process

if TYPE_CHECKING:
    from tests.sim.cluster import SimCluster

LAG_MAX_MS = 1_000
_TASK_US = 50
_CLIENT_TIMEOUT_MS = 1_500
_CHECKPOINT_MS = 1_000
_HANDLERS = {
    m.LeaderAndIsrRequest: HANDLERS[ApiKey.LEADER_AND_ISR],
    m.StopReplicaRequest: HANDLERS[ApiKey.STOP_REPLICA],
    m.UpdateMetadataRequest: HANDLERS[ApiKey.UPDATE_METADATA],
}


@lru_cache
def config_of(broker_id: int) -> Config:
    return load(
        None,
        {
            "broker.id": str(broker_id),
            "zookeeper.connect": "sim:2181",
            "listeners": f"PLAINTEXT://broker:{broker_id}",
            "replica.lag.time.max.ms": str(LAG_MAX_MS),
            "replica.fetch.wait.max.ms": "400",
        },
    )


class Timers:
    """The control loop's."""

    def __init__(self, broker: SimBroker) -> None:
        self._broker = broker
        self._set: dict[Hashable, tuple[int, int]] = {}
        self._made = 0

    def set(self, key: Hashable, deadline_ms: int) -> None:
        known = self._set.get(key)
        if known is not None and known[1] == deadline_ms:
            return
        self._made += 1
        self._set[key] = (self._made, deadline_ms)
        self._broker.world.at_clock(deadline_ms, self._broker.process, self._fire, key, self._made)

    def cancel(self, key: Hashable) -> None:
        self._set.pop(key, None)

    def _fire(self, key: Hashable, number: int) -> None:
        known = self._set.get(key)
        if known is not None and known[0] == number:
            del self._set[key]
            assert self._broker.replication.timer(key), f"nobody's timer: {key}"


class Loop:
    def __init__(self, broker: SimBroker) -> None:
        self._broker = broker
        self.timers = Timers(broker)

    def post(self, task: Callable[[], None]) -> None:
        self._broker.world.after(_TASK_US, self._broker.process, task)


class Client:
    """ControllerClient, in virtual time: one request under way, until it is answered."""

    def __init__(self, broker: SimBroker) -> None:
        self._broker = broker
        self._queue: deque[tuple[Message, Callable[..., None], int]] = deque()
        self._under_way = False

    def ask(
        self, message: Message, answer: type[Message], then: Callable[..., None], versions: tuple[int, int]
    ) -> None:
        self._queue.append((message, then, versions[1]))
        self._next()

    def _next(self) -> None:
        if self._queue and not self._under_way:
            self._under_way = True
            self._try(*self._queue.popleft())

    def _try(self, message: Message, then: Callable[..., None], version: int) -> None:
        broker = self._broker

        def settled(answer: object) -> None:
            if answer is None or getattr(answer, "error_code", None) == ErrorCode.NOT_CONTROLLER:
                broker.world.after(50 * US_PER_MS, broker.process, self._try, message, then, version)
                return
            self._under_way = False
            broker.loop.post(lambda: then(answer))
            self._next()

        controller_id = broker.metadata.controller_id
        if controller_id not in broker.metadata.brokers:
            broker.world.after(50 * US_PER_MS, broker.process, self._try, message, then, version)
            return
        assert isinstance(message, m.AlterPartitionRequest)
        asked = through_bytes(message, version)
        assert isinstance(asked, m.AlterPartitionRequest)

        def serve(answer: Answer) -> None:
            def encoded(response: object) -> None:
                assert isinstance(response, Message)
                answer(through_bytes(response, version))

            there = broker.cluster.broker_at(controller_id)
            there.controller.post(events.AlterPartitionReceived(encoded, version, asked))

        broker.cluster.network.request(
            broker.broker_id, broker.process, controller_id, serve, settled, _CLIENT_TIMEOUT_MS
        )


class Leaders:
    """LeaderOffsets, in virtual time."""

    def __init__(self, broker: SimBroker) -> None:
        self._broker = broker

    def ask(self, question: OffsetQuestion, on_answer: Callable[[OffsetAnswer], None]) -> None:
        broker = self._broker

        def serve(answer: Answer) -> None:
            hosted = broker.cluster.broker_at(question.port).data_plane.find(question.partition)
            if hosted is None or hosted.replica is None:
                answer(OffsetAnswer(int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), -1))
                return
            info = hosted.replica.info()
            if question.leader_epoch < info.leader_epoch:
                answer(OffsetAnswer(int(ErrorCode.FENCED_LEADER_EPOCH), -1))
            elif question.leader_epoch > info.leader_epoch:
                answer(OffsetAnswer(int(ErrorCode.UNKNOWN_LEADER_EPOCH), -1))
            elif info.role != 1:
                answer(OffsetAnswer(int(ErrorCode.NOT_LEADER_OR_FOLLOWER), -1))
            else:
                answer(OffsetAnswer(0, info.log_end if question.timestamp == LATEST else info.log_start))

        def then(answer: object) -> None:
            lost = OffsetAnswer(int(ErrorCode.NETWORK_EXCEPTION), -1)
            on_answer(answer if isinstance(answer, OffsetAnswer) else lost)

        broker.cluster.network.request(broker.broker_id, broker.process, question.port, serve, then, 1_000)

    def close(self) -> None:
        pass


class Coordinators:
    """There are none here."""

    def load(self, topic: object, at_once: bool) -> None:
        raise AssertionError("no internal topics here")

    unload = load


class SimBroker:
    """What Leadership, Replication and the handlers see as Broker, Member, Admin and Apis at once."""

    def __init__(self, cluster: SimCluster, site: Site, process: Process) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.site = site
        self.process = process
        self.broker_id = site.broker_id
        self.config = config_of(self.broker_id)
        self.stopping = False
        self.loop = Loop(self)
        self.logs = SimLogs(site)
        self.data_plane = self.engine = DataPlane(self, LAG_MAX_MS)
        self.metadata = MetadataCache("sim")
        self.coordinators = Coordinators()
        self._settings: dict[str, dict[str, str]] = {}
        self._log_configs: dict[str, LogConfig] = {}
        self.broker_epoch = -1
        self.client = Client(self)
        self.metadata_told = False
        played: Any = self
        self.replicas = ReplicaManager(
            self.broker_id,
            played.engine,
            played.logs,
            self.log_config,
            lambda name: self.metadata.partition(*name) is not None,
        )
        self.replication = Replication(played, played)
        self.replication.replicator._make_leaders = lambda: Leaders(self)
        self.leadership = Leadership(played, self.replication)
        self.controller = ControllerHost(self, self._controller_settings())
        self.replicas.checkpointed = self.logs.read_high_watermarks()
        self.store = cluster.ensemble.connect(self.broker_id, process)
        self._register(events.Startup())
        self._checkpoint()
        self._watch_session()

    def _controller_settings(self) -> Settings:
        return Settings(self.broker_id, balance_interval_ms=5_000)

    # ------------------------------------------------------------------ Broker, Admin, Apis

    @property
    def admin(self) -> SimBroker:
        return self

    @property
    def apis(self) -> SimBroker:
        return self

    def joined(self) -> SimBroker:
        return self

    def now_ms(self) -> int:
        return self.world.clock_ms(self.process)

    def log_config(self, topic: str) -> LogConfig:
        found = self._log_configs.get(topic)
        if found is None:
            found = self.config.log_config.with_overrides(self._settings.get(topic, {}))
            self._log_configs[topic] = found
        return found

    def reply(self, reply_to: Answer, answer: Message) -> None:
        reply_to(answer)

    def serve(self, handler: Handler, request: Request) -> None:
        played: Any = self
        result = handler.serve(played, request)
        if result is not None:
            reply: Any = request.reply_to
            reply(result)

    def serve_controller(self, version: int, message: Message, answer: Answer) -> None:
        if self.world.traced:
            self.world.say(f"broker {self.broker_id}", "is told", repr(message)[:600])
        reply_to: Any = answer
        self.serve(_HANDLERS[type(message)], Request(reply_to, version, "", 0, message))

    # ------------------------------------------------------------------ Member: the session

    def _retry(self, what: Callable[..., None], *arguments: object) -> None:
        self.world.after(100 * US_PER_MS, self.process, what, *arguments)

    def _register(self, then: events.Event) -> None:
        """Until the id is free and the ensemble answers."""
        if self.store.over:
            self.store.close()
            self.store = self.cluster.ensemble.connect(self.broker_id, self.process)
        if not self.store.reachable:
            self._retry(self._register, then)
            return
        endpoints = (EndPoint("PLAINTEXT", "broker", self.broker_id, "PLAINTEXT"),)
        registration = paths.BrokerRegistration(endpoints, None, self.world.now_ms)
        try:
            self.broker_epoch = startup.register_broker(self.store, self.broker_id, registration)
        except (NodeExists, StoreError):
            self._retry(self._register, then)
            return
        self.world.say(f"broker {self.broker_id}", "registered, epoch", self.broker_epoch)
        self.cluster.network.places[self.broker_id] = self.process  # who comes earlier is not served
        self.controller.use(self.store)
        if isinstance(then, events.SessionStarted):
            self.loop.post(self.replication.brokers_changed)
        self.controller.post(then)

    def _watch_session(self) -> None:
        """The client hears that its session is over when it reaches the ensemble again."""
        if self.store.over and not self.store.closed and self.broker_epoch >= 0 and self.store.reachable:
            self.world.say(f"broker {self.broker_id}", "its session is over")
            self.controller.post(events.SessionExpired())
            self.store.close()
            self.store = self.cluster.ensemble.connect(self.broker_id, self.process)
            self._register(events.SessionStarted())
        self.world.after(self.world.between(50, 150) * US_PER_MS, self.process, self._watch_session)

    # ------------------------------------------------------------------ Member: settings, metadata

    def address_of(self, broker_id: int) -> tuple[str, int] | None:
        known = self.metadata.brokers.get(broker_id)
        return None if known is None else known.endpoints.get("PLAINTEXT")

    def on_tree(self, task: Callable[[], None]) -> None:
        raise AssertionError("only brokers of before 2.7 write ISRs themselves")

    def settings_of(self, topic: str) -> dict[str, str]:
        return self._settings.get(topic, {})

    def unknown_settings(self, topics: Iterable[str]) -> list[str]:
        return [name for name in dict.fromkeys(topics) if name not in self._settings]

    def read_settings(self, topics: Sequence[str], then: Callable[[], None]) -> None:
        self.world.after(self.world.between(300, 3_000), self.process, self._read_settings, topics, then)

    def _read_settings(self, topics: Sequence[str], then: Callable[[], None]) -> None:
        if self.store.over or self.store.closed:
            return
        if not self.store.reachable:
            self._retry(self._read_settings, topics, then)
            return
        found: dict[str, dict[str, str]] = {}
        for name in topics:
            try:
                found[name] = paths.decode_config(self.store.get(paths.config("topics", name))[0])
            except NoNode:
                found[name] = {}
        self._settings.update(found)
        for name in found:
            self._log_configs.pop(name, None)
        self.loop.post(then)

    def learn(
        self,
        controller_id: int,
        brokers: Sequence[BrokerMetadata],
        topics: Mapping[str, tuple[bytes, Sequence[PartitionMetadata]]],
        gone: Iterable[TopicPartition],
    ) -> None:
        metadata = self.metadata
        moved = {each.broker_id: each for each in brokers} != metadata.brokers
        metadata.set_brokers(brokers, controller_id)
        dropped = metadata.update(topics, gone)
        if moved:
            self.replication.brokers_changed()
        for name in dropped:
            self._settings.pop(name, None)
            self._log_configs.pop(name, None)
        self.metadata_told = True

    # ------------------------------------------------------------------ its disks

    def _checkpoint(self) -> None:
        self.replicas.checkpoint_high_watermarks()
        for name in sorted(self.site.replicas):
            replica = self.site.replicas[name]
            if replica.directory not in self.site.failed_directories and self.world.chance(0.2):
                replica.flush()
        delay_ms = _CHECKPOINT_MS + self.world.between(0, 500)
        self.world.after(delay_ms * US_PER_MS, self.process, self._checkpoint)

    def fail_directory(self, directory: str) -> None:
        """As Broker does when the maintenance thread tells."""
        lost: Any = self.logs.fail(directory)
        names = [log.partition for log in lost]
        self.replicas.lost(lost)
        self.replication.lost(names)
        self._announce_failure()

    def _announce_failure(self) -> None:
        """Said in this session or not at all: after the next registration the controller asks."""
        if self.store.over or self.store.closed:
            return
        if not self.store.reachable:
            self._retry(self._announce_failure)
            return
        try:
            event = paths.LogDirEvent(self.broker_id).encode()
            self.store.create(paths.LOG_DIR_EVENT_PREFIX, event, sequential=True)
        except StoreError as error:
            self.world.say(f"broker {self.broker_id}", "failure of a directory is not announced", error)

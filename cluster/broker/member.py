"""A broker's place in a cluster: its session with ZooKeeper, its registration, and what follows from both.

What stays true:
- there is one session at a time; when it is over, all that hung on it (registration, controller's place, watches) is
  given up here before a new one is opened, and the broker registers again under a new broker epoch; this is tried until
  it is done, whatever is met, and a session that was not enough for it is closed before the next one;
- while no session can be had the broker goes on as it is: what it leads it serves, what it follows it fetches;
- what the tree says of settings is taken up on the control thread, read before that on another one.

The control thread, but for `_renew` and reading, which the tree's threads do: nothing here lets the control thread wait
for ZooKeeper.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from cluster.broker.controller_client import ControllerClient, shut_down_controlled
from cluster.broker.controller_store import ControllerStore
from cluster.broker.controller_thread import ControllerThread
from cluster.broker.leadership import Leadership
from cluster.broker.metadata_cache import INTERNAL_TOPICS, BrokerMetadata, PartitionMetadata, TopicMetadata
from cluster.broker.replication import Replication
from cluster.broker.waits import WaitKey, Waits
from cluster.controller import events
from cluster.controller.settings import read_settings
from cluster.metadata import paths
from cluster.metadata.forms import forms_of
from cluster.metadata.session import SessionState
from cluster.metadata.startup import outdated_changes, register_when_free
from cluster.metadata.store import NoNode, StoreError, WatchEvent
from cluster.metadata.zookeeper import ZooKeeperStore
from cluster.model import NO_BROKER, BrokerEpoch, EndPoint
from pylog._engine import TopicLeaders
from pylog.errors import ErrorCode, KafkaError
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final
from pylog.types import ZERO_TOPIC_ID, TopicPartition

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.cluster_admin import ClusterAdmin

_THREADS: Final = 8
_CONTROLLER_S: Final = 10.0
_RENEW_BACKOFF_S: Final = 1.0
_NO_PARTITION: Final = -1  # as a leader epoch


class Member:
    def __init__(self, broker: Broker, admin: ClusterAdmin) -> None:
        self._broker = broker
        self._admin = admin
        self._log = Logger("Member")
        self._tree = ThreadPoolExecutor(_THREADS, thread_name_prefix="tree")
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._told = threading.Event()
        self._nodes: set[tuple[int, int]] = set()  # listeners and brokers that clients are told of
        self._joined = False
        self._endpoints: tuple[EndPoint, ...] = ()
        self._last_change = ""
        self._topic_settings: dict[str, dict[str, str]] = {}
        self._sessions = 0
        self.broker_epoch = BrokerEpoch(-1)
        self.store = self._connect()

    def _connect(self) -> ZooKeeperStore:
        """A new session. Raises StoreError."""
        config = self._broker.config
        connect = config.str("zookeeper.connect")
        session_timeout_ms = config.int("zookeeper.session.timeout.ms")
        connection_timeout_ms = config.optional_int("zookeeper.connection.timeout.ms")
        self._sessions += 1
        return ZooKeeperStore(
            connect,
            session_timeout_ms=session_timeout_ms,
            connection_timeout_ms=session_timeout_ms if connection_timeout_ms is None else connection_timeout_ms,
            max_in_flight=config.int("zookeeper.max.in.flight.requests"),
            on_session=partial(self._session_changed, self._sessions),
        )

    # ------------------------------------------------------------------------------------------------- life

    def join(self, endpoints: Sequence[EndPoint]) -> None:
        """Register, and serve from now on what the controller decides. Raises KafkaError, StoreError."""
        broker = self._broker
        self._endpoints = tuple(_with_host(each) for each in endpoints)
        config = broker.config
        self.waits = Waits(broker.loop.apply)
        self.client = ControllerClient(
            broker.broker_id, self._controller_address, broker.loop.post, config.int("controller.socket.timeout.ms")
        )
        self.replication = Replication(broker, self)
        self.leadership = Leadership(broker, self.replication)
        self.controller = ControllerThread(
            read_settings(broker.config, broker.broker_id),
            broker.now_ms,
            self._answer,
            broker.config.int("controller.socket.timeout.ms"),
            self._session_failed,
        )
        self._told_by_ms = broker.now_ms() + int(_CONTROLLER_S * 1000)
        self._joined = True
        broker.replicas.checkpointed = broker.logs.read_high_watermarks()
        with self._guard:  # whoever finds the session to be over waits until there is something to renew
            self._register()
            self._watch_settings()
            self.controller.start(self._controller_store())

    def wait_for_controller(self) -> None:
        """Until a controller has told us of the cluster, as long as that takes no longer than an election should."""
        if not self._told.wait(_CONTROLLER_S):
            self._log.warn("no controller has spoken yet, metadata are unknown until one does")

    def when_told(self, serve: Callable[[], None]) -> None:
        """Serve a request when a controller has told us of the cluster; without it, when an election should be over."""
        if self._told.is_set():
            serve()
        else:
            self.waits.until(self._told.is_set, self._told_by_ms, lambda _: serve())

    def leave(self) -> None:
        """Hand leadership over, as far as there is somebody to take it. A thread that is not the control thread."""
        config = self._broker.config
        if not config.bool("controlled.shutdown.enable"):
            return
        remaining = shut_down_controlled(
            self._broker.broker_id,
            int(self.broker_epoch),
            self._controller_address,
            retries=config.int("controlled.shutdown.max.retries"),
            backoff_ms=config.int("controlled.shutdown.retry.backoff.ms"),
            timeout_ms=config.int("controller.socket.timeout.ms"),
        )
        if remaining is None:
            self._log.warn("controlled shutdown: no controller answered, going all the same")
        elif remaining:
            self._log.warn("going, although these are led here", partitions=len(remaining))

    def stop(self) -> None:
        """Everything but the session, which ends with `close`."""
        self._stopping.set()
        if not self._joined:
            return
        self.controller.stop()
        self.client.stop()
        self.replication.close()
        self._tree.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the session: registration and controller's place go."""
        self._stopping.set()
        self._tree.shutdown(wait=False, cancel_futures=True)
        self.store.close()

    # ------------------------------------------------------------------------------------------------- the session

    def _register(self) -> None:
        config = self._broker.config
        registration = paths.BrokerRegistration(
            self._endpoints,
            config.optional_str("broker.rack"),
            self._broker.now_ms(),
            version=forms_of(config.str("inter.broker.protocol.version")).broker,
        )
        epoch = register_when_free(
            self.store,
            self._broker.broker_id,
            registration,
            pause=lambda: not self._stopping.wait(_RENEW_BACKOFF_S / 4),
            say=self._log.warn,
        )
        self.broker_epoch = BrokerEpoch(epoch)

    def _controller_store(self) -> ControllerStore:
        from cluster.broker.admin import new_topic_id

        broker = self._broker
        forms = forms_of(broker.config.str("inter.broker.protocol.version"))
        return ControllerStore(
            self.store,
            broker.broker_id,
            broker.now_ms,
            new_topic_id,
            self.controller.post,
            controller_version=forms.controller,
            feature_version=forms.feature.version,
        )

    def _session_changed(self, session: int, state: SessionState) -> None:
        """On the store's thread."""
        if state is SessionState.EXPIRED and not self._stopping.is_set():
            self._log.warn("session with ZooKeeper is over, opening another one")
            self.on_tree(partial(self._renew, session))
        elif state is SessionState.SUSPENDED:
            self._log.warn("connection to ZooKeeper is lost")
        elif state is SessionState.CONNECTED:
            self._log.info("connected to ZooKeeper")

    def _session_failed(self) -> None:
        """It lives, and the controller could not do its work with it: the next one, of whichever broker, may be better.
        The controller's thread."""
        self._log.warn("session with ZooKeeper is of no use to the controller, opening another one")
        self.on_tree(partial(self._renew, self._sessions))

    def _renew(self, session: int) -> None:
        """Another session in place of this one, another registration. A thread of the tree."""
        with self._guard:
            if session != self._sessions:
                return  # it ended while it was being taken up, and was replaced then
            self.controller.post(events.SessionExpired())
            while True:
                self.store.close()
                if self._stopping.is_set():
                    return
                try:
                    self.store = self._connect()
                    self._register()
                    self._watch_settings()
                    break
                except (StoreError, OSError) as error:
                    self._log.warn("no session with ZooKeeper yet, trying again", why=error)
                except Exception:  # without a registration we are nobody: nothing is worth to stay so
                    self._broker.loop.failures += 1
                    self._log.exception("not registered again, trying once more")
                self._stopping.wait(_RENEW_BACKOFF_S)
            self._log.info("registered again", broker_epoch=self.broker_epoch)
            self._broker.loop.post(self.replication.brokers_changed)  # leaders are to know our new epoch
            self.controller.use(self._controller_store())
            self.controller.post(events.SessionStarted())
        self._read_settings_again()

    def on_tree(self, task: Callable[[], None]) -> None:
        """Run a task that may wait for ZooKeeper. Any thread."""

        def guarded() -> None:
            try:
                task()
            except StoreError as error:
                self._log.warn("not done: no session with ZooKeeper", why=error)
            except Exception:  # the edge of a thread: said with its traceback, and counted
                self._broker.loop.failures += 1
                self._log.exception("task failed")

        if not self._stopping.is_set():
            self._tree.submit(guarded)

    # ------------------------------------------------------------------------------------------------- the controller

    def _controller_address(self) -> tuple[str, int] | None:
        metadata = self._broker.metadata
        return self.address_of(metadata.controller_id)

    def address_of(self, broker_id: int) -> tuple[str, int] | None:
        """Where brokers reach one another; None for one that is not alive. Any thread."""
        known = self._broker.metadata.brokers.get(broker_id)
        return None if known is None else known.endpoints.get(self._broker.config.inter_broker_listener)

    def _answer(self, reply_to: object, result: object) -> None:
        """A request that the controller has answered. The controller's thread."""
        from cluster.broker.handlers.controller import Asked

        assert isinstance(reply_to, Asked)
        self._broker.loop.post(lambda: reply_to.answered(self._broker, result))

    @property
    def is_controller(self) -> bool:
        return self.controller.machine.is_active

    def timer(self, key: Hashable) -> bool:
        """A timer is due. False: it is not ours."""
        if isinstance(key, WaitKey):
            self.waits.expired(key)
        else:
            return self.replication.timer(key)
        return True

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Their data directory has failed."""
        self.replication.lost(partitions)
        for name in partitions:
            if TopicMetadata(name.topic, ZERO_TOPIC_ID, ()).internal:
                self._broker.coordinators.unload(name.topic, name.partition)

    # ------------------------------------------------------------------------------------------------- metadata

    def learn(
        self,
        controller_id: int,
        brokers: Sequence[BrokerMetadata],
        topics: Mapping[str, tuple[bytes, Sequence[PartitionMetadata]]],
        gone: Iterable[TopicPartition],
    ) -> None:
        """What a controller told with UpdateMetadata."""
        broker = self._broker
        metadata = broker.metadata
        moved = {each.broker_id: each for each in brokers} != metadata.brokers
        metadata.set_brokers(brokers, controller_id)
        gone = list(gone)
        dropped = metadata.update(topics, gone)
        self._publish_leaders(topics, gone, dropped)
        if moved:
            self._publish_nodes(brokers)
            self.replication.brokers_changed()
        broker.engine.invalidate()
        if dropped:
            for name in dropped:
                self._topic_settings.pop(name, None)
            broker.topics_deleted(dropped)
        self._told.set()
        self.waits.changed()

    def _publish_nodes(self, brokers: Sequence[BrokerMetadata]) -> None:
        """Clients that come to the wrong broker are told where the right one is."""
        engine = self._broker.engine
        known: set[tuple[int, int]] = set()
        for number, name in self._broker.listener_names().items():
            for each in brokers:
                host, port = each.endpoints.get(name, ("", 0))
                if host:
                    engine.publish_node(number, each.broker_id, host, port, each.rack)
                    known.add((number, each.broker_id))
        for number, broker_id in self._nodes - known:
            engine.publish_node(number, broker_id, None, 0)
        self._nodes = known

    def _publish_leaders(
        self,
        topics: Mapping[str, tuple[bytes, Sequence[PartitionMetadata]]],
        gone: Iterable[TopicPartition],
        dropped: Iterable[str],
    ) -> None:
        """Clients that ask for a partition which is elsewhere are told that it is, and whose it is."""
        told = []
        for name, (topic_id, partitions) in topics.items():
            leaders = [(each.partition, each.leader, each.leader_epoch) for each in partitions]
            told.append(TopicLeaders(name, topic_id, name in INTERNAL_TOPICS, leaders))
        lost: dict[str, list[tuple[int, int, int]]] = {}
        for name, index in gone:
            lost.setdefault(name, []).append((index, NO_BROKER, _NO_PARTITION))
        for name, none_left in lost.items():
            known = self._broker.metadata.topics.get(name)
            if known is not None:
                told.append(TopicLeaders(name, known.topic_id, name in INTERNAL_TOPICS, none_left))
        told += [TopicLeaders(name, ZERO_TOPIC_ID, name in INTERNAL_TOPICS, ()) for name in dropped]
        if told:
            self._broker.engine.publish_leaders(told)

    # ------------------------------------------------------------------------------------------------- settings

    def settings_of(self, topic: str) -> dict[str, str]:
        """What a hosted topic overrides. Any thread."""
        return self._topic_settings.get(topic, {})

    def unknown_settings(self, topics: Iterable[str]) -> list[str]:
        """Those of them whose settings were not read yet."""
        return [name for name in dict.fromkeys(topics) if name not in self._topic_settings]

    def read_settings(self, topics: Sequence[str], then: Callable[[], None]) -> None:
        """Read what these topics override, and go on with `then` on the control thread. While there is no session the
        reading waits; when there is none for good `then` does not come, and the controller asks again."""

        def read() -> None:
            found = {name: self._read_config("topics", name) for name in topics}

            def take_up() -> None:
                self._topic_settings.update(found)
                then()

            self._broker.loop.post(take_up)

        self.on_tree(read)

    def _read_config(self, kind: str, entity: str) -> dict[str, str]:
        """What the tree says now. A thread of the tree. Raises StoreError."""
        try:
            return paths.decode_config(self.store.get(paths.config(kind, entity))[0])
        except NoNode:
            return {}
        except ValueError as error:
            self._log.error("settings cannot be read", of=f"{kind}/{entity}", why=error)
            return {}

    def broker_settings(self) -> dict[str, dict[str, str]]:
        """What the tree says of this broker and of all of them. Raises StoreError."""
        entities = (str(self._broker.broker_id), paths.DEFAULT_ENTITY)
        return {entity: self._read_config("brokers", entity) for entity in entities}

    def _watch_settings(self) -> None:
        """Notices that are there when a broker starts tell of what it has not read yet."""
        names = self.store.children(paths.CONFIG_CHANGES, self._settings_changed)
        self._last_change = max(names, default=self._last_change)

    def _read_settings_again(self) -> None:
        """Nobody told us of what changed while there was no session. A thread of the tree."""
        for topic, known in list(self._topic_settings.items()):
            settings = self._read_config("topics", topic)
            if settings != known:
                self._take_up_topic(topic, settings)
        self._take_up_broker()

    def _settings_changed(self, _: WatchEvent) -> None:
        self.on_tree(self._read_changes)

    def _read_changes(self) -> None:
        """Take up what the notices since the last time are about. A thread of the tree."""
        names = self.store.children(paths.CONFIG_CHANGES, self._settings_changed)
        with self._guard:
            fresh = [name for name in names if name > self._last_change]
            self._last_change = max(fresh, default=self._last_change)
        changed: set[tuple[str, str]] = set()
        for name in fresh:
            try:
                data = self.store.get(f"{paths.CONFIG_CHANGES}/{name}")[0]
                kind, _, entity = paths.ConfigChange.decode(data).entity_path.partition("/")
            except (NoNode, ValueError) as error:
                self._log.warn("notice of changed settings cannot be read", name=name, why=error)
                continue
            changed.add((kind, entity))
        for kind, entity in sorted(changed):
            if kind == "topics" and entity in self._topic_settings:
                self._take_up_topic(entity, self._read_config(kind, entity))
        own = str(self._broker.broker_id)
        if ("brokers", own) in changed or ("brokers", paths.DEFAULT_ENTITY) in changed:
            self._take_up_broker()
        if fresh:
            old = outdated_changes(self.store, names, self._broker.now_ms())
            if old:
                self.store.multi(old)

    def _take_up_topic(self, topic: str, settings: dict[str, str]) -> None:
        def take_up() -> None:
            was_unclean = self._admin.log_config(topic).unclean_leader_election_enable
            self._topic_settings[topic] = settings
            self._admin.topic_settings_changed(topic)
            if self._admin.log_config(topic).unclean_leader_election_enable and not was_unclean:
                self.controller.post(events.UncleanElectionEnabled(topic))

        self._broker.loop.post(take_up)

    def _take_up_broker(self) -> None:
        settings = self.broker_settings()
        self._broker.loop.post(lambda: self._admin.take_up_broker_settings(settings))

    def settings_changed(self, was_unclean: bool) -> None:
        """The broker's settings are others now."""
        config = self._broker.config
        self.replication.configure()
        self.controller.post(events.SettingsChanged(read_settings(config, self._broker.broker_id)))
        if config.bool("unclean.leader.election.enable") and not was_unclean:
            self.controller.post(events.UncleanElectionEnabled())

    # ------------------------------------------------------------------------------------------------- log directories

    def directory_failed(self) -> None:
        """Tell the controller, through the tree, that replicas of ours are gone. Any thread."""
        event = paths.LogDirEvent(self._broker.broker_id)
        self.on_tree(lambda: self._announce(event))

    def _announce(self, event: paths.LogDirEvent) -> None:
        self.store.create(paths.LOG_DIR_EVENT_PREFIX, event.encode(), sequential=True)


def _with_host(endpoint: EndPoint) -> EndPoint:
    """Other machines cannot be told "the address by which you came": it is this machine's name, as with Kafka."""
    if endpoint.host and endpoint.host != "0.0.0.0":
        return endpoint
    return endpoint._replace(host=socket.getfqdn())


def no_session(error: Exception) -> KafkaError:
    """What a client is told whose request needs the tree."""
    return KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, f"ZooKeeper: {error}")

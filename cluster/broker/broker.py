"""One broker: everything built, wired, started and stopped, in one written order.

Start:  lock the data directories → metadata tree → engine → sockets, which nobody reads yet → logs → registration,
        controller → partitions handed to the engine, coordinators loaded → threads → the ready line.
Stop:   sockets and reactor → control loop → logs closed clean, checkpoints, marker → session → locks.

What stays true: nothing is answered before everything that could be asked about is there; a fatal condition ends in
one line that says what, where, and what to do.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Hashable, Iterable

from cluster.broker.admin import Admin
from cluster.broker.apis import Apis, OverdueKey, ReplyHere, ReplyTo, Request
from cluster.broker.loop import Loop
from cluster.broker.metadata_cache import MetadataCache
from cluster.broker.replica_manager import ReplicaManager
from cluster.effects import Append, Ask, Effect, Publication, Reply
from cluster.model import EndPoint
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.served import CONSUMER_PROTOCOL, SERVED
from pylog._engine import (
    GRANT_ALL,
    PRINCIPAL_ANY,
    RESOURCE_ANY,
    UP_COMMITTED,
    UP_DAMAGE,
    UP_EPOCH,
    UP_FETCHER,
    UP_FOLLOW,
    UP_ISR,
    UP_OFFSETS,
    UP_REQUEST,
    UP_ROLLED,
    UP_ROOM,
    UP_STORAGE_ERROR,
    UP_SYNC_FAILED,
    UP_VERIFY,
    Engine,
    EngineConfig,
)
from pylog._native import Sys
from pylog.clock import SystemClock
from pylog.compaction import CleanerConfig
from pylog.data_dir import DirectoryInUse
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.files import FlushError
from pylog.log_manager import DuplicateLogError, LogManager, LogManagerConfig
from pylog.logger import Logger
from pylog.maintenance import Maintenance
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import signal

    from cluster.broker.cluster_admin import ClusterAdmin
    from cluster.broker.coordinators import Coordinators
    from cluster.broker.member import Member
    from cluster.broker.metrics.scrape import Metrics
    from cluster.config import Config, Listener
    from cluster.coordinator.runtime import Runtime
    from pylog._engine import Upcall
    from pylog.config import LogConfig
    from pylog.damage import Damages
    from pylog.future_log import MoveConfig
    from pylog.log import Log
    from pylog.scrub import Scrub
    from pylog.types import TopicPartition
else:  # the C half of signal: the other half makes enums of its numbers, and enum is a tenth of a start
    import _signal as signal

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
_DRAIN_MS: Final = 2000
#: How long a thread that computes (a page of metrics, a pass of the cleaner) lets the control thread wait for its turn.
_TURN_S: Final = 0.0005
#: What the control thread makes stays, mostly: to look through it after each 700 was a seventh of forming a group. That
#: many take 150 us, within which no record waits; 20,000 would take 600.
_COLLECTS_AFTER: Final = (5_000, 20, 20)
_HOSTS_KEPT: Final = 20_000
#: Older ones are advertised, for librdkafka's sake, and refused when they are used: as Kafka 4 does.
_OLDEST_PRODUCE: Final = 3
_SEND_MODES: Final = {"sendfile": 0, "read": 1, "map": 2}


class Endpoint(NamedTuple):
    """A broker as one client is to reach it."""

    node_id: int
    host: str
    port: int
    rack: str | None


class SteadyClock:
    """Milliseconds since the epoch that never jump: the wall clock at start and monotonic steps from there."""

    __slots__ = ("_origin",)

    def __init__(self) -> None:
        self._origin = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        return (self._origin + time.monotonic_ns()) // 1_000_000


class Broker:
    """Build it, `start` it, wait, `stop` it. Handlers reach everything else through its attributes. Control thread."""

    def __init__(self, config: Config) -> None:
        """Lock the data directories, open the tree. Raises DirectoryInUse, KafkaError, OSError."""
        self.config = config
        self._clock = SteadyClock()
        self.now_ms = self._clock.now_ms
        self.sys = Sys()
        self.sys.use_descriptors()
        self._listeners: dict[int, Listener] = {}
        self._ports: dict[int, int] = {}
        self.logs = self._log_manager()
        self.broker_id = -1
        self.member: Member | None = None
        self.served = SERVED
        self.admin: Admin | ClusterAdmin = Admin(self) if not self.clustered else self._cluster_admin()
        if "consumer" not in config.list("group.coordinator.rebalance.protocols"):
            self.served = {key: versions for key, versions in self.served.items() if key not in CONSUMER_PROTOCOL}
        self.broker_id = self.admin.open_tree(self.logs.live_directories())
        self._started = False
        self._hosts: dict[int, str] = {}  # by connection; no number is given twice
        self._turns_at_checkpoint = -1
        self.engine = Engine(self.sys, self._engine_config())
        self.engine.serve(int(ApiKey.PRODUCE), _OLDEST_PRODUCE, SERVED[ApiKey.PRODUCE][1])
        self.engine.serve(int(ApiKey.FETCH), *SERVED[ApiKey.FETCH])
        self.engine.publish_grant(PRINCIPAL_ANY, RESOURCE_ANY, b"", GRANT_ALL)  # `run` refuses an authorizer
        self.verify_transactions()
        self._group_commit = config.str("pylog.durability") == "group-commit"
        for directory in self.logs.live_directories():
            self.engine.keep_synced(directory, self._group_commit)
        self.loop = Loop(self.engine, self, self.now_ms)
        self.apis = Apis(self, self.engine)
        self.metadata = MetadataCache(self.admin.cluster_id, self.engine.topics_changed)
        self.replicas = ReplicaManager(
            self.broker_id, self.engine, self.logs, self.admin.log_config, self._is_known_partition
        )
        self.producer_ids = self.admin.producer_ids()
        self._coordinators: Coordinators | None = None
        self._damages: Damages | None = None
        self._metrics: Metrics | None = None
        self._damages_guard = threading.Lock()
        self.scrub: Scrub | None = None
        self._maintenance = Maintenance(self.logs.schedule, SystemClock())
        self._control = threading.Thread(target=self.loop.run, name="control", daemon=True)
        self._log = Logger(f"Broker {self.broker_id}")

    @property
    def clustered(self) -> bool:
        """Whether the metadata are ZooKeeper's, and other brokers there."""
        return bool(self.config.optional_str("zookeeper.connect"))

    def joined(self) -> Member:
        """Our place in the cluster; asked only where there is one."""
        assert self.member is not None
        return self.member

    def _cluster_admin(self) -> ClusterAdmin:
        from cluster.broker.cluster_admin import ClusterAdmin  # a single node does not pay for it
        from cluster.protocol.served import SERVED_IN_CLUSTER

        self.served = SERVED_IN_CLUSTER
        return ClusterAdmin(self)

    # ------------------------------------------------------------------------------------------------- life

    def start(self) -> None:
        """Serve. Returns when everything answers; clients that connect earlier wait. Raises KafkaError, OSError."""
        self._listen()
        self._listen_for_metrics()
        self.logs.load()
        if self._group_commit:
            self.logs.flush_all()
        self.keep_room()
        self.admin.load(self._endpoints_to_register())
        self.logs.resume_moves()
        self._schedule_checkpoints()
        if self.config.int("pylog.scrub.bytes.per.second") > 0:
            delay_ms = self.config.int("log.initial.task.delay.ms")
            self.logs.schedule.at(SystemClock().monotonic_ms() + delay_ms, self._start_scrub)
        self._maintenance.start()
        self.engine.start()
        self._control.start()
        self._started = True
        if self._metrics is not None:
            self._metrics.start()
        self.admin.wait_until_told()

    def stop(self) -> None:
        """Answer what is being answered, close everything in order. Once, from a thread that is not ours.

        A start that failed is undone, and nothing is called clean that was not opened whole.
        """
        if self._started:
            self.admin.leave()
        if self._metrics is not None:
            self._metrics.stop()
        self.engine.stop(_DRAIN_MS if self._started else 0)
        if self._started:
            self.loop.stop()
            self._control.join()
        self.admin.stop()
        if self._coordinators is not None:
            self._coordinators.stop()
        if self._started:
            self.logs.hurry()
            self._maintenance.stop()
            self.logs.stop_cleaning()
            self.replicas.checkpoint_high_watermarks()
        self.replicas.release_all()
        self.engine.close()
        self.logs.shutdown(clean=self._started)
        self.admin.close()
        self.sys.close()

    def ready_line(self) -> str:
        names = ", ".join(f"{each.name}://{each.host or '*'}:{self._ports[i]}" for i, each in self._listeners.items())
        what = f"{len(self.replicas.hosted())} partitions"
        if self.clustered:  # what it hosts the controller is about to tell
            what = f"one of {len(self.metadata.brokers)} brokers, controller {self.metadata.controller_id}"
        line = f"pylog {_version()} broker {self.broker_id} is ready on {names} ({what})"
        where = self.config.metrics_listener
        if self._metrics is not None and where is not None:
            line += f", metrics on http://{where._replace(host=where.host or '*', port=self._metrics.port)}/metrics"
        return line

    def _listen(self) -> None:
        for number, listener in enumerate(self.config.listeners):
            self._listeners[number] = listener
            try:
                self._ports[number] = self.engine.listen(_address(listener.host), listener.port, number)
            except OSError as error:
                raise OSError(error.errno, f"cannot listen on {listener}: {error.strerror}") from error

    def _listen_for_metrics(self) -> None:
        where = self.config.metrics_listener
        if where is None:
            return
        from cluster.broker.metrics.scrape import Metrics  # only who wants figures pays for them

        try:
            self._metrics = Metrics(self, _address(where.host) if where.host else "", where.port)
        except OSError as error:
            why = f"pylog.metrics.listener: cannot listen on {where}: {error.strerror}"
            raise OSError(error.errno, why) from error

    def listener_names(self) -> dict[int, str]:
        """The names of our listeners by the number that requests carry."""
        return {number: listener.name for number, listener in self._listeners.items()}

    def _endpoints_to_register(self) -> list[EndPoint]:
        """Where clients find us, by listener; an empty host means: at the address by which they came."""
        advertised = {each.name: each for each in self.config.advertised_listeners}
        found = []
        for number, listener in self._listeners.items():
            told = advertised.get(listener.name)
            own = listener.host if self.clustered else ""
            host, port = (own, self._ports[number]) if told is None else (told.host, told.port)
            found.append(EndPoint(listener.name, host, port, listener.protocol))
        return found

    def _log_manager(self) -> LogManager:
        config = self.config
        return LogManager(
            LogManagerConfig(
                log_dirs=config.log_dirs,
                num_recovery_threads_per_data_dir=config.int("num.recovery.threads.per.data.dir"),
                log_retention_check_interval_ms=config.int("log.retention.check.interval.ms"),
                log_initial_task_delay_ms=config.int("log.initial.task.delay.ms"),
                log_flush_scheduler_interval_ms=config.int("log.flush.scheduler.interval.ms"),
                log_flush_offset_checkpoint_interval_ms=config.int("log.flush.offset.checkpoint.interval.ms"),
                log_flush_start_offset_checkpoint_interval_ms=config.int(
                    "log.flush.start.offset.checkpoint.interval.ms"
                ),
                producer_id_expiration_ms=config.int("producer.id.expiration.ms"),
                producer_id_expiration_check_interval_ms=config.int("producer.id.expiration.check.interval.ms"),
            ),
            sys=self.sys,
            clock=SystemClock(),
            config_of=self._config_of,
            on_directory_failure=self._directory_failed,
            cleaner_config=self._cleaner_config if config.bool("log.cleaner.enable") else None,
            move_config=self._move_config,
            on_caught_up=lambda partition: self.loop.post(lambda: self.replicas.finish_move(partition)),
        )

    def _cleaner_config(self) -> CleanerConfig:
        """The settings of compaction as they are now. Any thread."""
        config = self.config
        return CleanerConfig(
            threads=config.int("log.cleaner.threads"),
            dedupe_buffer_size=config.int("log.cleaner.dedupe.buffer.size"),
            io_buffer_load_factor=config.float("log.cleaner.io.buffer.load.factor"),
            io_buffer_size=config.int("log.cleaner.io.buffer.size"),
            io_max_bytes_per_second=config.float("log.cleaner.io.max.bytes.per.second"),
            backoff_ms=config.int("log.cleaner.backoff.ms"),
        )

    def _move_config(self) -> MoveConfig:
        """The settings of moves between data directories as they are now. Any thread."""
        from pylog.disk_space import Reserve
        from pylog.future_log import MoveConfig

        config = self.config
        threads = config.optional_int("num.replica.alter.log.dirs.threads")
        return MoveConfig(
            threads=len(config.log_dirs) if threads is None else threads,
            bytes_per_second=config.optional_int("replica.alter.log.dirs.io.max.bytes.per.second"),
            reserve=Reserve(config.int("pylog.disk.reserve.bytes"), config.float("pylog.disk.reserve.percent")),
        )

    def keep_room(self) -> None:
        """Have the reserve kept free on the disk of every data directory."""
        size_bytes = self.config.int("pylog.disk.reserve.bytes")
        percent = self.config.float("pylog.disk.reserve.percent")
        for directory in self.logs.live_directories():
            self.engine.keep_room(directory, size_bytes, percent)

    def verify_transactions(self) -> None:
        """Have the data plane ask about transactions, or not, as the settings say."""
        self.engine.verify_transactions(self.config.bool("transaction.partition.verification.enable"))

    def _is_known_partition(self, partition: TopicPartition) -> bool:
        return self.metadata.partition(partition.topic, partition.partition) is not None

    def _config_of(self, topic: str) -> LogConfig:
        return self.admin.log_config(topic)

    def _engine_config(self) -> EngineConfig:
        config = self.config
        return EngineConfig(
            broker_id=self.broker_id,
            max_request_bytes=config.int("socket.request.max.bytes"),
            send_buffer_bytes=config.int("socket.send.buffer.bytes"),
            receive_buffer_bytes=config.int("socket.receive.buffer.bytes"),
            connections_max_idle_ms=config.int("connections.max.idle.ms"),
            max_connections=config.int("max.connections"),
            max_connections_per_ip=config.int("max.connections.per.ip"),
            fetch_max_bytes=config.int("fetch.max.bytes"),
            fetch_session_slots=config.int("max.incremental.fetch.session.cache.slots"),
            disk_threads=config.int("pylog.disk.threads"),
            send_mode=_SEND_MODES[config.str("pylog.send.mode")],
            answer_cache_bytes=config.int("pylog.answer.cache.bytes"),
            replica_lag_time_max_ms=config.int("replica.lag.time.max.ms"),
            max_upcall_bytes=config.int("pylog.upcall.max.bytes"),
        )

    def _schedule_checkpoints(self) -> None:
        period = self.config.int("replica.high.watermark.checkpoint.interval.ms")
        first = SystemClock().monotonic_ms() + period
        self.logs.schedule.every(period, first, self._checkpoint_if_changed)

    def _checkpoint_if_changed(self) -> None:
        """High watermarks move in turns of the reactor: when it slept since the last time there is nothing to ask."""
        turns = self.engine.stats().turns
        if turns != self._turns_at_checkpoint:
            self.replicas.checkpoint_high_watermarks()
            self._turns_at_checkpoint = turns

    # ------------------------------------------------------------------------------------------------- addresses

    def endpoints(self, request: Request) -> list[Endpoint]:
        """Every live broker as the client behind this request reaches it: on the listener that it came by."""
        listener = self._listeners[request.listener_id]
        found = []
        for broker in self.metadata.brokers.values():
            address = broker.endpoints.get(listener.name)
            if address is None:
                continue
            host, port = address
            if not host:
                host = self.engine.peer(request.reply_to.conn).local_address
            found.append(Endpoint(broker.broker_id, host, port, broker.rack))
        return found

    def client_host(self, conn: int) -> str:
        """The address that a client comes from; empty when it is gone. Any thread."""
        host = self._hosts.get(conn)
        if host is None:
            try:
                host = self.engine.peer(conn).peer_address
            except KafkaError:
                return ""
            if len(self._hosts) >= _HOSTS_KEPT:
                self._hosts.clear()
            self._hosts[conn] = host
        return host

    def is_internal(self, topic: str) -> bool:
        from cluster.broker.metadata_cache import INTERNAL_TOPICS

        return topic in INTERNAL_TOPICS

    # ------------------------------------------------------------------------------------------------- coordinators

    @property
    def groups(self) -> Runtime:
        """The coordinators, built when first needed: a broker without groups does not pay for them."""
        return self.coordinators.runtime

    @property
    def coordinators(self) -> Coordinators:
        if self._coordinators is None:
            from cluster.broker.coordinators import Coordinators

            self._coordinators = Coordinators(self)
        return self._coordinators

    @property
    def coordinators_in_use(self) -> Coordinators | None:
        """None: nobody has needed them yet."""
        return self._coordinators

    @property
    def damages(self) -> Damages:
        """The damaged batches that were met: by fetches, and by the scrub."""
        with self._damages_guard:
            if self._damages is None:
                from pylog.damage import Damages

                self._damages = Damages()
            return self._damages

    def _start_scrub(self) -> None:
        """Maintenance thread."""
        from pylog.scrub import Scrub, ScrubConfig

        config = self.config
        rate, interval = config.int("pylog.scrub.bytes.per.second"), config.int("pylog.scrub.interval.ms")
        self.scrub = Scrub(
            ScrubConfig(rate, interval),
            logs=self.logs.logs,
            schedule=self.logs.schedule,
            clock=SystemClock(),
            damages=self.damages,
            moved_bytes=self._moved_bytes,
        )
        self.scrub.begin(0)

    def _moved_bytes(self) -> int:
        stats = self.engine.stats()
        return stats.bytes_in + stats.bytes_out

    def topics_deleted(self, names: list[str]) -> None:
        """What was committed for these topics is forgotten."""
        if self._coordinators is not None:
            self._coordinators.topics_deleted(names)

    # ---------------------------------------------------------------------------------------------- the loop's driver

    def publish(self, publication: Publication) -> None:
        self.coordinators.publish(publication)

    def upcall(self, upcall: Upcall) -> None:
        kind = upcall.kind
        if kind == UP_REQUEST:
            self.apis.handle(upcall)
        elif kind == UP_OFFSETS:
            self.coordinators.taken(upcall)
        elif kind == UP_VERIFY:
            self.apis.ending(upcall.conn, lambda: self.coordinators.transactions.verifier.produce(upcall))
        elif kind == UP_COMMITTED:
            self.coordinators.committed(upcall)
        elif kind in (UP_ISR, UP_FOLLOW, UP_FETCHER):
            self.joined().replication.upcall(upcall)
        elif kind == UP_ROOM:
            self._tell_room(os.fsdecode(upcall.body), upcall.a != 0)
        elif kind == UP_SYNC_FAILED:
            self._sync_failed(os.fsdecode(upcall.body), upcall.error)
        elif kind == UP_DAMAGE:
            self._damage_found(upcall)
        else:
            self._fact(upcall)

    def _sync_failed(self, directory: str, error: int) -> None:
        """Nothing in this data directory is acknowledged any more. Its logs are let go of on the maintenance thread."""
        failure = FlushError(error, os.strerror(error), directory)
        self.logs.schedule.at(SystemClock().monotonic_ms(), lambda: self.logs.fail_directory(directory, failure))

    def _damage_found(self, upcall: Upcall) -> None:
        """A fetch has met a batch whose CRC fails, or that cannot be read; it was answered so."""
        from pylog.damage import Damage

        path, error = os.fsdecode(upcall.body), upcall.error
        self.damages.note(Damage(path, upcall.token, upcall.b, upcall.offset, upcall.a, error))

    def _fact(self, upcall: Upcall) -> None:
        """Something that C tells about a partition."""
        hosted = self.replicas.by_number(upcall.partition)
        if hosted is None:
            return
        if upcall.kind == UP_ROLLED:
            hosted.source.note_rolled()
        elif upcall.kind == UP_EPOCH:
            hosted.source.note_epoch_started()
        elif upcall.kind == UP_STORAGE_ERROR:
            why = os.strerror(upcall.error)
            self._log.error("write failed, produce is refused", partition=hosted.source.partition, why=why)
            if len(self.logs.live_directories()) == 1:
                return  # to take the last one offline is to end, and what it holds can still be read
            error = OSError(upcall.error, why, hosted.source.path)
            self.logs.schedule.at(
                SystemClock().monotonic_ms(), lambda: self.logs.disk_error(hosted.source.directory, error)
            )

    def _tell_room(self, directory: str, enough: bool) -> None:
        if enough:
            self._log.info("disk has room again, produce is accepted", directory=directory)
        else:
            keys = "pylog.disk.reserve.bytes, pylog.disk.reserve.percent"
            self._log.error("disk is nearly full, produce is refused", directory=directory, keeps=keys)

    def reply(self, reply: Reply) -> None:
        to = reply.reply_to
        if isinstance(to, ReplyHere):
            to.then(reply.message)
            return
        assert isinstance(to, ReplyTo)
        self.apis.reply_soon(to, reply.message)

    def append(self, turn: list[list[Append]]) -> None:
        self.coordinators.append(turn)

    def ask(self, ask: Ask) -> None:
        self.coordinators.ask(ask)

    def cancel_ask(self, key: Hashable) -> None:
        self.coordinators.cancel_ask(key)

    def timer(self, key: Hashable) -> Iterable[Effect]:
        if isinstance(key, OverdueKey):
            self.apis.overdue(key)
            return ()
        if self.member is not None and self.member.timer(key):
            return ()
        return self.coordinators.timer(key)

    def _directory_failed(self, directory: str, logs: list[Log]) -> None:
        """A data directory went offline. Its partitions answer KAFKA_STORAGE_ERROR; without any directory we end."""
        self.loop.post(lambda: self._lost(logs))
        if self.member is not None:
            self.member.directory_failed()
        if not self.logs.live_directories():
            self._log.error("shutting down: no data directory is left", last=directory)
            os._exit(EXIT_FAILED)

    def _lost(self, logs: list[Log]) -> None:
        """Let everybody know that these are gone, until the next start at least."""
        self.replicas.lost(logs)
        if self.member is not None:
            self.member.lost([log.partition for log in logs])
            return  # the controller tells the rest
        for name in {log.partition.topic for log in logs}:
            topic = self.metadata.topics.get(name)
            if topic is None:
                continue
            shown = self.replicas.as_shown(topic)
            self.metadata.put(shown)
            if topic.internal:
                for partition in shown.partitions:
                    if partition.leader < 0:
                        self.coordinators.unload(name, partition.partition)
        self.engine.invalidate()


def _address(host: str) -> str:
    """The address to bind for a host as `listeners` names it; every interface for none. Raises OSError."""
    if host == "localhost":
        return "127.0.0.1"
    if ":" in host or not host.strip("0123456789."):
        return host
    import socket  # only a name that has to be looked up is worth its import

    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


def _version() -> str:
    from pylog import __version__

    return __version__


def run(config: Config) -> int:
    """Run a broker until SIGTERM or SIGINT; the exit code. The main thread does nothing but wait for the signal."""

    if config.str("authorizer.class.name"):
        sys.stderr.write(
            "pylog server: authorizer.class.name: this version knows no ACLs and would allow everything; leave the key "
            "out (--override authorizer.class.name=) to run without an authorizer\n"
        )
        return EXIT_USAGE
    for key in ("zookeeper.ssl.client.enable", "zookeeper.set.acl"):
        if config.bool(key):
            sys.stderr.write(
                f"pylog server: {key}: this version talks to ZooKeeper without TLS and makes nodes that everybody may "
                f"change; leave the key out (--override {key}=false) where that is safe\n"
            )
            return EXIT_USAGE
    for listener in config.listeners:
        if listener.protocol != "PLAINTEXT":
            sys.stderr.write(
                f"pylog server: listeners: {listener} wants {listener.protocol}, and this version speaks PLAINTEXT "
                "only; leave it out, or put a proxy that ends TLS before the broker\n"
            )
            return EXIT_USAGE
    sys.setswitchinterval(_TURN_S)
    wanted = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)  # before any thread is there, so that every one inherits it
    try:
        broker = Broker(config)
    except (DirectoryInUse, KafkaError, OSError) as error:
        return _fatal(error)
    try:
        broker.start()
    except (DuplicateLogError, KafkaError, OSError) as error:
        broker.stop()
        return _fatal(error)
    sys.stdout.write(broker.ready_line() + "\n")
    sys.stdout.flush()
    gc.freeze()  # all that is there now stays: a collection need not look at it
    gc.enable()
    gc.set_threshold(*_COLLECTS_AFTER)
    signal.sigwait(wanted)
    broker.stop()
    return 0


def _fatal(error: Exception) -> int:
    text = error.message if isinstance(error, KafkaError) else str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    sys.stderr.write(f"pylog server: {text}\n")
    return EXIT_FAILED

"""Leading and following, wired: ISRs to the controller or the tree, fetchers to the data plane, throttles to both.

What stays true: the rules are in `cluster/replication`, their drivers in the files beside this one; here they get the
data plane, the clock and the settings of one broker. Settings that may change while it runs `configure` takes up.

Control thread.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Sequence

from cluster.broker.isr_keeper import TIMER as ISR_TIMER
from cluster.broker.isr_keeper import IsrKeeper, OnAnswer
from cluster.broker.isr_writer import TIMER as ISR_WRITER_TIMER
from cluster.broker.isr_writer import IsrWriter
from cluster.broker.leader_offsets import LeaderOffsets
from cluster.broker.replication_throttle import ReplicationThrottle
from cluster.broker.replicator import FetcherAddress, Replicator
from cluster.controller.settings import parse_protocol
from cluster.protocol import messages as m
from cluster.replication.alter_partition import in_version, newest_version
from cluster.replication.truncation import EpochEnd
from pylog._engine import UP_FETCHER, UP_ISR, FetcherConfig
from pylog.errors import error_name
from pylog.typed import TYPE_CHECKING, Final
from pylog.types import TopicPartition

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.member import Member
    from pylog._engine import Upcall

_FETCH_VERSIONS: Final = (
    ((3, 9, 0), 17),
    ((3, 7, 4), 16),
    ((3, 5, 1), 15),
    ((3, 5, 0), 14),
    ((3, 1, 0), 13),
    ((2, 7, 1), 12),
)
"""By which inter.broker.protocol.version followers fetch in which version. Before 12 leaders do not tell where logs
part, and the data plane does not ask so: 12 then, which brokers of every version that is supported understand."""
_CONNECTED: Final = 1
_SELECT_BY_RACK: Final = "RackAwareReplicaSelector"
#: The first inter.broker.protocol.version whose leaders have the controller write their ISRs (KIP-497).
_ALTER_PARTITION_SINCE: Final = (2, 7, 2)


class Replication:
    def __init__(self, broker: Broker, member: Member) -> None:
        config = broker.config
        self._broker = broker
        self._member = member
        self._protocol = parse_protocol(config.str("inter.broker.protocol.version"))
        self.keeper = IsrKeeper(
            broker.broker_id,
            config.int("replica.lag.time.max.ms"),
            send=self._alter_partition,
            publish=broker.replicas.publish_isrs,
            replicas=broker.replicas.followers,
            may_join=lambda broker_id: broker_id in broker.metadata.brokers,
            broker_epoch=lambda: int(member.broker_epoch),
            now_ms=broker.now_ms,
            timers=broker.loop.timers,
            post=broker.loop.post,
        )
        self.replicator = Replicator(
            broker.broker_id,
            broker.engine,
            fetchers=config.int("num.replica.fetchers"),
            backoff_ms=config.int("replica.fetch.backoff.ms"),
            addresses=member.address_of,
            logs=broker.replicas.followed_log,
            open_fetcher=lambda address: broker.engine.open_fetcher(self._fetcher(address)),
            configure_fetcher=lambda number, to: broker.engine.configure_fetcher(
                number, to.host, to.port, int(member.broker_epoch)
            ),
            log_failed=self._log_failed,
            leaders=lambda: LeaderOffsets(broker.broker_id, config.int("replica.socket.timeout.ms")),
            now_ms=broker.now_ms,
            timers=broker.loop.timers,
            post=broker.loop.post,
        )
        self._writer = IsrWriter(
            broker.broker_id,
            store=lambda: member.store,
            controller_epoch=lambda: member.leadership.controller_epoch,
            on_tree=member.on_tree,
            now_ms=broker.now_ms,
            timers=broker.loop.timers,
            post=broker.loop.post,
        )
        self._throttle = ReplicationThrottle(broker.broker_id, broker.engine)
        self.configure()
        if (config.optional_str("replica.selector.class") or "").endswith(_SELECT_BY_RACK):
            broker.engine.select_by_rack(True)

    # ------------------------------------------------------------------------------------------------- settings

    def configure(self) -> None:
        """The broker's settings are others now."""
        config = self._broker.config
        self.replicator.resize(config.int("num.replica.fetchers"))
        self._throttle.limit(
            config.optional_int("leader.replication.throttled.rate"),
            config.optional_int("follower.replication.throttled.rate"),
        )

    def configure_partitions(self, partitions: Iterable[TopicPartition]) -> None:
        """Their topics have other settings, or they were not hosted before."""
        by_topic: dict[str, list[tuple[int, int]]] = {}
        for topic, index in partitions:
            hosted = self._broker.replicas.find(topic, index)
            if hosted is not None:
                by_topic.setdefault(topic, []).append((index, hosted.number))
        for topic, found in by_topic.items():
            self._throttle.configure(self._broker.admin.log_config(topic), found)

    def _fetcher(self, address: FetcherAddress) -> FetcherConfig:
        config = self._broker.config
        return FetcherConfig(
            leader_id=address.leader,
            host=address.host,
            port=address.port,
            client_id=address.client_id,
            replica_id=self._broker.broker_id,
            broker_epoch=int(self._member.broker_epoch),
            max_wait_ms=config.int("replica.fetch.wait.max.ms"),
            min_bytes=config.int("replica.fetch.min.bytes"),
            max_bytes=config.int("replica.fetch.response.max.bytes"),
            partition_max_bytes=config.int("replica.fetch.max.bytes"),
            backoff_ms=config.int("replica.fetch.backoff.ms"),
            receive_buffer_bytes=config.int("replica.socket.receive.buffer.bytes"),
            connect_timeout_ms=config.int("socket.connection.setup.timeout.ms"),
            request_timeout_ms=config.int("replica.socket.timeout.ms"),
            fetch_version=next((version for since, version in _FETCH_VERSIONS if self._protocol >= since), 12),
        )

    # ------------------------------------------------------------------------------------------------- ISRs

    def _alter_partition(self, request: m.AlterPartitionRequest, on_answer: OnAnswer) -> None:
        """Ask the controller, in the newest version that says what is to be said, for brokers in ZooKeeper mode know
        all of them; or write it down ourselves, as brokers did before."""
        if self._protocol < _ALTER_PARTITION_SINCE:
            self._writer.alter(request, on_answer)
            return
        version = newest_version(request)
        self._member.client.ask(in_version(request, version), m.AlterPartitionResponse, on_answer, (version, version))

    # ------------------------------------------------------------------------------------------------- the data plane

    def upcall(self, upcall: Upcall) -> None:
        """What the data plane tells about leading and following."""
        if upcall.kind == UP_FETCHER:
            connected = upcall.a == _CONNECTED
            reason = "" if connected else os.strerror(upcall.error) if upcall.a == 0 else error_name(upcall.error)
            self.replicator.told_fetcher(upcall.token, connected, reason)
            return
        hosted = self._broker.replicas.by_number(upcall.partition)
        if hosted is None:
            return
        if upcall.kind == UP_ISR:
            self.keeper.upcall(hosted.source.partition, upcall.a, upcall.b != 0)
            return
        paused = upcall.error == 0 or upcall.a == 1
        diverging = EpochEnd(upcall.a, upcall.b)
        self.replicator.told_partition(upcall.partition, upcall.token, upcall.slot, upcall.error, paused, diverging)

    def timer(self, key: Hashable) -> bool:
        """A timer is due. False: it is not ours."""
        if key == ISR_TIMER:
            self.keeper.timer()
        elif key == ISR_WRITER_TIMER:
            self._writer.timer()
        else:
            return self.replicator.timer(key)
        return True

    def brokers_changed(self) -> None:
        """Brokers came, went or moved."""
        self.replicator.brokers_changed()
        self.keeper.brokers_changed()

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Their data directory has failed."""
        self.replicator.stop(partitions)
        for name in partitions:
            self.keeper.cease(name)

    def forget(self, numbers: Iterable[int]) -> None:
        """These, as the engine calls them, are not hosted any more."""
        self._throttle.forget(numbers)

    def _log_failed(self, partition: TopicPartition, error: Exception) -> None:
        hosted = self._broker.replicas.find(*partition)
        if hosted is not None and isinstance(error, OSError):
            self._broker.logs.disk_error(hosted.source.directory, error)

    def close(self) -> None:
        self.replicator.close()

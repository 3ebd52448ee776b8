"""Several brokers on one ZooKeeper: ours, Apache Kafka 3.9.1's, or both kinds in one cluster.

    with cluster(tmp_path, zookeeper.fresh(), "pylog", "kafka39", "pylog") as brokers:
        brokers.bootstrap; brokers[2].kill(); brokers.controller_id()

What stays true: ids are 1, 2, …; a broker that is killed leaves its data and comes back with `start`; whatever happens,
no process is left when the block ends. Sessions are short, so that a killed broker is missed soon.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.support import wire
from tests.support.brokers import START_TIMEOUT_S, Broker, Kafka39Broker, PylogBroker
from tests.support.network import Network
from tests.support.process import ProcessError, ServerProcess

#: What every cluster of tests has, unless a test says otherwise.
SETTINGS = {
    "zookeeper.session.timeout.ms": "2000",
    "zookeeper.connection.timeout.ms": "18000",
    "default.replication.factor": "3",
    "offsets.topic.replication.factor": "3",
    "min.insync.replicas": "2",
    "replica.lag.time.max.ms": "3000",
    "replica.fetch.backoff.ms": "100",
    "controlled.shutdown.retry.backoff.ms": "500",
    "auto.create.topics.enable": "false",
    "auto.leader.rebalance.enable": "false",
}
_LOOK_AGAIN_S = 0.05
_STARTS = 3


class ClusterKafka(Kafka39Broker):
    """A Kafka broker on a ZooKeeper that is not its own."""

    def launch(self) -> ServerProcess:
        return Broker.launch(self)

    def wait_ready(self) -> None:
        """A JVM that gets no processor for the length of its session while it starts ends itself: as supervisors do,
        it is started again."""
        for _ in range(_STARTS - 1):
            try:
                return Broker.wait_ready(self)
            except ProcessError as error:
                if self.running() or "SessionExpiredException" not in str(error):
                    raise
            self.launch()
        return Broker.wait_ready(self)


class Cluster:
    """Brokers by id."""

    def __init__(
        self,
        directory: Path,
        connect: str,
        kinds: tuple[str, ...],
        settings: Mapping[str, str],
        network: Network | None = None,
    ) -> None:
        self.connect = connect
        self._network = network
        self.brokers: dict[int, Broker] = {}
        self._directory = directory
        self._settings = {**SETTINGS, **settings, "zookeeper.connect": connect}
        for broker_id, kind in enumerate(kinds, 1):
            self.brokers[broker_id] = self.made(broker_id, kind)

    def made(self, broker_id: int, kind: str) -> Broker:
        """A broker with this id, not started; its data are those of whoever had the id before."""
        settings = {**self._settings, "broker.id": str(broker_id)}
        directory = self._directory / f"broker-{broker_id}"
        port = self.brokers[broker_id].port if broker_id in self.brokers else None
        made: Broker
        if kind == "kafka39":
            made = ClusterKafka(directory, settings, port=port, heap="256M")
        else:
            made = PylogBroker(directory, settings, port=port)
        if self._network is not None:
            made.host = self._network.address(str(broker_id))
            made.prefix = self._network.prefix(str(broker_id))
        return made

    def __getitem__(self, broker_id: int) -> Broker:
        return self.brokers[broker_id]

    @property
    def bootstrap(self) -> str:
        return ",".join(each.bootstrap for each in self.brokers.values())

    def start(self, first: int | None = None) -> None:
        """All at once, but for the one that is to be the controller."""
        if first is not None:
            self.brokers[first].start()
            self.controller_id()
        others = [each for broker_id, each in self.brokers.items() if broker_id != first]
        for each in others:
            each.launch()
        for each in others:
            each.wait_ready()
        self.wait(lambda seen: len(seen.brokers) == len(self.brokers))

    def close(self) -> None:
        for each in self.brokers.values():
            each.close()

    def replace(self, broker_id: int, kind: str) -> Broker:
        """Stop a broker and start one of that kind in its place, on its data."""
        self.brokers[broker_id].stop()
        fresh = self.brokers[broker_id] = self.made(broker_id, kind)
        return fresh.start()

    # ------------------------------------------------------------------------------------------------- asking

    def anybody(self) -> Broker:
        """A broker that runs."""
        return next(each for each in self.brokers.values() if each.running())

    def wait(
        self,
        condition: Callable[[wire.Cluster], bool],
        topics: list[str] | None = None,
        *,
        asked: Broker | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> wire.Cluster:
        """Ask a broker for metadata until the condition holds of them."""
        deadline = time.monotonic() + timeout_s
        seen: wire.Cluster | None = None
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                broker = asked or self.anybody()
                seen = wire.metadata(broker.port, topics or [], broker.host)
                if condition(seen):
                    return seen
            time.sleep(_LOOK_AGAIN_S)  # sleep: brokers cannot tell when others hear of something
        raise ProcessError(f"after {timeout_s} s the cluster is still {seen}")

    def controller_id(self) -> int:
        """Who the controller is, once there is one that lives."""
        return self.wait(lambda seen: self._lives(seen.controller)).controller

    def wait_in_sync(self, topic: str) -> None:
        """Until every broker is in sync for every partition, in the eyes of all of them. A broker that has just started
        may know of nothing yet."""
        ids = sorted(self.brokers)

        def all_are(seen: wire.Cluster) -> bool:
            isrs = seen.isrs.get(topic, {})
            return bool(isrs) and all(sorted(isr) == ids for isr in isrs.values())

        for each in self.brokers.values():
            self.wait(all_are, [topic], asked=each)

    def _lives(self, broker_id: int) -> bool:
        return broker_id in self.brokers and self.brokers[broker_id].running()

    def leader(self, topic: str, partition: int = 0) -> int:
        """Who leads, once somebody does who lives."""
        seen = self.wait(lambda seen: self._lives(_leader(seen, topic, partition)), [topic])
        return _leader(seen, topic, partition)

    def coordinator(self, name: str, kind: int) -> int:
        """Who coordinates a group or a transactional id, once somebody does who lives."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                broker = self.anybody()
                found = wire.coordinator(broker.port, name, kind, broker.host)
                if self._lives(found):
                    return found
            time.sleep(_LOOK_AGAIN_S)  # sleep: brokers cannot tell when others hear of something
        raise ProcessError(f"nobody coordinates {name}")


def _leader(seen: wire.Cluster, topic: str, partition: int) -> int:
    error, leaders = seen.topics.get(topic, (0, {}))
    return -1 if error else leaders.get(partition, -1)


@contextlib.contextmanager
def cluster(
    directory: Path,
    connect: str,
    *kinds: str,
    first: int | None = None,
    network: Network | None = None,
    **settings: str,
) -> Iterator[Cluster]:
    """Brokers of these kinds, started; `settings` with `_` for `.` in their names. first: the controller. network: each
    broker is the machine there that has its id for a name."""
    overrides = {name.replace("_", "."): value for name, value in settings.items()}
    made = Cluster(directory, connect, kinds, overrides, network)
    try:
        made.start(first)
        yield made
    finally:
        made.close()

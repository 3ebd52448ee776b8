"""Faults to a cluster of real processes under load, and what has to hold of every record.

    with Chaos(tmp_path, zookeeper, network) as chaos:
        chaos.strike("pause", "controller")
        chaos.check()

What stays true: two idempotent acks=all producers and a consumer group run from the first fault to `check`; after each
fault the cluster must come to be whole again, and go on acknowledging, before the next one; no broker may end by itself
or say a traceback. `python -m tests.clustered.chaos --minutes 10 --seed 7` strikes at random.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

from tests.clustered.test_replication import create
from tests.support import network as networks
from tests.support.cluster import Cluster, cluster
from tests.support.load import AiokafkaLoad, ConfluentLoad, check_partition
from tests.support.network import Network
from tests.support.process import ProcessError
from tests.support.readers import Readers
from tests.support.zookeeper import ZooKeeper

TOPIC = "orders"
GROUP = "readers"
OFFSETS_TOPIC = "__consumer_offsets"
ZOOKEEPER = "zookeeper"
BROKERS = (1, 2, 3)
SESSION_TIMEOUT_MS = 2000
_HELD_S = 2 * SESSION_TIMEOUT_MS / 1000
"""How long a fault lasts: twice what a session does."""
_PAUSE_S = 0.01
_MORE = 200
_RECOVER_S = 60.0
_TWO_AT_ONCE = 0.3

TARGETS = ("leader", "controller", "coordinator")
SIGNALS = ("kill", "pause")
#: From whom, and what is lost: all, what the target sends, or what it is sent.
CUTS = tuple(f"{other}-{what}" for other in ("zookeeper", "peers", "both") for what in ("cut", "mute", "deaf"))


class Ensemble(Protocol):
    def fresh(self) -> str: ...


class Chaos:
    """network: has `zookeeper` and the brokers for machines; without one only signals are to be had."""

    def __init__(
        self,
        directory: Path,
        ensemble: Ensemble,
        network: Network | None,
        *,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
    ) -> None:
        self._session_timeout_ms = session_timeout_ms
        self._network = network
        self._ensemble = ensemble
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self.told: list[str] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.cluster: Cluster = stack.enter_context(
                cluster(
                    self._directory,
                    self._ensemble.fresh(),
                    *["pylog"] * len(BROKERS),
                    network=self._network,
                    zookeeper_session_timeout_ms=str(self._session_timeout_ms),
                    offsets_topic_num_partitions="1",
                )
            )
            bootstrap = self.cluster.bootstrap
            create(self.cluster, TOPIC, partitions=4)
            self.loads = [
                ConfluentLoad(bootstrap, TOPIC, [0, 1], pause_s=_PAUSE_S),
                AiokafkaLoad(bootstrap, TOPIC, [2, 3], pause_s=_PAUSE_S),
            ]
            self.readers = Readers(bootstrap, TOPIC, [0, 1, 2, 3], GROUP)
            for load in self.loads:
                load.start()
            self.readers.start()
            self._stack = stack.pop_all()
        self.go_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # ------------------------------------------------------------------------------------------------- faults

    def strike(self, fault: str, target: str) -> None:
        """One fault, until all is well again. The others go on without a broker that was killed."""
        victim = self._find(target)
        with self._told(f"{fault} {target} {victim}"), self._struck(fault, victim):
            if fault == "kill":
                self._progress()
            else:
                _wait(_HELD_S)
        self.recover()

    def strike_two(self, faults: tuple[str, str], chance: random.Random) -> None:
        """Two brokers at once, for as long as may be; there need not be a majority to go on."""
        victims = chance.sample(BROKERS, 2)
        words = " and ".join(f"{fault} {victim}" for fault, victim in zip(faults, victims, strict=True))
        with self._told(words), self._struck(faults[0], victims[0]):
            _wait(chance.uniform(0, _HELD_S))
            with self._struck(faults[1], victims[1]):
                _wait(chance.uniform(0, _HELD_S))
        self.recover()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Whatever comes of it, it was done."""
        self.told.append(what)
        began = time.monotonic()
        yield
        self.told[-1] += f": {time.monotonic() - began:.1f} s"

    def _find(self, target: str) -> int:
        if target == "controller":
            return self.cluster.controller_id()
        return self.cluster.leader(TOPIC if target == "leader" else OFFSETS_TOPIC)

    @contextlib.contextmanager
    def _struck(self, fault: str, victim: int) -> Iterator[None]:
        """A broker that is stopped wakes up as who it was: leader, controller, coordinator."""
        broker = self.cluster[victim]
        if fault == "kill":
            broker.kill()
            yield
            broker.start()
        elif fault == "pause":
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                yield
            finally:
                os.kill(broker.pid, signal.SIGCONT)
        else:
            assert self._network is not None
            self._cut(self._network, fault, victim)
            try:
                yield
            finally:
                self._network.heal()

    @staticmethod
    def _cut(network: Network, fault: str, victim: int) -> None:
        who, _, what = fault.partition("-")
        others = [] if who == "peers" else [ZOOKEEPER]
        if who != "zookeeper":
            others += [str(each) for each in BROKERS if each != victim]
        for other in others:
            if what != "deaf":
                network.cut(str(victim), other)
            if what != "mute":
                network.cut(other, str(victim))

    # ------------------------------------------------------------------------------------------------- what must hold

    def _progress(self) -> None:
        for load in self.loads:
            load.wait_acknowledged(_MORE, _RECOVER_S)

    def go_on(self) -> None:
        """Both producers and the readers of all partitions."""
        self._progress()
        for load in self.loads:
            assert not load.failed, load.failed[:5]
            self.readers.wait({partition: len(load.acknowledged[partition]) for partition in load.partitions})

    def recover(self) -> None:
        """Until all brokers are in sync, and whoever reads and writes goes on."""
        began = time.monotonic()
        for broker_id in BROKERS:
            broker = self.cluster[broker_id]
            assert broker.running(), f"broker {broker_id} has ended:\n" + "\n".join(broker.process.lines)
        for topic in (TOPIC, OFFSETS_TOPIC):
            self.cluster.wait_in_sync(topic)
        self.go_on()
        if self.told:
            self.told[-1] += f", well again after {time.monotonic() - began:.1f} s"

    def check(self) -> None:
        """End the load; every record is where it was acknowledged, once, and the readers have read them all."""
        for load in self.loads:
            load.finish()
            assert not load.failed, load.failed[:5]
        for load in self.loads:
            self.readers.wait(dict(load.sent))
            for partition in load.partitions:
                check_partition(self.cluster.bootstrap, TOPIC, partition, load)
        self.readers.finish()
        for broker_id in BROKERS:
            log = self.cluster[broker_id].log.read_text()
            assert "Traceback" not in log, f"broker {broker_id}: {log[log.index('Traceback') - 500 :][:3000]}"


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.clustered.chaos", description="Faults at random, under load.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    words = parser.parse_args()
    print(f"seed {words.seed}", flush=True)
    reason = networks.unavailable()
    if reason is not None:
        print(f"no cuts: {reason}", flush=True)
    chance = random.Random(words.seed)
    faults = SIGNALS if reason is not None else SIGNALS + CUTS
    deadline = time.monotonic() + words.minutes * 60
    directory = Path(tempfile.mkdtemp(prefix="pylog-chaos-"))
    try:
        with running(directory, reason is None) as chaos:
            while time.monotonic() < deadline:
                try:
                    if chance.random() < _TWO_AT_ONCE:
                        chaos.strike_two((chance.choice(faults), chance.choice(faults)), chance)
                    else:
                        chaos.strike(chance.choice(faults), chance.choice(TARGETS))
                finally:
                    print(chaos.told[-1], flush=True)
            chaos.check()
    except (AssertionError, ProcessError) as error:
        print(f"seed {words.seed}: {error}\nthe brokers' logs are in {directory}", flush=True)
        return 1
    shutil.rmtree(directory)
    print("every record is where it was acknowledged")
    return 0


@contextlib.contextmanager
def running(directory: Path, has_network: bool) -> Iterator[Chaos]:
    """A cluster to strike at, on a ZooKeeper of its own."""
    with contextlib.ExitStack() as stack:
        network = None
        if has_network:
            network = stack.enter_context(Network([ZOOKEEPER, *map(str, BROKERS)]))
            ensemble = ZooKeeper(directory, host=network.address(ZOOKEEPER), prefix=network.prefix(ZOOKEEPER))
        else:
            ensemble = ZooKeeper(directory)
        stack.callback(ensemble.stop)
        ensemble.start()
        yield stack.enter_context(Chaos(directory, ensemble, network))


if __name__ == "__main__":
    sys.exit(main())

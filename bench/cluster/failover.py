"""How long a cluster is without a leader: records to one whose leader is killed, partitions whose controller is.

When a dead broker's session ends is up to ZooKeeper and to when it was last heard from: some seconds that differ from
death to death. What is compared is the time after that end, as a third party sees it.
"""

import contextlib
import struct
import time
from queue import SimpleQueue

from kazoo.client import KazooClient

from bench.cluster.rows import SESSION_MS
from bench.cluster.side import ClusterSide
from bench.macro.side import Figures
from pylog.records import NewRecord, RecordBatchBuilder
from tests.support import wire
from tests.support.wire import Connection

_PRODUCE, _VERSION = 0, 8
_LOOK_AGAIN_S = 0.02
_PATIENCE_S = 120.0
_ANSWER_S = 2.0


class Death:
    """kill -9 of a broker at the moment `began`."""

    def __init__(self, side: ClusterSide, broker_id: int) -> None:
        self._ended: SimpleQueue[float] = SimpleQueue()
        self._client = KazooClient(hosts=side.cluster.connect)
        self._client.start()
        there = self._client.exists(f"/brokers/ids/{broker_id}", watch=self._gone)
        assert there is not None, "it was registered"
        side.cluster[broker_id].kill()
        self.began = time.monotonic()

    def _gone(self, _: object) -> None:
        self._ended.put(time.monotonic())

    def figures(self) -> tuple[float, Figures]:
        """Milliseconds since the end of the session, and since the death, at the moment of the call."""
        now = time.monotonic()
        ended = self._ended.get(timeout=_ANSWER_S)  # nobody is elected before
        self._client.stop()
        self._client.close()
        return max(now - ended, 0.0) * 1000, {"total_ms": (now - self.began) * 1000}


def leader_dies(side: ClusterSide) -> tuple[float, Figures]:
    """From the end of the session of a killed leader that is not the controller to the first record that its successor
    acknowledges with acks=all. The broker is started again afterwards."""
    controller = side.cluster.controller_id()
    others = {broker_id for broker_id in side.cluster.brokers if broker_id != controller}
    names: list[str] = []
    while True:  # leaders go round the brokers
        names += side.create(1, 1)
        leader = side.cluster.leader(names[-1])
        if leader in others:
            break
    produced(side.cluster[leader].port, names[-1])
    death = Death(side, leader)
    survivors = [broker.port for broker_id, broker in side.cluster.brokers.items() if broker_id != leader]
    while not any(produced(port, names[-1]) for port in survivors):
        if time.monotonic() - death.began > _PATIENCE_S:
            raise RuntimeError(f"{side.name}: no record is acknowledged after the leader's death")
        time.sleep(_LOOK_AGAIN_S)  # sleep: as a client backs off
    figures = death.figures()
    back(side, leader)
    return figures


def controller_dies(side: ClusterSide, topics: list[str], count: int) -> tuple[float, Figures]:
    """From the end of the killed controller's session to a living leader of every partition in the eyes of both
    survivors, and a new controller that they name. The broker is started again afterwards, and in sync."""
    victim = side.cluster.controller_id()
    death = Death(side, victim)

    def all_led(seen: wire.Cluster) -> bool:
        leaders = [leader for topic in topics for leader in seen.topics.get(topic, (0, {}))[1].values()]
        gone = (victim, -1)
        return len(leaders) == count and seen.controller not in gone and all(each not in gone for each in leaders)

    side.wait_everywhere(topics, all_led)
    figures = death.figures()
    back(side, victim)
    side.wait_in_sync(topics, count)
    return figures


def back(side: ClusterSide, broker_id: int) -> None:
    """Kafka's broker does not start while its old session lives."""
    time.sleep(SESSION_MS / 1000)  # sleep: a session is over when time has passed
    side.cluster[broker_id].start()
    side.wait_everywhere([], lambda seen: len(seen.brokers) == len(side.cluster.brokers))


def produced(port: int, topic: str) -> bool:
    """Whether a broker acknowledges one record for partition 0, for all of the ISR."""
    name = struct.pack(">h", len(topic)) + topic.encode()
    records = RecordBatchBuilder().build([NewRecord(int(time.time() * 1000), None, b"recorded")])
    body = struct.pack(">hhii", -1, -1, 1500, 1) + name + struct.pack(">iii", 1, 0, len(records)) + records
    with contextlib.suppress(OSError), Connection(port, timeout_s=_ANSWER_S) as connection:
        answer = connection.ask(_PRODUCE, _VERSION, body)
        (error,) = struct.unpack_from(">h", answer, 4 + len(name) + 4 + 4)
        return bool(error == 0)
    return False

"""A cluster of three brokers on which a story is played: requests to them, deaths and returns, looks at the tree.

A story is a list of steps, plain data:

    {"ask": STEP, "at": N, "once": …}    a request (tests.differential.session.ask) to broker N, and its answer
    {"do": "kill"|"stop"|"start"|"join", "broker": N}
    {"write": PATH, "data": TEXT}        a node, as old tools write it
    {"wait": PATH, "there": BOOL}        until the tree has a node, or has none
    {"tree": NAME}                       the whole tree

What stays true: a step has one outcome. Where it is known what is expected, a step that changes nothing is done until
its outcome is that, or time is up: brokers hear of changes in their own time. Where it is not (Apache Kafka is asked
what it does) the step is done until two outcomes in a row are the same, with time enough between them.

Besides the placeholders of tests.differential.session a body may have {"$": "broker_epoch", "of": N, "add": D}.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from tests.clustered.tree import Reader
from tests.differential.normal import Names
from tests.differential.player import Player
from tests.support.cluster import Cluster

Step: TypeAlias = dict[str, Any]
Story: TypeAlias = list[Step]
Tree: TypeAlias = Any

RACKS = {1: "east", 2: "east", 3: "west"}
SETTINGS = {
    "controlled.shutdown.retry.backoff.ms": "500",
    "leader.imbalance.check.interval.seconds": "300",
    "replica.lag.time.max.ms": "20000",
    "zookeeper.session.timeout.ms": "3000",
    "offsets.topic.num.partitions": "2",
    "replica.fetch.max.bytes": "1000",
}
_EXPECTED_S = 20.0
_SETTLED_S = 0.5
_TREE_SETTLED_S = 4.0
_LOOK_AGAIN_S = 0.1
_ADDRESS = re.compile(r"127\.0\.0\.1:(\d+)")
_READS = re.compile(r"Describe|List|Metadata|ApiVersions|FindCoordinator|OffsetForLeaderEpoch|Fetch")


def asked(step: Step, at: int, **more: Any) -> Step:
    return {"ask": step, "at": at, **more}


class Stage:
    """Brokers 1 to 3 of one kind; 1 is the controller at first."""

    def __init__(self, directory: Path, connect: str, kind: str, settings: dict[str, str]) -> None:
        self.cluster = Cluster(directory, connect, (kind,) * 3, {**SETTINGS, **settings})
        self._kind = kind
        self._directory = directory
        self._players: dict[int, Player] = {}
        self._names = Names(0, "")
        for broker_id, rack in RACKS.items():
            self.cluster[broker_id].settings["broker.rack"] = rack
        self.cluster.start(first=1)
        self._ports = {each.port: number for number, each in self.cluster.brokers.items()}
        self._reader = Reader(connect, self._ports, RACKS)

    def close(self) -> None:
        for each in self._players.values():
            each.close()
        self._reader.close()
        self.cluster.close()

    def play(self, step: Step, is_expected: Callable[[Tree], bool] | None = None) -> Tree:
        """is_expected: whether an outcome is what another cluster had; None: nobody was asked before."""
        if "do" in step:
            return self._act(step["do"], step["broker"])
        if "write" in step:
            return self._reader.create(step["write"], step["data"])
        if "wait" in step:
            return self._await(step["wait"], step["there"])
        if "ask" in step and (step.get("once") or not _READS.match(step["ask"]["api"])):
            if is_expected is None:
                time.sleep(_SETTLED_S)  # sleep: another process's own time, with no event that tells its end
            return self._outcome(step)
        return self._settled(step) if is_expected is None else self._until(step, is_expected)

    # ------------------------------------------------------------------------------------------------- brokers

    def _act(self, what: str, broker_id: int) -> Tree:
        player = self._players.pop(broker_id, None)
        if player is not None:
            player.close()
        if what == "join":
            return self._join(broker_id)
        broker = self.cluster[broker_id]
        if what == "kill":
            broker.kill()
        elif what == "stop":
            broker.stop()
        else:
            broker.start()
        return None

    def _join(self, number: int) -> Tree:
        """One more broker, whose id is left to the cluster."""
        broker = self.cluster.brokers[number] = self.cluster.made(number, self._kind)
        broker.settings["broker.id"] = "-1"
        self._ports[broker.port] = number
        broker.start()
        return None

    def _await(self, path: str, there: bool) -> Tree:
        deadline = time.monotonic() + _EXPECTED_S
        while self._reader.exists(path) is not there:
            if time.monotonic() > deadline:
                return f"{path} is {'not ' if there else ''}there"
            time.sleep(_LOOK_AGAIN_S)  # sleep: the wait is bounded, and a watch would be no shorter to write
        return None

    # ------------------------------------------------------------------------------------------------- looking

    def _until(self, step: Step, is_expected: Callable[[Tree], bool]) -> Tree:
        deadline = time.monotonic() + _EXPECTED_S
        outcome = self._outcome(step)
        while not is_expected(outcome) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_S)  # sleep: brokers cannot tell when others hear of something
            outcome = self._outcome(step)
        return outcome

    def _settled(self, step: Step) -> Tree:
        deadline = time.monotonic() + 4 * _EXPECTED_S
        before = None
        outcome = self._outcome(step)
        while outcome != before and time.monotonic() < deadline:
            time.sleep(_TREE_SETTLED_S if "tree" in step else _SETTLED_S)  # sleep: likewise
            before, outcome = outcome, self._outcome(step)
        return outcome

    def _outcome(self, step: Step) -> Tree:
        if "tree" in step:
            return self._reader.read()
        player = self._players.get(step["at"])
        if player is None:
            port = self.cluster[step["at"]].port
            player = self._players[step["at"]] = Player(port, names=self._names)
        request = {**step["ask"], "body": self._filled(step["ask"]["body"])}
        return self._named_alike(json.loads(json.dumps(player.outcome(request))))

    def _filled(self, value: Tree) -> Tree:
        if isinstance(value, list):
            return [self._filled(each) for each in value]
        if not isinstance(value, dict):
            return value
        if value.get("$") == "broker_epoch":
            return self._reader.broker_epoch(value["of"]) + value.get("add", 0)
        return {key: self._filled(each) for key, each in value.items()}

    def _named_alike(self, value: Tree) -> Tree:
        if isinstance(value, list):
            return [self._named_alike(each) for each in value]
        if isinstance(value, dict):
            return {key: self._port(each) if key == "port" else self._named_alike(each) for key, each in value.items()}
        if isinstance(value, str):
            return _ADDRESS.sub(lambda found: f"127.0.0.1:{self._port(int(found[1]))}", value)
        return value

    def _port(self, port: Tree) -> Tree:
        known = self._ports.get(port)
        return port if known is None else f"<port {known}>"

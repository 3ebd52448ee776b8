"""python -m tests.kill.topics_cut_short DIRECTORY: kill a broker at every step of making, growing and deleting a topic.

What is checked after each kill, by starting again on what is left: the broker starts; the topic is there whole, every
partition led and written to, or there is no trace of it and its name is free; what was answered holds; a topic that had
nothing to do with it has its record. Prints one line per operation; a failed check ends it with a traceback.

A step is a file made, renamed or removed by Python, and a transaction of the metadata tree, before and after. The tree
is written in transactions as small as they can be, so that there are many to be cut between.
"""

import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cluster.broker.broker import Broker
from cluster.config import load
from cluster.controller import topics
from cluster.controller.topics import NewTopic
from cluster.metadata import paths, writes
from cluster.metadata.local import LocalStore
from cluster.metadata.reader import read_cluster
from pylog.errors import KafkaError
from tests.broker.batches import batch

TIMEOUT_S = 60
STEPS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "open")
PARTITIONS, MORE_PARTITIONS = 5, 8

Operation = Literal["create", "grow", "delete"]


class Killer:
    """Counts steps from `arm` on and dies at one of them."""

    def __init__(self, data: Path, at: int) -> None:
        self._prefix = str(data) + os.sep
        self._left = at
        self._armed = False

    def arm(self) -> None:
        """An audit hook cannot be taken away again; the process ends with it."""
        self._armed = True
        sys.addaudithook(self._audit)
        really = LocalStore._write_rows

        def write_rows(store: LocalStore, rows: Any) -> None:
            self.step()
            really(store, rows)
            self.step()

        LocalStore._write_rows = write_rows  # type: ignore[method-assign, assignment]

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._armed and event in STEPS and isinstance(arguments[0], str) and arguments[0].startswith(self._prefix):
            self.step()


def start(data: Path) -> Broker:
    overrides = {
        "broker.id": "0",
        "listeners": "PLAINTEXT://127.0.0.1:0",
        "log.dirs": str(data),
        "log.segment.delete.delay.ms": "0",
        "log.retention.ms": "-1",
    }
    broker = Broker(load(None, overrides))
    broker.start()
    return broker


def on_control_thread(broker: Broker, task: Callable[[], Any]) -> Any:
    done = threading.Event()
    results: list[Any] = []

    def run() -> None:
        results.append(task())
        done.set()

    broker.loop.post(run)
    assert done.wait(TIMEOUT_S), "the control thread did not do it"
    return results[0]


def change(broker: Broker, operation: Operation) -> None:
    """Returns when a client would be answered."""
    if operation == "create":
        made = on_control_thread(broker, lambda: broker.admin.create_topics([NewTopic("many", PARTITIONS, 1)]))
        assert not isinstance(made[0], KafkaError), made
    elif operation == "grow":
        on_control_thread(broker, lambda: broker.admin.create_partitions("many", MORE_PARTITIONS, None, False))
    else:
        assert on_control_thread(broker, lambda: broker.admin.delete_topics(["many"])) == [None]


def partition_directories(data: Path) -> set[str]:
    return {path.name for path in data.iterdir() if path.name.startswith("many-") and path.suffix != ".tmp"}


def prepare(data: Path, operation: Operation) -> None:
    """Where each attempt begins."""
    broker = start(data)
    on_control_thread(broker, lambda: broker.admin.create_topics([NewTopic("stays", 2, 1)]))
    broker.engine.append(broker.replicas.leader("stays", 1).number, batch(), 0)
    if operation != "create":
        change(broker, "create")
    broker.stop()


def attempt(data: Path, operation: Operation, kill_at: int) -> None:
    """Runs in a process of its own. Writes `answered` when the operation has come back."""
    killer = Killer(data, kill_at)
    topics._STATES_PER_GROUP = 2
    writes._MULTI_BYTES = 0
    broker = start(data)
    killer.arm()
    change(broker, operation)
    data.with_name("answered").touch()
    deadline = time.monotonic() + TIMEOUT_S
    while any(name.endswith("-delete") for name in partition_directories(data)):
        assert time.monotonic() < deadline, "the deleted directories are still there"
        os.sched_yield()


def check(data: Path, operation: Operation) -> None:
    """Runs in a process of its own."""
    answered = data.with_name("answered").exists()
    broker = start(data)
    context = broker.admin.context
    facts = read_cluster(broker.admin.store)
    assert (facts.topics, facts.states) == (context.topics, context.states), "the tree is what the controller knows"
    assert not facts.deleting
    shown = broker.metadata.topics.get("many")
    there = {name for name in partition_directories(data) if not name.endswith("-delete")}
    if shown is None:
        assert operation != "grow" and not (operation == "create" and answered)
        assert not there
        for path in (paths.topic("many"), paths.config("topics", "many"), paths.delete_topic("many")):
            assert broker.admin.store.exists(path) is None, path
        change(broker, "create")
    else:
        assert not (operation == "delete" and answered)
        count = len(shown.partitions)
        whole = {PARTITIONS, MORE_PARTITIONS} if operation == "grow" and not answered else {PARTITIONS}
        if operation == "grow" and answered:
            whole = {MORE_PARTITIONS}
        assert count in whole, count
        assert there == {f"many-{index}" for index in range(count)}
        assert len({log.topic_id for log in broker.logs.logs() if log.partition.topic == "many"}) == 1
    for index in range(len(broker.metadata.topics["many"].partitions)):
        assert broker.engine.append(broker.replicas.leader("many", index).number, batch(), 0).base_offset == 0
    assert broker.replicas.leader("stays", 1).info().log_end_offset == 1
    assert broker.loop.failures == 0
    broker.stop()


def in_a_process(task: Callable[[], None]) -> int:
    """Its exit code; negative: the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            task()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def cut_short_everywhere(root: Path, operation: Operation) -> int:
    """Returns at how many steps the broker was killed."""
    begin = root / f"{operation}-begin" / "data"
    begin.parent.mkdir()
    assert in_a_process(partial(prepare, begin, operation)) == 0
    for kill_at in range(1, 1000):
        place = root / f"{operation}-{kill_at}"
        shutil.copytree(begin.parent, place)
        data = place / "data"
        ended = in_a_process(partial(attempt, data, operation, kill_at))
        assert ended in (0, -signal.SIGKILL), f"{operation} ended with {ended}"
        assert in_a_process(partial(check, data, operation)) == 0, f"{operation} killed at step {kill_at}"
        shutil.rmtree(place)
        if ended == 0:
            return kill_at - 1
    raise AssertionError("the operation never came to its end")


def main() -> None:
    root = Path(sys.argv[1])
    operations: tuple[Operation, ...] = ("create", "grow", "delete")
    for operation in operations:
        print(f"{operation}: killed at {cut_short_everywhere(root, operation)} steps", flush=True)


if __name__ == "__main__":
    main()

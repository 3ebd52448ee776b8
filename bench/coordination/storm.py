"""python -m bench.coordination.storm --port P --members N --rate R [--topic T]: a group that rebalances on and on.

So many times a second; with a topic, of N + 1 partitions, it is a group of the consumer protocol that somebody joins
and leaves in turn, without one a classic group one of whose members joins again.

A process of its own, which the scheduler puts behind everybody else: members of a group are on other machines, and may
not take from the broker here the CPU that they would not take from it there. `Storm` is one from the outside.

What stays true: each line on stdout is a rebalance that has ended, the first generation included, and says how many
seconds it took; it goes on until stdin ends. A broker that is slower than the rate is given the next rebalance at once.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Self

from bench.coordination import consumers, groups
from bench.coordination.consumers import Consumer
from bench.coordination.swarm import Swarm
from bench.machine import ROOT

_AUTOGROUP = Path("/proc/self/autogroup")


class Storm:
    """From `with` to its end."""

    def __init__(self, port: int, members: int, rate: float, topic: str | None = None) -> None:
        command = [sys.executable, "-m", "bench.coordination.storm", "--port", str(port)]
        command += ["--members", str(members), "--rate", str(rate)]
        self._child = subprocess.Popen(
            [*command, "--topic", topic] if topic else command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._count = 0
        self._over = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for _ in self._child.stdout:
            with self._changed:
                self._count += 1
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def count(self) -> int:
        """Rebalances that have ended, the first generation included."""
        with self._changed:
            return self._count

    def wait(self, count: int) -> None:
        """Until so many have ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._count >= count, 60)
            if self._count < count:
                when = "when it ended" if self._over else "after 60 s"
                raise RuntimeError(f"{self._count} rebalances and not {count} {when}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(90)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._reader.join()


def yield_to_all() -> None:
    """Where sessions have shares of the CPU (autogroup) a thread's policy counts within its session only."""
    if _AUTOGROUP.exists():
        _AUTOGROUP.write_text("19")
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _say(seconds: float) -> None:
    print(f"{seconds:.6f}", flush=True)


def classic(port: int, members: int) -> Generator[float, None, None]:
    """Seconds of one rebalance after the other."""
    swarm = Swarm(port, members)
    try:
        start = time.monotonic()
        group = groups.form(swarm, 1, members)
        yield time.monotonic() - start
        while True:
            yield groups.rebalance(swarm, group, None)
    finally:
        swarm.close()


def consumer(port: int, members: int, topic: str) -> Generator[float, None, None]:
    """The same."""
    swarm = Swarm(port, members + 1)
    try:
        start = time.monotonic()
        group = consumers.form(swarm, topic, members + 1, 1, members)
        yield time.monotonic() - start
        while True:
            newcomer = Consumer(swarm.lines[-1], group[0].group, topic)
            yield consumers.rebalance(swarm, group, newcomer)
            yield consumers.part(swarm, group, newcomer)
    finally:
        swarm.close()


def storm(rebalances: Generator[float, None, None], rate: float, stop: threading.Event) -> None:
    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        _say(next(rebalances))
        due = max(due + 1 / rate, time.monotonic())


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.coordination.storm", description="a group that rebalances on and on")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--members", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="rebalances a second")
    parser.add_argument("--topic", help="what members of the consumer protocol read")
    options = parser.parse_args()
    yield_to_all()
    stop = threading.Event()

    def until_told() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=until_told, daemon=True).start()
    groups.settled(options.port)
    port, members = options.port, options.members
    with closing(consumer(port, members, options.topic) if options.topic else classic(port, members)) as rebalances:
        storm(rebalances, options.rate, stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())

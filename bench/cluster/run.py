"""python -m bench.cluster.run: both clusters, every row, in alternation; prints ratios, and keeps them with --record.

--rows TEXT,TEXT   only rows whose name has one of these words in it
--rounds N         how often each side takes its turn in a row (3)
--warmup S         CPU seconds of load on Kafka's three brokers before a load counts (60): on a machine that
                   is shared, time alone warms nothing
--partitions N     how many partitions the rows of many have, over ten topics (1000); 10000 for the figures of record
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.cluster import failover, rows
from bench.cluster.rows import ReplicatedRow
from bench.cluster.side import TOPICS_OF_MANY, ClusterSide
from bench.macro.outcome import Outcome
from bench.macro.side import Figures
from bench.sheet import Sheet, chosen, need_kafka

PYLOG_WARMUP_S = 0.5
WARMUP_LAP_S = 5.0
IDLE_S = 10.0
OF_MANY = {rows.CREATION, rows.MANY_MEMORY, rows.MANY_CPU, rows.CONTROLLER}


class ClusterOutcome(Outcome):
    """One row; better is less."""

    def met(self) -> bool:
        return self.ratio() >= self.target

    def line(self) -> str:
        met = "met" if self.met() else "MISSED"
        text = f"{self.name:58} {self.best('pylog'):10.4g} {self.best('kafka'):10.4g} {self.unit:6}"
        text += f" {self.ratio():7.2f}× ≥ {self.target:g}× {met:6}"
        for key in ("rate", "replicated_seconds", "total_ms", "cluster_cpu_seconds"):
            ours, kafka = self.detail("pylog", key), self.detail("kafka", key)
            if ours is not None and kafka is not None:
                text += f"  {key} {ours:.3g}/{kafka:.3g}"
        return text

    def record(self) -> dict[str, object]:
        keys = sorted({key for side in self.details.values() for entry in side for key in entry})
        details = {name: {key: self.detail(name, key) for key in keys} for name in self.details}
        rounds = {name: len(figures) for name, figures in self.figures.items()}
        return {**super().record(), "details": details, "rounds": rounds}


class Comparison:
    """Both sides, and the rows they run."""

    def __init__(self, sides: list[ClusterSide], options: argparse.Namespace) -> None:
        self.sides = sides
        self._rounds: int = options.rounds
        self._warmup: float = options.warmup
        self._partitions: int = options.partitions

    def turns(self, rounds: int | None = None) -> Iterator[ClusterSide]:
        """Each side `rounds` times; who goes first alternates as well."""
        for number in range(rounds or self._rounds):
            yield from self.sides if number % 2 == 0 else reversed(self.sides)

    def start(self) -> ClusterOutcome:
        outcome = single(rows.START)
        for side in self.turns():
            side.stop()
            time.sleep(rows.SESSION_MS / 1000 + 1)  # sleep: a broker of Kafka's dies while its old session lives
            outcome.add(side.name, side.start_ms())
        return outcome

    def idle(self, memory: str, cpu: str) -> list[ClusterOutcome]:
        outcomes = [single(memory), single(cpu)]
        for side in self.turns():
            time.sleep(2)  # sleep: what a start leaves to be done is not idleness
            before = side.cpu_seconds()
            time.sleep(IDLE_S)  # sleep: idleness is what is measured
            outcomes[0].add(side.name, side.memory_megabytes())
            outcomes[1].add(side.name, (side.cpu_seconds() - before) / IDLE_S * 100)
        return outcomes

    def load(self, row: ReplicatedRow) -> ClusterOutcome:
        outcome = ClusterOutcome(row.name, "s/GB", row.target)
        for side in self.sides:
            wanted = side.cpu_seconds() + (self._warmup if side.name == "kafka" else PYLOG_WARMUP_S)
            while side.cpu_seconds() < wanted:
                side.replicate(row, WARMUP_LAP_S)
        for side in self.turns():
            figures = side.replicate(row)
            gigabytes = figures["bytes"] / 1e9
            figures["rate"] = gigabytes / figures["replicated_seconds"]
            outcome.add(side.name, figures["cluster_cpu_seconds"] / gigabytes, figures)
        return outcome

    def failovers(self, name: str, measure: Callable[[ClusterSide], tuple[float, Figures]]) -> ClusterOutcome:
        outcome = single(name)
        for side in self.turns():
            outcome.add(side.name, *measure(side))
        return outcome

    def many(self, wanted: set[str]) -> Iterator[ClusterOutcome]:
        """All that is about many partitions, with one creation of them; each row as soon as it is measured."""
        count = self._partitions // TOPICS_OF_MANY * TOPICS_OF_MANY
        topics: dict[str, list[str]] = {}
        creation = single(rows.CREATION)
        for side in self.turns(1):
            began, before = time.monotonic(), side.cpu_seconds()
            topics[side.name] = side.create(TOPICS_OF_MANY, count // TOPICS_OF_MANY)
            took_ms = (time.monotonic() - began) * 1000
            creation.add(side.name, took_ms, {"cluster_cpu_seconds": side.cpu_seconds() - before})
        yield of_many(creation, count)
        if wanted & {rows.MANY_MEMORY, rows.MANY_CPU}:
            for outcome in self.idle(rows.MANY_MEMORY, rows.MANY_CPU):
                yield of_many(outcome, count)
        if rows.CONTROLLER in wanted:
            deaths = self.failovers(
                rows.CONTROLLER, lambda side: failover.controller_dies(side, topics[side.name], count)
            )
            yield of_many(deaths, count)

    def run(self, wanted: set[str]) -> Iterator[ClusterOutcome]:
        if rows.START in wanted:
            yield self.start()
        if wanted & {rows.IDLE_MEMORY, rows.IDLE_CPU}:
            yield from self.idle(rows.IDLE_MEMORY, rows.IDLE_CPU)
        for row in rows.REPLICATED:
            if row.name in wanted:
                yield self.load(row)
        if rows.LEADER in wanted:
            yield self.failovers(rows.LEADER, failover.leader_dies)
        if wanted & OF_MANY:
            yield from self.many(wanted)


def single(name: str) -> ClusterOutcome:
    return ClusterOutcome(name, *rows.SINGLE[name])


def of_many(outcome: ClusterOutcome, count: int) -> ClusterOutcome:
    outcome.name += f" ({count})"
    return outcome


def main() -> int:
    sheet = Sheet(
        "bench.cluster.run",
        "three brokers of ours against three of Apache Kafka 3.9.1, in alternation",
        history="cluster",
        rounds=3,
    )
    add = sheet.parser.add_argument
    add("--warmup", type=float, default=60.0, help="CPU seconds of load on Kafka before a load counts")
    add("--partitions", type=int, default=1000, help="of the rows about many")
    options = sheet.options()
    need_kafka()
    wanted = chosen(rows.ALL, options.rows)
    with tempfile.TemporaryDirectory(prefix="pylog-bench-") as scratch, ExitStack() as stack:
        sides = [ClusterSide(name, Path(scratch) / name) for name in ("kafka", "pylog")]
        for side in sides:
            stack.callback(side.close)
            side.zookeeper.start()
            side.start_ms()
        print(f"{'':58} {'pylog':>10} {'kafka':>10}", flush=True)
        for outcome in Comparison(sides, options).run(wanted):
            sheet.tell(outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main())

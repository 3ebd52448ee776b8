"""python -m bench.coordination.run: both brokers, every row, in alternation; prints ratios, keeps them with --record.

--rows TEXT,TEXT   only rows whose name has one of these words in it
--rounds N         how often each side takes its turn in a row (2)
--seconds S        how long a timed load runs each time (3)
--warmup S         how long Kafka is warmed up before a row (10)
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.coordination import consumers, groups, rows
from bench.coordination.consumers import Consumer
from bench.coordination.groups import Member
from bench.coordination.rows import Row
from bench.coordination.storm import Storm
from bench.coordination.swarm import Swarm
from bench.coordination.transactions import Producers
from bench.macro.outcome import Outcome
from bench.macro.rows import LoadRow
from bench.macro.side import SETTINGS, Figures, Side
from bench.sheet import Sheet, chosen, need_kafka
from tests.support.brokers import Broker, Kafka4Broker, Kafka39Broker, PylogBroker

OWN_SETTINGS = {
    **SETTINGS,
    "group.initial.rebalance.delay.ms": "3000",
    "offsets.topic.num.partitions": "50",
    "transaction.state.log.num.partitions": "50",
    "group.max.session.timeout.ms": "1800000",
}
CONSUMER_SETTINGS = {
    **OWN_SETTINGS,
    "group.consumer.max.session.timeout.ms": "1800000",
    "group.consumer.session.timeout.ms": "600000",
    "group.consumer.assignment.interval.ms": "0",  # or a second of waiting is all that is measured
}
TAIL = LoadRow("tail", "tail", "us/request", 1, connections=4, urgent=True)
PYLOG_WARMUP_S = 1.0
_PERCENTILES = ("p50_us", "p99_us", "p999_us")

Measure = Callable[[Side], tuple[float, Figures]]
Lap = Callable[[], None]
Join = Callable[[Swarm, list[Consumer], Consumer], float]


class Comparison:
    def __init__(self, sides: list[Side], options: argparse.Namespace) -> None:
        self._sides = sides
        self._rounds: int = options.rounds
        self._seconds: float = options.seconds
        self._warmup: float = options.warmup
        self._names = 0

    def run(self, wanted: set[str]) -> Iterator[Outcome]:
        if {rows.JOINS.name, rows.HEARTBEATS.name, rows.COMMITS.name} & wanted:
            yield from self._members(wanted)
        if rows.REBALANCE.name in wanted:
            yield self._each(rows.REBALANCE, self._rebalance)
        for row, count in zip(rows.TRANSACTIONS, rows.PRODUCERS, strict=True):
            if row.name in wanted:
                yield self._transactions(row, count)
        if rows.STORM.name in wanted:
            yield self._storm(rows.STORM)
        if rows.LOADING.name in wanted:
            yield self._each(rows.LOADING, self._loading)

    def _turns(self) -> Iterator[Side]:
        for number in range(self._rounds):
            yield from self._sides if number % 2 == 0 else reversed(self._sides)

    def _each(self, row: Row, measure: Measure) -> Outcome:
        outcome = _outcome(row)
        for one in self._turns():
            figure, details = measure(one)
            outcome.add(one.name, figure, details)
        return outcome

    def _warmth(self, one: Side) -> float:
        return self._warmup if one.name == "kafka" else PYLOG_WARMUP_S

    def _members(self, wanted: set[str]) -> Iterator[Outcome]:
        """Ten thousand connections at a time, so both sides one after the other, and the three rows together."""
        joins, beats, commits = (_outcome(row) for row in (rows.JOINS, rows.HEARTBEATS, rows.COMMITS))
        for one in self._turns():
            with one.topic(10) as topic:
                groups.settled(one.broker.port)
                swarm = Swarm(one.broker.port, rows.GROUPS * rows.MEMBERS_OF_EACH)
                try:
                    self._lap(one, swarm, topic, (joins, beats, commits), wanted)
                finally:
                    swarm.close()
        yield from (outcome for outcome in (joins, beats, commits) if outcome.name in wanted)

    def _lap(
        self, one: Side, swarm: Swarm, topic: str, outcomes: tuple[Outcome, Outcome, Outcome], wanted: set[str]
    ) -> None:
        joins, beats, commits = outcomes
        total = len(swarm.lines)
        if one.name == "kafka" and not joins.figures["kafka"]:
            groups.form(swarm, rows.GROUPS, rows.MEMBERS_OF_EACH)  # to be warm
        before = one.cpu_seconds()
        members = groups.form(swarm, rows.GROUPS, rows.MEMBERS_OF_EACH)
        joins.add(one.name, total / (one.cpu_seconds() - before))
        self._warm(one, beats, wanted, beat := lambda: groups.heartbeats(swarm, members, total))
        beats.add(one.name, *self._rate(one, total, beat))
        self._warm(one, commits, wanted, commit := lambda: groups.commits(swarm, members, topic, total))
        commits.add(one.name, *self._rate(one, total, commit))

    def run_consumers(self, wanted: set[str]) -> Iterator[Outcome]:
        """Rows of the consumer protocol."""
        joins, beats, commits, admission, rebalance, _ = (_outcome(row) for row in rows.CONSUMERS)
        every = rows.GROUPS * rows.MEMBERS_OF_EACH
        if {joins.name, beats.name, commits.name} & wanted:
            for one in self._turns():
                with one.topic(rows.MEMBERS_OF_EACH) as topic:
                    groups.settled(one.broker.port)
                    swarm = Swarm(one.broker.port, every)
                    try:
                        self._consumers_lap(one, swarm, topic, (joins, beats, commits), wanted)
                    finally:
                        swarm.close()
            yield from (outcome for outcome in (joins, beats, commits) if outcome.name in wanted)
        for outcome, join in ((admission, consumers.admit), (rebalance, consumers.rebalance)):
            if outcome.name in wanted:
                for one in self._turns():
                    outcome.add(one.name, *self._newcomers(one, join))
                yield outcome
        if rows.CONSUMER_STORM.name in wanted:
            yield self._storm(rows.CONSUMER_STORM)

    def _consumers_lap(
        self, one: Side, swarm: Swarm, topic: str, outcomes: tuple[Outcome, Outcome, Outcome], wanted: set[str]
    ) -> None:
        joins, beats, commits = outcomes
        total = len(swarm.lines)
        if one.name == "kafka" and not joins.figures["kafka"]:
            consumers.form(swarm, topic, rows.MEMBERS_OF_EACH, rows.GROUPS, rows.MEMBERS_OF_EACH)  # to be warm
        before = one.cpu_seconds()
        members = consumers.form(swarm, topic, rows.MEMBERS_OF_EACH, rows.GROUPS, rows.MEMBERS_OF_EACH)
        joins.add(one.name, total / (one.cpu_seconds() - before))
        self._warm(one, beats, wanted, beat := lambda: consumers.heartbeats(swarm, members, total))
        beats.add(one.name, *self._rate(one, total, beat))
        self._warm(one, commits, wanted, commit := lambda: consumers.commits(swarm, members, topic, total))
        commits.add(one.name, *self._rate(one, total, commit))

    def _warm(self, one: Side, row: Outcome, wanted: set[str], lap: Lap) -> None:
        until = time.monotonic() + (self._warmth(one) if row.name in wanted else 0)
        while time.monotonic() < until:
            lap()

    def _newcomers(self, one: Side, join: Join) -> tuple[float, Figures]:
        """Somebody joins one group after another: the median, and the CPU of all that count."""
        count, untimed = rows.STORM_MEMBERS, rows.UNTIMED_NEWCOMERS
        took: list[float] = []
        cpu = 0.0
        with one.topic(count + 1) as topic:
            groups.settled(one.broker.port)
            swarm = Swarm(one.broker.port, count + 1)
            try:
                for _ in range(untimed + rows.NEWCOMERS):
                    members = consumers.form(swarm, topic, count + 1, 1, count)
                    before = one.cpu_seconds()
                    took.append(join(swarm, members, Consumer(swarm.lines[-1], members[0].group, topic)))
                    cpu += one.cpu_seconds() - before if len(took) > untimed else 0
            finally:
                swarm.close()
        return statistics.median(took[untimed:]) * 1000, {
            "broker_cpu_seconds": cpu,
            "broker_cpu_ms": cpu / rows.NEWCOMERS * 1000,
        }

    def _rate(self, one: Side, each: int, lap: Lap) -> tuple[float, Figures]:
        """How many per CPU-second, and per second."""
        before, start = one.cpu_seconds(), time.monotonic()
        count = 0
        while time.monotonic() - start < self._seconds:
            lap()
            count += each
        cpu, wall = one.cpu_seconds() - before, time.monotonic() - start
        return count / cpu, {"rate": count / wall, "broker_cpu_seconds": cpu}

    def _rebalance(self, one: Side) -> tuple[float, Figures]:
        groups.settled(one.broker.port)
        swarm = Swarm(one.broker.port, rows.STORM_MEMBERS + 1)
        try:
            members = groups.form(swarm, 1, rows.STORM_MEMBERS)
            groups.rebalance(swarm, members, None)  # to be warm
            before = one.cpu_seconds()
            newcomer = Member(swarm.lines[-1], members[0].group)
            seconds = groups.rebalance(swarm, members, newcomer)
            cpu = one.cpu_seconds() - before
            return seconds * 1000, {"broker_cpu_seconds": cpu, "broker_cpu_ms": cpu * 1000}
        finally:
            swarm.close()

    def _transactions(self, row: Row, count: int) -> Outcome:
        outcome = _outcome(row)
        for one in self._turns():
            self._names += 1
            with one.topic(count) as topic:
                producers = Producers(one.broker.port, topic, count, f"tx-{self._names}")
                try:
                    producers.run(self._warmth(one))
                    before, start = one.cpu_seconds(), time.monotonic()
                    done = producers.run(self._seconds)
                    cpu, wall = one.cpu_seconds() - before, time.monotonic() - start
                    outcome.add(one.name, done / cpu, {"rate": done / wall, "broker_cpu_seconds": cpu})
                finally:
                    producers.close()
        return outcome

    def _storm(self, row: Row) -> Outcome:
        """p99 of the tail load with a storm of rebalances beside it, over p99 without: medians of the rounds."""
        outcome = _outcome(row)
        members = rows.STORM_MEMBERS
        quiet: dict[str, list[Figures]] = {one.name: [] for one in self._sides}
        stormy: dict[str, list[Figures]] = {one.name: [] for one in self._sides}
        for one in self._turns():
            groups.settled(one.broker.port)
            with one.topic() as topic:
                quiet[one.name].append(one.load(TAIL, topic, run_s=self._seconds, warmup_s=self._warmth(one)))
            with ExitStack() as stack:
                topic = stack.enter_context(one.topic())
                read = stack.enter_context(one.topic(members + 1)) if row is rows.CONSUMER_STORM else None
                storm = stack.enter_context(Storm(one.broker.port, members, rows.STORM_RATE, read))
                storm.wait(1)
                one.load(TAIL, topic, run_s=self._warmth(one))  # the storm has to be warm too
                before, start = storm.count(), time.monotonic()
                stormy[one.name].append(one.load(TAIL, topic, run_s=self._seconds))
                rate = (storm.count() - before) / (time.monotonic() - start)
            if rate < rows.STORM_RATE * 0.8:
                raise RuntimeError(f"{one.name}: {rate:.1f} rebalances a second are no storm")
        for one in self._sides:
            still, moved = (_medians(each[one.name]) for each in (quiet, stormy))
            outcome.add(one.name, moved["p99_us"] / still["p99_us"], moved)
            quiet_us = "  ".join(f"{name[:-3]} {still[name]:.0f} → {moved[name]:.0f} µs" for name in _PERCENTILES)
            print(f"  {one.name}: {quiet_us}" + ("" if moved["urgent"] else "  (the driver waits as others do)"))
        return outcome

    def _loading(self, one: Side) -> tuple[float, Figures]:
        partitions = 100
        self._names += 1
        with one.topic(partitions) as topic:
            groups.settled(one.broker.port)
            swarm = Swarm(one.broker.port, 100)
            groups.store_offsets(swarm, topic, partitions, rows.OFFSETS)
            swarm.close()
            one.broker.stop()
            process = one.broker.launch()

            def alive() -> None:
                if not one.broker.running():
                    raise RuntimeError(f"{one.name}: the broker ended")

            asked = [f"stored-{number}" for number in range(0, rows.OFFSETS // partitions, 97)]
            groups.fetch_when_loaded(one.broker.port, asked, topic, alive)
            seconds = time.monotonic() - process.started_at
            one.broker.wait_ready()
        return seconds * 1000, {"broker_cpu_seconds": one.cpu_seconds()}


def _medians(runs: list[Figures]) -> Figures:
    return {name: statistics.median(run[name] for run in runs) for name in (*_PERCENTILES, "urgent")}


def _outcome(row: Row) -> Outcome:
    return Outcome(row.name, row.unit, row.target, more_is_better=row.more_is_better, is_absolute=row.is_absolute)


def compared(kafka: Broker, ours: Broker, options: argparse.Namespace, wanted: set[str]) -> Iterator[Outcome]:
    with kafka, ours:
        kafka.start()
        ours.start()
        comparison = Comparison([Side("kafka", kafka), Side("pylog", ours)], options)
        yield from comparison.run(wanted)
        yield from comparison.run_consumers(wanted)


def main() -> int:
    sheet = Sheet("bench.coordination.run", "coordinators beside Kafka 3.9.1's", history="coordination", rounds=2)
    add = sheet.parser.add_argument
    add("--seconds", type=float, default=3.0, help="how long a timed load runs each time")
    add("--warmup", type=float, default=10.0, help="seconds of load on Kafka before a row counts")
    options = sheet.options()
    wanted = chosen((row.name for row in rows.ALL), options.rows)
    print(f"{'':46} {'pylog':>10} {'kafka':>10} {'':10} {'ratio':>8} {'target':10}")
    for names, peer, settings in (
        ({row.name for row in rows.CLASSIC}, Kafka39Broker, OWN_SETTINGS),
        ({row.name for row in rows.CONSUMERS}, Kafka4Broker, CONSUMER_SETTINGS),
    ):
        if names & wanted:
            need_kafka(peer.kind)
            with tempfile.TemporaryDirectory(prefix="pylog-bench-") as scratch:
                kafka = peer(Path(scratch) / "kafka", settings, heap="1G")
                ours = PylogBroker(Path(scratch) / "pylog", settings)
                for outcome in compared(kafka, ours, options, names & wanted):
                    sheet.tell(outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main())

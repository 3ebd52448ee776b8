"""python -m bench.macro.run: both brokers, every row, in alternation; prints ratios, and keeps them with --record.

--rows TEXT,TEXT   only rows whose name has one of these words in it
--rounds N         how often each side takes its turn in a row (3)
--seconds S        how long a timed load runs each time (3)
--warmup S         how long Kafka is warmed up before a row (15)
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import machine
from bench.macro import compaction, rows, side, special
from bench.macro.rows import LoadRow, ProducerRow
from bench.macro.side import Figures, Side
from tests.support import peers

HISTORY = peers.ROOT / "bench" / "history" / "macro.jsonl"
PYLOG_WARMUP_S = 1.0
# What a row of librdkafka says beside its figure, for a record where it is CPU.
PRODUCER_DETAILS = {"broker_us": "broker µs", "client_us": "client µs", "per_request": "records a request"}
LAPS = 4  # of a load that ends with its volume, one after the other: the later ones find memory that was used just now


class Outcome:
    """One row: the figures of both sides by round, and how they compare."""

    def __init__(self, name: str, unit: str, target: float, *, more_is_better: bool = False) -> None:
        self.name = name
        self.unit = unit
        self.target = target
        self.more_is_better = more_is_better
        self.figures: dict[str, list[float]] = {"pylog": [], "kafka": []}
        self.details: dict[str, list[Figures]] = {"pylog": [], "kafka": []}

    def add(self, name: str, figure: float, details: Figures | None = None) -> None:
        self.figures[name].append(figure)
        self.details[name].append(details or {})

    def best(self, name: str) -> float:
        """Of the rounds: what disturbs a machine only ever adds to CPU and time, on either side."""
        return (max if self.more_is_better else min)(self.figures[name])

    def spread(self, name: str) -> float:
        """Largest over smallest."""
        return max(self.figures[name]) / max(min(self.figures[name]), 1e-9)

    def ratio(self) -> float:
        """How many times better ours is."""
        ours, kafka = self.best("pylog"), self.best("kafka")
        return ours / kafka if self.more_is_better else kafka / max(ours, 1e-9)

    def detail(self, name: str, key: str) -> float | None:
        values = [entry[key] for entry in self.details[name] if key in entry]
        if not values:
            return None
        return max(values) if key == "rate" else min(values)

    def wall_ratio(self) -> float | None:
        ours, kafka = self.detail("pylog", "rate"), self.detail("kafka", "rate")
        return ours / kafka if ours and kafka else None

    def met(self) -> bool:
        if self.name in rows.ABSOLUTE:
            return self.best("pylog") <= rows.ABSOLUTE[self.name][1]
        wall = self.wall_ratio()
        return self.ratio() >= self.target and (wall is None or wall >= 1)

    def line(self) -> str:
        goal = f"≤ {self.target:g} {self.unit}" if self.name in rows.ABSOLUTE else f"≥ {self.target:g}×"
        text = f"{self.name:46} {self.best('pylog'):10.3g} {self.best('kafka'):10.3g} {self.unit:10}"
        text += f" {self.ratio():7.2f}× {goal:10} {'met' if self.met() else 'MISSED':6}"
        wall = self.wall_ratio()
        if wall is not None:
            text += f"  wall {wall:.2f}×"
        for key in ("p50_us", "p99_us"):
            ours, kafka = self.detail("pylog", key), self.detail("kafka", key)
            if ours is not None and kafka is not None:
                text += f"  {key[:3]} {ours:.0f}/{kafka:.0f} µs"
        for key, words in PRODUCER_DETAILS.items():
            ours, kafka = self.detail("pylog", key), self.detail("kafka", key)
            if ours is not None and kafka is not None:
                text += f"  {words} {ours:.3g}/{kafka:.3g}"
        return text

    def record(self) -> dict[str, object]:
        keys = ("rate", "p50_us", "p90_us", "p99_us", "p999_us", "seconds", "broker_cpu_seconds", *PRODUCER_DETAILS)
        details = {name: {key: self.detail(name, key) for key in keys} for name in self.details}
        return {
            "row": self.name,
            "unit": self.unit,
            "target": self.target,
            "met": self.met(),
            "pylog": self.best("pylog"),
            "kafka": self.best("kafka"),
            "ratio": self.ratio(),
            "spread": {name: self.spread(name) for name in self.figures},
            "details": details,
        }


class Comparison:
    """Both sides, and the rows they run."""

    def __init__(self, sides: list[Side], options: argparse.Namespace) -> None:
        self.sides = sides
        self._rounds: int = options.rounds
        self._seconds: float = options.seconds
        self._warmup: float = options.warmup

    def turns(self) -> Iterator[Side]:
        """Each side `rounds` times; who goes first alternates as well."""
        for number in range(self._rounds):
            yield from self.sides if number % 2 == 0 else reversed(self.sides)

    def each(self, name: str, measure: Callable[[Side], float]) -> Outcome:
        unit, target = rows.ABSOLUTE[name]
        outcome = Outcome(name, unit, target)
        for one in self.turns():
            outcome.add(one.name, measure(one))
        return outcome

    def idle(self) -> list[Outcome]:
        memory, cpu = (Outcome(name, *rows.ABSOLUTE[name]) for name in (rows.IDLE_MEMORY, rows.IDLE_CPU))
        for one in self.turns():
            megabytes, percent = special.idle(one)
            memory.add(one.name, megabytes)
            cpu.add(one.name, percent)
        return [memory, cpu]

    def load(self, row: LoadRow) -> Outcome:
        outcome = Outcome(row.name, row.figure, row.target)
        for one in self.sides:
            with one.topic() as topic:
                if row.fill_bytes:
                    one.fill(topic, row, row.fill_bytes)
                one.load(row, topic, run_s=self._warmup if one.name == "kafka" else PYLOG_WARMUP_S)
        for one in self.turns():
            for _ in range(LAPS if row.volume_bytes else 1):
                self._lap(one, row, outcome)
        return outcome

    def _lap(self, one: Side, row: LoadRow, outcome: Outcome) -> None:
        one.wait_deleted()
        with one.topic() as topic:
            if row.fill_bytes:
                one.fill(topic, row, row.fill_bytes)
            requests = row.volume_bytes // row.batch_bytes if row.volume_bytes else 0
            limit = 120 if requests else self._seconds
            figures = one.load(row, topic, run_s=limit, warmup_s=0 if requests else 0.3, requests=requests)
        per = figures["bytes"] / 1e9 if row.figure == "s/GB" else figures["requests"] / 1e6
        figures["rate"] = per / figures["seconds"]
        if row.mode == "tail":
            del figures["rate"]  # the writer sets it
        outcome.add(one.name, figures["broker_cpu_seconds"] / per, figures)

    def producer(self, row: ProducerRow) -> Outcome:
        outcome = Outcome(row.name, "records/s", row.target, more_is_better=True)
        for one in self.sides:
            warm = time.monotonic() + (self._warmup if one.name == "kafka" else PYLOG_WARMUP_S)
            while time.monotonic() < warm:
                one.produce(row)
        for one in self.turns():
            for _ in range(LAPS):
                one.wait_deleted()
                figures = one.produce(row)
                records = figures["records"]
                figures["broker_us"] = figures["broker_cpu_seconds"] / records * 1e6
                figures["client_us"] = figures["load_cpu_seconds"] / records * 1e6
                figures["per_request"] = records / figures["requests"]
                outcome.add(one.name, records / figures["seconds"], figures)
        return outcome

    def compaction(self) -> Outcome:
        outcome = Outcome(rows.COMPACTION, "rec/CPU-s", rows.COMPACTION_TARGET, more_is_better=True)
        for one in self.turns():
            outcome.add(one.name, compaction.records_per_cpu_second(one))
        return outcome

    def run(self, wanted: set[str]) -> Iterator[Outcome]:
        if rows.START in wanted:
            yield self.each(rows.START, special.start_ms)
        if wanted & {rows.IDLE_MEMORY, rows.IDLE_CPU}:
            yield from self.idle()
        for load in rows.LOADS:
            if load.name in wanted:
                yield self.load(load)
        for producer in rows.PRODUCERS:
            if producer.name in wanted:
                yield self.producer(producer)
        if rows.COMPACTION in wanted:
            yield self.compaction()
        if rows.RECOVERY in wanted:
            yield self.each(rows.RECOVERY, special.recovery_ms)


@contextmanager
def both(scratch: Path, only_kafka: bool) -> Iterator[list[Side]]:
    kafka = side.kafka(scratch / "kafka")
    # A driver is tested without a broker of ours: the original against itself must come out even.
    other = (
        Side("pylog", type(kafka.broker)(scratch / "other", side.SETTINGS))
        if only_kafka
        else side.ours(scratch / "pylog")
    )
    with kafka.broker, other.broker:
        kafka.broker.start()
        other.broker.start()
        yield [kafka, other]


def choose(words: str) -> set[str]:
    parts = [word.strip().lower() for word in words.split(",") if word.strip()]
    return {name for name in rows.ALL if not parts or any(part in name.lower() for part in parts)}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench.macro.run", description="ours against Apache Kafka 3.9.1, in alternation"
    )
    parser.add_argument("--rows", default="", help="only rows whose name has one of these, separated by commas, in it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a timed load runs each time")
    parser.add_argument("--warmup", type=float, default=15.0, help="seconds of load on Kafka before a row counts")
    parser.add_argument("--record", action="store_true", help=f"append to {HISTORY.relative_to(peers.ROOT)}")
    parser.add_argument(
        "--kafka-against-itself", action="store_true", help="test the driver: every ratio should be near 1"
    )
    options = parser.parse_args()
    reason = peers.unavailable("kafka39")
    if reason:
        print(f"nothing to compare with: {reason}", file=sys.stderr)
        return 1
    wanted = choose(options.rows)
    if not wanted:
        print(f"no row has {options.rows!r} in its name; there are: {', '.join(rows.ALL)}", file=sys.stderr)
        return 2
    print(f"{'':46} {'pylog':>10} {'kafka':>10} {'':10} {'ratio':>8} {'target':10}")
    about = {"date": time.strftime("%Y-%m-%d %H:%M"), "commit": machine.commit(), **machine.describe()}
    with (
        tempfile.TemporaryDirectory(prefix="pylog-bench-") as scratch,
        both(Path(scratch), options.kafka_against_itself) as sides,
    ):
        for outcome in Comparison(sides, options).run(wanted):
            print(outcome.line(), flush=True)
            if options.record:
                HISTORY.parent.mkdir(exist_ok=True)
                with HISTORY.open("a") as history:
                    history.write(json.dumps({**about, **outcome.record()}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

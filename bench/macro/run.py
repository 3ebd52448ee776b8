"""python -m bench.macro.run: both brokers, every row, in alternation; prints ratios, and keeps them with --record.

--rows TEXT,TEXT   only rows whose name has one of these words in it
--rounds N         how often each side takes its turn in a row (3)
--seconds S        how long a timed load runs each time (3)
--warmup S         how long Kafka is warmed up before a row (15)
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.macro import compaction, rows, side, special
from bench.macro.outcome import Outcome
from bench.macro.rows import LoadRow, ProducerRow
from bench.macro.side import Side
from bench.sheet import Sheet, chosen, need_kafka

PYLOG_WARMUP_S = 1.0
LAPS = 4  # of a load that ends with its volume, one after the other: the later ones find memory that was used just now


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
        outcome = Outcome(name, unit, target, is_absolute=True)
        for one in self.turns():
            outcome.add(one.name, measure(one))
        return outcome

    def idle(self) -> list[Outcome]:
        memory, cpu = (
            Outcome(name, *rows.ABSOLUTE[name], is_absolute=True) for name in (rows.IDLE_MEMORY, rows.IDLE_CPU)
        )
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


def main() -> int:
    sheet = Sheet("bench.macro.run", "ours against Apache Kafka 3.9.1, in alternation", history="macro", rounds=3)
    add = sheet.parser.add_argument
    add("--seconds", type=float, default=3.0, help="how long a timed load runs each time")
    add("--warmup", type=float, default=15.0, help="seconds of load on Kafka before a row counts")
    add("--kafka-against-itself", action="store_true", help="test the driver: every ratio should be near 1")
    options = sheet.options()
    need_kafka()
    wanted = chosen(rows.ALL, options.rows)
    print(f"{'':46} {'pylog':>10} {'kafka':>10} {'':10} {'ratio':>8} {'target':10}")
    with (
        tempfile.TemporaryDirectory(prefix="pylog-bench-") as scratch,
        both(Path(scratch), options.kafka_against_itself) as sides,
    ):
        for outcome in Comparison(sides, options).run(wanted):
            sheet.tell(outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main())

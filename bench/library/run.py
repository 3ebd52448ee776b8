"""python -m bench.library.run: the library against embedded stores, in alternation; prints ratios, --record keeps them.

--rows TEXT,TEXT   only rows whose name has one of these words in it
--rounds N         how often each store takes its turn in a row (3); each time a process of its own, and several laps
--directory DIR    where the stores are made; on the disk that is to be measured

Compaction has no match among these stores: python -m bench.macro.run --rows compaction compares it with Apache Kafka.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import machine
from bench.library.lap import Lap
from bench.library.rows import ROWS, Row
from bench.library.stores import BY_NAME, Store
from bench.sheet import Sheet, chosen

LAP_TIMEOUT_S = 600
PACKAGES = ("lmdb", "rocksdict", "plyvel", "diskcache", "persistqueue")


def laps(store: type[Store], task: str, scratch: Path) -> list[Lap]:
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        done = subprocess.run(
            [sys.executable, "-m", "bench.library.lap", store.name, task, directory],
            cwd=machine.ROOT,
            capture_output=True,
            text=True,
            timeout=LAP_TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{store.name}, {task}: {done.stderr.strip()}")
    return [Lap(*numbers) for numbers in json.loads(done.stdout)]


class Outcome:
    """A row: all figures of each store, and how ours compares."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.figures: dict[str, list[float]] = {store.name: [] for store in (row.ours, *row.others)}
        self.wall_us: dict[str, list[float]] = {name: [] for name in self.figures}

    def add(self, store: type[Store], done: list[Lap]) -> None:
        self.figures[store.name] += map(self.row.figure, done)
        self.wall_us[store.name] += [lap.wall_s / lap.records * 1e6 for lap in done]

    def best(self, name: str) -> float:
        """What disturbs a machine only ever adds."""
        return min(self.figures[name])

    @property
    def ours(self) -> float:
        return self.best(self.row.ours.name)

    def fastest_other(self) -> str | None:
        return min((store.name for store in self.row.others), key=self.best, default=None)

    def ratio(self) -> float:
        """How many times better than the best of the others; than the target, where that is absolute."""
        other = self.fastest_other()
        return (self.row.target if self.row.absolute or other is None else self.best(other)) / self.ours

    def met(self) -> bool:
        return self.ratio() >= (1 if self.row.absolute else self.row.target)

    def line(self) -> str:
        row = self.row
        goal = f"≤ {row.target:.3g}" if row.absolute else f"≥ {row.target:g}×"
        first = f"{row.name:48} {self.ours:8.3f} {row.unit:14}"
        if not row.absolute:
            first += f" {self.ratio():6.2f}× of {self.fastest_other()}"
        lines = [f"{first}  {goal}: {'met' if self.met() else 'MISSED'}"]
        for store in sorted((store.name for store in row.others), key=self.best):
            times = self.best(store) / self.ours
            lines.append(
                f"    {store:20} {self.best(store):8.3f} {times:8.2f}×  wall {min(self.wall_us[store]):.3f} µs"
            )
        return "\n".join(lines)

    def record(self) -> dict[str, object]:
        other = self.fastest_other()
        return {
            "row": self.row.name,
            "unit": self.row.unit,
            "target": self.row.target,
            "met": self.met(),
            "pylog": self.ours,
            "other": other or "target",
            "others": {store.name: self.best(store.name) for store in self.row.others},
            "ratio": self.ratio(),
            "spread": {name: max(figures) / max(min(figures), 1e-9) for name, figures in self.figures.items()},
            "wall_us": {name: min(figures) for name, figures in self.wall_us.items()},
        }


def compare(row: Row, rounds: int, scratch: Path) -> Outcome:
    outcome = Outcome(row)
    sides = [row.ours, *row.others]
    for number in range(rounds):
        for store in sides if number % 2 == 0 else reversed(sides):
            outcome.add(store, laps(store, row.task, scratch))
    return outcome


def main() -> int:
    sheet = Sheet("bench.library.run", "the library against embedded stores", history="library", rounds=3)
    sheet.parser.add_argument(
        "--directory", type=Path, default=None, help="where the stores are made (the temporary directory)"
    )
    options = sheet.options()
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; pip install 'pylog[bench]' has them", file=sys.stderr)
        return 1
    wanted = chosen((row.name for row in ROWS), options.rows)
    rows = [row for row in ROWS if row.name in wanted]
    used = {store.name for row in rows for store in (row.ours, *row.others)}
    print("\n".join(f"{name:16} {BY_NAME[name].how}" for name in BY_NAME if name in used))
    with tempfile.TemporaryDirectory(prefix="pylog-bench-", dir=options.directory) as scratch:
        for row in rows:
            sheet.tell(compare(row, options.rounds, Path(scratch)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

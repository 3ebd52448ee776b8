"""What comparisons have in common: rows chosen by name, told as they are measured, kept in the history when asked."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from bench import machine
from tests.support import peers


class Measured(Protocol):
    def line(self) -> str: ...

    def record(self) -> dict[str, object]: ...


class Sheet:
    """`history`: the name of its file in bench/history. More options may be added to `parser` before the first call."""

    def __init__(self, prog: str, description: str, *, history: str, rounds: int) -> None:
        self._history: Path = machine.ROOT / "bench" / "history" / f"{history}.jsonl"
        self._about: dict[str, object] = {}
        self._keeps = False
        self.parser = argparse.ArgumentParser(prog=prog, description=description)
        add = self.parser.add_argument
        add("--rows", default="", help="only rows whose name has one of these, separated by commas, in it")
        add("--rounds", type=int, default=rounds, help="how often each side takes its turn in a row")
        add("--record", action="store_true", help=f"append to {self._history.relative_to(machine.ROOT)}")

    def options(self) -> argparse.Namespace:
        options = self.parser.parse_args()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # no process is left, whoever ends it
        self._keeps = options.record
        self._about = {"date": time.strftime("%Y-%m-%d %H:%M"), "commit": machine.commit(), **machine.describe()}
        return options

    def tell(self, outcome: Measured) -> None:
        print(outcome.line(), flush=True)
        if self._keeps:
            with self._history.open("a") as history:
                history.write(json.dumps({**self._about, **outcome.record()}) + "\n")


def chosen(names: Iterable[str], words: str) -> set[str]:
    """The rows that have one of the words in their names; all, when there are no words. Exits with 2 when none has."""
    parts = [word.strip().lower() for word in words.split(",") if word.strip()]
    every = list(names)
    wanted = {name for name in every if not parts or any(part in name.lower() for part in parts)}
    if not wanted:
        print(f"no row has {words!r} in its name; there are: {', '.join(every)}", file=sys.stderr)
        sys.exit(2)
    return wanted


def need_kafka(name: str = "kafka39") -> None:
    """Exits with 1 when this Apache Kafka cannot be started here."""
    reason = peers.unavailable(name)
    if reason:
        print(f"nothing to compare with: {reason}", file=sys.stderr)
        sys.exit(1)

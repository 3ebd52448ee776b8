"""python -m bench.report [WORD...]: the history of every row (with one of the words in it) as a text table."""

import json
import sys
from pathlib import Path

HISTORY = Path(__file__).resolve().parent / "history"
BARS = "▁▂▃▄▅▆▇█"


def read() -> list[dict[str, object]]:
    entries = []
    for path in sorted(HISTORY.glob("*.jsonl")):
        entries += [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return sorted(entries, key=lambda entry: str(entry["date"]))


def number(entry: dict[str, object], key: str) -> float:
    value = entry[key]
    if not isinstance(value, int | float):
        raise ValueError(f"{key} is {value!r} in {entry}")
    return float(value)


def rival(entry: dict[str, object]) -> object:
    """Whom a row is compared with: of the library's rows it is said there."""
    return entry.get("other", "Kafka")


def bar(values: list[float]) -> str:
    low, high = min(values), max(values)
    width = (high - low) or 1.0
    return "".join(BARS[round((value - low) / width * (len(BARS) - 1))] for value in values)


def report(entries: list[dict[str, object]], words: list[str]) -> list[str]:
    by_row: dict[str, list[dict[str, object]]] = {}
    for entry in entries:
        by_row.setdefault(str(entry["row"]), []).append(entry)
    lines = []
    for row, history in by_row.items():
        if words and not any(word.lower() in row.lower() for word in words):
            continue
        ratios = [number(entry, "ratio") for entry in history]
        lines.append(f"{row} ({history[-1]['unit']}), times better than {rival(history[-1])}: {bar(ratios)}")
        for entry in history:
            met = "met" if entry["met"] else "missed"
            theirs = number(entry, "pylog") * number(entry, "ratio") if "other" in entry else number(entry, "kafka")
            figures = f"{number(entry, 'pylog'):10.4g} {theirs:10.4g} {number(entry, 'ratio'):8.2f}×"
            lines.append(f"  {entry['date']} {entry['commit']!s:13} {figures} {met:6}  {entry['machine']}")
    return lines


def main() -> int:
    lines = report(read(), sys.argv[1:])
    print("\n".join(lines) if lines else "no history yet: make bench-record writes it")
    return 0


if __name__ == "__main__":
    sys.exit(main())

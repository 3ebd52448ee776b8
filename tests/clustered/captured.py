"""What a cluster of Apache Kafka 3.9.1 did and answered in each story, kept: a line of JSON for each step.

    python -m tests.clustered.captured [tree] [admin]     capture them anew; needs Java, and takes some minutes

What stays true: a line has its step, so that a story that has changed since is noticed.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.clustered.stage import Stage, Step
from tests.clustered.stories import STORIES
from tests.support import peers, zookeeper

DIRECTORY = Path(__file__).resolve().parents[1] / "golden" / "cluster"


def load(name: str) -> list[tuple[Step, Any]]:
    """Steps with what Kafka made of them."""
    with gzip.open(DIRECTORY / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [(line["step"], line["outcome"]) for line in map(json.loads, lines)]


def capture(name: str, directory: Path, connect: str) -> None:
    story, settings = STORIES[name]
    lines = []
    with closing(Stage(directory / name, connect, "kafka39", settings)) as stage:
        for number, step in enumerate(story):
            outcome = stage.play(step)
            lines.append(json.dumps({"step": step, "outcome": outcome}, separators=(",", ":")) + "\n")
            print(name, number, json.dumps(step)[:100], flush=True)
    file = DIRECTORY / f"{name}.jsonl.gz"
    file.write_bytes(gzip.compress("".join(lines).encode(), 9, mtime=0))
    print(f"{file.name}: {len(lines)} steps, {file.stat().st_size} bytes")


def main() -> int:
    why = zookeeper.unavailable() or peers.unavailable("kafka39")
    if why is not None:
        print(why, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="stories-") as directory, zookeeper.running(Path(directory)) as server:
        for name in sys.argv[1:] or STORIES:
            capture(name, Path(directory), server.fresh())
    return 0


if __name__ == "__main__":
    sys.exit(main())

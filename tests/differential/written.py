"""What a session's groups left in `__consumer_offsets`, in the words of Kafka's dump tool, named alike for all brokers.

What stays true: records stay in the order of the log, but for offsets that follow one another: those of one request are
in the order of a hash table in Kafka's. Clocks are left out.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from cluster.cli.log.decoders import decode_group_record
from pylog.dump import Dump, DumpOptions
from tests.differential.normal import Names
from tests.differential.session import Tree
from tests.support import peers

_RECORD = re.compile(r"^\| offset: \d+ .*? headerKeys: \[\] key: (\{.*?\}) payload: (.*)$")
_CLOCKS = {"commitTimestamp", "currentStateTimestamp", "expireTimestamp"}
_DELETED = "<DELETE>"
_OFFSET = "1"


def dumped_by_kafka(data: Path) -> list[str]:
    """The lines that kafka-dump-log prints of the only partition in this data directory."""
    command = peers.java(
        "kafka39", "kafka.tools.DumpLogSegments", ["--offsets-decoder", "--files", ",".join(map(str, _logs(data)))]
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    return done.stdout.splitlines()


def dumped(data: Path) -> list[str]:
    """The same by ours, which prints the same."""
    options = DumpOptions(decoder=decode_group_record)
    return [line for path in _logs(data) for line in Dump(str(path), options).lines()]


def _logs(data: Path) -> list[Path]:
    return sorted((data / "__consumer_offsets-0").glob("*.log"))


def written(lines: Iterable[str], prefix: str, names: Names) -> Tree:
    """The records of the groups whose names begin with the prefix."""
    found: list[tuple[Tree, Tree]] = []
    for line in lines:
        match = _RECORD.match(line)
        if match is None:
            continue
        key = json.loads(match[1])
        if key["data"]["group"].startswith(prefix + "-"):
            found.append((key, _DELETED if match[2] == _DELETED else _named(json.loads(match[2]), names)))
    told: list[Tree] = []
    for is_offset, run in groupby(found, lambda each: bool(each[0]["type"] == _OFFSET)):
        together = [list(each) for each in run]
        told += sorted(together, key=lambda each: json.dumps(each[0])) if is_offset else together
    return told


def _named(value: Any, names: Names) -> Tree:
    if isinstance(value, dict):
        return {name: _named(each, names) for name, each in value.items() if name not in _CLOCKS}
    if isinstance(value, list):
        return sorted((_named(each, names) for each in value), key=json.dumps)
    return names.text(value) if isinstance(value, str) else value

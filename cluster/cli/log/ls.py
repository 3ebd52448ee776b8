"""`pylog log ls`: partitions with their offsets, segments, bytes and times."""

from __future__ import annotations

import argparse
import json
from datetime import UTC
from typing import TYPE_CHECKING

from cluster.cli.log.target import add_target, target
from cluster.cli.output import print_line, print_table

if TYPE_CHECKING:
    from pylog.log_summary import LogSummary
    from pylog.partition_files import PartitionFiles

_COLUMNS = ("PARTITION", "START", "END", "SEGMENTS", "BYTES", "FIRST", "LAST")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_target(parser)
    parser.add_argument("-J", "--json", action="store_true", help="a line of JSON for each partition; times in ms")


def run(options: argparse.Namespace) -> int:
    """Show what is there."""
    from pylog.log_summary import summarize

    directory = target(options)
    rows: list[tuple[PartitionFiles, LogSummary]] = []
    for files in directory.partitions:
        try:
            rows.append((files, summarize(files)))
        except FileNotFoundError:
            continue  # a running broker has just removed it
    if options.json:
        for files, summary in rows:
            print_line(_json(files, summary))
        return 0
    print_table(
        _COLUMNS,
        [(files.name, *summary[:4], moment(summary[4]), moment(summary[5])) for files, summary in rows],
        numbers=_COLUMNS[1:5],
    )
    return 0


def _json(files: PartitionFiles, summary: LogSummary) -> str:
    partition = files.partition
    fields: dict[str, object] = {
        "topic": partition.topic if partition is not None else None,
        "partition": partition.partition if partition is not None else None,
        "directory": files.path,
    }
    times = {name: None if value < 0 else value for name, value in zip(summary._fields[4:], summary[4:], strict=True)}
    return json.dumps(fields | dict(zip(summary._fields[:4], summary[:4], strict=True)) | times)


def moment(timestamp_ms: int) -> str | None:
    """A time in UTC, None for none, the number itself where no calendar has it."""
    if timestamp_ms < 0:
        return None
    from datetime import datetime, timedelta

    try:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        return str(timestamp_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

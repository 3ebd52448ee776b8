"""`pylog log export`: write records as JSON lines, CSV or Parquet."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from cluster.cli.arguments import non_negative_int, timestamp_ms
from cluster.cli.errors import CommandError, UsageError
from cluster.cli.log.target import ByteProgress, add_target, log_bytes, target
from cluster.cli.output import notice

if TYPE_CHECKING:
    from pylog.export import Range, RecordSink
    from pylog.partition_files import LogDirectory

_BY_ENDING = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_target(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    parser.add_argument(
        "-F", "--format", choices=("jsonl", "csv", "parquet"), help="default: by the ending of FILE, else jsonl"
    )
    parser.add_argument("--from-offset", type=non_negative_int, metavar="N", help="the first offset")
    parser.add_argument("--to-offset", type=non_negative_int, metavar="N", help="the offset to stop before")
    parser.add_argument("--from-time", type=timestamp_ms, metavar="TIME", help="such as 2026-11-22T10:00:00")
    parser.add_argument("--to-time", type=timestamp_ms, metavar="TIME", help="records from then on are left out")


def run(options: argparse.Namespace) -> int:
    """Exit code 1 when records had to be left out because they are damaged."""
    from pylog.export import Range, whole_file

    kind = options.format or _BY_ENDING.get(os.path.splitext(options.output or "")[1].lower(), "jsonl")
    wanted = Range(options.from_offset, options.to_offset, options.from_time, options.to_time)
    directory = target(options)
    if options.output is None:
        if kind == "parquet":
            raise UsageError("--format parquet needs a file: --output FILE")
        return _export(directory, kind, None, wanted)
    with whole_file(options.output) as aside:
        return _export(directory, kind, aside, wanted)


def _export(directory: LogDirectory, kind: str, path: str | None, wanted: Range) -> int:
    from pylog.export import CommaSeparated, JsonLines, Parquet

    if kind == "parquet" and path is not None:
        try:
            return _write(directory, Parquet(path), wanted)
        except ImportError:
            raise CommandError("export to Parquet needs pyarrow: pip install pyarrow") from None
    make = CommaSeparated if kind == "csv" else JsonLines
    if path is None:
        return _write(directory, make(sys.stdout.buffer), wanted)
    with open(path, "wb") as file:
        return _write(directory, make(file), wanted)


def _write(directory: LogDirectory, sink: RecordSink, wanted: Range) -> int:
    from pylog.export import Export

    # Where the records go to the terminal, a bar would run through them.
    with ByteProgress("exporting", log_bytes(directory.partitions), enabled=not sys.stdout.isatty()) as progress:
        export = Export(sink, wanted)
        for files in directory.partitions:
            if files.partition is None:
                notice(f"{files.path} is left out: it is not named <topic>-<number>")
                continue
            export.partition(files, progress.add)
        sink.close()
    for finding in export.damage:
        notice(f"left out: {finding}")
    return 1 if export.damage else 0

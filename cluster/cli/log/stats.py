"""`pylog log stats`: records, sizes, compression and rates of each partition."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from cluster.cli.log.ls import moment
from cluster.cli.log.target import ByteProgress, add_target, log_bytes, target
from cluster.cli.output import print_line

if TYPE_CHECKING:
    from pylog.log_stats import Histogram, LogStats

_PERCENTILES = (50, 90, 99)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_target(parser)
    parser.add_argument("-J", "--json", action="store_true", help="a line of JSON for each partition")


def run(options: argparse.Namespace) -> int:
    """Read everything once. Exit code 1 when something could not be read."""
    from pylog.log_stats import log_stats

    directory = target(options)
    damaged = False
    with ByteProgress("reading", log_bytes(directory.partitions)) as progress:
        for files in directory.partitions:
            stats = log_stats(files, progress.add)
            if options.json:
                print_line(json.dumps({"partition": files.name, **as_json(stats)}))
            else:
                print_line(files.name)
                for label, text in lines(stats):
                    print_line(f"  {label:<13} {text}")
            for finding in stats.damage:
                damaged = True
                print(f"pylog: {finding}", file=sys.stderr)
    return 1 if damaged else 0


def lines(stats: LogStats) -> list[tuple[str, str]]:
    """What is worth knowing, labelled."""
    count = stats.records
    found = [
        ("records", f"{count:,}, {_share(stats.null_keys, count)} without key, {_share(stats.null_values, count)} null")
    ]
    if not count:
        return found
    found += [
        ("bytes", f"keys {stats.key_bytes:,}, values {stats.value_bytes:,}, headers {stats.headers:,} in number"),
        ("record size", _sizes(stats.record_bytes)),
        ("batch size", _sizes(stats.batch_bytes)),
        ("batches", _batches(stats)),
    ]
    for name, codec in sorted(stats.codecs.items()):
        text = f"{codec.batches:,} batches, {codec.records:,} records, {codec.stored_bytes:,} bytes"
        found.append((name, text + (f", ratio {codec.ratio:.2f}" if name != "none" else "")))
    first, last = moment(stats.first_timestamp), moment(stats.last_timestamp)
    if first is not None:
        found.append(("time", f"{first} to {last}"))
    if stats.seconds > 0:
        bytes_in = stats.key_bytes + stats.value_bytes
        found.append(("rate", f"{count / stats.seconds:,.1f} records/s, {bytes_in / stats.seconds:,.0f} bytes/s"))
    return found


def _batches(stats: LogStats) -> str:
    text = f"{stats.batch_bytes.count:,}, {stats.records / max(stats.batch_bytes.count, 1):.1f} records each"
    if stats.transactional_batches or stats.control_batches:
        text += f", {stats.transactional_batches:,} transactional, {stats.control_batches:,} control batches besides"
    return text


def _sizes(sizes: Histogram) -> str:
    parts = [f"mean {sizes.total / sizes.count:.1f}", f"min {sizes.smallest:,}"]
    parts += [f"p{percent} {sizes.percentile(percent):,}" for percent in _PERCENTILES]
    return ", ".join([*parts, f"max {sizes.largest:,}"])


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0.0 %"


def as_json(stats: LogStats) -> dict[str, object]:
    """The same as numbers."""

    def sizes(of: Histogram) -> dict[str, int]:
        found = {"min": of.smallest, "max": of.largest, "total": of.total}
        return found | {f"p{percent}": of.percentile(percent) for percent in _PERCENTILES}

    return {
        "records": stats.records,
        "null_keys": stats.null_keys,
        "null_values": stats.null_values,
        "key_bytes": stats.key_bytes,
        "value_bytes": stats.value_bytes,
        "headers": stats.headers,
        "record_bytes": sizes(stats.record_bytes),
        "batches": stats.batch_bytes.count,
        "batch_bytes": sizes(stats.batch_bytes),
        "transactional_batches": stats.transactional_batches,
        "control_batches": stats.control_batches,
        "codecs": {name: codec._asdict() | {"ratio": round(codec.ratio, 4)} for name, codec in stats.codecs.items()},
        "first_timestamp": None if stats.first_timestamp < 0 else stats.first_timestamp,
        "last_timestamp": None if stats.last_timestamp < 0 else stats.last_timestamp,
    }

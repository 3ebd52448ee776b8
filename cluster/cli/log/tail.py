"""`pylog log tail`: follow a partition that another process is writing."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from cluster.cli.arguments import non_negative_int
from cluster.cli.errors import CommandError
from cluster.cli.log.target import add_target, target
from cluster.cli.offsets import TopicPartition
from cluster.cli.output import notice
from cluster.cli.record_format import add_form, chosen_form

if TYPE_CHECKING:
    from cluster.cli.record_format import Renderer
    from pylog.follow import LogFollower

_POLL_S = 0.05
_RECORDS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_target(parser)
    parser.add_argument(
        "-n",
        "--records",
        type=non_negative_int,
        default=_RECORDS,
        metavar="N",
        help="begin so many offsets before the end of each partition (default: %(default)s)",
    )
    parser.add_argument("--from-offset", type=non_negative_int, metavar="N", help="begin there instead")
    parser.add_argument("-e", "--exit-at-end", action="store_true", help="do not wait for more")
    add_form(parser)


def run(options: argparse.Namespace) -> int:
    """Write records as they come, until interrupted. Exit code 1 when a batch was damaged."""
    from pylog.follow import LogFollower
    from pylog.log_summary import summarize

    directory = target(options)
    followed: list[tuple[TopicPartition, LogFollower]] = []
    for files in directory.partitions:
        if files.partition is None:
            continue
        summary = summarize(files)
        begin = summary.log_end_offset - options.records if options.from_offset is None else options.from_offset
        begin = max(begin, summary.log_start_offset)
        followed.append((TopicPartition(*files.partition), LogFollower(files.path, begin)))
    if not followed:
        raise CommandError(f"{options.path} holds no partition to follow")
    render = chosen_form(options)
    told = 0
    try:
        while True:
            written = sum(_write(partition, follower, render) for partition, follower in followed)
            sys.stdout.buffer.flush()
            damage = [finding for _, follower in followed for finding in follower.damage]
            for finding in damage[told:]:
                notice(f"left out: {finding}")
            told = len(damage)
            if options.exit_at_end:
                return 1 if damage else 0
            if not written:
                time.sleep(_POLL_S)  # sleep: another process's writes have no event
    finally:
        for _, follower in followed:
            follower.close()


def _write(partition: TopicPartition, follower: LogFollower, render: Renderer) -> int:
    """What is new of one partition; how many records it was."""
    written = 0
    begin = follower.offset
    try:
        for batch in follower.poll():
            records = [] if batch.control else [record for record in batch.records() if record.offset >= begin]
            sys.stdout.buffer.write(render(partition, records))
            written += len(records)
    except FileNotFoundError:
        raise CommandError(f"partition {partition} has been removed") from None
    return written

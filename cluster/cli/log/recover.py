"""`pylog log recover`: repair what a broker's start would; only shown, unless --yes."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from cluster.cli.errors import CommandError
from cluster.cli.log.target import ByteProgress, add_target, log_bytes, target
from cluster.cli.output import notice, print_line

if TYPE_CHECKING:
    from pylog.partition_files import LogDirectory, PartitionFiles
    from pylog.repair import RepairPlan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_target(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="do it; what is cut is kept beside as FILE.cut")
    parser.add_argument(
        "--everything",
        action="store_true",
        help="check from the first segment on, not from the recovery point; cuts also where a start would not look",
    )


def run(options: argparse.Namespace) -> int:
    """Exit code 1 when there is something to cut and it was not done, or could not be."""
    from pylog.data_dir import clean_shutdown_epoch

    directory = target(options)
    if directory.only_file is not None:
        raise CommandError("a log is recovered as a whole: name the partition's directory")
    if not options.everything and clean_shutdown_epoch(directory.path) is not None:
        notice(f"{directory.path} was closed in order: a start checks nothing; --everything does")
        return 0
    return _repair(directory, options) if options.yes else _show(directory, options)


def _show(directory: LogDirectory, options: argparse.Namespace) -> int:
    from pylog.data_dir import lock_holder
    from pylog.repair import plan_repair

    holder = lock_holder(directory.path)
    if holder is not None:
        notice(f"process {holder} is at work in {directory.path}: a batch that it is writing may look torn")
    cuts = 0
    with ByteProgress("checking", log_bytes(directory.partitions)) as progress:
        for files in directory.partitions:
            plan = plan_repair(files, everything=options.everything)
            progress.add(files.size_bytes())
            cuts += len(plan.cuts)
            _print_plan(files, plan)
    if cuts:
        notice("nothing was changed; --yes does it, and keeps what it cuts beside as FILE.cut")
    else:
        notice(f"nothing to cut in {len(directory.partitions)} partitions")
    return 1 if cuts else 0


def _print_plan(files: PartitionFiles, plan: RepairPlan) -> None:
    for cut in plan.cuts:
        print_line(
            f"{files.name}: cut {cut.size_bytes:,} bytes of {os.path.basename(cut.path)} from position {cut.position},"
            f" offset {cut.from_offset}"
        )
    if plan.cuts:
        print_line(f"{files.name}: the log would end at offset {plan.end_offset}")


def _repair(directory: LogDirectory, options: argparse.Namespace) -> int:
    from pylog.errors import KafkaError
    from pylog.repair import Repair, plan_repair

    failed = False
    repair = Repair(directory.path)
    try:
        with ByteProgress("recovering", 2 * log_bytes(directory.partitions)) as progress:
            for files in directory.partitions:
                size = files.size_bytes()
                plan = plan_repair(files, everything=options.everything)
                progress.add(size)
                try:
                    report, copies = repair.partition(files, plan)
                except (KafkaError, ValueError) as error:
                    failed = True
                    print(f"pylog: {error}", file=sys.stderr)
                    continue
                progress.add(size)
                _print_plan(files, plan)
                for copy in copies:
                    print_line(f"{files.name}: kept {copy}")
                if report.rebuilt_indexes or report.recovered_segments:
                    print_line(
                        f"{files.name}: {report.recovered_segments} segments checked,"
                        f" {report.rebuilt_indexes} indexes built anew"
                    )
    finally:
        repair.close()
    return 1 if failed else 0

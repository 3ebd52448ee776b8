"""`pylog log verify`: check every record and every derived file; exit code 1 when something is wrong."""

from __future__ import annotations

import argparse

from cluster.cli.log.target import ByteProgress, add_target, log_bytes, target
from cluster.cli.output import notice, print_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add_target(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing when nothing is wrong")


def run(options: argparse.Namespace) -> int:
    """One line for each finding, on stdout; then on stderr what was looked at."""
    from pylog.verify import Verification

    directory = target(options)
    count = 0
    with ByteProgress("verifying", log_bytes(directory.partitions)) as progress:
        verification = Verification(directory, progress=progress.add)
        for finding in verification.findings():
            count += 1
            print_line(str(finding))
    if count or not options.quiet:
        seen = verification.verified
        found = "nothing is wrong" if not count else "1 finding" if count == 1 else f"{count} findings"
        notice(
            f"{found} in {seen.partitions} partitions, {seen.segments} segments, {seen.size_bytes:,} bytes of records"
        )
    return 1 if count else 0

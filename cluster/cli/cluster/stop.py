"""`pylog cluster stop`: stop the brokers one after another, the controller last, then ZooKeeper.

What it keeps true: each broker has handed on what it leads, and closed its logs in order, before the next one is asked
to stop, unless that takes longer than it may; the data stay.
"""

from __future__ import annotations

import argparse
import sys

from cluster.cli.arguments import positive_seconds
from cluster.cli.cluster.layout import read_layout
from cluster.cli.cluster.view import look
from cluster.cli.output import notice, print_line

_STOP_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive_seconds,
        default=_STOP_S,
        help="how long each may take before it is killed (default: %(default)g)",
    )


def run(options: argparse.Namespace) -> int:
    layout = read_layout(options.dir)
    seen = look(layout)
    controller = seen.controller if seen is not None else -1
    services = [layout.broker(each) for each in sorted(layout.ids, key=lambda each: (each == controller, each))]
    in_order = True
    for service in [*services, layout.zookeeper]:
        if service.pid() is None:
            continue
        if service.stop(options.timeout):
            print_line(f"{service.name} has stopped")
        else:
            in_order = False
            notice(f"{service.name} did not stop within {options.timeout:g} s and was killed; see {service.log}")
        sys.stdout.flush()
    return 0 if in_order else 1

"""`pylog cluster status`: what runs, who is the controller, which partitions lack replicas or a leader.

What it keeps true: the exit code is 0 only when everything runs and every partition has all its replicas in sync.
"""

from __future__ import annotations

import argparse

from cluster.cli.cluster import zookeeper
from cluster.cli.cluster.layout import Layout, read_layout
from cluster.cli.cluster.view import View, look
from cluster.cli.errors import CommandError
from cluster.cli.output import print_line, print_table

_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", "--verbose", action="store_true", help="name all partitions that are in trouble")


def run(options: argparse.Namespace) -> int:
    layout = read_layout(options.dir)
    seen = look(layout)
    rows = [_zookeeper_row(layout)]
    rows += [_broker_row(layout, each, seen) for each in layout.ids]
    print_table(("WHAT", "PID", "ADDRESS", "STATE", "ROLE"), rows, numbers=("PID",))
    if seen is None:
        raise CommandError("no broker answers; `pylog cluster start` starts what does not run")
    print_line(
        f"{_count(seen.topics, 'topic')}, {_count(seen.partitions, 'partition')}: "
        f"{len(seen.under_replicated)} under-replicated, {len(seen.offline)} offline"
    )
    for what, names in (("under-replicated", seen.under_replicated), ("offline", seen.offline)):
        _print_partitions(what, names, len(names) if options.verbose else _SHOWN)
    healthy = not seen.under_replicated and not seen.offline and all(row[3].startswith("up") for row in rows)
    return 0 if healthy else 1


def _zookeeper_row(layout: Layout) -> tuple[str, int | None, str, str, str | None]:
    pid, version = layout.zookeeper.pid(), zookeeper.version(layout.zookeeper_port)
    state = "down" if pid is None else "does not answer" if version is None else f"up ({version})"
    return "zookeeper", pid, layout.zookeeper_address, state, None


def _broker_row(layout: Layout, broker_id: int, seen: View | None) -> tuple[str, int | None, str, str, str | None]:
    pid = layout.broker(broker_id).pid()
    if pid is None:
        state = "down"
    else:
        state = "up" if seen is not None and broker_id in seen.alive else "not in the cluster"
    is_controller = seen is not None and seen.controller == broker_id
    return f"broker {broker_id}", pid, layout.address(broker_id), state, "controller" if is_controller else None


def _print_partitions(what: str, names: list[str], shown: int) -> None:
    if names:
        more = f" and {len(names) - shown} more (--verbose)" if len(names) > shown else ""
        print_line(f"{what}: {' '.join(names[:shown])}{more}")


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"

"""`pylog cluster start`: start ZooKeeper and the brokers, whichever do not run already.

What it keeps true: it returns when every broker is in the cluster, or says in one line which one is not, and why.
"""

from __future__ import annotations

import argparse
import sys
import time

from cluster.cli.arguments import positive_int, positive_seconds
from cluster.cli.cluster import layout as layouts
from cluster.cli.cluster import zookeeper
from cluster.cli.cluster.layout import Layout, plan_layout, properties_path, save_layout
from cluster.cli.cluster.service import Service
from cluster.cli.cluster.view import look
from cluster.cli.errors import CommandError
from cluster.cli.output import print_line

_READY_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--brokers",
        type=positive_int,
        metavar="N",
        help=f"default: as many as there are in the directory, else {layouts.DEFAULT_BROKERS}",
    )
    parser.add_argument(
        "--base-port",
        type=positive_int,
        metavar="PORT",
        help=f"of the first broker; the others follow (default: {layouts.DEFAULT_BASE_PORT})",
    )
    parser.add_argument(
        "--zookeeper-port", type=positive_int, metavar="PORT", help=f"default: {layouts.DEFAULT_ZOOKEEPER_PORT}"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive_seconds,
        default=_READY_S,
        help="how long to wait until all are ready (default: %(default)g)",
    )


def run(options: argparse.Namespace) -> int:
    jars = zookeeper.find_class_path()
    if jars is None:
        raise CommandError(zookeeper.MISSING)
    layout = plan_layout(options.dir, options.brokers, options.base_port, options.zookeeper_port)
    save_layout(layout)
    deadline = time.monotonic() + options.timeout
    version = _start_zookeeper(layout, jars, deadline)
    pid = layout.zookeeper.pid()
    print_line(f"ZooKeeper {version} is on {layout.zookeeper_address} (pid {pid})")
    sys.stdout.flush()
    brokers = {each: layout.broker(each) for each in layout.ids}
    for broker_id, service in brokers.items():
        if service.pid() is None:
            service.start([sys.executable, "-m", "cluster.cli.main", "server", str(properties_path(layout, broker_id))])
    _wait_for_all(layout, brokers, deadline)
    for broker_id, service in brokers.items():
        print_line(f"broker {broker_id} is on {layout.address(broker_id)} (pid {service.pid()})")
    print_line(f"the cluster is ready: -b {layout.bootstrap}")
    return 0


def _start_zookeeper(layout: Layout, jars: str, deadline: float) -> str:
    """Returns its version."""
    service = layout.zookeeper
    if service.pid() is None:
        if zookeeper.version(layout.zookeeper_port) is not None:
            raise CommandError(f"another ZooKeeper is on port {layout.zookeeper_port}")
        settings = zookeeper.write_settings(service.directory, layout.zookeeper_port)
        service.start(zookeeper.command(jars, settings))
    while (version := zookeeper.version(layout.zookeeper_port)) is None:
        _check(service, deadline)
        service.pause()
    return version


def _wait_for_all(layout: Layout, brokers: dict[int, Service], deadline: float) -> None:
    """Until one broker answers that all are there and one of them is the controller."""
    while True:
        for service in brokers.values():
            _check(service, deadline)
        seen = look(layout)
        if seen is not None and seen.alive >= set(brokers) and seen.controller in brokers:
            return
        next(iter(brokers.values())).pause()


def _check(service: Service, deadline: float) -> None:
    if service.pid() is None:
        raise CommandError(f"{service.name} has ended: {service.last_line()} (see {service.log})")
    if time.monotonic() > deadline:
        raise CommandError(f"{service.name} is not ready in time: {service.last_line()} (see {service.log})")

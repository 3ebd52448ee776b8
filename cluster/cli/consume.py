"""`pylog consume`: records of a topic on stdout, read alone or as a member of a group."""

from __future__ import annotations

import argparse
import sys
import time

from cluster.cli.arguments import add_connection, connect, non_negative_int, positive_int, positive_seconds
from cluster.cli.client import ClusterClient
from cluster.cli.delivery import Delivery
from cluster.cli.errors import CommandError, UsageError
from cluster.cli.fetcher import Fetcher
from cluster.cli.membership import PARTITION_CHECK_S, Membership
from cluster.cli.offsets import (
    EARLIEST,
    LATEST,
    READ_COMMITTED,
    READ_UNCOMMITTED,
    TopicPartition,
    committed_offsets,
    list_offsets,
)
from cluster.cli.output import RecordMeter, notice
from cluster.cli.record_format import add_form, chosen_form
from cluster.cli.start_position import Anchor, StartPosition, resolve, start_position

_ISOLATION = {"read_uncommitted": READ_UNCOMMITTED, "read_committed": READ_COMMITTED}
_POLL_S = 0.5
_COMMIT_EVERY_S = 5.0


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="pylog consume", description="Print records as they come. Ctrl-C ends, and so do -n, -e and --idle."
    )
    parser.add_argument("topic")
    parser.add_argument(
        "-o",
        "--from",
        dest="start",
        type=start_position,
        default=StartPosition(Anchor.BEGINNING),
        metavar="WHERE",
        help="beginning (default), end, an offset, -N for the last N records, or a time; "
        "in a group only where nothing is committed",
    )
    parser.add_argument("-p", "--partition", type=non_negative_int, action="append", metavar="N", help="only this one")
    parser.add_argument("-n", "--max", type=positive_int, metavar="N", help="end after so many records")
    parser.add_argument("-e", "--exit-at-end", action="store_true", help="end where the partitions ended at the start")
    parser.add_argument(
        "--idle", type=positive_seconds, metavar="SECONDS", help="end when no record has come for so long"
    )
    parser.add_argument("-g", "--group", metavar="NAME", help="share the partitions with the group's other members")
    parser.add_argument("--no-commit", action="store_true", help="leave the group's offsets as they are")
    parser.add_argument(
        "--isolation", choices=list(_ISOLATION), default="read_uncommitted", help="default: %(default)s"
    )
    add_form(parser)
    parser.set_defaults(run=_run)
    add_connection(parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.group and options.partition:
        raise UsageError("--group and --partition exclude each other: a group shares its partitions out")
    if options.no_commit and not options.group:
        raise UsageError("--no-commit is for --group")
    with connect(options) as cluster, RecordMeter("consumed", enabled=not sys.stdout.isatty()) as meter:
        delivery = Delivery(
            sys.stdout.buffer,
            chosen_form(options),
            meter,
            limit=options.max,
            idle_s=options.idle,
            to_end=options.exit_at_end,
        )
        if options.group:
            _consume_as_member(cluster, options, delivery)
        else:
            _consume_alone(cluster, options, delivery)
    if meter.drawn:
        notice(f"consumed {meter.summary()}")
    return 0


def _consume_alone(cluster: ClusterClient, options: argparse.Namespace, delivery: Delivery) -> None:
    isolation = _ISOLATION[options.isolation]
    partitions = _partitions(cluster, options)
    positions = resolve(cluster, partitions, options.start, isolation)
    ends = _ends(cluster, options, partitions)
    if ends and all(positions[tp] > end for tp, end in ends.items()):
        tp = partitions[0]
        raise CommandError(f"{tp} ends at offset {ends[tp]}; there is no {positions[tp]}")
    fetcher = Fetcher(cluster, positions, isolation=isolation)
    delivery.begin(ends)
    next_check = time.monotonic() + PARTITION_CHECK_S
    while not delivery.done(fetcher.positions):
        for fetched in fetcher.poll(_POLL_S):
            delivery.deliver(fetched)
        if time.monotonic() >= next_check and not options.partition:
            next_check = time.monotonic() + PARTITION_CHECK_S
            grown = set(_partitions(cluster, options)) - fetcher.positions.keys()
            if grown:
                fetcher.add(list_offsets(cluster, grown, EARLIEST))


def _consume_as_member(cluster: ClusterClient, options: argparse.Namespace, delivery: Delivery) -> None:
    cluster.partitions(options.topic)  # says so when there is none
    isolation = _ISOLATION[options.isolation]
    membership = Membership(cluster, options.group, options.topic)
    try:
        while True:
            assigned = membership.join()
            committed = committed_offsets(cluster, options.group)
            fresh = [tp for tp in assigned if tp not in committed]
            positions = resolve(cluster, fresh, options.start, isolation)
            positions.update({tp: committed[tp] for tp in assigned if tp in committed})
            fetcher = Fetcher(cluster, positions, isolation=isolation)
            delivery.begin(_ends(cluster, options, assigned))
            try:
                finished = _read_until_rebalance(fetcher, membership, delivery, commits=not options.no_commit)
            finally:
                fetcher.close()
                if not options.no_commit:
                    membership.commit(delivery.take_progress())
            if finished:
                return
    finally:
        membership.leave()


def _read_until_rebalance(fetcher: Fetcher, membership: Membership, delivery: Delivery, *, commits: bool) -> bool:
    """Whether the command is done; else the partitions are to be shared out anew."""
    next_commit = time.monotonic() + _COMMIT_EVERY_S
    while not delivery.done(fetcher.positions):
        for fetched in fetcher.poll(_POLL_S):
            delivery.deliver(fetched)
        if commits and time.monotonic() >= next_commit:
            membership.commit(delivery.take_progress())
            next_commit = time.monotonic() + _COMMIT_EVERY_S
        if membership.rebalance_due():
            return False
    return True


def _partitions(cluster: ClusterClient, options: argparse.Namespace) -> list[TopicPartition]:
    there = [part.partition_index for part in cluster.partitions(options.topic)]
    missing = set(options.partition or ()) - set(there)
    if missing:
        raise UsageError(f"--partition: topic {options.topic!r} has no partition {min(missing)}, only 0 to {there[-1]}")
    return [TopicPartition(options.topic, partition) for partition in sorted(set(options.partition or there))]


def _ends(
    cluster: ClusterClient, options: argparse.Namespace, partitions: list[TopicPartition]
) -> dict[TopicPartition, int]:
    """Where to stop, with --exit-at-end."""
    if not options.exit_at_end:
        return {}
    return list_offsets(cluster, partitions, LATEST, _ISOLATION[options.isolation])

"""`pylog groups reset`: move the committed offsets of a group whose consumers are stopped.

What it keeps true: without --execute nothing changes; a target lies within what the partition holds; a group with
members is left alone, also when the first of them comes between the look at it and the commit.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from cluster.cli.arguments import add_connection, connect, duration_ms, non_negative_int, timestamp_ms
from cluster.cli.client import ClusterClient
from cluster.cli.errors import CommandError
from cluster.cli.group_lag import led
from cluster.cli.group_list import list_groups
from cluster.cli.group_output import counted
from cluster.cli.group_topics import chosen_partitions
from cluster.cli.group_view import CLASSIC, CONSUMER, describe_groups
from cluster.cli.offsets import (
    COMMIT_VERSIONS,
    EARLIEST,
    LATEST,
    NO_OFFSET,
    TopicPartition,
    check_commit,
    commit_request,
    committed_offsets,
    list_offsets,
)
from cluster.cli.output import notice, print_table
from cluster.protocol import messages as m
from pylog.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

#: How a coordinator says that a group has members, to one who commits from outside.
_HAS_MEMBERS = (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION, ErrorCode.REBALANCE_IN_PROGRESS)


def add_reset(verbs: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """The verb and its options."""
    verb = verbs.add_parser(
        "reset",
        help="move the committed offsets of a group whose consumers are stopped",
        description="Show what the committed offsets would become, and with --execute make them so.",
    )
    verb.add_argument("group")
    what = verb.add_mutually_exclusive_group(required=True)
    what.add_argument("-t", "--topic", action="append", metavar="TOPIC[:0,1,...]", help="may be given several times")
    what.add_argument("--all-topics", action="store_true", help="every topic the group has committed offsets of")
    to = verb.add_mutually_exclusive_group(required=True)
    to.add_argument("--to-earliest", action="store_true")
    to.add_argument("--to-latest", action="store_true")
    to.add_argument("--to-current", action="store_true", help="where it stands; to the end where nothing is committed")
    to.add_argument("--to-offset", type=non_negative_int, metavar="N")
    to.add_argument("--to-datetime", type=timestamp_ms, metavar="TIME", help="such as 2026-11-22T10:00:00")
    to.add_argument("--by-duration", type=duration_ms, metavar="AGO", help="such as 15m, 2h, 7d, PT1H30M")
    to.add_argument("--shift-by", type=int, metavar="N", help="from where it stands, forwards or (below 0) backwards")
    do = verb.add_mutually_exclusive_group()
    do.add_argument("--dry-run", action="store_true", help="only show what would change (default)")
    do.add_argument("--execute", action="store_true", help="change it")
    verb.set_defaults(run=_run)
    add_connection(verb)


def _run(options: argparse.Namespace) -> int:
    with connect(options) as cluster:
        view = describe_groups(cluster, [options.group]).get(options.group)
        if view is None:
            _may_be_made(cluster, options)
        elif view.members:
            raise _active(options.group, f"has {counted(len(view.members), 'member')}")
        committed = committed_offsets(cluster, options.group)
        partitions = _chosen(cluster, options, committed)
        targets = _targets(cluster, options, partitions, committed)
        if options.execute:
            _commit(cluster, options.group, targets)
        rows = [(tp.topic, tp.partition, committed.get(tp), targets[tp]) for tp in sorted(targets)]
        print_table(("TOPIC", "PARTITION", "FROM", "TO"), rows, numbers=("PARTITION", "FROM", "TO"))
        if not options.execute:
            notice("nothing was changed; the same with --execute does it")
    return 0


def _may_be_made(cluster: ClusterClient, options: argparse.Namespace) -> None:
    """With --topic a group may be made by giving it offsets, unless there is one of another sort."""
    kinds = [each.kind for each in list_groups(cluster) if each.group == options.group]
    if kinds and kinds[0] not in (CLASSIC, CONSUMER):
        raise CommandError(f"group {options.group!r} is a {kinds[0]} group; only those of consumers can be reset")
    if options.all_topics:
        raise CommandError(f"group {options.group!r} does not exist")
    notice(f"there is no group {options.group!r} yet; offsets make one")


def _active(group: str, why: str) -> CommandError:
    return CommandError(f"group {group!r} {why}; stop its consumers before a reset")


def _chosen(
    cluster: ClusterClient, options: argparse.Namespace, committed: dict[TopicPartition, int]
) -> list[TopicPartition]:
    if not options.all_topics:
        return chosen_partitions(cluster, options.topic)
    if not committed:
        raise CommandError(f"group {options.group!r} has committed nothing; name topics with --topic")
    there = led(cluster, committed)
    gone = sorted({tp.topic for tp in committed} - {tp.topic for tp in there})
    if gone:
        notice(f"left out, since they do not exist or have no leader now: {', '.join(gone)}")
    return there


def _targets(
    cluster: ClusterClient,
    options: argparse.Namespace,
    partitions: list[TopicPartition],
    committed: dict[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """The offset to go to in each partition; never outside of what the partition holds."""
    first = list_offsets(cluster, partitions, EARLIEST)
    end = list_offsets(cluster, partitions, LATEST)
    if options.to_earliest:
        return first
    if options.to_latest:
        return end
    if options.to_offset is not None:
        wanted = dict.fromkeys(partitions, options.to_offset)
    elif options.to_current:
        wanted = {tp: committed.get(tp, end[tp]) for tp in partitions}
    elif options.shift_by is not None:
        wanted = {tp: committed[tp] + options.shift_by for tp in partitions if tp in committed}
        if len(wanted) < len(partitions):
            bare = next(tp for tp in partitions if tp not in committed)
            raise CommandError(f"nothing is committed for {bare}, so there is nothing to shift")
    else:
        moment = options.to_datetime if options.by_duration is None else max(0, _now_ms() - options.by_duration)
        found = list_offsets(cluster, partitions, moment)
        wanted = {tp: end[tp] if offset == NO_OFFSET else offset for tp, offset in found.items()}
    targets = {}
    for tp, offset in wanted.items():
        targets[tp] = min(max(offset, first[tp]), end[tp])
        if targets[tp] != offset:
            notice(f"{tp} holds {first[tp]} to {end[tp]}; {offset} became {targets[tp]}")
    return targets


def _commit(cluster: ClusterClient, group: str, offsets: dict[TopicPartition, int]) -> None:
    request = commit_request(group, offsets)

    def attempt() -> None:
        answer = cluster.coordinator(group).request(request, m.OffsetCommitResponse, versions=COMMIT_VERSIONS)
        try:
            check_commit(answer)
        except KafkaError as error:
            if error.code in _HAS_MEMBERS:
                raise _active(group, "has got members just now") from error
            raise

    cluster.retry(attempt)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

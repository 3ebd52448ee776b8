"""`pylog groups describe`: where a group stands, who is in it, and what it went through."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from cluster.cli.arguments import add_connection, connect, positive_int, positive_seconds
from cluster.cli.client import ClusterClient
from cluster.cli.errors import UsageError
from cluster.cli.group_history import print_history, rebalance_document
from cluster.cli.group_lag import PartitionLag, partition_lags, total
from cluster.cli.group_list import list_groups, unlisted
from cluster.cli.group_output import counted, member_text, print_json, repeat, say_failed, seconds_text
from cluster.cli.group_view import CLASSIC, CONSUMER, GroupView, Member, describe_groups
from cluster.cli.output import print_line, print_table

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_SOME_REBALANCES = 10
_STATE_COLUMNS = ("GROUP", "STATE", "TYPE", "ASSIGNOR", "MEMBERS", "LAG", "BEHIND", "COORDINATOR")
_MEMBER_COLUMNS = ("MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS", "LAG", "BEHIND")
_OFFSET_COLUMNS = ("TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "BEHIND", "MEMBER", "HOST", "CLIENT")
_NUMBERS = frozenset({"MEMBERS", "PARTITIONS", "PARTITION", "COMMITTED", "END", "LAG", "BEHIND"})


def add_describe(verbs: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """The verb and its options."""
    verb = verbs.add_parser("describe", help="committed offsets, lag and members; what it went through")
    verb.add_argument("group", nargs="*")
    verb.add_argument("--all", action="store_true", help="every group")
    what = verb.add_mutually_exclusive_group()
    what.add_argument("--offsets", action="store_true", help="each partition: offsets, lag, its member (default)")
    what.add_argument("--members", action="store_true", help="each member: its partitions and their lag")
    what.add_argument("--state", action="store_true", help="one line for each group")
    what.add_argument(
        "--history",
        nargs="?",
        type=positive_int,
        const=_SOME_REBALANCES,
        metavar="N",
        help=f"the last N rebalances (default {_SOME_REBALANCES}): when, why, by whom, how long; pylog's brokers know",
    )
    verb.add_argument("-w", "--watch", type=positive_seconds, metavar="SECONDS", help="again and again, until Ctrl-C")
    verb.add_argument("-J", "--json", action="store_true", help="everything about a group in a line of JSON")
    verb.set_defaults(run=_run)
    add_connection(verb)


def _run(options: argparse.Namespace) -> int:
    if bool(options.group) == options.all:
        raise UsageError("name the groups to describe, or say --all; `pylog groups list` shows their names")
    with connect(options) as cluster:
        return repeat(cluster, options.watch, lambda: _show(cluster, options))


def _show(cluster: ClusterClient, options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(options.group))
    if options.all:
        names = [each.group for each in list_groups(cluster) if each.kind in (CLASSIC, CONSUMER)]
    found = describe_groups(cluster, names, rebalances=options.history or 0)
    views = {name: found[name] for name in names if name in found}
    failed = _missing(cluster, [name for name in names if name not in views])
    if options.all:
        failed += unlisted(cluster)
    if options.history and not options.json:
        failed += [f"{view.group!r}: {_no_history(view)}" for view in views.values() if view.rebalances is None]
        print_history([view for view in views.values() if view.rebalances is not None])
    else:
        lags = partition_lags(cluster, views)
        if options.state and not options.json:
            rows = [_state_row(view, lags[group]) for group, view in views.items()]
            print_table(_STATE_COLUMNS, rows, numbers=_NUMBERS)
        else:
            for group, view in views.items():
                _print(view, lags[group], options)
    return say_failed(failed)


def _missing(cluster: ClusterClient, names: list[str]) -> list[str]:
    """Why these could not be described."""
    kinds = {each.group: each.kind for each in list_groups(cluster)} if names else {}
    return [
        f"group {name!r} is a {kinds[name]} group; only groups of consumers can be described"
        if kinds.get(name, CLASSIC) not in (CLASSIC, CONSUMER)
        else f"group {name!r} does not exist"
        for name in names
    ]


def _no_history(view: GroupView) -> str:
    return f"its coordinator {view.coordinator} keeps no history of rebalances; brokers of pylog do"


def _print(view: GroupView, lags: list[PartitionLag], options: argparse.Namespace) -> None:
    if options.json:
        print_json(_document(view, lags))
    elif options.members:
        _draw_head(view, lags)
        rows = [_member_row(member, lags) for member in view.members]
        _print_of_group(view, _MEMBER_COLUMNS, rows, "  no members")
    else:
        _draw_head(view, lags)
        _print_of_group(view, _OFFSET_COLUMNS, _partition_rows(view, lags), "  nothing committed")


def _draw_head(view: GroupView, lags: list[PartitionLag]) -> None:
    if not sys.stdout.isatty():
        return
    words = [view.state, counted(len(view.members), "member"), f"{view.kind} protocol"]
    if view.assignor:
        words.append(f"assignor {view.assignor}")
    lag = total(lags)
    if lag.records is not None:
        behind = "" if not lag.seconds else f", {seconds_text(lag.seconds)} behind"
        words.append(f"lag {counted(lag.records, 'record')}{behind}")
    print_line(f"group {view.group}: {', '.join(words)}, coordinator {view.coordinator}")


def _print_of_group(view: GroupView, columns: tuple[str, ...], rows: list[tuple[object, ...]], nothing: str) -> None:
    """On a terminal the group stands above; rows that are piped have its name."""
    if not sys.stdout.isatty():
        print_table((), [(view.group, *row) for row in rows])
        return
    if rows:
        print_table(columns, rows, numbers=_NUMBERS)
    else:
        print_line(nothing)
    print_line()


def _state_row(view: GroupView, lags: list[PartitionLag]) -> tuple[object, ...]:
    lag = total(lags)
    sums = (len(view.members), lag.records, seconds_text(lag.seconds))
    return view.group, view.state, view.kind, view.assignor or None, *sums, view.coordinator


def _member_row(member: Member, lags: list[PartitionLag]) -> tuple[object, ...]:
    lag = total(_of(member, lags))
    who = (member_text(member.member_id), member.instance_id, member.client_id, member.host)
    return *who, len(member.partitions), lag.records, seconds_text(lag.seconds)


def _partition_rows(view: GroupView, lags: list[PartitionLag]) -> list[tuple[object, ...]]:
    """A row for each partition that is committed or assigned, then one for each member that has none."""
    rows: list[tuple[object, ...]] = []
    for lag in lags:
        stands = (lag.committed, lag.end, lag.records, seconds_text(lag.seconds))
        rows.append((lag.partition.topic, lag.partition.partition, *stands, *_who(lag.owner)))
    rows += [(*(None,) * 6, *_who(member)) for member in view.members if not member.partitions]
    return rows


def _who(member: Member | None) -> tuple[object, ...]:
    if member is None:
        return None, None, None
    return member_text(member.member_id), member.host, member.client_id


def _of(member: Member, lags: list[PartitionLag]) -> list[PartitionLag]:
    return [lag for lag in lags if lag.owner is member]


def _document(view: GroupView, lags: list[PartitionLag]) -> dict[str, object]:
    whole = total(lags)
    members = []
    for member in view.members:
        lag = total(_of(member, lags))
        members.append(
            {
                "member": member.member_id,
                "instance": member.instance_id,
                "client": member.client_id,
                "host": member.host,
                "partitions": [list(partition) for partition in member.partitions],
                "lag": lag.records,
                "behind_s": lag.seconds,
            }
        )
    document: dict[str, object] = {
        "group": view.group,
        "at_ms": time.time_ns() // 1_000_000,
        "state": view.state,
        "type": view.kind,
        "protocol": view.protocol,
        "assignor": view.assignor or None,
        "coordinator": view.coordinator,
        "lag": whole.records,
        "behind_s": whole.seconds,
        "partitions": [
            {
                "topic": lag.partition.topic,
                "partition": lag.partition.partition,
                "committed": lag.committed,
                "end": lag.end,
                "lag": lag.records,
                "behind_s": lag.seconds,
                "member": lag.owner.member_id if lag.owner else None,
            }
            for lag in lags
        ],
        "members": members,
    }
    if view.rebalances is not None:
        document["rebalances"] = [rebalance_document(each) for each in view.rebalances]
    return document

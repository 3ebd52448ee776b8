"""`pylog groups list`: every group with its state, members and lag."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cluster.cli.arguments import add_connection, connect, positive_seconds
from cluster.cli.client import GROUPS_TOPIC, ClusterClient
from cluster.cli.errors import check
from cluster.cli.group_lag import Lag, partition_lags, total
from cluster.cli.group_output import print_json, repeat, say_failed, seconds_text
from cluster.cli.group_view import CLASSIC, CONSUMER, GroupView, describe_groups
from cluster.cli.output import print_line, print_names, print_table
from cluster.protocol import messages as m
from pylog.facts import NamedTuple

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_UNKNOWN = Lag(None, None)
_READABLE = (CLASSIC, CONSUMER)


class Listed(NamedTuple):
    """A group as the broker that coordinates it lists it. `kind` is in lower case."""

    group: str
    kind: str
    protocol: str
    state: str
    node_id: int


def add_list(verbs: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """The verb and its options."""
    verb = verbs.add_parser("list", help="state, members and lag of every group")
    verb.add_argument("--state", action="append", default=[], metavar="STATE", help="only these, such as Stable, Empty")
    verb.add_argument("--type", action="append", default=[], metavar="TYPE", help="only these: classic, consumer, ...")
    verb.add_argument("--names", action="store_true", help="only the names; asks the brokers for nothing else")
    verb.add_argument("-w", "--watch", type=positive_seconds, metavar="SECONDS", help="again and again, until Ctrl-C")
    verb.add_argument("-J", "--json", action="store_true", help="a line of JSON for each group")
    verb.set_defaults(run=_run)
    add_connection(verb)


def list_groups(cluster: ClusterClient) -> list[Listed]:
    """All groups, by name."""
    found: dict[str, Listed] = {}
    for broker in cluster.retry(lambda: cluster.metadata([])).brokers:

        def attempt(node_id: int = broker.node_id) -> m.ListGroupsResponse:
            answer = cluster.broker(node_id).request(m.ListGroupsRequest(), m.ListGroupsResponse)
            check(answer.error_code)
            return answer

        for each in cluster.retry(attempt).groups:
            # What a broker lists without a type is from before there were several.
            kind = each.group_type.lower() or CLASSIC
            found[each.group_id] = Listed(each.group_id, kind, each.protocol_type, each.group_state, broker.node_id)
    return [found[name] for name in sorted(found)]


def unlisted(cluster: ClusterClient) -> list[str]:
    """What to say of groups that nobody can list now, since they have no coordinator."""
    (topic,) = cluster.retry(lambda: cluster.metadata([GROUPS_TOPIC])).topics
    lost = sorted(each.partition_index for each in topic.partitions if each.leader_id < 0)
    if topic.error_code or not lost:
        return []
    numbers = ", ".join(map(str, lost))
    return [f"groups are missing here: those of partitions of {GROUPS_TOPIC} without a leader ({numbers})"]


def _run(options: argparse.Namespace) -> int:
    with connect(options) as cluster:
        return repeat(cluster, options.watch, lambda: _show(cluster, options))


def _show(cluster: ClusterClient, options: argparse.Namespace) -> int:
    _print(cluster, options)
    return say_failed(unlisted(cluster))


def _print(cluster: ClusterClient, options: argparse.Namespace) -> None:
    states = {state.lower() for state in options.state}
    kinds = {kind.lower() for kind in options.type}
    listed = [
        each
        for each in list_groups(cluster)
        if (not states or each.state.lower() in states) and (not kinds or each.kind in kinds)
    ]
    if not listed and sys.stdout.isatty():
        if states or kinds:
            print_line("no such groups")
        else:
            print_line("no groups yet; `pylog consume TOPIC --group NAME` joins one")
        return
    if options.names:
        print_names(each.group for each in listed)
        return
    views = describe_groups(cluster, [each.group for each in listed if each.kind in _READABLE])
    lags = {group: total(each) for group, each in partition_lags(cluster, views).items()}
    if options.json:
        for each in listed:
            print_json(_document(each, views.get(each.group), lags.get(each.group, _UNKNOWN)))
    else:
        columns = ("GROUP", "STATE", "TYPE", "MEMBERS", "LAG", "BEHIND", "COORDINATOR")
        rows = [_row(each, views.get(each.group), lags.get(each.group, _UNKNOWN)) for each in listed]
        print_table(columns, rows, numbers=("MEMBERS", "LAG", "BEHIND"))


def _row(each: Listed, view: GroupView | None, lag: Lag) -> tuple[object, ...]:
    state = (each.state if view is None else view.state) or None
    # A classic group need not be one of consumers: Connect's workers, for example, are in one too.
    is_other = each.protocol not in ("", "consumer") and each.kind == CLASSIC
    kind = f"{each.kind}/{each.protocol}" if is_other else each.kind
    members = None if view is None else len(view.members)
    return each.group, state, kind, members, lag.records, seconds_text(lag.seconds), each.node_id


def _document(each: Listed, view: GroupView | None, lag: Lag) -> dict[str, object]:
    return {
        "group": each.group,
        "state": (each.state if view is None else view.state) or None,
        "type": each.kind,
        "protocol": each.protocol,
        "members": None if view is None else len(view.members),
        "lag": lag.records,
        "behind_s": lag.seconds,
        "coordinator": each.node_id,
    }

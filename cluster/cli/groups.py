"""`pylog groups`: list, describe, reset, delete."""

from __future__ import annotations

import argparse
import sys
import time

from cluster.cli.arguments import add_connection, connect, duration_ms, non_negative_int, timestamp_ms
from cluster.cli.client import ClusterClient
from cluster.cli.errors import CommandError, UsageError, check
from cluster.cli.group_view import GroupView, describe_group
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
from cluster.cli.output import notice, print_line, print_table
from cluster.protocol import messages as m
from pylog.errors import ErrorCode


def build_parser() -> argparse.ArgumentParser:
    """The options of all its verbs."""
    parser = argparse.ArgumentParser(prog="pylog groups", description="Consumer groups and their offsets.")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    verb = verbs.add_parser("list", help="names and states")
    verb.set_defaults(run=_list)
    add_connection(verb)

    verb = verbs.add_parser("describe", help="members, committed offsets and lag of each partition")
    verb.add_argument("group", nargs="+")
    verb.set_defaults(run=_describe)
    add_connection(verb)

    verb = verbs.add_parser("reset", help="move the committed offsets of a group whose consumers are stopped")
    verb.add_argument("group")
    what = verb.add_mutually_exclusive_group(required=True)
    what.add_argument("-t", "--topic", action="append", metavar="TOPIC[:0,1,...]", help="may be given several times")
    what.add_argument("--all-topics", action="store_true", help="every topic the group has committed offsets of")
    to = verb.add_mutually_exclusive_group(required=True)
    to.add_argument("--to-earliest", action="store_true")
    to.add_argument("--to-latest", action="store_true")
    to.add_argument("--to-offset", type=non_negative_int, metavar="N")
    to.add_argument("--to-datetime", type=timestamp_ms, metavar="TIME", help="such as 2026-11-22T10:00:00")
    to.add_argument("--by-duration", type=duration_ms, metavar="AGO", help="such as 15m, 2h, 7d, PT1H30M")
    to.add_argument("--shift-by", type=int, metavar="N", help="from where it stands, forwards or (below 0) backwards")
    verb.add_argument("--dry-run", action="store_true", help="only show what would change")
    verb.set_defaults(run=_reset)
    add_connection(verb)

    verb = verbs.add_parser("delete", help="delete groups with their offsets")
    verb.add_argument("group", nargs="+")
    verb.set_defaults(run=_delete)
    add_connection(verb)
    return parser


def _list(options: argparse.Namespace) -> int:
    rows: dict[str, tuple[str, str | None, str | None]] = {}
    with connect(options) as cluster:
        brokers = cluster.retry(lambda: cluster.metadata([])).brokers
        for broker in brokers:

            def attempt(node_id: int = broker.node_id) -> m.ListGroupsResponse:
                answer = cluster.broker(node_id).request(m.ListGroupsRequest(), m.ListGroupsResponse)
                check(answer.error_code)
                return answer

            for group in cluster.retry(attempt).groups:
                rows[group.group_id] = (group.group_id, group.group_state or None, group.protocol_type or None)
    if not rows and sys.stdout.isatty():
        print_line("no groups yet; `pylog consume TOPIC --group NAME` joins one")
        return 0
    print_table(("GROUP", "STATE", "PROTOCOL"), (rows[name] for name in sorted(rows)))
    return 0


def _describe(options: argparse.Namespace) -> int:
    with connect(options) as cluster:
        for group in options.group:
            view = describe_group(cluster, group)
            rows = _lag_rows(cluster, view)
            if sys.stdout.isatty():
                assignor = f", assignor {view.assignor}" if view.assignor else ""
                print_line(f"group {group}: {view.state}, {_members(view)}{assignor}")
                _draw_lag(rows)
            else:
                print_table((), ((group, *row) for row in rows))
    return 0


def _members(view: GroupView) -> str:
    return "1 member" if len(view.members) == 1 else f"{len(view.members)} members"


def _draw_lag(rows: list[tuple[object, ...]]) -> None:
    if rows:
        columns = ("TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST", "CLIENT")
        print_table(columns, rows, numbers=("PARTITION", "COMMITTED", "END", "LAG"))
    else:
        print_line("  nothing committed")
    print_line()


def _lag_rows(cluster: ClusterClient, view: GroupView) -> list[tuple[object, ...]]:
    """A row for each partition that is committed or assigned, then one for each member that has none."""
    committed = committed_offsets(cluster, view.group)
    owners = {tp: member for member in view.members for tp in member.partitions}
    ends = list_offsets(cluster, _existing(cluster, {*committed, *owners}), LATEST)
    rows: list[tuple[object, ...]] = []
    for tp in sorted({*committed, *owners}):
        offset, end, owner = committed.get(tp), ends.get(tp), owners.get(tp)
        lag = None if offset is None or end is None else max(0, end - offset)
        whose = (owner.member_id, owner.host, owner.client_id) if owner else (None, None, None)
        rows.append((tp.topic, tp.partition, offset, end, lag, *whose))
    rows += [
        (None, None, None, None, None, member.member_id, member.host, member.client_id)
        for member in view.members
        if not member.partitions
    ]
    return rows


def _existing(cluster: ClusterClient, partitions: set[TopicPartition]) -> list[TopicPartition]:
    """Without those whose topic was deleted; a group may keep their offsets for a while."""
    names = sorted({tp.topic for tp in partitions})
    if not names:
        return []
    there = {
        TopicPartition(topic.name or "", part.partition_index)
        for topic in cluster.retry(lambda: cluster.metadata(names)).topics
        for part in topic.partitions
    }
    return sorted(partitions & there)


def _reset(options: argparse.Namespace) -> int:
    with connect(options) as cluster:
        view = None
        try:
            view = describe_group(cluster, options.group)
        except CommandError:
            if options.all_topics:
                raise  # with --topic a group may be made by giving it offsets
        if view is not None and view.members:
            raise CommandError(
                f"group {options.group!r} is active ({_members(view)}); stop its consumers before a reset"
            )
        committed = committed_offsets(cluster, options.group)
        partitions = _chosen(cluster, options, committed)
        targets = _targets(cluster, options, partitions, committed)
        if not options.dry_run:
            _commit(cluster, options.group, targets)
        rows = [(tp.topic, tp.partition, committed.get(tp), targets[tp]) for tp in sorted(targets)]
        print_table(("TOPIC", "PARTITION", "FROM", "TO"), rows, numbers=("PARTITION", "FROM", "TO"))
        if options.dry_run:
            notice("dry run: nothing was changed")
    return 0


def _chosen(
    cluster: ClusterClient, options: argparse.Namespace, committed: dict[TopicPartition, int]
) -> list[TopicPartition]:
    if options.all_topics:
        if not committed:
            raise CommandError(f"group {options.group!r} has committed nothing; name topics with --topic")
        return _existing(cluster, set(committed))
    chosen: set[TopicPartition] = set()
    for item in options.topic:
        topic, colon, numbers = item.partition(":")
        there = {part.partition_index for part in cluster.partitions(topic)}
        wanted = there
        if colon:
            if not all(number.isdecimal() for number in numbers.split(",")):
                raise UsageError(f"--topic: {item!r} is not TOPIC:0,1,...")
            wanted = set(map(int, numbers.split(",")))
            if wanted - there:
                raise UsageError(f"--topic: topic {topic!r} has no partition {min(wanted - there)}")
        chosen.update(TopicPartition(topic, partition) for partition in wanted)
    return sorted(chosen)


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
    elif options.shift_by is not None:
        wanted = {tp: committed[tp] + options.shift_by for tp in partitions if tp in committed}
        if len(wanted) < len(partitions):
            bare = next(tp for tp in partitions if tp not in committed)
            raise CommandError(f"nothing is committed for {bare}, so there is nothing to shift")
    else:
        moment = options.to_datetime if options.by_duration is None else _now_ms() - options.by_duration
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
        check_commit(cluster.coordinator(group).request(request, m.OffsetCommitResponse, versions=COMMIT_VERSIONS))

    cluster.retry(attempt)


def _delete(options: argparse.Namespace) -> int:
    failures = 0
    with connect(options) as cluster:
        for group in dict.fromkeys(options.group):

            def attempt(group: str = group) -> int:
                request = m.DeleteGroupsRequest(groups_names=[group])
                result = cluster.coordinator(group).request(request, m.DeleteGroupsResponse).results[0]
                if result.error_code not in (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.NON_EMPTY_GROUP):
                    check(result.error_code)
                return result.error_code

            code = cluster.retry(attempt)
            if code == ErrorCode.NONE:
                print_line(f"deleted group {group}")
                continue
            failures += 1
            why = "does not exist" if code == ErrorCode.GROUP_ID_NOT_FOUND else "has active members; stop them first"
            print(f"pylog: group {group!r} {why}", file=sys.stderr)
    return 1 if failures else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""`pylog groups delete`: whole groups, or what one has committed for some topics."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cluster.broker.peer import PeerError
from cluster.cli.arguments import add_connection, connect
from cluster.cli.client import ClusterClient
from cluster.cli.errors import CommandError, UsageError, check
from cluster.cli.group_output import say_failed
from cluster.cli.group_topics import chosen_partitions
from cluster.cli.offsets import TopicPartition, committed_offsets
from cluster.cli.output import print_line
from cluster.protocol import messages as m
from pylog.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_WHY = {
    ErrorCode.GROUP_ID_NOT_FOUND: "does not exist",
    ErrorCode.NON_EMPTY_GROUP: "has active members; stop them first",
}


def add_delete(verbs: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """The verb and its options."""
    verb = verbs.add_parser("delete", help="delete groups with their offsets, or offsets of some topics")
    verb.add_argument("group", nargs="+")
    verb.add_argument(
        "-t", "--topic", action="append", metavar="TOPIC[:0,1,...]", help="only what is committed for it, not the group"
    )
    verb.set_defaults(run=_run)
    add_connection(verb)


def _run(options: argparse.Namespace) -> int:
    groups = list(dict.fromkeys(options.group))
    with connect(options) as cluster:
        if options.topic:
            if len(groups) > 1:
                raise UsageError("--topic deletes offsets of one group at a time")
            return _delete_offsets(cluster, groups[0], options.topic)
        return say_failed([failure for group in groups if (failure := _delete_group(cluster, group))])


def _delete_group(cluster: ClusterClient, group: str) -> str:
    """Delete it; the words for why it cannot be."""

    def attempt() -> int:
        request = m.DeleteGroupsRequest(groups_names=[group])
        result = cluster.coordinator(group).request(request, m.DeleteGroupsResponse).results[0]
        if result.error_code not in _WHY:
            check(result.error_code)
        return result.error_code

    try:
        code = cluster.retry(attempt)
    except (KafkaError, PeerError) as error:  # the others may have another coordinator
        return f"group {group!r} is not deleted: {error}"
    if code != ErrorCode.NONE:
        return f"group {group!r} {_WHY[ErrorCode(code)]}"
    print_line(f"deleted group {group}")
    return ""


def _delete_offsets(cluster: ClusterClient, group: str, topics: list[str]) -> int:
    committed = committed_offsets(cluster, group)
    doomed = [tp for tp in chosen_partitions(cluster, topics) if tp in committed]
    if not doomed:
        raise CommandError(f"group {group!r} has committed nothing for {', '.join(topics)}")
    by_topic: dict[str, list[int]] = {}
    for tp in doomed:
        by_topic.setdefault(tp.topic, []).append(tp.partition)
    request = m.OffsetDeleteRequest(
        group_id=group,
        topics=[
            m.OffsetDeleteRequest.OffsetDeleteRequestTopic(
                name=name,
                partitions=[
                    m.OffsetDeleteRequest.OffsetDeleteRequestPartition(partition_index=number) for number in numbers
                ],
            )
            for name, numbers in by_topic.items()
        ],
    )

    def attempt() -> None:
        answer = cluster.coordinator(group).request(request, m.OffsetDeleteResponse)
        if answer.error_code in _WHY:
            raise CommandError(f"group {group!r} {_WHY[ErrorCode(answer.error_code)]}")
        check(answer.error_code)
        for topic in answer.topics:
            for part in topic.partitions:
                if part.error_code == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC:
                    raise CommandError(f"members of group {group!r} read {topic.name!r} now; stop them first")
                check(part.error_code)

    cluster.retry(attempt)
    for tp in doomed:
        print_line(f"deleted offset {committed[tp]} of {_named(tp)} in group {group}")
    return 0


def _named(tp: TopicPartition) -> str:
    return f"{tp.topic}-{tp.partition}"

"""Consumer groups as their coordinators describe them, whichever of Kafka's two group protocols their members speak."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.broker.peer import Peer
from cluster.cli.client import ClusterClient
from cluster.cli.errors import CommandError, check
from cluster.cli.offsets import TopicPartition, by_peer
from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.records import VERSION_BYTES, read_version
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple

CLASSIC = "classic"
CONSUMER = "consumer"
_CONSUMER_PROTOCOL = "consumer"

Rebalance = m.DescribeGroupsResponse.Rebalance
Described = m.DescribeGroupsResponse.DescribedGroup


class Member(NamedTuple):
    """One consumer. `partitions`: what it was assigned, as far as it can be read."""

    member_id: str
    client_id: str
    host: str
    partitions: list[TopicPartition]
    instance_id: str | None = None


class GroupView(NamedTuple):
    """`kind`: CLASSIC or CONSUMER. `state`: Empty, PreparingRebalance, CompletingRebalance, Stable, Assigning or
    Reconciling. `coordinator`: where it answers. `rebalances`: its latest, when asked for; None: this broker keeps no
    history."""

    group: str
    kind: str
    protocol: str
    state: str
    assignor: str
    members: list[Member]
    coordinator: str
    rebalances: list[Rebalance] | None = None


def describe_group(cluster: ClusterClient, group: str) -> GroupView:
    """The group, with retries. Raises CommandError when there is none."""
    view = describe_groups(cluster, [group]).get(group)
    if view is None:
        raise CommandError(f"group {group!r} does not exist")
    return view


def describe_groups(cluster: ClusterClient, groups: Iterable[str], *, rebalances: int = 0) -> dict[str, GroupView]:
    """Those of the groups that exist, with retries. `rebalances`: how many of the latest to ask for."""
    missing = dict.fromkeys(groups)
    found: dict[str, GroupView] = {}

    def attempt() -> None:
        for peer, names in by_peer(cluster.coordinators(missing)):
            found.update(_describe(peer, names, rebalances))
            for name in names:
                del missing[name]

    if missing:
        cluster.retry(attempt)
    return found


def _describe(peer: Peer, groups: list[str], rebalances: int) -> dict[str, GroupView]:
    request = m.DescribeGroupsRequest(groups=groups, rebalances=rebalances)
    found: dict[str, GroupView] = {}
    rest: dict[str, Described] = {}
    for answer in peer.request(request, m.DescribeGroupsResponse).groups:
        if answer.error_code == ErrorCode.GROUP_ID_NOT_FOUND or answer.group_state == "Dead":
            rest[answer.group_id] = answer
        else:
            check(answer.error_code, answer.error_message)
            found[answer.group_id] = _classic(answer, peer)
    if rest and peer.serves(m.ConsumerGroupDescribeRequest):
        modern = m.ConsumerGroupDescribeRequest(group_ids=list(rest))
        for each in peer.request(modern, m.ConsumerGroupDescribeResponse).groups:
            # Kafka 3.9 advertises this request and then says that it does not support it.
            if each.error_code not in (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNSUPPORTED_VERSION):
                check(each.error_code, each.error_message)
                found[each.group_id] = _modern(each, peer, rest[each.group_id].rebalances)
    return found


def _classic(answer: Described, peer: Peer) -> GroupView:
    readable = answer.protocol_type == _CONSUMER_PROTOCOL
    members = [
        Member(
            member.member_id,
            member.client_id,
            member.client_host.removeprefix("/"),
            decode_assignment(member.member_assignment) if readable else [],
            member.group_instance_id,
        )
        for member in answer.members
    ]
    return GroupView(
        answer.group_id,
        CLASSIC,
        answer.protocol_type,
        answer.group_state,
        answer.protocol_data,
        members,
        peer.address,
        answer.rebalances,
    )


def _modern(
    answer: m.ConsumerGroupDescribeResponse.DescribedGroup, peer: Peer, rebalances: list[Rebalance] | None
) -> GroupView:
    members = [
        Member(
            member.member_id,
            member.client_id,
            member.client_host.removeprefix("/"),
            [
                TopicPartition(topic.topic_name, partition)
                for topic in member.assignment.topic_partitions
                for partition in topic.partitions
            ],
            member.instance_id,
        )
        for member in answer.members
    ]
    return GroupView(
        answer.group_id,
        CONSUMER,
        _CONSUMER_PROTOCOL,
        answer.group_state,
        answer.assignor_name,
        members,
        peer.address,
        rebalances,
    )


def decode_assignment(data: bytes) -> list[TopicPartition]:
    """The partitions in a member's assignment; none when it holds what no consumer understands."""
    try:
        version = min(read_version(data), m.ConsumerProtocolAssignment.valid_versions[1])
        # Written by a newer version than we know, it may end with more.
        assignment = m.ConsumerProtocolAssignment.decode(data, version, VERSION_BYTES, exact=False)
    except DecodeError:
        return []
    return [TopicPartition(tp.topic, partition) for tp in assignment.assigned_partitions for partition in tp.partitions]

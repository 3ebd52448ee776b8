"""A consumer group as its coordinator describes it, whichever of Kafka's two group protocols its members speak."""

from __future__ import annotations

from cluster.broker.peer import Peer
from cluster.cli.client import ClusterClient
from cluster.cli.errors import CommandError, check
from cluster.cli.offsets import TopicPartition
from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.records import VERSION_BYTES, read_version
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple

_CONSUMER_PROTOCOL = "consumer"


class Member(NamedTuple):
    """One consumer. `partitions`: what it was assigned, as far as it can be read."""

    member_id: str
    client_id: str
    host: str
    partitions: list[TopicPartition]


class GroupView(NamedTuple):
    """`state`: Empty, PreparingRebalance, CompletingRebalance, Stable, Assigning or Reconciling."""

    group: str
    state: str
    assignor: str
    members: list[Member]


def describe_group(cluster: ClusterClient, group: str) -> GroupView:
    """The group, with retries. Raises CommandError when there is none."""

    def attempt() -> GroupView:
        peer = cluster.coordinator(group)
        view = _describe_classic(peer, group) or _describe_modern(peer, group)
        if view is None:
            raise CommandError(f"group {group!r} does not exist")
        return view

    return cluster.retry(attempt)


def _describe_classic(peer: Peer, group: str) -> GroupView | None:
    answer = peer.request(m.DescribeGroupsRequest(groups=[group]), m.DescribeGroupsResponse).groups[0]
    if answer.error_code == ErrorCode.GROUP_ID_NOT_FOUND or answer.group_state == "Dead":
        return None
    check(answer.error_code, answer.error_message)
    readable = answer.protocol_type == _CONSUMER_PROTOCOL
    members = [
        Member(
            member.member_id,
            member.client_id,
            member.client_host.removeprefix("/"),
            decode_assignment(member.member_assignment) if readable else [],
        )
        for member in answer.members
    ]
    return GroupView(group, answer.group_state, answer.protocol_data, members)


def _describe_modern(peer: Peer, group: str) -> GroupView | None:
    if not peer.serves(m.ConsumerGroupDescribeRequest):
        return None
    answer = peer.request(m.ConsumerGroupDescribeRequest(group_ids=[group]), m.ConsumerGroupDescribeResponse).groups[0]
    # Kafka 3.9 advertises this request and then says that it does not support it.
    if answer.error_code in (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNSUPPORTED_VERSION):
        return None
    check(answer.error_code, answer.error_message)
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
        )
        for member in answer.members
    ]
    return GroupView(group, answer.group_state, answer.assignor_name, members)


def decode_assignment(data: bytes) -> list[TopicPartition]:
    """The partitions in a member's assignment; none when it holds what no consumer understands."""
    try:
        version = min(read_version(data), m.ConsumerProtocolAssignment.valid_versions[1])
        # Written by a newer version than we know, it may end with more.
        assignment = m.ConsumerProtocolAssignment.decode(data, version, VERSION_BYTES, exact=False)
    except DecodeError:
        return []
    return [TopicPartition(tp.topic, partition) for tp in assignment.assigned_partitions for partition in tp.partitions]

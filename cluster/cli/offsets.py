"""Where partitions begin and end, and what a group has committed.

What it keeps true: offsets of a partition come from its leader, committed ones from the group's coordinator; every
function asks again, through the client's `retry`, while leaders and coordinators move.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cluster.broker.peer import Peer
from cluster.cli.client import ClusterClient
from cluster.cli.errors import CommandError, check
from cluster.protocol import messages as m
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple

# What ListOffsets takes in the place of a timestamp.
LATEST = -1
EARLIEST = -2

READ_UNCOMMITTED = 0
READ_COMMITTED = 1

NO_OFFSET = -1
_CONSUMER = -1  # replica id of whoever is not a broker
_NO_GENERATION = -1
_NO_EPOCH = -1
_GROUPS_AT_ONCE = 100


class TopicPartition(NamedTuple):
    """A partition anywhere in the cluster."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


def list_offsets(
    cluster: ClusterClient,
    partitions: Iterable[TopicPartition],
    timestamp: int,
    isolation: int = READ_UNCOMMITTED,
) -> dict[TopicPartition, int]:
    """Of each partition the first offset at or after a timestamp in ms (NO_OFFSET: none), or LATEST, or EARLIEST.

    `isolation`: READ_COMMITTED ends before the first transaction that is still undecided.
    """
    missing = set(partitions)
    found: dict[TopicPartition, int] = {}

    def attempt() -> None:
        for leader, asked in leaders(cluster, missing).items():
            answer = cluster.broker(leader).request(
                _list_offsets_request(asked, timestamp, isolation), m.ListOffsetsResponse, versions=(1, 99)
            )
            for topic in answer.topics:
                for part in topic.partitions:
                    check(part.error_code)
                    found[TopicPartition(topic.name, part.partition_index)] = part.offset
            missing.difference_update(found)

    cluster.retry(attempt)
    return found


def leaders(cluster: ClusterClient, partitions: Iterable[TopicPartition]) -> dict[int, list[TopicPartition]]:
    """The partitions by the broker that leads them. Raises for `retry`, and CommandError for what does not exist."""
    wanted = sorted(partitions)
    led: dict[int, list[TopicPartition]] = {}
    if not wanted:
        return led
    by_name: dict[str, dict[int, int]] = {}
    for topic in cluster.metadata(sorted({tp.topic for tp in wanted})).topics:
        if topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            raise CommandError(f"topic {topic.name!r} does not exist")
        check(topic.error_code)
        by_name[topic.name or ""] = {part.partition_index: part.leader_id for part in topic.partitions}
    for tp in wanted:
        leader = by_name[tp.topic].get(tp.partition)
        if leader is None:
            last = len(by_name[tp.topic]) - 1
            raise CommandError(f"topic {tp.topic!r} has no partition {tp.partition}, only 0 to {last}")
        if leader < 0:
            raise KafkaError(ErrorCode.LEADER_NOT_AVAILABLE, f"Partition {tp} has no leader at the moment.")
        led.setdefault(leader, []).append(tp)
    return led


def committed_offsets(cluster: ClusterClient, group: str) -> dict[TopicPartition, int]:
    """Everything a group has committed."""
    return committed_by_group(cluster, [group])[group]


def committed_by_group(cluster: ClusterClient, groups: Iterable[str]) -> dict[str, dict[TopicPartition, int]]:
    """Everything these groups have committed, asked for at once, or nearly so, of each coordinator."""
    missing = dict.fromkeys(groups)
    found: dict[str, dict[TopicPartition, int]] = {}

    def attempt() -> None:
        for peer, names in by_peer(cluster.coordinators(missing)):
            found.update(_fetch_committed(peer, names))
            for name in names:
                del missing[name]

    if missing:
        cluster.retry(attempt)
    return found


def by_peer(peers: Mapping[str, Peer]) -> Iterator[tuple[Peer, list[str]]]:
    """Who is to be asked about which groups: about so many at once that others need not wait long for their answers."""
    asked: dict[Peer, list[str]] = {}
    for group, peer in peers.items():
        asked.setdefault(peer, []).append(group)
    for peer, groups in asked.items():
        for at in range(0, len(groups), _GROUPS_AT_ONCE):
            yield peer, groups[at : at + _GROUPS_AT_ONCE]


def _fetch_committed(peer: Peer, groups: list[str]) -> dict[str, dict[TopicPartition, int]]:
    # Version 8 asks for several groups at once, version 10 names topics by their ids.
    if peer.serves(m.OffsetFetchRequest, (8, 9)):
        asked = [m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id=group, topics=None) for group in groups]
        answer = peer.request(m.OffsetFetchRequest(groups=asked), m.OffsetFetchResponse, versions=(8, 9))
        for each in answer.groups:
            check(each.error_code)
        return {each.group_id: _committed(each.topics) for each in answer.groups}
    found = {}
    for group in groups:
        request = m.OffsetFetchRequest(group_id=group, topics=None)
        old = peer.request(request, m.OffsetFetchResponse, versions=(2, 7))
        check(old.error_code)
        found[group] = _committed(old.topics)
    return found


def _committed(
    topics: Sequence[m.OffsetFetchResponse.OffsetFetchResponseTopics | m.OffsetFetchResponse.OffsetFetchResponseTopic],
) -> dict[TopicPartition, int]:
    return {
        TopicPartition(topic.name, part.partition_index): part.committed_offset
        for topic in topics
        for part in topic.partitions
        if part.error_code == ErrorCode.NONE and part.committed_offset != NO_OFFSET
    }


def commit_request(
    group: str,
    offsets: Mapping[TopicPartition, int],
    *,
    member_id: str = "",
    generation: int = _NO_GENERATION,
) -> m.OffsetCommitRequest:
    """An OffsetCommit of versions 2 to 9, as a member of the group or, without a generation, from outside."""
    topics: dict[str, list[m.OffsetCommitRequest.OffsetCommitRequestPartition]] = {}
    for tp, offset in sorted(offsets.items()):
        topics.setdefault(tp.topic, []).append(
            m.OffsetCommitRequest.OffsetCommitRequestPartition(
                partition_index=tp.partition,
                committed_offset=offset,
                committed_leader_epoch=_NO_EPOCH,
                committed_metadata="",
            )
        )
    return m.OffsetCommitRequest(
        group_id=group,
        generation_id_or_member_epoch=generation,
        member_id=member_id,
        topics=[
            m.OffsetCommitRequest.OffsetCommitRequestTopic(name=name, partitions=parts)
            for name, parts in topics.items()
        ],
    )


COMMIT_VERSIONS = (2, 9)


def check_commit(answer: m.OffsetCommitResponse) -> None:
    """Raise the first error of an OffsetCommit's answer."""
    for topic in answer.topics:
        for part in topic.partitions:
            check(part.error_code)


def _list_offsets_request(partitions: list[TopicPartition], timestamp: int, isolation: int) -> m.ListOffsetsRequest:
    topics: dict[str, list[m.ListOffsetsRequest.ListOffsetsPartition]] = {}
    for tp in partitions:
        topics.setdefault(tp.topic, []).append(
            m.ListOffsetsRequest.ListOffsetsPartition(partition_index=tp.partition, timestamp=timestamp)
        )
    return m.ListOffsetsRequest(
        replica_id=_CONSUMER,
        isolation_level=isolation,
        topics=[m.ListOffsetsRequest.ListOffsetsTopic(name=name, partitions=parts) for name, parts in topics.items()],
    )

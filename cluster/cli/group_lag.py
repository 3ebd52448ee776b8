"""How far groups are behind, partition by partition: in records, and in time.

What it keeps true: a number that cannot be known is None, never 0: nothing committed, no such topic any more, no leader
at the moment. A sum is that of the parts which are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster.cli.client import ClusterClient
from cluster.cli.group_view import GroupView, Member
from cluster.cli.offsets import LATEST, TopicPartition, committed_by_group, list_offsets
from cluster.cli.unread import Position, ages
from pylog.facts import NamedTuple


class PartitionLag(NamedTuple):
    """`records`: how many are not committed. `seconds`: since the first of them; 0 when there is none. `owner`: the
    member it is assigned to."""

    partition: TopicPartition
    committed: int | None
    end: int | None
    records: int | None
    seconds: float | None
    owner: Member | None


class Lag(NamedTuple):
    """Of several partitions: the records of all, the seconds of the one that is furthest behind."""

    records: int | None
    seconds: float | None


def partition_lags(
    cluster: ClusterClient, views: Mapping[str, GroupView], *, with_time: bool = True
) -> dict[str, list[PartitionLag]]:
    """Of each group, every partition that is committed or assigned, in order."""
    committed = committed_by_group(cluster, views)
    owners = {
        group: {tp: member for member in view.members for tp in member.partitions} for group, view in views.items()
    }
    wanted = {group: sorted({*committed[group], *owners[group]}) for group in views}
    ends = list_offsets(cluster, led(cluster, (tp for partitions in wanted.values() for tp in partitions)), LATEST)
    seconds: dict[Position, float | None] = {}
    if with_time:
        behind = {
            Position(tp, offset): ends[tp] for each in committed.values() for tp, offset in each.items() if tp in ends
        }
        seconds = ages(cluster, behind)
    lags: dict[str, list[PartitionLag]] = {}
    for group, partitions in wanted.items():
        lags[group] = []
        for tp in partitions:
            offset, end = committed[group].get(tp), ends.get(tp)
            known = offset is not None and end is not None
            lags[group].append(
                PartitionLag(
                    tp,
                    offset,
                    end,
                    end - offset if offset is not None and end is not None else None,
                    seconds.get(Position(tp, offset)) if known and offset is not None else None,
                    owners[group].get(tp),
                )
            )
    return lags


def total(lags: Iterable[PartitionLag]) -> Lag:
    """The sum. What is committed beyond an end makes up for nothing elsewhere."""
    each = list(lags)
    records = [max(0, lag.records) for lag in each if lag.records is not None]
    seconds = [lag.seconds for lag in each if lag.seconds is not None]
    return Lag(sum(records) if records else None, max(seconds, default=None))


def led(cluster: ClusterClient, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
    """Those that exist and have a leader; a group may keep offsets of a deleted topic for a while."""
    wanted = set(partitions)
    names = sorted({tp.topic for tp in wanted})
    if not names:
        return []
    there = {
        TopicPartition(topic.name or "", part.partition_index)
        for topic in cluster.retry(lambda: cluster.metadata(names)).topics
        for part in topic.partitions
        if part.leader_id >= 0
    }
    return sorted(wanted & there)

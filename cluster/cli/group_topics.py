"""Partitions as `--topic TOPIC[:0,1,...]` names them."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.cli.client import ClusterClient
from cluster.cli.errors import UsageError
from cluster.cli.offsets import TopicPartition


def chosen_partitions(cluster: ClusterClient, texts: Iterable[str]) -> list[TopicPartition]:
    """Each of them once, in order. Raises UsageError for a partition that does not exist, CommandError for a topic."""
    chosen: set[TopicPartition] = set()
    for text in texts:
        topic, colon, numbers = text.partition(":")
        if colon and not all(number.isdecimal() for number in numbers.split(",")):
            raise UsageError(f"--topic: {text!r} is not TOPIC:0,1,...")
        there = {part.partition_index for part in cluster.partitions(topic)}
        wanted = set(map(int, numbers.split(","))) if colon else there
        if wanted - there:
            raise UsageError(f"--topic: topic {topic!r} has no partition {min(wanted - there)}")
        chosen.update(TopicPartition(topic, partition) for partition in wanted)
    return sorted(chosen)

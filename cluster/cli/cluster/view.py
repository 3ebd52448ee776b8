"""What the brokers of a cluster say about it: who is alive, who is the controller, which partitions are in trouble."""

from __future__ import annotations

from typing import NamedTuple

from cluster.broker.peer import PeerError
from cluster.cli.client import ClusterClient, parse_addresses
from cluster.cli.cluster.layout import Layout
from cluster.cli.errors import CommandError
from pylog.errors import KafkaError

_PATIENCE_MS = 2_000


class View(NamedTuple):
    """`under_replicated`, `offline`: partitions as `topic-0`."""

    alive: set[int]
    controller: int
    topics: int
    partitions: int
    under_replicated: list[str]
    offline: list[str]


def look(layout: Layout) -> View | None:
    """None when no broker answers."""
    running = [each for each in layout.ids if layout.broker(each).pid() is not None]
    if not running:
        return None
    addresses = parse_addresses(",".join(layout.address(each) for each in running))
    try:
        with ClusterClient(addresses, timeout_ms=_PATIENCE_MS) as cluster:
            answer = cluster.metadata(None)
    except (CommandError, KafkaError, PeerError):
        return None
    found = [
        (f"{topic.name}-{each.partition_index}", each)
        for topic in sorted(answer.topics, key=lambda topic: topic.name or "")
        for each in sorted(topic.partitions, key=lambda each: each.partition_index)
    ]
    return View(
        {broker.node_id for broker in answer.brokers},
        answer.controller_id,
        len(answer.topics),
        len(found),
        [name for name, each in found if len(each.isr_nodes) < len(each.replica_nodes)],
        [name for name, each in found if each.leader_id < 0],
    )

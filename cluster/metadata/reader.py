"""The whole tree read into facts: what a controller begins with.

What stays true: a node that goes while others are read counts as never seen; data that cannot be read is a ValueError
that names the path, for a broker must not guess what its cluster looks like.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.metadata import paths
from cluster.metadata.store import NoNode, Stat, Store
from cluster.model import Broker, ClusterFacts, LeaderAndIsr, TopicDescription
from pylog.typed import ParamSpec, TypeVar
from pylog.types import TopicPartition

P = ParamSpec("P")
T = TypeVar("T")


def read_cluster(store: Store) -> ClusterFacts:
    """Raises ValueError, and what the store raises."""
    topics = _read_topics(store)
    cluster_id = _get(store, paths.CLUSTER_ID)
    epoch = _get(store, paths.CONTROLLER_EPOCH)
    return ClusterFacts(
        cluster_id=_naming(paths.CLUSTER_ID, paths.ClusterIdNode.decode, cluster_id[0]).cluster_id
        if cluster_id
        else "",
        controller_epoch=_naming(paths.CONTROLLER_EPOCH, paths.decode_controller_epoch, epoch[0]) if epoch else 0,
        brokers=read_brokers(store),
        topics=topics,
        states=_read_states(store, topics),
        topic_configs=_read_configs(store, paths.CONFIG_TOPICS),
        broker_configs=_read_configs(store, paths.CONFIG_BROKERS),
        deleting=frozenset(store.children(paths.DELETE_TOPICS)),
    )


def read_brokers(store: Store) -> dict[int, Broker]:
    """The brokers that are alive, by id."""
    brokers: dict[int, Broker] = {}
    for name in store.children(paths.BROKER_IDS):
        path = paths.broker(int(name))
        found = _get(store, path)
        if found is not None:
            data, stat = found
            brokers[int(name)] = _naming(path, paths.BrokerRegistration.decode, data).broker(int(name), stat.czxid)
    return brokers


def read_topic_node(name: str, data: bytes | None) -> TopicDescription:
    """What /brokers/topics/`name` says. Raises ValueError with the path."""
    return _naming(paths.topic(name), paths.decode_topic, name, data)


def _read_topics(store: Store) -> dict[str, TopicDescription]:
    topics: dict[str, TopicDescription] = {}
    for name in store.children(paths.TOPICS):
        found = _get(store, paths.topic(name))
        if found is not None:
            topics[name] = read_topic_node(name, found[0])
    return topics


def _read_states(store: Store, topics: dict[str, TopicDescription]) -> dict[TopicPartition, LeaderAndIsr]:
    states: dict[TopicPartition, LeaderAndIsr] = {}
    known: dict[tuple[bytes | None, int], LeaderAndIsr] = {}  # many partitions, few different states
    for name, topic in topics.items():
        for index in range(len(topic.partitions)):
            path = paths.partition_state(name, index)
            found = _get(store, path)
            if found is None:
                continue
            data, stat = found
            state = known.get((data, stat.version))
            if state is None:
                state = _naming(path, paths.decode_partition_state, data, stat.version)
                known[data, stat.version] = state
            states[TopicPartition(name, index)] = state
    return states


def _read_configs(store: Store, parent: str) -> dict[str, dict[str, str]]:
    configs: dict[str, dict[str, str]] = {}
    for name in store.children(parent):
        path = f"{parent}/{name}"
        found = _get(store, path)
        if found is not None:
            configs[name] = _naming(path, paths.decode_config, found[0])
    return configs


def _get(store: Store, path: str) -> tuple[bytes | None, Stat] | None:
    try:
        return store.get(path)
    except NoNode:
        return None


def _naming(path: str, decode: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return decode(*args, **kwargs)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

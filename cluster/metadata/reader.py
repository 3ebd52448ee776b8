"""The whole tree read into facts: what a controller begins with.

What stays true: a node that goes while others are read counts as never seen; data that cannot be read is a ValueError
that names the path, for a broker must not guess what its cluster looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cluster.metadata import paths
from cluster.metadata.store import NoNode, Read, Stat, Store, StoreError, Watch
from cluster.model import Broker, ClusterFacts, LeaderAndIsr, TopicDescription
from pylog.facts import NamedTuple
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
    by_path = {paths.broker(int(name)): int(name) for name in store.children(paths.BROKER_IDS)}
    return {
        by_path[path]: _naming(path, paths.BrokerRegistration.decode, data).broker(by_path[path], stat.czxid)
        for path, (data, stat) in _get_many(store, by_path).items()
    }


def read_topic_node(name: str, data: bytes | None) -> TopicDescription:
    """What /brokers/topics/`name` says. Raises ValueError with the path."""
    return _naming(paths.topic(name), paths.decode_topic, name, data)


class Found(NamedTuple):
    """A node of a walk."""

    path: str
    data: bytes | None
    stat: Stat


def walk(store: Store, path: str = "/") -> Iterator[Found]:
    """A node and all below it, parents before their children, level by level. Nothing, when it is not there."""
    level = [path]
    while level:
        parents: list[str] = []
        for each, (data, stat) in _get_many(store, level).items():
            if stat.num_children:
                parents.append(each)
            yield Found(each, data, stat)
        level = []
        for parent, names in zip(parents, store.children_many(parents), strict=True):
            if isinstance(names, NoNode):
                continue
            if isinstance(names, StoreError):
                raise names
            level += [f"{parent.rstrip('/')}/{name}" for name in names]


def _read_topics(store: Store) -> dict[str, TopicDescription]:
    by_path = {paths.topic(name): name for name in store.children(paths.TOPICS)}
    return {
        by_path[path]: read_topic_node(by_path[path], data) for path, (data, _) in _get_many(store, by_path).items()
    }


def _read_states(store: Store, topics: dict[str, TopicDescription]) -> dict[TopicPartition, LeaderAndIsr]:
    by_path = {
        paths.partition_state(name, index): TopicPartition(name, index)
        for name, topic in topics.items()
        for index in range(len(topic.partitions))
    }
    states: dict[TopicPartition, LeaderAndIsr] = {}
    known: dict[tuple[bytes | None, int], LeaderAndIsr] = {}  # many partitions, few different states
    for path, (data, stat) in _get_many(store, by_path).items():
        state = known.get((data, stat.version))
        if state is None:
            state = _naming(path, paths.decode_partition_state, data, stat.version)
            known[data, stat.version] = state
        states[by_path[path]] = state
    return states


def _read_configs(store: Store, parent: str) -> dict[str, dict[str, str]]:
    by_path = {f"{parent}/{name}": name for name in store.children(parent)}
    return {
        by_path[path]: _naming(path, paths.decode_config, data) for path, (data, _) in _get_many(store, by_path).items()
    }


def _get_many(store: Store, wanted: Iterable[str]) -> dict[str, Read]:
    """What is there of these paths."""
    asked: list[tuple[str, Watch | None]] = [(path, None) for path in wanted]
    found: dict[str, Read] = {}
    for (path, _), result in zip(asked, store.get_many(asked), strict=True):
        if isinstance(result, NoNode):
            continue
        if isinstance(result, StoreError):
            raise result
        found[path] = result
    return found


def _get(store: Store, path: str) -> Read | None:
    try:
        return store.get(path)
    except NoNode:
        return None


def _naming(path: str, decode: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return decode(*args, **kwargs)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

"""Decisions turned into operations on the tree.

What stays true: whatever a controller writes carries a check of /controller_epoch, so that one which has been replaced
without noticing writes nothing. Creations expect that nothing is there, changes that something is.
"""

from collections.abc import Iterable

from cluster.metadata import paths
from cluster.metadata.store import Check, Create, Delete, NoNode, Op, SetData, Store
from cluster.model import MarkTopicDeleted, PutConfig, PutPartitionState, PutTopic, Write

_NODES_PER_MULTI = 500


def operations(writes: Iterable[Write], fence: int | None = None) -> list[Op]:
    """One multi. `fence`: the znode version of /controller_epoch while the writer is the controller; None where any
    broker may write (configurations)."""
    ops: list[Op] = [] if fence is None else [Check(paths.CONTROLLER_EPOCH, fence)]
    for write in writes:
        if isinstance(write, PutTopic):
            path, data = paths.topic(write.description.name), paths.encode_topic(write.description)
            ops += [Create(path, data), Create(f"{path}/partitions")] if write.is_new else [SetData(path, data)]
        elif isinstance(write, PutPartitionState):
            ops += _state(write)
        elif isinstance(write, PutConfig):
            ops += _config(write)
        else:
            assert isinstance(write, MarkTopicDeleted)
            ops.append(Create(paths.delete_topic(write.topic)))
    return ops


def removals(store: Store, topic: str, fence: int) -> list[list[Op]]:
    """The multis that take away every trace of a deleted topic; its mark goes last. What is there is looked up: a
    creation or a deletion before may have been cut short."""
    gone = [*_below(store, paths.topic(topic)), paths.config("topics", topic), paths.delete_topic(topic)]
    found = [path for path in gone if store.exists(path) is not None]
    return [
        [Check(paths.CONTROLLER_EPOCH, fence), *(Delete(path) for path in found[start : start + _NODES_PER_MULTI])]
        for start in range(0, len(found), _NODES_PER_MULTI)
    ]


def _below(store: Store, path: str) -> list[str]:
    """A node and everything below it, children before their parent."""
    try:
        names = store.children(path)
    except NoNode:
        return []
    return [*(each for name in names for each in _below(store, f"{path}/{name}")), path]


def _state(write: PutPartitionState) -> list[Op]:
    path = paths.partition_state(write.topic, write.partition)
    data = paths.encode_partition_state(write.state)
    if write.state.version >= 0:
        return [SetData(path, data, write.state.version)]
    return [Create(paths.partition(write.topic, write.partition)), Create(path, data)]


def _config(write: PutConfig) -> list[Op]:
    path, data = paths.config(write.kind, write.entity), paths.encode_config(write.settings)
    ops: list[Op] = [Create(path, data) if write.is_new else SetData(path, data)]
    if write.announce:
        change = paths.ConfigChange(f"{write.kind}/{write.entity}")
        ops.append(Create(paths.CONFIG_CHANGE_PREFIX, change.encode(), sequential=True))
    return ops

"""Decisions turned into operations on the tree.

What stays true: whatever a controller writes carries a check of /controller_epoch, so that one which has been replaced
without noticing writes nothing. Creations expect that nothing is there, changes that something is. A multi stays well
below what ZooKeeper takes in one request (jute.maxbuffer, 1 MB), but for a single group that is larger.
"""

from collections.abc import Iterable, Iterator, Sequence

from cluster.metadata import paths
from cluster.metadata.reader import walk
from cluster.metadata.store import Check, Create, Delete, Op, SetData, Store
from cluster.model import MarkTopicDeleted, PutConfig, PutPartitionState, PutTopic, Write, WriteGroup

_MULTI_BYTES = 512 << 10
_OP_BYTES = 64  # what an operation takes in a request besides its path and data: its header, ACL, flags


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


def transactions(groups: Iterable[WriteGroup], fence: int) -> Iterator[tuple[list[Op], list[Write]]]:
    """As few multis as hold the groups, in order and none of them split; with each what it writes."""
    ops: list[Op] = []
    writes: list[Write] = []
    size = 0
    for group in groups:
        more = operations(group)
        more_bytes = _size(more)
        if writes and size + more_bytes > _MULTI_BYTES:
            yield [Check(paths.CONTROLLER_EPOCH, fence), *ops], writes
            ops, writes, size = [], [], 0
        ops += more
        writes += group
        size += more_bytes
    if writes:
        yield [Check(paths.CONTROLLER_EPOCH, fence), *ops], writes


def removals(store: Store, topics: Iterable[str], fence: int) -> Iterator[list[Op]]:
    """The multis that take away every trace of deleted topics; each one's mark goes last. What is there is looked up: a
    creation or a deletion before may have been cut short."""
    ops: list[Op] = []
    size = 0
    for topic in topics:
        gone = [node.path for node in walk(store, paths.topic(topic))][::-1]
        rest = (paths.config("topics", topic), paths.delete_topic(topic))
        gone += [path for path in rest if store.exists(path) is not None]
        for path in gone:
            if size > _MULTI_BYTES:
                yield [Check(paths.CONTROLLER_EPOCH, fence), *ops]
                ops, size = [], 0
            ops.append(Delete(path))
            size += _OP_BYTES + len(path)
    if ops:
        yield [Check(paths.CONTROLLER_EPOCH, fence), *ops]


def _size(ops: Sequence[Op]) -> int:
    """About the bytes of a request with these operations."""
    return sum(_OP_BYTES + len(op.path) + len(getattr(op, "data", None) or b"") for op in ops)


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

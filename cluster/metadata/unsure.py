"""Whether a write took effect whose answer was lost with the connection.

What stays true: yes is said only when everything that the operations leave behind is there and was done by one change
of the tree, later than the last state that was known before; so a write is neither done twice nor given up although it
was done. When somebody else has written over it since, no is said, and trying again tells (BadVersion, NodeExists).
Deletions leave nothing to be recognised by, and are tried again.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.metadata.store import (
    ANY_VERSION,
    Check,
    Create,
    Delete,
    NoNode,
    Op,
    OpResult,
    Read,
    SetData,
    Stat,
    Store,
    StoreError,
    Watch,
    parent_of,
)
from pylog.facts import NamedTuple


class _Trace(NamedTuple):
    """What a node looks like after the operations on it. `version`: -1 when that is not known."""

    data: bytes | None
    version: int
    is_new: bool
    ephemeral: bool


def find_out(store: Store, ops: Sequence[Op], since: int) -> list[OpResult] | None:
    """The results of `ops` if they were done after zxid `since`, else None. The store must have seen the latest state
    (sync). Raises what reading raises."""
    traces, gone = _expected(ops)
    found: dict[str, Read] = {}
    zxids: set[int] = set()
    for path, trace in traces.items():
        node = _get(store, path)
        if node is None or not _matches(store, trace, *node):
            return None
        found[path] = node
        zxids.add(node[1].mzxid)
    if len(zxids) > 1 or any(zxid <= since for zxid in zxids):
        return None
    zxid = next(iter(zxids), None)
    for path in gone:
        node = _get(store, path)
        if node is not None and (zxid is None or node[1].czxid <= zxid):
            return None
    numbered = _numbered(store, [op for op in ops if isinstance(op, Create) and op.sequential], since, zxid)
    if numbered is None:
        return None
    if not (traces or numbered):
        return None  # that nodes are gone says nothing: ask again, and see what `all_gone` says of a NoNode
    return [_result(op, found, numbered) for op in ops]


def all_gone(store: Store, ops: Sequence[Op]) -> bool:
    """Whether deletions, and nothing but checks beside them, have nothing left to do. For a try that met NoNode after
    one whose answer was lost: its checks held until then, and what it was to delete had been deleted before."""
    if any(not isinstance(op, Delete | Check) for op in ops):
        return False
    return all(store.exists(op.path) is None for op in ops if isinstance(op, Delete))


def _expected(ops: Sequence[Op]) -> tuple[dict[str, _Trace], set[str]]:
    """What is to be seen of each node, and which nodes must be gone."""
    traces: dict[str, _Trace] = {}
    gone: set[str] = set()
    for op in ops:
        if isinstance(op, Create) and not op.sequential:
            gone.discard(op.path)
            traces[op.path] = _Trace(op.data, 0, True, op.ephemeral)
        elif isinstance(op, SetData):
            before = traces.get(op.path)
            if before is not None:
                version = before.version + 1 if before.version >= 0 else -1
                traces[op.path] = before._replace(data=op.data, version=version)
            else:
                version = -1 if op.version == ANY_VERSION else op.version + 1
                traces[op.path] = _Trace(op.data, version, False, False)
        elif isinstance(op, Delete):
            made = traces.pop(op.path, None)
            if made is None or not made.is_new:
                gone.add(op.path)
    return traces, gone


def _matches(store: Store, trace: _Trace, data: bytes | None, stat: Stat) -> bool:
    if data != trace.data or trace.version not in (-1, stat.version):
        return False
    if not trace.is_new:
        return True
    return stat.czxid == stat.mzxid and stat.ephemeral_owner == (store.session_id if trace.ephemeral else 0)


def _numbered(store: Store, ops: Sequence[Create], since: int, zxid: int | None) -> list[str] | None:
    """The nodes that sequential creations made, all in one change: in `zxid`, or in the first that made such nodes."""
    made = [_made_since(store, op, since) for op in ops]
    if zxid is not None:
        changes = [zxid]
    else:
        changes = sorted(set.intersection(*(set(each.values()) for each in made))) if made else []
    for change in changes:
        taken: list[str] = []
        for each in made:
            taken += [path for path, czxid in each.items() if czxid == change and path not in taken][:1]
        if len(taken) == len(ops):
            return taken
    return None if ops else []


def _made_since(store: Store, op: Create, since: int) -> dict[str, int]:
    """The nodes that a sequential creation may have made, with the zxids that did, in their order."""
    parent = parent_of(op.path)
    prefix = op.path[op.path.rfind("/") + 1 :]
    try:
        names = store.children(parent)
    except NoNode:
        return {}
    numbers = [name for name in names if name.startswith(prefix) and name[len(prefix) :].isdecimal()]
    wanted: list[tuple[str, Watch | None]] = [(f"{parent.rstrip('/')}/{name}", None) for name in numbers]
    owner = store.session_id if op.ephemeral else 0
    found: dict[str, int] = {}
    for (path, _), node in zip(wanted, store.get_many(wanted), strict=True):
        if isinstance(node, StoreError) or node[0] != op.data or node[1].ephemeral_owner != owner:
            continue
        if node[1].czxid > since:
            found[path] = node[1].czxid
    return found


def _result(op: Op, found: dict[str, Read], numbered: list[str]) -> OpResult:
    if isinstance(op, Create):
        return numbered.pop(0) if op.sequential else op.path
    if isinstance(op, SetData) and op.path in found:
        return found[op.path][1]
    return None


def _get(store: Store, path: str) -> Read | None:
    try:
        return store.get(path)
    except NoNode:
        return None

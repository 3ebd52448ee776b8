"""The tree in memory: what ZooKeeper's servers compute, without sessions' life or a medium.

What stays true: `prepare` decides a list of operations against the tree without changing it, and `commit` makes exactly
that decision real; between the two a store may write it down, and when that fails the tree is as it was. One list of
operations is one zxid. Nothing here reads a clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from cluster.metadata.store import (
    ANY_VERSION,
    CHANGED,
    CHILDREN,
    CREATED,
    DELETED,
    MAX_NODE_BYTES,
    BadVersion,
    Create,
    Delete,
    NoChildrenForEphemerals,
    NodeExists,
    NodeTooLarge,
    NoNode,
    NotEmpty,
    Op,
    OpResult,
    SetData,
    Stat,
    StoreError,
    Watch,
    WatchEvent,
    check_path,
    parent_of,
)
from pylog.facts import NamedTuple


class Node(NamedTuple):
    """`creations`: how many children were ever made below it; the numbers of sequential nodes come from it."""

    data: bytes | None
    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    creations: int
    owner: int
    pzxid: int


class Change:
    """What a list of operations would do: nodes by path (None: deleted), in order of first touch."""

    __slots__ = ("added", "events", "nodes", "removed", "results", "zxid")

    def __init__(self, zxid: int) -> None:
        self.zxid = zxid
        self.nodes: dict[str, Node | None] = {}
        self.added: dict[str, set[str]] = {}
        self.removed: dict[str, set[str]] = {}
        self.events: list[WatchEvent] = []
        self.results: list[OpResult] = []


class Tree:
    """Nodes, the children of each, and the watches on them."""

    __slots__ = ("_child_watches", "_children", "_data_watches", "_nodes", "zxid")

    def __init__(self, nodes: Mapping[str, Node], zxid: int = 0) -> None:
        """`nodes`: as loaded; a node's parent is among them."""
        self._nodes: dict[str, Node] = {"/": Node(b"", 0, 0, 0, 0, 0, 0, 0, 0), **nodes}
        self._children: defaultdict[str, set[str]] = defaultdict(set)  # only of nodes that have or had some
        for path in nodes:
            if path != "/":
                parent, _, name = path.rpartition("/")
                self._children[parent or "/"].add(name)
        self.zxid = zxid
        self._data_watches: dict[str, list[tuple[int, Watch]]] = {}
        self._child_watches: dict[str, list[tuple[int, Watch]]] = {}

    # ------------------------------------------------------------------ reading

    def get(self, path: str) -> tuple[bytes | None, Stat]:
        check_path(path)
        node = self._nodes.get(path)
        if node is None:
            raise NoNode(path)
        return node.data, self._stat(node, len(self._children.get(path, ())))

    def children(self, path: str) -> list[str]:
        check_path(path)
        if path not in self._nodes:
            raise NoNode(path)
        return sorted(self._children.get(path, ()))

    def node(self, path: str) -> Node | None:
        return self._nodes.get(path)

    def owned_by(self, session: int) -> list[str]:
        """The ephemeral nodes of a session."""
        return [path for path, node in self._nodes.items() if node.owner == session]

    @staticmethod
    def _stat(node: Node, child_count: int) -> Stat:
        length = 0 if node.data is None else len(node.data)
        return Stat(
            node.czxid,
            node.mzxid,
            node.ctime,
            node.mtime,
            node.version,
            2 * node.creations - child_count,  # creations and deletions of children together
            node.owner,
            length,
            child_count,
            node.pzxid,
        )

    # ------------------------------------------------------------------ changing

    def prepare(self, ops: Sequence[Op], *, session: int, now_ms: int) -> Change:
        """Decide; raises the error of the first operation that fails, with its index."""
        change = Change(self.zxid + 1)
        for index, op in enumerate(ops):
            try:
                check_path(op.path)
                if isinstance(op, Create):
                    change.results.append(self._create(change, op, session, now_ms))
                elif isinstance(op, SetData):
                    change.results.append(self._set(change, op, now_ms))
                elif isinstance(op, Delete):
                    self._delete(change, op)
                    change.results.append(None)
                else:
                    self._expect(change, op.path, op.version)
                    change.results.append(None)
            except StoreError as error:
                error.op_index = index
                raise
        return change

    def commit(self, change: Change) -> list[tuple[Watch, WatchEvent]]:
        """Make a decision real; returns the watches that fire, in order."""
        for path, node in change.nodes.items():
            if node is None:
                self._nodes.pop(path, None)
                self._children.pop(path, None)
            else:
                self._nodes[path] = node
        for parent, names in change.removed.items():
            if parent in self._children:
                self._children[parent] -= names
        for parent, names in change.added.items():
            if names:
                self._children[parent] |= names
        self.zxid = change.zxid
        return [fired for event in change.events for fired in self._fire(event)]

    def _node(self, change: Change, path: str) -> Node | None:
        return change.nodes[path] if path in change.nodes else self._nodes.get(path)

    def _child_count(self, change: Change, path: str) -> int:
        return len(self._children.get(path, ())) + len(change.added.get(path, ())) - len(change.removed.get(path, ()))

    def _create(self, change: Change, op: Create, session: int, now_ms: int) -> str:
        _check_size(op.path, op.data)
        parent_path = parent_of(op.path)
        parent = self._node(change, parent_path)
        if parent is None:
            raise NoNode(op.path)
        if parent.owner:
            raise NoChildrenForEphemerals(op.path)
        path = op.path if not op.sequential else f"{op.path}{parent.creations:010d}"
        if self._node(change, path) is not None:
            raise NodeExists(path)
        zxid = change.zxid
        owner = session if op.ephemeral else 0
        change.nodes[path] = Node(op.data, zxid, zxid, now_ms, now_ms, 0, 0, owner, zxid)
        change.nodes[parent_path] = parent._replace(creations=parent.creations + 1, pzxid=zxid)
        name = path[path.rfind("/") + 1 :]
        removed = change.removed.get(parent_path, set())
        if name in removed:  # deleted and created again in one list
            removed.remove(name)
        else:
            change.added.setdefault(parent_path, set()).add(name)
        change.events.append(WatchEvent(CREATED, path))
        change.events.append(WatchEvent(CHILDREN, parent_path))
        return path

    def _set(self, change: Change, op: SetData, now_ms: int) -> Stat:
        _check_size(op.path, op.data)
        node = self._expect(change, op.path, op.version)
        node = node._replace(data=op.data, mzxid=change.zxid, mtime=now_ms, version=node.version + 1)
        change.nodes[op.path] = node
        change.events.append(WatchEvent(CHANGED, op.path))
        return self._stat(node, self._child_count(change, op.path))

    def _delete(self, change: Change, op: Delete) -> None:
        if op.path == "/":
            raise ValueError("the root is not deleted")
        self._expect(change, op.path, op.version)
        if self._child_count(change, op.path):
            raise NotEmpty(op.path)
        parent_path = parent_of(op.path)
        parent = self._node(change, parent_path)
        assert parent is not None, "a node has a parent"
        change.nodes[op.path] = None
        change.nodes[parent_path] = parent._replace(pzxid=change.zxid)
        name = op.path[op.path.rfind("/") + 1 :]
        added = change.added.get(parent_path, set())
        if name in added:
            added.remove(name)
        else:
            change.removed.setdefault(parent_path, set()).add(name)
        change.events.append(WatchEvent(DELETED, op.path))
        change.events.append(WatchEvent(CHILDREN, parent_path))

    def _expect(self, change: Change, path: str, version: int) -> Node:
        node = self._node(change, path)
        if node is None:
            raise NoNode(path)
        if version not in (ANY_VERSION, node.version):
            raise BadVersion(path)
        return node

    # ------------------------------------------------------------------ watches

    def watch_data(self, path: str, session: int, watch: Watch) -> None:
        _add_watch(self._data_watches, path, session, watch)

    def watch_children(self, path: str, session: int, watch: Watch) -> None:
        _add_watch(self._child_watches, path, session, watch)

    def forget_watches(self, session: int) -> None:
        for watches in (self._data_watches, self._child_watches):
            for path in list(watches):
                watches[path] = [entry for entry in watches[path] if entry[0] != session]
                if not watches[path]:
                    del watches[path]

    def _fire(self, event: WatchEvent) -> list[tuple[Watch, WatchEvent]]:
        fired: list[tuple[int, Watch]] = []
        if event.kind != CHILDREN:
            fired += self._data_watches.pop(event.path, [])
        if event.kind in (CHILDREN, DELETED):
            fired += [entry for entry in self._child_watches.pop(event.path, []) if entry not in fired]
        return [(watch, event) for _, watch in fired]


def _add_watch(watches: dict[str, list[tuple[int, Watch]]], path: str, session: int, watch: Watch) -> None:
    """The same watch set twice fires once."""
    entries = watches.setdefault(path, [])
    if (session, watch) not in entries:
        entries.append((session, watch))


def _check_size(path: str, data: bytes | None) -> None:
    if data is not None and len(data) > MAX_NODE_BYTES:
        raise NodeTooLarge(path)

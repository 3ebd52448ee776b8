"""`Store`: ZooKeeper's semantics as an interface.

What stays true of every store: a write is atomic and, when it returns, durable; `multi` does all of its operations or
none; a write with an expected version fails with BadVersion unless the node has that version; ephemeral nodes vanish
with their session and have no children; a watch fires once, after the change it tells of, and only enqueues: it must
not call the store. Control thread, except where a store says more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pylog.facts import NamedTuple
from pylog.typed import Protocol

ANY_VERSION = -1
MAX_NODE_BYTES = (1 << 20) - 1024
"""Data of one node. ZooKeeper drops the connection of a client that sends a packet above 1 MiB."""


class Stat(NamedTuple):
    """What ZooKeeper knows about a node. zxids number the changes of a tree; times are ms since the epoch.

    `version` counts changes of the data, `cversion` those of the children, `aversion` those of the ACL.
    `ephemeral_owner`: the session of an ephemeral node, else 0.
    """

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int
    aversion: int = 0


# ------------------------------------------------------------------------------------------------ watches

CREATED, DELETED, CHANGED, CHILDREN = "created", "deleted", "changed", "children"


class WatchEvent(NamedTuple):
    kind: str
    path: str


Watch = Callable[[WatchEvent], None]


# ------------------------------------------------------------------------------------------------ operations of a multi


class Create(NamedTuple):
    path: str
    data: bytes | None = None
    ephemeral: bool = False
    sequential: bool = False


class SetData(NamedTuple):
    path: str
    data: bytes | None
    version: int = ANY_VERSION


class Delete(NamedTuple):
    path: str
    version: int = ANY_VERSION


class Check(NamedTuple):
    path: str
    version: int


Op = Create | SetData | Delete | Check
OpResult = str | Stat | None
"""The path of a Create (with its number, if sequential), the Stat after a SetData, nothing for the others."""


# ------------------------------------------------------------------------------------------------ errors


class StoreError(Exception):
    """An operation that was not done. `op_index`: which operation of a multi was at fault."""

    def __init__(self, path: str = "", op_index: int | None = None) -> None:
        super().__init__(f"{type(self).__name__}: {path}" if path else type(self).__name__)
        self.path = path
        self.op_index = op_index


class NoNode(StoreError):
    """Nothing at this path (or no parent, for a create)."""


class NodeExists(StoreError):
    """Something is there already."""


class BadVersion(StoreError):
    """The node has another version than expected."""


class NotEmpty(StoreError):
    """A node with children is not deleted."""


class NoChildrenForEphemerals(StoreError):
    """An ephemeral node has no children."""


class NodeTooLarge(StoreError):
    """The data is above MAX_NODE_BYTES."""


class SessionExpired(StoreError):
    """The session is over; its ephemeral nodes are gone. Nothing works until a new store is opened."""


class ConnectionLoss(StoreError):
    """The write may or may not have been done."""


class StoreFailed(StoreError):
    """The medium failed; nothing can be written any more."""


class AccessDenied(StoreError):
    """The ensemble does not let us: who we are, or the node's ACL."""


# ------------------------------------------------------------------------------------------------ the interface


Read = tuple[bytes | None, Stat]
"""The data of a node and what is known about it."""


class Store(Protocol):
    """A connection to a tree, with a session of its own. Paths are absolute; null data is None and differs from b""."""

    @property
    def session_id(self) -> int: ...

    def create(self, path: str, data: bytes | None = None, *, ephemeral: bool = False, sequential: bool = False) -> str:
        """Returns the path, which a sequential node's number of ten digits ends.
        Raises NodeExists, NoNode (no parent), NoChildrenForEphemerals, NodeTooLarge."""

    def get(self, path: str, watch: Watch | None = None) -> tuple[bytes | None, Stat]:
        """`watch` fires when the node changes or goes. Raises NoNode (and then sets no watch)."""

    def set(self, path: str, data: bytes | None, version: int = ANY_VERSION) -> Stat:
        """Raises NoNode, BadVersion, NodeTooLarge."""

    def delete(self, path: str, version: int = ANY_VERSION) -> None:
        """Raises NoNode, BadVersion, NotEmpty."""

    def exists(self, path: str, watch: Watch | None = None) -> Stat | None:
        """`watch` fires when the node comes, changes or goes; it is set either way."""

    def children(self, path: str, watch: Watch | None = None) -> list[str]:
        """Names, sorted. `watch` fires when a child comes or goes, or the node goes. Raises NoNode."""

    def multi(self, ops: Sequence[Op]) -> list[OpResult]:
        """All operations or none; raises what the first one that fails raises, with its `op_index`."""

    # Many operations at once, in the order given, each of which succeeds or fails by itself: what it would have raised
    # stands in the place of its result.

    def get_many(self, wanted: Sequence[tuple[str, Watch | None]]) -> list[Read | StoreError]:
        """`get` of each path. No watch is set where nothing is."""

    def children_many(self, paths: Sequence[str]) -> list[list[str] | StoreError]:
        """`children` of each path, without watches."""

    def multi_many(self, multis: Sequence[Sequence[Op]]) -> list[list[OpResult] | StoreError]:
        """`multi` of each list."""

    def close(self) -> None:
        """End the session: its ephemeral nodes go."""


BatchingStore = Store


def check_path(path: str) -> None:
    """Raises ValueError for what ZooKeeper does not take as a path."""
    if path == "/":
        return
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"not an absolute path: {path!r}")
    if any(part in ("", ".", "..") for part in path[1:].split("/")):
        raise ValueError(f"empty or relative part in path {path!r}")


def parent_of(path: str) -> str:
    return path[: path.rfind("/")] or "/"

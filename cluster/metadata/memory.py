"""A tree for tests and the simulator: several sessions on one tree, expiry on demand, connections lost by a seed.

What stays true: with the same seed and the same calls the same operations lose their connection, before they were done
or after; nothing is ever half done.
"""

from collections.abc import Callable
from random import Random

from cluster.metadata.store import ConnectionLoss
from cluster.metadata.tree import Change, Tree
from cluster.metadata.tree_store import TreeStore


class Faults:
    """How often a call loses its connection: before it is done, and (writes) after."""

    def __init__(self, seed: int, *, before: float = 0.0, after: float = 0.0) -> None:
        self._random = Random(seed)
        self._before = before
        self._after = after

    def strikes_before(self) -> bool:
        return self._random.random() < self._before

    def strikes_after(self) -> bool:
        return self._random.random() < self._after


class MemoryTree:
    """The ensemble: hands out sessions."""

    def __init__(self, now_ms: Callable[[], int], faults: Faults | None = None) -> None:
        self._tree = Tree({})
        self._now_ms = now_ms
        self._sessions: dict[int, MemoryStore] = {}
        self.faults = faults

    def connect(self) -> "MemoryStore":
        session_id = len(self._sessions) + 1
        store = MemoryStore(self, self._tree, session_id, self._now_ms)
        self._sessions[session_id] = store
        return store

    def expire(self, session_id: int) -> None:
        """As when the ensemble has not heard from a session for too long."""
        self._sessions[session_id].close()


class MemoryStore(TreeStore):
    """One session on a MemoryTree."""

    def __init__(self, owner: MemoryTree, tree: Tree, session_id: int, now_ms: Callable[[], int]) -> None:
        super().__init__(tree, session_id, now_ms)
        self._owner = owner

    def _before(self, path: str) -> None:
        super()._before(path)
        if self._owner.faults is not None and self._owner.faults.strikes_before():
            raise ConnectionLoss(path)

    def _publish(self, change: Change) -> None:
        super()._publish(change)
        if self._open and self._owner.faults is not None and self._owner.faults.strikes_after():
            raise ConnectionLoss(next(iter(change.nodes), "/"))

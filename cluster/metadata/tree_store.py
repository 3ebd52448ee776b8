"""A session on a `Tree`: the `Store` interface over a tree in this process.

What stays true: a change is written down (`_write_down`, a subclass's business) before anybody can see it, and a watch
fires after the change it tells of. Not thread-safe: the control thread, or whoever owns the tree.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from cluster.metadata.store import (
    ANY_VERSION,
    Create,
    Delete,
    NoNode,
    Op,
    OpResult,
    Read,
    SessionExpired,
    SetData,
    Stat,
    StoreError,
    Watch,
)
from cluster.metadata.tree import Change, Tree


class OneWriteStore(ABC):
    """The writes of a `Store` by its one write, `multi`, which a subclass has."""

    @abstractmethod
    def multi(self, ops: Sequence[Op]) -> list[OpResult]: ...

    def create(self, path: str, data: bytes | None = None, *, ephemeral: bool = False, sequential: bool = False) -> str:
        (created,) = self.multi([Create(path, data, ephemeral, sequential)])
        assert isinstance(created, str)
        return created

    def set(self, path: str, data: bytes | None, version: int = ANY_VERSION) -> Stat:
        (stat,) = self.multi([SetData(path, data, version)])
        assert isinstance(stat, Stat)
        return stat

    def delete(self, path: str, version: int = ANY_VERSION) -> None:
        self.multi([Delete(path, version)])

    def multi_many(self, multis: Sequence[Sequence[Op]]) -> list[list[OpResult] | StoreError]:
        results: list[list[OpResult] | StoreError] = []
        for ops in multis:
            try:
                results.append(self.multi(ops))
            except StoreError as error:
                results.append(error)
        return results


class TreeStore(OneWriteStore):
    """One session. `now_ms`: the wall clock that stamps nodes."""

    def __init__(self, tree: Tree, session_id: int, now_ms: Callable[[], int]) -> None:
        self._tree = tree
        self._session_id = session_id
        self._now_ms = now_ms
        self._open = True

    @property
    def session_id(self) -> int:
        return self._session_id

    # ------------------------------------------------------------------ what a subclass adds

    def _write_down(self, change: Change) -> None:
        """Make a decided change durable, or raise and leave no trace of it. Here memory is all there is."""

    def _before(self, path: str) -> None:
        """Called first by every operation; raises what keeps it from being done."""
        if not self._open:
            raise SessionExpired(path)

    # ------------------------------------------------------------------ reading

    def get(self, path: str, watch: Watch | None = None) -> tuple[bytes | None, Stat]:
        self._before(path)
        found = self._tree.get(path)
        if watch is not None:
            self._tree.watch_data(path, self._session_id, watch)
        return found

    def exists(self, path: str, watch: Watch | None = None) -> Stat | None:
        self._before(path)
        if watch is not None:
            self._tree.watch_data(path, self._session_id, watch)
        try:
            return self._tree.get(path)[1]
        except NoNode:
            return None

    def children(self, path: str, watch: Watch | None = None) -> list[str]:
        self._before(path)
        names = self._tree.children(path)
        if watch is not None:
            self._tree.watch_children(path, self._session_id, watch)
        return names

    def get_many(self, wanted: Sequence[tuple[str, Watch | None]]) -> list[Read | StoreError]:
        found: list[Read | StoreError] = []
        for path, watch in wanted:
            try:
                found.append(self.get(path, watch))
            except StoreError as error:
                found.append(error)
        return found

    def children_many(self, paths: Sequence[str]) -> list[list[str] | StoreError]:
        found: list[list[str] | StoreError] = []
        for path in paths:
            try:
                found.append(self.children(path))
            except StoreError as error:
                found.append(error)
        return found

    # ------------------------------------------------------------------ writing

    def multi(self, ops: Sequence[Op]) -> list[OpResult]:
        self._before(ops[0].path if ops else "/")
        change = self._tree.prepare(ops, session=self._session_id, now_ms=self._now_ms())
        self._publish(change)
        return change.results

    def _publish(self, change: Change) -> None:
        self._write_down(change)
        for watch, event in self._tree.commit(change):
            watch(event)

    def _end_session(self) -> None:
        """Take away the session's ephemeral nodes; other sessions' watches tell of it."""
        self._open = False
        self._tree.forget_watches(self._session_id)
        ops = [Delete(path) for path in self._tree.owned_by(self._session_id)]
        if ops:
            self._publish(self._tree.prepare(ops, session=self._session_id, now_ms=self._now_ms()))

    def close(self) -> None:
        if self._open:
            self._end_session()

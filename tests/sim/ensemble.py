"""The metadata tree of the simulation: sessions that are reached over the network and end when they are not.

What stays true: operations on the tree are whole and in one order; a session that the ensemble has not heard of for its
timeout is over, and its ephemeral nodes are gone, before its owner can know; a watch tells after the change, and before
its owner sees anything newer; a write whose answer is lost is looked for as a broker does (`unsure.py`), or the session
ends with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.metadata.memory import MemoryStore, MemoryTree
from cluster.metadata.store import (
    NoNode,
    Op,
    OpResult,
    Read,
    SessionExpired,
    Stat,
    StoreError,
    Watch,
    WatchEvent,
)
from cluster.metadata.tree_store import OneWriteStore
from cluster.metadata.unsure import all_gone, find_out
from tests.sim.network import ENSEMBLE, Network
from tests.sim.world import US_PER_MS, Process, World

SESSION_TIMEOUT_MS = 3_000


class Session(OneWriteStore):
    """One broker's session, as a Store."""

    def __init__(self, ensemble: Ensemble, place: int, owner: Process) -> None:
        self._ensemble = ensemble
        self._world = ensemble.world
        self._store: MemoryStore = ensemble.tree.connect()
        self._place = place
        self._owner = owner
        self._told: list[tuple[Watch, WatchEvent]] = []
        self.over = False
        """The ensemble has given it up."""
        self.closed = False
        self.heard_us = self._world.now_us

    @property
    def session_id(self) -> int:
        return self._store.session_id

    @property
    def reachable(self) -> bool:
        network = self._ensemble.network
        return network.reaches(self._place, ENSEMBLE) and network.reaches(ENSEMBLE, self._place)

    @property
    def silent(self) -> bool:
        """Nothing of the owner comes to the ensemble."""
        owner = self._owner
        return not owner.alive or owner.paused or not self.reachable

    def expire(self) -> None:
        if not self.over:
            self.over = True
            self._world.say("ensemble", "session expires", f"{self._owner.name} 0x{self.session_id:x}")
            self._store.close()

    # ------------------------------------------------------------------ watches

    def _wrap(self, watch: Watch | None) -> Watch | None:
        """Tells later; the same for the same watch, for a tree knows a watch by its identity."""
        if watch is None:
            return None

        def fired(event: WatchEvent) -> None:
            self._told.append((watch, event))
            self._world.after(self._world.between(300, 4_000), self._owner, self._tell)

        return fired

    def _tell(self) -> None:
        if self.closed or not self._told:
            return
        if not self.reachable:
            self._world.after(50 * US_PER_MS, self._owner, self._tell)
            return
        self.catch_up()

    def catch_up(self) -> None:
        """Hear what is on its way."""
        while self._told:
            watch, event = self._told.pop(0)
            watch(event)

    def _ready(self) -> None:
        self.catch_up()
        if self.over or self.closed:
            raise SessionExpired("/")
        assert self.reachable, "whoever asks waits until the ensemble can be reached"

    # ------------------------------------------------------------------ reading

    def get(self, path: str, watch: Watch | None = None) -> Read:
        self._ready()
        return self._store.get(path, self._wrap(watch))

    def exists(self, path: str, watch: Watch | None = None) -> Stat | None:
        self._ready()
        return self._store.exists(path, self._wrap(watch))

    def children(self, path: str, watch: Watch | None = None) -> list[str]:
        self._ready()
        return self._store.children(path, self._wrap(watch))

    def get_many(self, wanted: Sequence[tuple[str, Watch | None]]) -> list[Read | StoreError]:
        self._ready()
        return self._store.get_many([(path, self._wrap(watch)) for path, watch in wanted])

    def children_many(self, paths: Sequence[str]) -> list[list[str] | StoreError]:
        self._ready()
        return self._store.children_many(paths)

    # ------------------------------------------------------------------ writing

    def multi(self, ops: Sequence[Op]) -> list[OpResult]:
        self._ready()
        ensemble = self._ensemble
        since = ensemble.zxid()
        results = self._store.multi(ops)
        if ensemble.loss and self._world.chance(ensemble.loss):
            self._world.say("ensemble", "answer is lost", f"{self._owner.name} {[op.path for op in ops]}")
            if self._world.chance(0.3):
                self.expire()
                raise SessionExpired(ops[0].path)
            return self._again(ops, since)
        return results

    def _again(self, ops: Sequence[Op], since: int) -> list[OpResult]:
        """As ZooKeeperStore does."""
        found = find_out(self._store, ops, since)
        if found is not None:
            return found
        try:
            return self._store.multi(ops)
        except NoNode:
            if all_gone(self._store, ops):
                return [None for _ in ops]
            raise

    def close(self) -> None:
        self.closed = True
        if not self.over:
            self.over = True
            self._store.close()


class Ensemble:
    """`loss`: how often a write's answer is lost."""

    def __init__(self, world: World, network: Network) -> None:
        self.world = world
        self.network = network
        self.tree = MemoryTree(lambda: 1_790_000_000_000 + world.now_ms)
        self.admin = self.tree.connect()
        self.loss = 0.0
        self._sessions: list[Session] = []
        self._look()

    def connect(self, place: int, owner: Process) -> Session:
        session = Session(self, place, owner)
        self._sessions.append(session)
        return session

    def zxid(self) -> int:
        return self.admin._tree.zxid

    def _look(self) -> None:
        """Sessions that were silent for too long are over."""
        now_us = self.world.now_us
        for session in self._sessions:
            if not session.silent:
                session.heard_us = now_us
            elif now_us - session.heard_us > SESSION_TIMEOUT_MS * US_PER_MS:
                session.expire()
        self._sessions = [session for session in self._sessions if not session.over]
        self.world.after(200 * US_PER_MS, None, self._look)

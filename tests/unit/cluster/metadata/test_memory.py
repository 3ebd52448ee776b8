"""The store of the simulator: the contract, several sessions, expiry, and connections lost by a seed."""

import pytest

from cluster.metadata.memory import Faults, MemoryTree
from cluster.metadata.store import CHILDREN, DELETED, ConnectionLoss, SessionExpired, Store, WatchEvent
from tests.unit.cluster.metadata.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryTree(lambda: 1_000).connect()


def test_sessions_see_one_tree_and_times() -> None:
    clock = [5]
    tree = MemoryTree(lambda: clock[0])
    one, two = tree.connect(), tree.connect()
    assert one.session_id != two.session_id
    one.create("/a", b"x")
    clock[0] = 9
    two.set("/a", b"y")
    data, stat = one.get("/a")
    assert (data, stat.ctime, stat.mtime) == (b"y", 5, 9)


def test_expiry_takes_the_ephemeral_nodes_and_tells_the_others() -> None:
    tree = MemoryTree(lambda: 0)
    one, two = tree.connect(), tree.connect()
    one.create("/ids")
    one.create("/ids/1", b"", ephemeral=True)
    one.create("/kept")
    seen: list[WatchEvent] = []
    lost: list[WatchEvent] = []
    two.get("/ids/1", seen.append)
    two.children("/ids", seen.append)
    one.children("/ids", lost.append)
    tree.expire(one.session_id)
    assert seen == [WatchEvent(DELETED, "/ids/1"), WatchEvent(CHILDREN, "/ids")]
    assert lost == [], "nobody is there to be told"
    assert two.children("/ids") == [] and two.exists("/kept") is not None
    with pytest.raises(SessionExpired):
        one.get("/kept")


def run_with_faults(seed: int) -> tuple[list[bool], int]:
    faults = Faults(seed, before=0.2, after=0.2)
    tree = MemoryTree(lambda: 0, faults)
    store = tree.connect()
    lost = []
    for number in range(200):
        try:
            store.create(f"/n{number}")
            lost.append(False)
        except ConnectionLoss:
            lost.append(True)
    tree.faults = None
    return lost, len(store.children("/"))


def test_faults_follow_the_seed() -> None:
    lost, made = run_with_faults(7)
    assert run_with_faults(7) == (lost, made)
    assert run_with_faults(8)[0] != lost
    assert 200 - sum(lost) < made < 200, "some were done although the answer was lost, some were not"

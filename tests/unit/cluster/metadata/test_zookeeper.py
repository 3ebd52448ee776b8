"""The store of a cluster on a real ZooKeeper: the contract, lost connections, and the end of sessions."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue

import pytest

from cluster.metadata import paths, startup
from cluster.metadata import zookeeper as store_module
from cluster.metadata.session import CannotConnect, Connect, SessionState, parse_connect
from cluster.metadata.store import (
    CHANGED,
    CHILDREN,
    CREATED,
    DELETED,
    MAX_NODE_BYTES,
    BadVersion,
    Check,
    ConnectionLoss,
    Create,
    Delete,
    NodeExists,
    NodeTooLarge,
    NoNode,
    Op,
    OpResult,
    SessionExpired,
    SetData,
    Stat,
    WatchEvent,
)
from cluster.metadata.zookeeper import ZooKeeperStore
from tests.support import zookeeper
from tests.support.closing import Closing
from tests.support.ports import free_port
from tests.support.proxy import Proxy, proxy_of
from tests.support.zookeeper import Quorum, ZooKeeper, end_session
from tests.unit.cluster.metadata.snapshots import snapshots
from tests.unit.cluster.metadata.store_contract import StoreContract
from tests.unit.cluster.metadata.test_startup import NOW_MS, everything, start

SOON_S = 20.0


@pytest.fixture(scope="session")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    reason = zookeeper.unavailable()
    if reason:
        pytest.skip(reason)
    with zookeeper.running(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def closing() -> Iterator[Closing]:
    closing = Closing()
    yield closing
    closing.close()


class TestZooKeeperStore(StoreContract):
    @pytest.fixture
    def store(self, ensemble: ZooKeeper) -> Iterator[ZooKeeperStore]:
        store = ZooKeeperStore(ensemble.fresh())
        yield store
        store.close()


def below(connect: str) -> str:
    """The chroot."""
    return connect[connect.index("/") :]


def drained(states: "Queue[SessionState]") -> list[SessionState]:
    found = []
    try:
        while True:
            found.append(states.get_nowait())
    except Empty:
        return found


class Later:
    """A call on a thread of its own; `result` waits for it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._result: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def result(self) -> object:
        self._thread.join(SOON_S)
        assert not self._thread.is_alive(), "still waiting"
        if self._error is not None:
            raise self._error
        return self._result


# ------------------------------------------------------------------ connecting


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", Connect(("localhost:2181",), "")),
        ("a:1,b:2 , c/kafka", Connect(("a:1", "b:2", "c:2181"), "/kafka")),
        ("a:1/x/y/", Connect(("a:1",), "/x/y")),
        ("[::1]:21,[::1]", Connect(("[::1]:21", "[::1]:2181"), "")),
    ],
)
def test_what_zookeeper_connect_says(text: str, expected: Connect) -> None:
    assert parse_connect(text) == expected


@pytest.mark.parametrize("text", ["", "/kafka", "a:b", "a:0", "a:1,,b:1", "a:1//x", "a:1/x/../y"])
def test_what_zookeeper_connect_cannot_say(text: str) -> None:
    with pytest.raises(ValueError):
        parse_connect(text)


def test_nobody_answers() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(CannotConnect, match=rf"^{address}: no ZooKeeper server answered within 0.3 s \(connection ref"):
        ZooKeeperStore(address, connection_timeout_ms=300)


def test_a_server_whose_machine_is_off_does_not_cost_the_session(ensemble: ZooKeeper, closing: Closing) -> None:
    """Nobody takes its connections, so whoever connects there waits for the answer to a SYN."""
    with contextlib.ExitStack() as stack:
        off = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = off.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        for _ in range(4):  # in whichever order they are tried
            connect = f"{address[0]}:{address[1]},{ensemble.address}"
            closing(ZooKeeperStore(connect, session_timeout_ms=600, connection_timeout_ms=2_500)).get("/")


def test_a_server_that_takes_the_connection_and_never_answers(ensemble: ZooKeeper, closing: Closing) -> None:
    """As ZooKeeper's does now and then while it starts."""
    with proxy_of(ensemble.address) as proxy:
        states: Queue[SessionState] = Queue()
        store = closing(ZooKeeperStore(proxy.address, session_timeout_ms=3_000, on_session=states.put))
        store.create("/e" + ensemble.fresh().rpartition("/")[2], ephemeral=True)
        proxy.cut(refuse=True)
        while states.get(timeout=SOON_S) != SessionState.SUSPENDED:
            pass
        proxy.lose_answers()
        proxy.heal()
        assert proxy.lost.wait(SOON_S)
        proxy.answer_again()
        assert states.get(timeout=SOON_S) == SessionState.CONNECTED


def test_a_chroot_is_made_when_asked_for(ensemble: ZooKeeper, closing: Closing) -> None:
    connect = ensemble.fresh() + "/deep/er"
    reader = closing(ZooKeeperStore(connect, make_chroot=False))
    with pytest.raises(NoNode):
        reader.get("/")
    store = closing(ZooKeeperStore(connect))
    assert store.get("/")[0] is None
    store.create("/a", b"x")
    root = closing(ZooKeeperStore(ensemble.address))
    assert root.get(below(connect) + "/a")[0] == b"x"
    closing(ZooKeeperStore(connect))


def test_a_multi_that_no_server_would_take(ensemble: ZooKeeper, closing: Closing) -> None:
    store = closing(ZooKeeperStore(ensemble.fresh()))
    half = bytes(MAX_NODE_BYTES // 2)
    with pytest.raises(NodeTooLarge):
        store.multi([Create("/a", half), Create("/b", half), Create("/c", half)])
    assert store.children("/") == []
    assert store.multi([Create("/a", half), Create("/b", half[:-1024])]) == ["/a", "/b"]


# ------------------------------------------------------------------ sessions


def test_the_end_of_a_session(ensemble: ZooKeeper, closing: Closing) -> None:
    states: Queue[SessionState] = Queue()
    connect = ensemble.fresh()
    other = closing(ZooKeeperStore(connect))
    gone: Queue[WatchEvent] = Queue()
    with proxy_of(ensemble.address) as proxy:
        store = closing(ZooKeeperStore(proxy.address + below(connect), on_session=states.put))
        store.create("/e", b"", ephemeral=True)
        other.exists("/e", gone.put)
        session = store._session._client.client_id
        proxy.cut(refuse=True)
        end_session(ensemble.address, session)
        assert gone.get(timeout=SOON_S) == WatchEvent(DELETED, "/e")
        waiting = Later(lambda: store.get("/"))
        proxy.heal()
        expected = [SessionState.CONNECTED, SessionState.SUSPENDED, SessionState.EXPIRED]
        assert [states.get(timeout=SOON_S) for _ in range(3)] == expected
        for attempt in (waiting.result, lambda: store.create("/x"), lambda: store.get_many([("/", None)])):
            with pytest.raises(SessionExpired):
                attempt()
        assert store.session_id == session[0]
        store.close()
    assert drained(states) == [], "no session follows on an expired one"
    again = closing(ZooKeeperStore(connect))
    assert again.session_id != session[0]
    again.create("/e", b"", ephemeral=True)


def test_whoever_waits_is_told_of_a_close(ensemble: ZooKeeper, closing: Closing) -> None:
    with proxy_of(ensemble.address) as proxy:
        states: Queue[SessionState] = Queue()
        store = closing(ZooKeeperStore(proxy.address, on_session=states.put))
        proxy.cut(refuse=True)
        assert [states.get(timeout=SOON_S) for _ in range(2)] == [SessionState.CONNECTED, SessionState.SUSPENDED]
        waiting = Later(lambda: store.get("/"))
        store.close()
        with pytest.raises(SessionExpired):
            waiting.result()
        assert drained(states) == []


def test_patience(ensemble: ZooKeeper, closing: Closing) -> None:
    with proxy_of(ensemble.address) as proxy:
        store = closing(ZooKeeperStore(proxy.address, patience_ms=200))
        proxy.cut(refuse=True)
        with pytest.raises(ConnectionLoss):
            store.get("/")


def test_a_request_that_takes_every_connection_with_it(
    tmp_path: Path, ensemble: ZooKeeper, closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that is larger than this server's jute.maxbuffer."""
    monkeypatch.setattr(store_module, "_MAX_LOSSES", 3)
    small = ZooKeeper(tmp_path, options=["-Djute.maxbuffer=10000"])
    small.start()
    try:
        store = closing(ZooKeeperStore(small.address))
        with pytest.raises(ConnectionLoss):
            store.create("/large", bytes(20_000))
        store.create("/small", bytes(2_000))
        assert store.children("/") == ["small", "zookeeper"]
        store.close()
    finally:
        small.stop()


def test_a_restart_of_the_ensemble(tmp_path: Path, ensemble: ZooKeeper, closing: Closing) -> None:
    with zookeeper.running(tmp_path) as own:
        states: Queue[SessionState] = Queue()
        store = closing(ZooKeeperStore(own.address, on_session=states.put))
        store.create("/e", b"", ephemeral=True)
        own.stop()
        assert [states.get(timeout=SOON_S) for _ in range(2)] == [SessionState.CONNECTED, SessionState.SUSPENDED]
        waiting = Later(lambda: store.set("/e", b"new", 0))
        own.start()
        changed = waiting.result()
        assert isinstance(changed, Stat) and changed.ephemeral_owner == store.session_id
        assert states.get(timeout=SOON_S) == SessionState.CONNECTED
        store.close()


def test_watches_outlive_a_connection(ensemble: ZooKeeper, closing: Closing) -> None:
    connect = ensemble.fresh()
    other = closing(ZooKeeperStore(connect))
    for name in "abcdp":
        other.create(f"/{name}")
    seen: Queue[WatchEvent] = Queue()
    with proxy_of(ensemble.address) as proxy:
        states: Queue[SessionState] = Queue()
        store = closing(ZooKeeperStore(proxy.address + below(connect), on_session=states.put))
        store.get("/a", seen.put)
        store.get_many([("/b", seen.put), ("/c", None), ("/d", seen.put), ("/none", seen.put)])
        store.exists("/new", seen.put)
        store.children("/p", seen.put)
        proxy.cut(refuse=True)
        while states.get(timeout=SOON_S) != SessionState.SUSPENDED:
            pass
        other.set("/a", b"")
        other.delete("/b")
        other.create("/new")
        other.create("/p/child")
        proxy.heal()
        assert {seen.get(timeout=SOON_S) for _ in range(4)} == {
            WatchEvent(CHANGED, "/a"),
            WatchEvent(DELETED, "/b"),
            WatchEvent(CREATED, "/new"),
            WatchEvent(CHILDREN, "/p"),
        }
        store.get("/c")
        other.set("/a", b"")
        other.set("/d", b"")
        assert seen.get(timeout=SOON_S) == WatchEvent(CHANGED, "/d"), "and those that had nothing to tell wait on"
        assert seen.empty()


def test_a_watch_that_fails_harms_nobody(ensemble: ZooKeeper, closing: Closing) -> None:
    store = closing(ZooKeeperStore(ensemble.fresh()))
    seen: list[WatchEvent] = []

    def broken(event: WatchEvent) -> None:
        raise RuntimeError(event.path)

    store.create("/a")
    store.get("/a", broken)
    store.get("/a", seen.append)
    store.set("/a", b"")
    assert seen == [WatchEvent(CHANGED, "/a")]
    store.delete("/a")


# ------------------------------------------------------------------ lost requests and answers

# What is there before, what is done, and what it gives.
WRITES: dict[str, tuple[list[Op], list[Op], list[object]]] = {
    "create": ([], [Create("/a", b"x")], ["/a"]),
    "ephemeral": ([], [Create("/a", b"x", True)], ["/a"]),
    "sequential": ([Create("/s"), Create("/s/n_", b"x", False, True)], [Create("/s/n_", b"x", False, True)],
                   ["/s/n_0000000001"]),
    "set": ([Create("/a", b"x")], [SetData("/a", b"y", 0)], [1]),
    "set to the same": ([Create("/a", b"x")], [SetData("/a", b"x", 0)], [1]),
    "set whatever it is": ([Create("/a", b"x")], [SetData("/a", b"y")], [1]),
    "delete": ([Create("/a")], [Delete("/a", 0)], [None]),
    "registration": ([], [Create("/a", None, True), SetData("/a", b"x")], ["/a", 1]),
    "election": ([Create("/epoch", b"1")], [Create("/c", b"me", True), SetData("/epoch", b"2", 0)], ["/c", 1]),
    "fenced": ([Create("/epoch"), Create("/a"), Create("/b")],
               [Check("/epoch", 0), SetData("/a", b"x", 0), Delete("/b"), Create("/n_", b"", False, True)],
               [None, 1, None, "/n_0000000003"]),
    "only deleted": ([Create("/epoch"), Create("/a")], [Check("/epoch", 0), Delete("/a")], [None, None]),
}  # fmt: skip


@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize("loses", [Proxy.lose_requests, Proxy.lose_answers])
def test_a_write_is_done_once(ensemble: ZooKeeper, closing: Closing, what: str, loses: Callable[[Proxy], None]) -> None:
    before, ops, expected = WRITES[what]
    connect = ensemble.fresh()
    other = closing(ZooKeeperStore(connect))
    other.multi(before)
    with proxy_of(ensemble.address) as proxy:
        store = closing(ZooKeeperStore(proxy.address + below(connect)))
        loses(proxy)
        writing = Later(lambda: store.multi(ops))
        assert proxy.lost.wait(SOON_S)
        proxy.cut()
        results = writing.result()
        assert isinstance(results, list)
        assert [each.version if isinstance(each, Stat) else each for each in results] == expected
        trace = sorted((node.path, node.data, node.is_ephemeral, node.version) for node in everything(other))
    once = closing(ZooKeeperStore(ensemble.fresh()))
    once.multi(before)
    once.multi(ops)
    assert trace == sorted((node.path, node.data, node.is_ephemeral, node.version) for node in everything(once))


def test_many_writes_are_done_once(ensemble: ZooKeeper, closing: Closing) -> None:
    connect = ensemble.fresh()
    other = closing(ZooKeeperStore(connect))
    other.multi([Create("/epoch"), *(Create(f"/n{number}") for number in range(60))])
    multis: list[list[Op]] = [[Check("/epoch", 0), SetData(f"/n{number}", b"x", 0)] for number in range(60)]
    multis[30] = [Check("/epoch", 0), SetData("/n30", b"x", 7)]
    with proxy_of(ensemble.address) as proxy:
        store = closing(ZooKeeperStore(proxy.address + below(connect)))
        proxy.lose_answers()
        writing = Later(lambda: store.multi_many(multis))
        assert proxy.lost.wait(SOON_S)
        proxy.cut()
        results = writing.result()
    assert isinstance(results, list) and isinstance(results.pop(30), BadVersion)
    assert all(stat.version == 1 for _, stat in results)
    assert [stat.version for _, stat in map(other.get, (f"/n{number}" for number in range(60)))].count(1) == 59


def test_what_another_did_is_not_taken_for_ours(ensemble: ZooKeeper, closing: Closing) -> None:
    """The request was lost, and before it is sent again somebody else does something like it."""
    connect = ensemble.fresh()
    other = closing(ZooKeeperStore(connect))
    other.create("/epoch", b"1")
    with proxy_of(ensemble.address) as proxy:
        store = closing(ZooKeeperStore(proxy.address + below(connect)))

        def losing(ops: list[Op], meanwhile: Callable[[], object]) -> list[OpResult]:
            proxy.lose_requests()
            writing = Later(lambda: store.multi(ops))
            assert proxy.lost.wait(SOON_S)
            meanwhile()
            proxy.cut()
            results = writing.result()
            assert isinstance(results, list)
            return results

        with pytest.raises(NodeExists):
            losing([Create("/c", b"me", True)], lambda: other.create("/c", b"me", ephemeral=True))
        with pytest.raises(BadVersion):
            losing([SetData("/epoch", b"2", 0)], lambda: other.set("/epoch", b"3"))
        other.create("/d")
        with pytest.raises(BadVersion):
            losing([Check("/epoch", 0), Delete("/d")], lambda: other.delete("/d"))
        with pytest.raises(NodeExists):
            losing([Create("/c2", b"me"), SetData("/epoch", b"4")], lambda: other.create("/c2", b"me"))
        assert other.get("/epoch")[0] == b"3"


def test_a_quorum_that_loses_its_leader(tmp_path: Path, ensemble: ZooKeeper, closing: Closing) -> None:
    """Every write is done once, whatever the servers had heard of it."""
    with Quorum(tmp_path) as quorum:
        states: Queue[SessionState] = Queue()
        store = closing(ZooKeeperStore(quorum.address, on_session=states.put))
        store.create("/c")
        store.create("/e", ephemeral=True)
        done, after = 0, 0
        while after < 20:
            if done == 50:
                quorum.leader().stop()
            assert store.set("/c", b"%d" % done, done).version == done + 1
            done += 1
            assert store.create("/c/s_", b"%d" % done, sequential=True) == f"/c/s_{done - 1:010d}"
            assert store.multi([Check("/c", done), Delete(f"/c/s_{done - 1:010d}")]) == [None, None]
            after += done > 50
        assert store.children("/c") == [] and store.get("/e")[1].ephemeral_owner == store.session_id
        assert SessionState.EXPIRED not in drained(states)
        store.close()


def test_reads_go_on_after_a_cut(ensemble: ZooKeeper, closing: Closing) -> None:
    with proxy_of(ensemble.address) as proxy:
        store = closing(ZooKeeperStore(proxy.address + below(ensemble.fresh())))
        store.multi([Create(f"/n{number}", b"%d" % number) for number in range(450)])
        proxy.lose_answers()
        reading = Later(lambda: store.get_many([(f"/n{number}", None) for number in range(450)]))
        assert proxy.lost.wait(SOON_S)
        proxy.cut()
        found = reading.result()
        assert isinstance(found, list) and [data for data, _ in found] == [b"%d" % number for number in range(450)]


# ------------------------------------------------------------------ a broker's steps


def test_the_tree_of_a_first_broker(ensemble: ZooKeeper, closing: Closing) -> None:
    store = closing(ZooKeeperStore(ensemble.fresh()))
    _, epoch, fence = start(store)
    assert (epoch, fence) == (1, 1)
    ours = [node for node in everything(store) if node.path != "/"]
    kafkas = [node for node in snapshots()["01-first-broker"] if node.path != "/"]
    assert sorted(ours) == sorted(kafkas)


def test_a_broker_waits_for_its_session_of_before(ensemble: ZooKeeper, closing: Closing) -> None:
    connect = ensemble.fresh()
    with proxy_of(ensemble.address) as proxy:
        killed = closing(ZooKeeperStore(proxy.address + below(connect)))
        first, _, _ = start(killed)
        again = closing(ZooKeeperStore(connect))
        said: list[str] = []
        session = killed._session._client.client_id
        proxy.cut(refuse=True)

        def pause() -> bool:
            end_session(ensemble.address, session)
            return True

        registration = paths.BrokerRegistration((), None, NOW_MS)
        assert startup.register_when_free(again, 1, registration, pause=pause, say=said.append) > first
        assert len(said) == 1 and f"session 0x{session[0] & (1 << 64) - 1:x}" in said[0]
        assert startup.become_controller(again, 1, NOW_MS) == (2, 2)
        killed.close()

"""The embedded store: the contract, what survives a restart, and what a broken medium does."""

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.metadata.local import LocalStore, NotAStore, StoreFull, StoreInUse
from cluster.metadata.store import Create, Delete, SetData, Stat, StoreError, StoreFailed
from tests.unit.cluster.metadata.store_contract import StoreContract


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[LocalStore]:
        store = LocalStore(str(tmp_path / "metadata.db"), lambda: 1_000)
        yield store
        store.close()


def everything(store: LocalStore, path: str = "/") -> dict[str, tuple[bytes | None, Stat]]:
    found = {path: store.get(path)}
    for name in store.children(path):
        found |= everything(store, f"{path.rstrip('/')}/{name}")
    return found


def abandon(store: LocalStore) -> None:
    """As kill -9 does: nothing is ended or flushed, the file is just let go."""
    store._database.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "metadata.db")


@pytest.mark.parametrize("orderly", [True, False])
def test_what_was_written_is_there_again(path: str, orderly: bool) -> None:
    store = LocalStore(path, lambda: 77)
    store.create("/a", b"x")
    store.create("/a/null")
    store.create("/a/s_", b"", sequential=True)
    store.set("/a", b"y")
    store.create("/gone")
    store.delete("/gone")
    before = everything(store)
    if orderly:
        store.close()
        assert not os.path.exists(path + "-wal"), "one file is all there is"
    else:
        abandon(store)
    again = LocalStore(path, lambda: 99)
    assert everything(again) == before
    assert again.create("/a/s_", sequential=True) == "/a/s_0000000002"
    assert again.get("/a/s_0000000002")[1].czxid > max(stat.mzxid for _, stat in before.values())
    again.close()


@pytest.mark.parametrize("orderly", [True, False])
def test_ephemeral_nodes_end_with_the_process(path: str, orderly: bool) -> None:
    store = LocalStore(path, lambda: 0)
    store.create("/ids")
    store.create("/ids/1", b"me", ephemeral=True)
    store.multi([Create("/controller", b"1", True), Create("/controller_epoch", b"1")])
    first_session, first_zxid = store.session_id, store.get("/ids/1")[1].czxid
    if orderly:
        store.close()
    else:
        abandon(store)
    again = LocalStore(path, lambda: 0)
    assert again.children("/ids") == [] and again.exists("/controller") is None
    assert again.get("/controller_epoch")[0] == b"1"
    again.create("/ids/1", b"me", ephemeral=True)
    assert again.session_id > first_session
    assert again.get("/ids/1")[1].czxid > first_zxid, "a broker that comes back has a higher epoch"
    again.close()


def test_coming_and_going_costs_no_write(path: str) -> None:
    store = LocalStore(path, lambda: 0)
    store.create("/ids")
    wal = path + "-wal"
    size = os.path.getsize(wal)
    store.create("/ids/1", b"", ephemeral=True)
    store.set("/ids/1", b"x")
    store.delete("/ids/1")
    store.create("/ids/2", b"", ephemeral=True)
    assert os.path.getsize(wal) == size
    store.create("/real")
    assert os.path.getsize(wal) > size
    abandon(store)
    again = LocalStore(path, lambda: 0)
    assert again.get("/ids")[1].cversion == 4, "two came, two went: the last one with its session"
    again.close()


def test_one_process_at_a_time(path: str) -> None:
    store = LocalStore(path, lambda: 0)
    code = (
        "import sys; from cluster.metadata.local import LocalStore, StoreInUse\n"
        "try: LocalStore(sys.argv[1], lambda: 0)\n"
        "except StoreInUse: sys.exit(7)\n"
    )
    root = Path(__file__).parents[4]
    assert subprocess.run([sys.executable, "-c", code, path], cwd=root, check=False).returncode == 7
    with pytest.raises(StoreInUse):
        LocalStore(path, lambda: 0)
    store.close()
    LocalStore(path, lambda: 0).close()


def test_a_file_of_another_kind_is_left_alone(path: str) -> None:
    Path(path).write_bytes(b"this is no database, " * 100)
    with pytest.raises(NotAStore):
        LocalStore(path, lambda: 0)
    os.remove(path)
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(NotAStore):
        LocalStore(path, lambda: 0)
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]


def test_what_a_start_that_was_cut_short_left_is_in_nobodys_way(path: str) -> None:
    for suffix in ("", "-wal", "-journal"):
        Path(path + ".tmp" + suffix).write_bytes(b"half of something")
    Path(path).touch()
    store = LocalStore(path, lambda: 0)
    store.create("/a")
    store.close()
    assert sorted(os.listdir(os.path.dirname(path))) == ["metadata.db", "metadata.db-reserve"]


def test_a_new_file_is_whole_before_it_has_its_name(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StoreFailed):
            LocalStore(path, lambda: 0)
    assert not os.path.exists(path)
    LocalStore(path, lambda: 0).close()


def test_only_openings_that_wrote_are_counted(path: str) -> None:
    for number, created in ((1, None), (1, "/a"), (2, None), (2, "/b"), (3, None)):
        store = LocalStore(path, lambda: 0)
        assert store.session_id == number
        if created is not None:
            store.create(created)
        abandon(store)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed):
        LocalStore(str(tmp_path / "none" / "metadata.db"), lambda: 0)


def test_a_full_disk_changes_nothing_and_passes(path: str) -> None:
    store = LocalStore(path, lambda: 0)
    store.create("/a", b"small")
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count = {pages + 1}")
    before = everything(store)
    with pytest.raises(StoreFull):
        store.multi([SetData("/a", bytes(100_000)), Create("/b")])
    assert everything(store) == before
    store._database.execute("PRAGMA max_page_count = 100000")
    store.multi([SetData("/a", bytes(100_000)), Create("/b")])
    abandon(store)
    again = LocalStore(path, lambda: 0)
    assert len(again.get("/a")[0] or b"") == 100_000 and again.exists("/b") is not None
    again.close()


class FailingDatabase:
    """A database whose medium fails at the commit."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self.real = real

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        if statement == "COMMIT":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return self.real.execute(statement, values)

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


def test_after_a_failed_write_nothing_is_tried_again(path: str) -> None:
    store = LocalStore(path, lambda: 0)
    store.create("/a", b"kept")
    before = everything(store)
    real = store._database
    store._database = FailingDatabase(real)  # type: ignore[assignment]
    with pytest.raises(StoreFailed):
        store.create("/b")
    store._database = real
    with pytest.raises(StoreFailed):
        store.create("/c")
    assert everything(store) == before, "reads go on"
    store.close()
    again = LocalStore(path, lambda: 0)
    assert again.exists("/b") is None and again.get("/a")[0] == b"kept"
    again.close()


paths = st.sampled_from(["/a", "/b", "/a/c", "/a/d", "/b/c"])
operations = st.one_of(
    st.builds(Create, paths, st.binary(max_size=3) | st.none(), st.booleans(), st.booleans()),
    st.builds(SetData, paths, st.binary(max_size=3), st.integers(-1, 2)),
    st.builds(Delete, paths, st.integers(-1, 1)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(operations, min_size=1, max_size=3), max_size=12))
def test_any_history_survives_a_kill(tmp_path_factory: pytest.TempPathFactory, history: list[list[Create]]) -> None:
    path = str(tmp_path_factory.mktemp("kill") / "metadata.db")
    store = LocalStore(path, lambda: 0)
    for ops in history:
        try:
            store.multi(ops)
        except StoreError:
            pass
    expected = {
        node_path: (data, stat.version, stat.czxid, stat.mzxid)
        for node_path, (data, stat) in everything(store).items()
        if not stat.ephemeral_owner
    }
    abandon(store)
    again = LocalStore(path, lambda: 0)
    assert expected == {
        node_path: (data, stat.version, stat.czxid, stat.mzxid) for node_path, (data, stat) in everything(again).items()
    }
    again.close()

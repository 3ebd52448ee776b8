"""A look at a store that somebody has open."""

import os
import threading
from pathlib import Path

import pytest

from cluster.metadata import local_copy
from cluster.metadata.local import LocalStore, NotAStore, StoreInUse
from cluster.metadata.local_copy import opened_copy
from cluster.metadata.store import SetData


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "metadata.db")


def test_what_is_in_use_is_seen_and_left_alone(path: str) -> None:
    store = LocalStore(path, lambda: 0)
    for number in range(50):
        store.create(f"/n{number}", b"%d" % number)
    store.create("/e", b"", ephemeral=True)
    files = sorted(os.listdir(os.path.dirname(path)))
    with opened_copy(path) as seen:
        assert seen.get("/n7")[0] == b"7" and len(seen.children("/")) == 50
        seen.create("/only-here")
    store.create("/more")
    assert sorted(os.listdir(os.path.dirname(path))) == files
    with opened_copy(path) as seen:
        assert seen.exists("/more") is not None and seen.exists("/only-here") is None
    store.close()
    with opened_copy(path) as seen:
        assert len(seen.children("/")) == 51


def test_a_moment_is_seen_while_somebody_writes(path: str) -> None:
    """All nodes are changed together, so all must be the same."""
    store = LocalStore(path, lambda: 0)
    names = [f"/n{number}" for number in range(20)]
    for name in names:
        store.create(name, b"0")
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.wait(0.1):
            number += 1
            store.multi([SetData(name, b"%d" % number * 500) for name in names])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            with opened_copy(path) as seen:
                assert len({seen.get(name)[0] for name in names}) == 1
    finally:
        done.set()
        writer.join()
        store.close()


def test_one_that_never_keeps_still(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    LocalStore(path, lambda: 0).close()
    monkeypatch.setattr(local_copy, "_ATTEMPTS", 2)
    monkeypatch.setattr(local_copy, "_try_to_copy", lambda path, copy: False)
    with pytest.raises(StoreInUse), opened_copy(path):
        pass


def test_what_is_none(path: str) -> None:
    with pytest.raises(FileNotFoundError), opened_copy(path):
        pass
    Path(path).write_bytes(b"something else" * 1000)
    with pytest.raises(NotAStore), opened_copy(path):
        pass

"""What every store must do, whatever it is made of: ZooKeeper's behaviour. A store's tests inherit this class."""

from collections.abc import Callable

import pytest

from cluster.metadata.reader import walk
from cluster.metadata.store import (
    CHANGED,
    CHILDREN,
    CREATED,
    DELETED,
    MAX_NODE_BYTES,
    BadVersion,
    Check,
    Create,
    Delete,
    NoChildrenForEphemerals,
    NodeExists,
    NodeTooLarge,
    NoNode,
    NotEmpty,
    Op,
    SessionExpired,
    SetData,
    Stat,
    Store,
    StoreError,
    WatchEvent,
)


class StoreContract:
    """Subclasses give the fixture `store`, a fresh session on an empty tree."""

    # ------------------------------------------------------------------ nodes

    def test_create_get_set_delete(self, store: Store) -> None:
        assert store.create("/a", b"one") == "/a"
        data, stat = store.get("/a")
        assert data == b"one" and stat.version == 0 and stat.czxid == stat.mzxid > 0
        changed = store.set("/a", b"two!", 0)
        assert (changed.version, changed.data_length, changed.czxid) == (1, 4, stat.czxid)
        assert changed.mzxid > stat.mzxid and store.get("/a") == (b"two!", changed)
        store.delete("/a", 1)
        assert store.exists("/a") is None

    def test_null_data_is_not_empty_data(self, store: Store) -> None:
        store.create("/null")
        store.create("/empty", b"")
        assert store.get("/null")[0] is None
        assert store.get("/empty")[0] == b""
        store.set("/empty", None)
        assert store.get("/empty")[0] is None

    def test_what_is_not_there(self, store: Store) -> None:
        assert store.exists("/no") is None
        for attempt in (
            lambda: store.get("/no"),
            lambda: store.set("/no", b""),
            lambda: store.delete("/no"),
            lambda: store.children("/no"),
            lambda: store.create("/no/child"),
            lambda: store.multi([Check("/no", 0)]),
        ):
            with pytest.raises(NoNode):
                attempt()

    def test_what_is_there_already(self, store: Store) -> None:
        store.create("/a")
        with pytest.raises(NodeExists):
            store.create("/a")

    def test_versions(self, store: Store) -> None:
        store.create("/a")
        store.set("/a", b"x")
        with pytest.raises(BadVersion):
            store.set("/a", b"y", 0)
        with pytest.raises(BadVersion):
            store.delete("/a", 0)
        store.set("/a", b"y", -1)
        store.delete("/a", -1)

    def test_children(self, store: Store) -> None:
        store.create("/p")
        for name in ("b", "c", "a"):
            store.create(f"/p/{name}")
        assert store.children("/p") == ["a", "b", "c"]
        assert "p" in store.children("/")
        with pytest.raises(NotEmpty):
            store.delete("/p")
        store.delete("/p/b")
        stat = store.exists("/p")
        assert stat is not None and (stat.num_children, stat.cversion, stat.version) == (2, 4, 0)
        assert store.children("/p") == ["a", "c"]

    def test_pzxid_follows_the_children(self, store: Store) -> None:
        store.create("/p")
        store.create("/p/a")
        created = store.get("/p/a")[1].czxid
        assert store.get("/p")[1].pzxid == created > store.get("/p")[1].czxid
        store.set("/p/a", b"x")
        assert store.get("/p")[1].pzxid == created
        store.delete("/p/a")
        assert store.get("/p")[1].pzxid > created

    def test_sequential_nodes(self, store: Store) -> None:
        store.create("/s")
        assert store.create("/s/n_", b"", sequential=True) == "/s/n_0000000000"
        assert store.create("/s/n_", b"", sequential=True) == "/s/n_0000000001"
        store.delete("/s/n_0000000001")
        assert store.create("/s/other", sequential=True) == "/s/other0000000002"

    @pytest.mark.parametrize("path", ["", "a", "/a/", "//a", "/a//b", "/./a", "/a/..", "/a\0b"])
    def test_paths(self, store: Store, path: str) -> None:
        with pytest.raises(ValueError):
            store.create(path)
        with pytest.raises(ValueError):
            store.get(path)

    def test_names_of_any_characters(self, store: Store) -> None:
        for name in ("<default>", "User%3Aalice", "*", "naïve", "a b"):
            store.create(f"/{name}", name.encode())
            assert store.get(f"/{name}")[0] == name.encode()

    def test_size(self, store: Store) -> None:
        store.create("/big", bytes(MAX_NODE_BYTES))
        for attempt in (
            lambda: store.create("/bigger", bytes(MAX_NODE_BYTES + 1)),
            lambda: store.set("/big", bytes(MAX_NODE_BYTES + 1)),
        ):
            with pytest.raises(NodeTooLarge):
                attempt()
        assert store.get("/big")[1].version == 0

    # ------------------------------------------------------------------ several at once

    def test_multi_does_all(self, store: Store) -> None:
        store.create("/epoch", b"0")
        results = store.multi(
            [
                Check("/epoch", 0),
                Create("/t", b"1"),
                SetData("/epoch", b"1", 0),
                Create("/t/c"),
                Delete("/t/c"),
                Create("/t/s_", b"", False, True),
            ]
        )
        assert results[0] is None and results[1] == "/t" and results[3:] == ["/t/c", None, "/t/s_0000000001"]
        assert isinstance(results[2], Stat) and results[2].version == 1
        assert store.get("/t")[1].czxid == store.get("/epoch")[1].mzxid, "one change of the tree"
        assert store.children("/t") == ["s_0000000001"]

    @pytest.mark.parametrize(
        ("last", "error"),
        [
            (Check("/epoch", 7), BadVersion),
            (Create("/epoch"), NodeExists),
            (SetData("/none", b""), NoNode),
            (Delete("/d"), NotEmpty),
        ],
    )
    def test_multi_does_nothing(self, store: Store, last: Check, error: type[StoreError]) -> None:
        store.create("/epoch", b"0")
        store.create("/d")
        store.create("/d/c")
        before = store.get("/")[1]
        with pytest.raises(error) as caught:
            store.multi([Create("/new"), SetData("/epoch", b"1"), last])
        assert caught.value.op_index == 2
        assert store.exists("/new") is None
        assert store.get("/epoch")[0] == b"0" and store.get("/")[1] == before

    def test_multi_sees_its_own_changes(self, store: Store) -> None:
        store.multi([Create("/a"), Create("/a/b"), SetData("/a/b", b"x", 0), Check("/a/b", 1)])
        store.multi([Delete("/a/b"), Delete("/a"), Create("/a", b"again")])
        assert store.get("/a")[0] == b"again" and store.children("/a") == []
        store.multi([Delete("/a"), Create("/a"), Delete("/a")])
        assert store.exists("/a") is None

    def test_empty_multi(self, store: Store) -> None:
        assert store.multi([]) == []

    # ------------------------------------------------------------------ many at once

    def test_many_reads(self, store: Store) -> None:
        seen: list[WatchEvent] = []
        for number in range(30):
            store.create(f"/n{number}", b"%d" % number)
        wanted = [(f"/n{number}", seen.append if number in (3, 31) else None) for number in range(32)]
        found = store.get_many(wanted)
        assert [each if isinstance(each, StoreError) else each[0] for each in found[:30]] == [
            b"%d" % number for number in range(30)
        ]
        assert found[7] == store.get("/n7")
        assert isinstance(found[30], NoNode) and isinstance(found[31], NoNode)
        assert store.get_many([]) == []
        store.create("/n31")
        store.set("/n2", b"")
        assert seen == []
        store.set("/n3", b"")
        assert seen == [WatchEvent(CHANGED, "/n3")]

    def test_many_lists(self, store: Store) -> None:
        store.multi([Create("/p"), Create("/p/b"), Create("/p/a"), Create("/q"), Create("/q/c")])
        found = store.children_many(["/p", "/none", "/q", "/p/a", "/"])
        assert found[0] == ["a", "b"] and isinstance(found[1], NoNode)
        assert found[2:4] == [["c"], []] and found[4] == store.children("/")
        assert store.children_many([]) == []

    def test_a_walk(self, store: Store) -> None:
        nodes = ["/p", "/p/a", "/p/a/x", "/p/b", "/pp"]
        store.multi([Create(path, path.encode()) for path in nodes])
        assert [(node.path, node.data) for node in walk(store, "/p")] == [
            (path, path.encode()) for path in ("/p", "/p/a", "/p/b", "/p/a/x")
        ]
        assert next(walk(store)).path == "/" and {node.path for node in walk(store)} >= set(nodes)
        assert list(walk(store, "/none")) == []

    def test_many_multis(self, store: Store) -> None:
        store.create("/epoch", b"0")
        multis: list[list[Op]] = [[Check("/epoch", 0), Create(f"/n{number}")] for number in range(25)]
        multis[7] = [Check("/epoch", 1), Create("/n7")]
        multis[9] = []
        multis[11] = [Check("/epoch", 0), Create("/n10")]
        results = store.multi_many(multis)
        assert results[0] == [None, "/n0"] and results[24] == [None, "/n24"] and results[9] == []
        refused = {number: each for number, each in enumerate(results) if isinstance(each, StoreError)}
        assert sorted(refused) == [7, 11]
        assert isinstance(refused[7], BadVersion) and refused[7].op_index == 0
        assert isinstance(refused[11], NodeExists) and refused[11].op_index == 1
        assert len(store.children("/")) == 23
        assert store.multi_many([]) == []

    # ------------------------------------------------------------------ sessions

    def test_ephemeral_nodes(self, store: Store) -> None:
        store.create("/e", b"me", ephemeral=True)
        assert store.get("/e")[1].ephemeral_owner == store.session_id != 0
        store.create("/p")
        assert store.get("/p")[1].ephemeral_owner == 0
        with pytest.raises(NoChildrenForEphemerals):
            store.create("/e/child")
        with pytest.raises(NoChildrenForEphemerals):
            store.multi([Create("/f", None, True), Create("/f/child")])
        assert store.exists("/f") is None

    def test_a_closed_session_does_nothing_more(self, store: Store) -> None:
        store.create("/a")
        store.close()
        store.close()
        for attempt in (
            lambda: store.get("/a"),
            lambda: store.exists("/a"),
            lambda: store.children("/"),
            lambda: store.create("/b"),
            lambda: store.multi([Delete("/a")]),
        ):
            with pytest.raises(SessionExpired):
                attempt()

    # ------------------------------------------------------------------ watches

    def test_data_watch_fires_once(self, store: Store) -> None:
        seen: list[WatchEvent] = []
        store.create("/a")
        store.get("/a", seen.append)
        store.set("/a", b"1")
        store.set("/a", b"2")
        assert seen == [WatchEvent(CHANGED, "/a")]
        store.get("/a", seen.append)
        store.delete("/a")
        assert seen[1:] == [WatchEvent(DELETED, "/a")]

    def test_exists_watch(self, store: Store) -> None:
        seen: list[WatchEvent] = []
        assert store.exists("/a", seen.append) is None
        store.create("/a")
        assert seen == [WatchEvent(CREATED, "/a")]
        assert store.exists("/a", seen.append) is not None
        store.set("/a", b"")
        assert seen[1:] == [WatchEvent(CHANGED, "/a")]

    def test_child_watch(self, store: Store) -> None:
        seen: list[WatchEvent] = []
        store.create("/p")
        store.children("/p", seen.append)
        store.set("/p", b"data")
        assert seen == []
        store.create("/p/a")
        store.create("/p/b")
        assert seen == [WatchEvent(CHILDREN, "/p")]
        store.children("/p", seen.append)
        store.delete("/p/a")
        assert seen[1:] == [WatchEvent(CHILDREN, "/p")]
        store.delete("/p/b")
        store.children("/p", seen.append)
        store.delete("/p")
        assert seen[2:] == [WatchEvent(DELETED, "/p")]

    def test_a_watch_set_twice_fires_once(self, store: Store) -> None:
        seen: list[WatchEvent] = []
        watch: Callable[[WatchEvent], None] = seen.append
        store.create("/a")
        store.get("/a", watch)
        store.exists("/a", watch)
        store.set("/a", b"")
        assert seen == [WatchEvent(CHANGED, "/a")]

    def test_no_watch_where_nothing_is(self, store: Store) -> None:
        seen: list[WatchEvent] = []
        with pytest.raises(NoNode):
            store.get("/a", seen.append)
        with pytest.raises(NoNode):
            store.children("/a", seen.append)
        store.create("/a")
        store.create("/a/b")
        assert seen == []

    def test_watches_of_a_multi(self, store: Store) -> None:
        seen: list[WatchEvent] = []
        store.create("/p")
        store.create("/q")
        store.children("/p", seen.append)
        store.exists("/p/a", seen.append)
        store.get("/q", seen.append)
        with pytest.raises(NoNode):
            store.multi([Create("/p/a"), SetData("/none", b"")])
        assert seen == []
        store.multi([Create("/p/a"), SetData("/q", b"")])
        assert seen == [WatchEvent(CREATED, "/p/a"), WatchEvent(CHILDREN, "/p"), WatchEvent(CHANGED, "/q")]

"""What leaves one store as lines goes into another and means the same."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.metadata import paths, startup
from cluster.metadata.memory import MemoryTree
from cluster.metadata.reader import Found, read_cluster, walk
from cluster.metadata.store import Create, Store
from cluster.metadata.tree_lines import Line, decode_lines, encode_line, restore
from tests.unit.cluster.metadata.snapshots import snapshots


def fresh() -> Store:
    return MemoryTree(lambda: 5).connect()


def lines_of(store: Store) -> list[str]:
    return [encode_line(node) for node in walk(store) if node.path != "/"]


def put(store: Store, lines: list[str]) -> tuple[int, int, int]:
    return restore(store, decode_lines(line.encode() for line in lines))


def test_a_line() -> None:
    store = fresh()
    store.multi([Create("/a"), Create("/a/b", 'näme "1"'.encode()), Create("/a/c", b"\xff\0"), Create("/e", b"", True)])
    assert lines_of(store) == [
        '{"path":"/a","data":null,"version":0}',
        '{"path":"/e","data":"","version":0,"ephemeral":true}',
        '{"path":"/a/b","data":"näme \\"1\\"","version":0}',
        '{"path":"/a/c","base64":"/wA=","version":0}',
    ]


@given(st.binary(max_size=20) | st.none() | st.text(max_size=20).map(str.encode), st.integers(0, 9), st.booleans())
@settings(max_examples=100, deadline=None)
def test_lines_are_read_as_they_were_written(data: bytes | None, version: int, ephemeral: bool) -> None:
    stat = fresh().get("/")[1]._replace(version=version, ephemeral_owner=7 if ephemeral else 0)
    assert [*decode_lines([encode_line(Found("/x/y", data, stat)).encode()])] == [
        Line("/x/y", data, version, ephemeral)
    ]


@pytest.mark.parametrize(
    "line",
    [
        "[]", "x", "{}", '{"path":"/a"}', '{"path":"a","data":null}', '{"path":"/a/","data":null}',
        '{"path":1,"data":""}', '{"path":"/a","data":"","version":"1"}', '{"path":"/a","data":"","ephemeral":1}',
        '{"path":"/a","base64":"%"}',
    ],
)  # fmt: skip
def test_what_is_no_line(line: str) -> None:
    good = '{"path":"/a","data":null}'
    with pytest.raises(ValueError, match=r"^line 3 is no node of a metadata tree"):
        list(decode_lines(text.encode() for text in (good, "", line)))


@pytest.mark.parametrize("step", ["03-topics-created", "07-configs", "26-logdir-failed", "acl-token", "ibp26"])
def test_kafkas_trees_move(step: str) -> None:
    """Everything goes over but sessions and announcements; facts are the same but for who is alive."""
    store = fresh()
    for node in sorted(snapshots()[step]):
        if node.path != "/":
            store.create(node.path, node.data, ephemeral=node.is_ephemeral)
    other = fresh()
    lines = lines_of(store)
    created, changed, left_out = put(other, lines)
    assert changed == 0 and created + left_out == len(lines) and left_out > 0
    before, after = read_cluster(store), read_cluster(other)
    assert after == before._replace(brokers={})
    moved = {node.path: node.data for node in walk(other)}
    gone = {node.path for node in walk(store)} - set(moved)
    assert all(
        path in ("/controller",) or path.rpartition("/")[0] in ("/brokers/ids", "/config/changes")
        or "changes/" in path
        for path in gone
    ), gone  # fmt: skip
    assert all(data == store.get(path)[0] for path, data in moved.items())


def test_announcements_are_left_out_because_their_numbers_begin_anew() -> None:
    store = fresh()
    startup.prepare_tree(store, "BqAbZzJcRyCV7ufzNcp56A")
    for _ in range(3):
        store.create(paths.CONFIG_CHANGE_PREFIX, paths.ConfigChange("topics/t").encode(), sequential=True)
    store.delete(f"{paths.CONFIG_CHANGES}/config_change_0000000000")
    other = fresh()
    assert put(other, lines_of(store))[2] == 2
    made = [other.create(paths.CONFIG_CHANGE_PREFIX, b"{}", sequential=True) for _ in range(3)]
    assert made[0].endswith("_0000000000")


def test_generated_broker_ids_are_not_given_out_again() -> None:
    store, other = fresh(), fresh()
    startup.prepare_tree(store, "BqAbZzJcRyCV7ufzNcp56A")
    given_out = [startup.generate_broker_id(store, 1000) for _ in range(3)]
    put(other, lines_of(store))
    assert startup.generate_broker_id(other, 1000) == max(given_out) + 1
    put(other, lines_of(store))
    assert startup.generate_broker_id(other, 1000) == max(given_out) + 2, "a second time changes nothing"


def test_into_a_tree_that_has_some_already() -> None:
    store, other = fresh(), fresh()
    store.multi([Create("/a", b"1"), Create("/a/b", b"2"), Create("/c")])
    other.multi([Create("/a", b"other"), Create("/z", b"stays"), Create("/c")])
    assert put(other, lines_of(store)) == (1, 1, 0)
    assert {node.path: node.data for node in walk(other) if node.path != "/"} == {
        "/a": b"1", "/a/b": b"2", "/c": None, "/z": b"stays",
    }  # fmt: skip


def test_parents_without_a_line() -> None:
    store = fresh()
    assert put(store, [json.dumps({"path": "/x/y/z", "data": "1"})]) == (3, 0, 0)
    assert store.get("/x/y")[0] is None and store.get("/x/y/z")[0] == b"1"


@pytest.mark.parametrize(
    "make", [lambda number: b"x" * 1000, lambda number: bytes(900_000) if number % 7 == 0 else b""]
)
def test_many_and_large_nodes(make: Callable[[int], bytes]) -> None:
    store, other = fresh(), fresh()
    for number in range(300):
        store.create(f"/n{number}", make(number))
    put(other, lines_of(store))
    assert {node.path: node.data for node in walk(other)} == {node.path: node.data for node in walk(store)}

"""A write whose answer was lost: what is found out about it is what happened."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.metadata.memory import MemoryStore, MemoryTree
from cluster.metadata.store import Check, Create, Delete, Op, SetData, Stat, StoreError
from cluster.metadata.unsure import all_gone, find_out

BEFORE: list[Op] = [
    Create("/a", b"1"),
    Create("/a/x", b"1"),
    Create("/b"),
    Create("/s"),
    Create("/s/n_", b"1", False, True),
]


def tree_with(before: list[Op]) -> tuple[MemoryStore, MemoryStore, int]:
    """Our store, another's, and the zxid that was seen last."""
    tree = MemoryTree(lambda: 0)
    ours, others = tree.connect(), tree.connect()
    others.multi(before)
    return ours, others, ours.get("/")[1].pzxid


def shape(results: list[object] | None) -> list[object] | None:
    """Results without what later operations of the same list changed in a Stat."""
    return None if results is None else ["stat" if isinstance(each, Stat) else each for each in results]


paths = st.sampled_from(["/a", "/a/x", "/a/y", "/b", "/c", "/c/z"])
values = st.sampled_from([None, b"", b"1", b"2"])
operations = st.one_of(
    st.builds(Create, paths, values, st.booleans()),
    st.builds(Create, st.sampled_from(["/s/n_", "/s/m_"]), values, st.booleans(), st.just(True)),
    st.builds(SetData, paths, values, st.integers(-1, 1)),
    st.builds(Delete, paths, st.integers(-1, 1)),
    st.builds(Check, paths, st.integers(0, 1)),
)


def leaves_a_trace(ops: list[Op]) -> bool:
    """What is deleted, or only checked, cannot be seen afterwards."""
    deleted = {op.path for op in ops if isinstance(op, Delete)}
    return any(isinstance(op, Create | SetData) and op.path not in deleted for op in ops)


@settings(max_examples=150, deadline=None)
@given(st.lists(operations, min_size=1, max_size=5))
def test_what_was_done_is_found_and_what_was_not_is_not(ops: list[Op]) -> None:
    ours, _, since = tree_with(BEFORE)
    expected: list[object] | None
    try:
        expected = list(ours.multi(ops))
    except StoreError:
        expected = None
    found = find_out(ours, ops, since)
    if expected is None:
        assert found is None, "refused, and so it was when it was sent"
        return
    if leaves_a_trace(ops):
        assert shape(list(found) if found is not None else None) == shape(expected)
    else:
        assert found is None or shape(list(found)) == shape(expected)
    for op, mine, theirs in zip(reversed(ops), reversed(found or []), reversed(expected), strict=False):
        if isinstance(op, SetData) and isinstance(mine, Stat):
            assert isinstance(theirs, Stat)
            assert (mine.version, mine.mzxid, mine.data_length) == (theirs.version, theirs.mzxid, theirs.data_length)
            break


@settings(max_examples=150, deadline=None)
@given(st.lists(operations, min_size=1, max_size=5))
def test_what_was_never_sent_is_not_found(ops: list[Op]) -> None:
    ours, _, since = tree_with(BEFORE)
    assert find_out(ours, ops, since) is None


@pytest.mark.parametrize(
    ("ops", "meanwhile"),
    [
        ([SetData("/a", b"2", 0)], [SetData("/a", b"3", 0)]),
        ([SetData("/a", b"2", 0)], [SetData("/a", b"x", 0), SetData("/a", b"2", 1)]),
        ([Create("/c", b"me", True)], [Create("/c", b"me", True)]),
        ([Create("/c", b"me")], [Create("/c", b"other")]),
        ([Create("/c", b"1"), SetData("/a", b"2", 0)], [Create("/c", b"1")]),
        ([Create("/s/n_", b"2", False, True)], [Create("/s/n_", b"3", False, True)]),
        ([Delete("/a/x"), Create("/c")], [Delete("/a/x")]),
        ([Delete("/a/x")], [Delete("/a/x")]),
    ],
)
def test_what_another_did_meanwhile(ops: list[Op], meanwhile: list[Op]) -> None:
    ours, others, since = tree_with(BEFORE)
    others.multi(meanwhile)
    assert find_out(ours, ops, since) is None


def test_what_was_done_in_two_changes_was_not_done_by_us() -> None:
    ours, others, since = tree_with(BEFORE)
    others.create("/c", b"1")
    others.set("/a", b"2", 0)
    assert find_out(ours, [Create("/c", b"1"), SetData("/a", b"2", 0)], since) is None


def test_what_was_written_over_since_is_not_told_as_ours() -> None:
    """The next try then says what is the matter."""
    ours, others, since = tree_with(BEFORE)
    ours.set("/a", b"2", 0)
    others.set("/a", b"3", 1)
    assert find_out(ours, [SetData("/a", b"2", 0)], since) is None


def test_what_is_gone() -> None:
    ours, others, _ = tree_with(BEFORE)
    ops: list[Op] = [Check("/a", 0), Delete("/a/x"), Delete("/b")]
    others.delete("/b")
    assert not all_gone(ours, ops), "another deleted one of them"
    others.delete("/a/x")
    assert all_gone(ours, ops) and not all_gone(ours, [*ops, SetData("/a", b"")])


def test_numbered_nodes_of_one_change() -> None:
    ours, others, since = tree_with(BEFORE)
    ops: list[Op] = [Create("/s/n_", b"2", False, True), Create("/s/n_", b"2", False, True), SetData("/a", b"2")]
    done = ours.multi(ops)
    others.create("/s/n_", b"2", sequential=True)
    found = find_out(ours, ops, since)
    assert found is not None and found[:2] == done[:2]

"""Transactions and named readers: all or nothing, also when the process is killed at any of its writes."""

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pylog
from pylog.position import OFFSETS_TOPIC, offsets_partition
from pylog.transaction_log import TRANSACTION_TOPIC, TransactionState, decode_transaction
from pylog.types import TopicPartition

PWRITEV = 1  # PLOG_SYS_PWRITEV


@pytest.fixture
def store(tmp_path: Path) -> Iterator[pylog.Store]:
    with pylog.open(tmp_path / "store") as opened:
        opened.create_topic("t", 3)
        yield opened


def values(partition: pylog.PartitionReader, isolation: str = "read_committed") -> list[bytes | None]:
    return [record.value for record in partition.read(isolation=isolation)]  # type: ignore[arg-type]


def from_outside(store: pylog.Store, partition: int = 0) -> list[bytes | None]:
    """What another process sees."""
    with pylog.open(store.path, "r") as reader:
        return values(reader.partition("t", partition))


# ---------------------------------------------------------------------------------------------------- transactions


def test_together_or_not_at_all(store: pylog.Store) -> None:
    one, two, _ = store.topic("t")
    with store.transaction() as tx:
        tx.append(one, b"a", b"k", headers=[("h", b"")])
        tx.append_many(("t", 1), [b"b", b"c"])
        tx.append_columns(TopicPartition("t", 1), [b"d"], timestamps_ms=[5])
        assert (values(one), values(two), from_outside(store)) == ([], [], [])
        assert values(two, "read_uncommitted") == [b"b", b"c", b"d"]
    assert tx.state == "committed"
    assert (values(one), values(two)) == ([b"a"], [b"b", b"c", b"d"])
    assert (from_outside(store, 0), from_outside(store, 1)) == ([b"a"], [b"b", b"c", b"d"])
    with pytest.raises(pylog.TransactionError, match="is committed"):
        tx.append(one, b"x")


def test_an_exception_aborts(store: pylog.Store) -> None:
    one, two, _ = store.topic("t")
    with pytest.raises(KeyError), store.transaction() as tx:
        tx.append(one, b"a")
        tx.append(two, b"b")
        raise KeyError
    assert tx.state == "aborted"
    one.append(b"after")
    assert (values(one), from_outside(store), values(two)) == ([b"after"], [b"after"], [])
    assert values(one, "read_uncommitted") == [b"a", b"after"]


def test_an_open_transaction_holds_back_what_is_behind_it(store: pylog.Store) -> None:
    one = store.partition("t")
    one.append(b"before")
    first, second = store.transaction(), store.transaction()
    first.append(one, b"1")
    second.append(one, b"2")
    one.append(b"plain")
    second.commit()
    assert values(one) == from_outside(store) == [b"before"]
    first.abort()
    assert values(one) == from_outside(store) == [b"before", b"2", b"plain"]


def test_a_marker_is_no_record_of_its_time(store: pylog.Store) -> None:
    """Markers carry the present time; records behind one may be older."""
    one = store.partition("t")
    with store.transaction() as tx:
        tx.append(one, b"old", timestamp_ms=10)
    one.append(b"older", timestamp_ms=5)
    one.append(b"newer", timestamp_ms=20)
    with pylog.open(store.path, "r") as outside:
        for partition in (one, outside.partition("t")):
            assert [record.value for record in partition.read(timestamp_ms=15)] == [b"newer"]
            assert partition.offset_for_timestamp(21) is None


def test_a_transaction_of_nothing_writes_nothing(store: pylog.Store) -> None:
    with store.transaction():
        pass
    assert TRANSACTION_TOPIC not in store


def test_closing_aborts(tmp_path: Path) -> None:
    store = pylog.open(tmp_path)
    partition = store.create_topic("t")[0]
    tx = store.transaction()
    tx.append(partition, b"lost")
    store.close()
    assert tx.state == "aborted"
    with pylog.open(tmp_path) as store:
        store.partition("t").append(b"next")
        assert values(store.partition("t")) == [b"next"]


def test_an_append_that_failed_leaves_only_aborting(store: pylog.Store) -> None:
    one = store.partition("t")
    tx = store.transaction()
    tx.append(one, b"a")
    store._sys.fault(PWRITEV, 1, errno.ENOSPC)
    with pytest.raises(OSError):
        tx.append(one, b"b")
    for use in (lambda: tx.append(one, b"c"), tx.commit):
        with pytest.raises(pylog.TransactionError, match="only be aborted"):
            use()
    tx.abort()
    with store.transaction() as tx:
        tx.append(one, b"d")
    assert values(one) == from_outside(store) == [b"d"]


def test_a_swallowed_failure_does_not_commit(store: pylog.Store) -> None:
    one = store.partition("t")
    with pytest.raises(pylog.TransactionError, match="was aborted"), store.transaction() as tx:
        store._sys.fault(PWRITEV, 2, errno.ENOSPC)  # the first notes that the transaction began
        try:
            tx.append(one, b"a")
        except OSError:
            tx_error = True
    assert tx_error
    assert values(one) == []


def test_a_decided_transaction_is_finished_by_a_second_try(store: pylog.Store) -> None:
    tx = store.transaction()
    for partition in store.topic("t"):
        tx.append(partition, b"x")
    store._sys.fault(PWRITEV, 3, errno.ENOSPC)  # decision, first marker, second marker
    with pytest.raises(OSError):
        tx.commit()
    assert tx.state == "committing"
    assert [values(partition) for partition in store.topic("t")] == [[b"x"], [], []]
    tx.commit()
    assert [values(partition) for partition in store.topic("t")] == [[b"x"]] * 3


KILLED = """
import errno, os, sys
import pylog
path, nth = sys.argv[1], int(sys.argv[2])
store = pylog.open(path)
topic = store.topic("t")
with store.transaction() as tx:
    for n, partition in enumerate(topic):
        tx.append(partition, b"x")
        if nth == n: os.kill(os.getpid(), 9)
    tx.commit_positions("reader", {pylog.TopicPartition("t", 0): 7})
    if nth == 3: os.kill(os.getpid(), 9)
    marks = tx._transactions.mark
    def mark(partition, *rest):
        left[0] -= 1
        if left[0] < 0: os.kill(os.getpid(), 9)
        marks(partition, *rest)
    left = [nth - 4]
    type(tx._transactions).mark = lambda self, *rest: mark(*rest)
raise SystemExit("not killed")
"""


@pytest.mark.parametrize("nth", range(8))
def test_killed_at_any_point(tmp_path: Path, nth: int) -> None:
    """After 1, 2, 3 appends, the position, then before each of the four markers."""
    with pylog.open(tmp_path) as store:
        store.create_topic("t", 3)
        store.commit("other", {TopicPartition("t", 0): 1})
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(nth)], capture_output=True, timeout=60)
    assert done.returncode == -9, done.stderr.decode()
    decided = nth >= 4
    with pylog.open(tmp_path) as store:
        assert [values(p) for p in store.topic("t")] == [[b"x"] if decided else []] * 3
        position = store.committed("reader", "t")
        assert (position.offset if position else None) == (7 if decided else None)
        assert store.committed("other", "t") is not None
        for partition in store.topic("t"):
            assert from_outside(store, partition.partition) == values(partition)
            with store.transaction() as tx:
                tx.append(partition, b"again")
            assert values(partition)[-1] == b"again"
        facts = [fact for r in store.partition(TRANSACTION_TOPIC).read() if (fact := decode_transaction(r))]
        assert facts[-1].state == TransactionState.COMPLETE_COMMIT


def test_other_peoples_transactions_are_left_alone(tmp_path: Path) -> None:
    """A broker's producer that had a transaction open: its coordinator decides, not the library."""
    from pylog._columns import Producer

    with pylog.open(tmp_path) as store:
        partition = store.create_topic("t")[0]
        partition.append_many([b"theirs"], producer=Producer(40, 3, 0))
    with pylog.open(tmp_path) as store:
        assert values(store.partition("t")) == []
        with store.transaction() as tx:
            tx.append(("t", 0), b"ours")
        assert tx._slot.producer_id == 41
        assert values(store.partition("t")) == []
        assert [p.current_txn_first_offset for p in store.partition("t")._log.producers() if p.producer_id == 40] == [0]


# ------------------------------------------------------------------------------------------------------ positions


def test_a_named_reader_goes_on_where_it_was(tmp_path: Path) -> None:
    with pylog.open(tmp_path) as store:
        topic = store.create_topic("t", 2)
        for partition in topic:
            partition.append_many([b"%d" % i for i in range(5)])
        with store.reader("billing", "t") as reader:
            first = reader.poll(7)
            assert len(first) == 7
            reader.commit()
            assert len(reader.poll()) == 3
    with pylog.open(tmp_path) as store:
        with store.reader("billing", "t") as reader:
            again = list(reader)
            assert len(again) == 3
            assert {(r.topic, r.partition, r.offset) for r in first + again} == {
                ("t", p, o) for p in (0, 1) for o in range(5)
            }
        with store.reader("new", "t", start="latest") as reader:
            assert reader.poll() == []
            store.partition("t", 1).append(b"now")
            assert [r.value for r in reader.poll(timeout_ms=10_000)] == [b"now"]
            reader.seek("t", 0, 3)
            assert [r.value for r in reader.poll()] == [b"3", b"4"]
            assert reader.positions() == {TopicPartition("t", 0): 5, TopicPartition("t", 1): 6}
        with pytest.raises(pylog.StoreClosedError):
            reader.poll()


def test_positions_below_the_logs_start(store: pylog.Store) -> None:
    partition = store.partition("t")
    partition.append_many([b"a", b"b", b"c"])
    store.commit("r", {partition.topic_partition: 1})
    partition.delete_records(2)
    with store.reader("r", "t") as reader:
        assert [r.offset for r in reader.poll()] == [2]


def test_readers_of_other_processes_have_files_of_their_own(store: pylog.Store, tmp_path: Path) -> None:
    partition = store.partition("t")
    partition.append_many([b"a", b"b", b"c"])
    store.commit("r/1", {partition.topic_partition: 1})
    with pylog.open(store.path, "r") as outside, outside.reader("r/1", "t") as reader:
        assert [r.value for r in reader.poll()] == [b"b", b"c"]
        with pytest.raises(pylog.ReadOnlyError, match="positions"):
            reader.commit()
    for expected in ([b"b", b"c"], []):
        with pylog.open(store.path, "r", positions=tmp_path / "own") as outside, outside.reader("r/1", "t") as reader:
            assert [r.value for r in reader.poll()] == expected
            reader.commit()
    assert [file.name for file in (tmp_path / "own").iterdir()] == ["r%2F1.positions"]
    assert store.committed("r/1", "t") == pylog.Position(1, commit_ms=store.committed("r/1", "t").commit_ms)  # type: ignore[union-attr]


def test_positions_commit_with_the_transaction(store: pylog.Store) -> None:
    with store.transaction() as tx:
        tx.append(("t", 0), b"x")
        tx.commit_positions("r", {TopicPartition("t", 1): 9})
        assert store.committed("r", "t", 1) is None
    position = store.committed("r", "t", 1)
    assert position is not None
    assert position.offset == 9


@pytest.mark.parametrize("name", ["g1", "", "console-consumer-61162", "grüße"])
def test_a_readers_partition_is_its_groups(name: str) -> None:
    """abs(String.hashCode()) % 50, as Kafka finds a group's coordinator."""
    h = 0
    for unit in memoryview(name.encode("utf-16-le")).cast("H"):
        h = (31 * h + unit) % 2**32
    h = h - 2**32 if h >= 2**31 else h
    assert offsets_partition(name, 50) == abs(h) % 50
    assert offsets_partition(name, 1) == 0


def test_the_offsets_topic_is_compacted(store: pylog.Store) -> None:
    store.commit("r", {TopicPartition("t", 0): 1})
    assert store.partition(OFFSETS_TOPIC)._log.config.cleanup_policy == ("compact",)

"""What a reader of committed records is shown of transactions."""

import pytest

from cluster.cli.fetcher import Fetched
from cluster.cli.offsets import TopicPartition
from cluster.cli.visibility import visible_batches
from pylog.records import EndMarker, NewRecord, RecordBatch, RecordBatchBuilder, batches

TP = TopicPartition("t", 0)


class Log:
    """Batches one behind the other, and the aborted transactions among them."""

    def __init__(self) -> None:
        self.batches: list[RecordBatch] = []
        self.aborted: list[tuple[int, int]] = []
        self._builder = RecordBatchBuilder()
        self._end = 0

    def add(self, value: bytes, producer_id: int = -1) -> int:
        """One record, in a transaction when a producer is named; its offset."""
        data = self._builder.build(
            [NewRecord(1, None, value)],
            base_offset=self._end,
            transactional=producer_id >= 0,
            producer_id=producer_id,
            producer_epoch=0 if producer_id >= 0 else -1,
            base_sequence=0 if producer_id >= 0 else -1,
        )
        return self._put(data)

    def end(self, producer_id: int, *, committed: bool) -> None:
        marker = EndMarker(committed, 0)
        self._put(
            self._builder.build_end_marker(
                marker, timestamp=1, producer_id=producer_id, producer_epoch=0, base_offset=self._end
            )
        )

    def seen(self) -> list[bytes | None]:
        fetched = Fetched(TP, 0, self.batches, self.aborted)
        return [record.value for batch in visible_batches(fetched) for record in batch.records()]

    def _put(self, data: bytes) -> int:
        (batch,) = batches(data)
        self.batches.append(batch)
        self._end += 1
        return self._end - 1


@pytest.fixture
def log() -> Log:
    return Log()


def test_markers_are_never_seen(log: Log) -> None:
    log.add(b"plain")
    log.add(b"in", producer_id=1)
    log.end(1, committed=True)
    assert log.seen() == [b"plain", b"in"]


def test_an_aborted_transaction_is_not_seen_and_the_next_of_its_producer_is(log: Log) -> None:
    first = log.add(b"aborted 1", producer_id=1)
    log.add(b"committed 2", producer_id=2)
    log.add(b"aborted 2", producer_id=1)
    log.add(b"plain")
    log.end(1, committed=False)
    log.add(b"committed 1", producer_id=1)
    log.end(2, committed=True)
    log.end(1, committed=True)
    log.aborted = [(1, first)]
    assert log.seen() == [b"committed 2", b"plain", b"committed 1"]


def test_a_transaction_that_began_before_the_fetch(log: Log) -> None:
    log.aborted = [(1, 0)]
    log._end = 50
    log.add(b"aborted", producer_id=1)
    log.end(1, committed=False)
    assert log.seen() == []


def test_who_reads_uncommitted_is_told_of_no_aborted_ones(log: Log) -> None:
    log.add(b"aborted", producer_id=1)
    log.end(1, committed=False)
    assert log.seen() == [b"aborted"]


def test_two_aborted_transactions_of_one_producer(log: Log) -> None:
    for round_ in range(2):
        log.aborted.append((1, log.add(b"aborted %d" % round_, producer_id=1)))
        log.end(1, committed=False)
        log.add(b"committed %d" % round_, producer_id=1)
        log.end(1, committed=True)
    log.aborted.reverse()  # the broker promises no order
    assert log.seen() == [b"committed 0", b"committed 1"]

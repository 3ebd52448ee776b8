"""What the bank's auditor is worth: each fault that it looks for, made on purpose, is found and called by its name.

What stays true: a fault is what a broker or a client could do wrong: a transaction that is there in part, or twice;
what was aborted and is seen; orders that are booked out of order; money that comes from nowhere. It stands behind an
honest transaction, which is booked, and beside one that is aborted, which is no fault.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.support import brokers, confluent
from tests.support.auditor import Auditor
from tests.support.books import ENTRIES, PARTITIONS, Entry, Order, Transaction, book

TIMEOUT_S = 30
FIRST = Order(4, debtor=0, creditor=1, amount=5)
SECOND = Order(8, debtor=2, creditor=3, amount=7)


class Writer:
    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "ann", "log_level": 3})
        self._producer.init_transactions(TIMEOUT_S)

    def write(self, entries: list[Entry], *, commit: bool = True) -> None:
        self._producer.begin_transaction()
        for each in entries:
            self._producer.produce(ENTRIES, each.encode(), partition=each.partition)
        if commit:
            self._producer.commit_transaction(TIMEOUT_S)
        else:
            self._producer.flush(TIMEOUT_S)
            self._producer.abort_transaction(TIMEOUT_S)


def entries(number: int, *orders: Order, void: bool = False) -> list[Entry]:
    return book(list(orders), Transaction("ann", 1, number), void)


def torn(writer: Writer) -> None:
    half, rest = entries(3, SECOND)
    writer.write([half])
    writer.write([rest], commit=False)


def in_part(writer: Writer) -> None:
    """Two entries belong into one partition, and one is there."""
    first, _, third, fourth = entries(3, SECOND, SECOND._replace(number=12, creditor=7))
    writer.write([first, third, fourth])


def twice(writer: Writer) -> None:
    writer.write(entries(3, SECOND) * 2)


def twice_in_transactions(writer: Writer) -> None:
    writer.write(entries(3, SECOND))
    writer.write(entries(4, SECOND))


def aborted_and_seen(writer: Writer) -> None:
    writer.write(entries(3, SECOND, void=True))


def out_of_order(writer: Writer) -> None:
    writer.write(entries(3, FIRST._replace(number=0)))


def money_from_nowhere(writer: Writer) -> None:
    debit, credit = entries(3, SECOND)
    writer.write([debit, credit._replace(change=credit.change + 1)])


@pytest.fixture
def bootstrap(tmp_path: Path) -> Iterator[str]:
    reason = brokers.unavailable()
    if reason:
        pytest.skip(reason)
    with brokers.start_broker(tmp_path / "broker") as running:
        confluent.create_topic(running.bootstrap, ENTRIES, PARTITIONS)
        yield running.bootstrap


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (torn, "is torn"),
        (in_part, "has 1 entries of 2"),
        (twice, "order 8 after 8"),
        (twice_in_transactions, "order 8 after 8"),
        (aborted_and_seen, "was aborted, and is visible"),
        (out_of_order, "order 0 after 4"),
        (money_from_nowhere, "the sum is"),
    ],
)
def test_a_fault_is_found(bootstrap: str, fault: Callable[[Writer], None], says: str) -> None:
    auditor = Auditor(bootstrap)
    auditor.start()
    writer = Writer(bootstrap)
    writer.write(entries(1, FIRST))
    writer.write(entries(2, SECOND, void=True), commit=False)
    assert auditor.wait(1, TIMEOUT_S)
    fault(writer)
    with pytest.raises(AssertionError, match=says):
        auditor.wait(3, TIMEOUT_S)

"""The words of the bank: transfers that are ordered, and entries that book them.

An order asks for one transfer; a teller books it as two entries, a debit and a credit, each in the partition of its
account. Each entry says of which transaction it is and how many entries that one has in every partition, so that a
reader can tell a whole transaction from a torn one.
"""

from typing import NamedTuple, Self

ORDERS = "orders"
ENTRIES = "entries"
GROUP = "tellers"
PARTITIONS = 4
ACCOUNTS = 40


class Order(NamedTuple):
    """Orders are numbered 0, 1, …; a partition has every fourth."""

    number: int
    debtor: int
    creditor: int
    amount: int

    @property
    def partition(self) -> int:
        return self.number % PARTITIONS

    def encode(self) -> bytes:
        return " ".join(map(str, self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        return cls(*map(int, data.split()))


class Transaction(NamedTuple):
    """A teller's transactions grow: its lives are counted, and the transactions of each life."""

    teller: str
    life: int
    number: int


class Entry(NamedTuple):
    """shape: the entries of the whole transaction by partition. void: its teller means to abort it."""

    transaction: Transaction
    order: int
    account: int
    change: int
    shape: tuple[int, ...]
    void: bool

    @property
    def partition(self) -> int:
        return self.account % PARTITIONS

    def encode(self) -> bytes:
        shape = ",".join(map(str, self.shape))
        words = (*self.transaction, self.order, self.account, self.change, shape, int(self.void))
        return " ".join(map(str, words)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        teller, life, number, order, account, change, shape, void = data.decode().split()
        transaction = Transaction(teller, int(life), int(number))
        counts = tuple(map(int, shape.split(",")))
        return cls(transaction, int(order), int(account), int(change), counts, void == "1")


def book(orders: list[Order], transaction: Transaction, void: bool) -> list[Entry]:
    """Two entries for each order."""
    changes = [
        (order.number, account, change)
        for order in orders
        for account, change in ((order.debtor, -order.amount), (order.creditor, order.amount))
    ]
    shape = [0] * PARTITIONS
    for _, account, _ in changes:
        shape[account % PARTITIONS] += 1
    return [Entry(transaction, *change, tuple(shape), void) for change in changes]

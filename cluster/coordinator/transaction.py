"""One transactional id in the memory of its coordinator."""

from __future__ import annotations

from collections.abc import Callable

from cluster.coordinator.shard import Step
from cluster.coordinator.transaction_records import NO_EPOCH, TransactionStored
from cluster.effects import Note
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.transaction_log import TransactionState


class Parked(NamedTuple):
    """A step that waits for a new producer id. `refuse`: there is none, for this reason."""

    refuse: Callable[[ErrorCode], list[Step]]
    go_on: Callable[[int, int], list[Step]]


class Transaction:
    """`stored`: what is durable; None before anything is. `pending`: the state it is on its way to, None if to none.
    `parked`: what waits for a producer id for it. `fenced_epoch`: the leader epoch of ours to which markers were
    refused; -1: they were not."""

    __slots__ = ("fenced_epoch", "parked", "pending", "stored", "transactional_id")

    def __init__(self, transactional_id: str) -> None:
        self.transactional_id = transactional_id
        self.stored: TransactionStored | None = None
        self.pending: TransactionState | None = None
        self.parked: Parked | None = None
        self.fenced_epoch = NO_EPOCH

    def note(self, message: str, *fields: tuple[str, object], warning: bool = False) -> Note:
        return Note(f"Transactional id {self.transactional_id}", message, fields, warning)

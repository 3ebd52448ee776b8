"""The states of a transactional id and the ways between them.

    Empty              it has a producer id and an epoch, and no transaction since
    Ongoing            partitions were added
    PrepareCommit      the end is decided and durable; markers are on their way
    PrepareAbort
    CompleteCommit     every partition has its marker
    CompleteAbort
    Dead               a tombstone for it is on its way
    PrepareEpochFence  its epoch is being raised in order to abort; never written down

Which event takes which way is in `transaction_coordinator.py`; a way that is not here is a bug and asserts.
"""

from __future__ import annotations

from pylog.transaction_log import TransactionState

EMPTY = TransactionState.EMPTY
ONGOING = TransactionState.ONGOING
PREPARE_COMMIT = TransactionState.PREPARE_COMMIT
PREPARE_ABORT = TransactionState.PREPARE_ABORT
COMPLETE_COMMIT = TransactionState.COMPLETE_COMMIT
COMPLETE_ABORT = TransactionState.COMPLETE_ABORT
DEAD = TransactionState.DEAD
PREPARE_EPOCH_FENCE = TransactionState.PREPARE_EPOCH_FENCE

PREPARED = frozenset({PREPARE_COMMIT, PREPARE_ABORT})
AT_REST = frozenset({EMPTY, COMPLETE_COMMIT, COMPLETE_ABORT})
"""No transaction is open: the next one may begin, and the id may expire."""

_NAMES = {
    EMPTY: "Empty",
    ONGOING: "Ongoing",
    PREPARE_COMMIT: "PrepareCommit",
    PREPARE_ABORT: "PrepareAbort",
    COMPLETE_COMMIT: "CompleteCommit",
    COMPLETE_ABORT: "CompleteAbort",
    DEAD: "Dead",
    PREPARE_EPOCH_FENCE: "PrepareEpochFence",
}
_BY_NAME = {name: state for state, name in _NAMES.items()}

_NEXT: dict[TransactionState, frozenset[TransactionState]] = {
    # To PrepareAbort only for producers of transaction version 2, who may abort what they do not know was begun.
    EMPTY: frozenset({EMPTY, ONGOING, PREPARE_ABORT, DEAD}),
    ONGOING: frozenset({ONGOING, PREPARE_COMMIT, PREPARE_ABORT, PREPARE_EPOCH_FENCE}),
    PREPARE_COMMIT: frozenset({COMPLETE_COMMIT}),
    PREPARE_ABORT: frozenset({COMPLETE_ABORT}),
    COMPLETE_COMMIT: frozenset({EMPTY, ONGOING, PREPARE_ABORT, DEAD}),
    COMPLETE_ABORT: frozenset({EMPTY, ONGOING, PREPARE_ABORT, DEAD}),
    DEAD: frozenset(),
    PREPARE_EPOCH_FENCE: frozenset({PREPARE_ABORT}),
}


def may_follow(state: TransactionState, following: TransactionState) -> bool:
    return following in _NEXT[state]


def name_of(state: TransactionState) -> str:
    """As clients see it."""
    return _NAMES[state]


def named(name: str) -> TransactionState | None:
    return _BY_NAME.get(name)

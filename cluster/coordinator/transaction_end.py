"""EndTxn: whether a transaction may end as its producer asks.

What stays true: a transaction that has ended one way never ends the other way; who asks again for the end that there
was is told that all is well, and nothing happens.

Up to transaction version 1 the epoch is the producer's and stays:

    | state                    | commit                | abort                 |
    | Ongoing                  | goes                  | goes                  |
    | CompleteCommit           | done before           | INVALID_TXN_STATE     |
    | CompleteAbort            | INVALID_TXN_STATE     | done before           |
    | Empty                    | INVALID_TXN_STATE     | INVALID_TXN_STATE     |

From version 2 on an end raises the epoch, so that one who asks again (with the epoch before) and one who asks for the
next end (with this epoch) can be told apart; and an abort goes also where no transaction is known, because records may
be there that the coordinator has not heard of:

    | state                    | commit again      | commit                | abort again           | abort   |
    | Ongoing                  | fenced            | goes                  | fenced                | goes    |
    | CompleteCommit           | done before       | INVALID_TXN_STATE     | INVALID_TXN_STATE     | goes    |
    | CompleteAbort            | INVALID_TXN_STATE | INVALID_TXN_STATE     | done before           | goes    |
    | Empty                    | fenced            | INVALID_TXN_STATE     | fenced                | goes    |

While an end is prepared, asking for the same again is CONCURRENT_TRANSACTIONS: it is on its way.
"""

from __future__ import annotations

from cluster.coordinator.transaction_records import TransactionStored
from cluster.coordinator.transaction_state import (
    COMPLETE_COMMIT,
    EMPTY,
    ONGOING,
    PREPARE_COMMIT,
    PREPARED,
)
from cluster.coordinator.transaction_steps import BUMPING_VERSION, LARGEST_EPOCH
from pylog.errors import ErrorCode


def end_error(
    stored: TransactionStored, producer_id: int, epoch: int, *, commit: bool, version: int, is_busy: bool
) -> ErrorCode | None:
    """None: it may end so. NONE: it has ended so. `is_busy`: another step of it is on its way."""
    if version >= BUMPING_VERSION:
        return _end_error_bumping(stored, producer_id, epoch, commit=commit, is_busy=is_busy)
    if producer_id != stored.producer_id:
        return ErrorCode.INVALID_PRODUCER_ID_MAPPING
    if epoch != stored.epoch:
        return ErrorCode.PRODUCER_FENCED
    if is_busy:
        return ErrorCode.CONCURRENT_TRANSACTIONS
    if stored.state is ONGOING:
        return None
    if stored.state is EMPTY or commit != _committed(stored):
        return ErrorCode.INVALID_TXN_STATE
    return ErrorCode.CONCURRENT_TRANSACTIONS if stored.state in PREPARED else ErrorCode.NONE


def _end_error_bumping(
    stored: TransactionStored, producer_id: int, epoch: int, *, commit: bool, is_busy: bool
) -> ErrorCode | None:
    is_after_overflow = producer_id == stored.previous_producer_id and epoch == LARGEST_EPOCH - 1 and stored.epoch == 0
    is_again = epoch + 1 == stored.epoch or is_after_overflow
    if producer_id != stored.producer_id and not is_after_overflow:
        return ErrorCode.INVALID_PRODUCER_ID_MAPPING
    if stored.state is ONGOING or stored.state is EMPTY:
        is_fenced = epoch != stored.epoch
    elif stored.state in PREPARED:
        is_fenced = epoch + 1 != stored.epoch
    else:
        is_fenced = not is_again and epoch != stored.epoch
    if is_fenced:
        return ErrorCode.PRODUCER_FENCED
    if is_busy:
        return ErrorCode.CONCURRENT_TRANSACTIONS
    if stored.state is ONGOING:
        return None
    if stored.state is EMPTY:
        return ErrorCode.INVALID_TXN_STATE if commit else None
    if stored.state in PREPARED:
        return ErrorCode.CONCURRENT_TRANSACTIONS if commit == _committed(stored) else ErrorCode.INVALID_TXN_STATE
    if is_again:
        return ErrorCode.NONE if commit == _committed(stored) else ErrorCode.INVALID_TXN_STATE
    return ErrorCode.INVALID_TXN_STATE if commit else None


def _committed(stored: TransactionStored) -> bool:
    """Of a transaction whose end is decided."""
    return stored.state is PREPARE_COMMIT or stored.state is COMPLETE_COMMIT

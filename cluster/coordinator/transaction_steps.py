"""What a step makes of a transactional id: from what is stored to what is to be stored next.

What stays true:
  - a producer id's epochs only rise; when they are used up another producer id follows, with epoch 0;
  - the end of a transaction is decided once: what is prepared can only be completed, the same way;
  - nothing is changed here. A step is proposed, written, and counts when it is replayed.

An epoch of 32767 is never given to a producer: there must always be one left to fence with.
"""

from __future__ import annotations

from cluster.coordinator.transaction_records import NO_EPOCH, NO_PRODUCER_ID, TopicPartition, TransactionStored
from cluster.coordinator.transaction_state import (
    AT_REST,
    COMPLETE_ABORT,
    COMPLETE_COMMIT,
    EMPTY,
    ONGOING,
    PREPARE_ABORT,
    PREPARE_COMMIT,
    may_follow,
)
from pylog.errors import ErrorCode
from pylog.transaction_log import TransactionState

BUMPING_VERSION = 2
"""From this transaction version on, each end of a transaction gives the producer a new epoch."""

LARGEST_EPOCH = 32_767


def is_exhausted(epoch: int) -> bool:
    return epoch >= LARGEST_EPOCH - 1


def first(transactional_id: str, producer_id: int, timeout_ms: int, now_ms: int) -> TransactionStored:
    # Kafka makes it up with an epoch of -1 first, so that it comes from itself.
    return TransactionStored(transactional_id, producer_id, 0, timeout_ms, EMPTY, (), now_ms, -1, producer_id)


def init_error(stored: TransactionStored, expected: tuple[int, int] | None) -> ErrorCode:
    """Why a producer may not begin anew. `expected`: the producer id and epoch that it says it has (KIP-360).

    An id that was replaced because its epochs were used up may have been so for this very producer, who has not heard.
    """
    if expected is None or expected[0] == stored.producer_id:
        return ErrorCode.NONE
    if expected[0] == stored.previous_producer_id and is_exhausted(expected[1]):
        return ErrorCode.NONE
    return ErrorCode.PRODUCER_FENCED


def needs_rotation(stored: TransactionStored, expected: tuple[int, int] | None) -> bool:
    return is_exhausted(stored.epoch) and (expected is None or expected[1] == stored.epoch)


def rotated(
    stored: TransactionStored, producer_id: int, timeout_ms: int, *, is_known: bool, now_ms: int
) -> TransactionStored:
    """`is_known`: the producer told the epoch that it had."""
    return _next(
        stored,
        EMPTY,
        now_ms,
        producer_id=producer_id,
        epoch=0,
        last_epoch=stored.epoch if is_known else NO_EPOCH,
        timeout_ms=timeout_ms,
        start_ms=-1,
        partitions=(),
    )


def bumped(
    stored: TransactionStored, timeout_ms: int, expected: tuple[int, int] | None, now_ms: int
) -> TransactionStored | ErrorCode:
    """The next epoch; the same once more for a producer who asks again because it has not heard the answer."""
    if expected is None:
        epoch, last_epoch = stored.epoch + 1, NO_EPOCH
    elif expected[1] == stored.epoch:
        epoch, last_epoch = stored.epoch + 1, stored.epoch
    elif expected[1] == stored.last_epoch:
        epoch, last_epoch = stored.epoch, stored.last_epoch
    else:
        return ErrorCode.PRODUCER_FENCED
    return _next(
        stored,
        EMPTY,
        now_ms,
        epoch=epoch,
        last_epoch=last_epoch,
        timeout_ms=timeout_ms,
        start_ms=-1,
        partitions=(),
    )


def with_partitions(
    stored: TransactionStored, partitions: tuple[TopicPartition, ...], version: int, now_ms: int
) -> TransactionStored:
    return _next(
        stored,
        ONGOING,
        now_ms,
        start_ms=now_ms if stored.state in AT_REST else stored.start_ms,
        partitions=tuple(dict.fromkeys((*stored.partitions, *partitions))),
        client_version=version,
    )


def prepared(
    stored: TransactionStored, *, commit: bool, version: int, next_producer_id: int, now_ms: int
) -> TransactionStored:
    """The end is decided. Where the producer gets a new epoch with it, that is the epoch of the markers already.
    `next_producer_id`: what follows if this one has no more epochs to give."""
    state = PREPARE_COMMIT if commit else PREPARE_ABORT
    # A transaction that nobody knows of can be aborted too, and has then begun now.
    start_ms = now_ms if stored.state in AT_REST else stored.start_ms
    if version < BUMPING_VERSION:
        return _next(stored, state, now_ms, start_ms=start_ms, client_version=version)
    return _next(
        stored,
        state,
        now_ms,
        start_ms=start_ms,
        client_version=version,
        epoch=min(stored.epoch + 1, LARGEST_EPOCH),
        last_epoch=stored.epoch,
        next_producer_id=next_producer_id,
    )


def fenced(stored: TransactionStored, version: int, next_producer_id: int, now_ms: int) -> TransactionStored:
    """An abort that the producer did not ask for, and that locks it out: by an epoch that nobody is told. From version
    2 on that is what an abort it had asked for would have come to, and it is answered so if it asks."""
    if version >= BUMPING_VERSION:
        return prepared(stored, commit=False, version=version, next_producer_id=next_producer_id, now_ms=now_ms)
    epoch = min(stored.epoch + 1, LARGEST_EPOCH)
    return _next(stored, PREPARE_ABORT, now_ms, client_version=0, epoch=epoch, last_epoch=NO_EPOCH)


def completed(stored: TransactionStored, now_ms: int) -> TransactionStored:
    """Every partition has its marker."""
    state = COMPLETE_COMMIT if stored.state is PREPARE_COMMIT else COMPLETE_ABORT
    if stored.next_producer_id == NO_PRODUCER_ID:
        return _next(stored, state, now_ms, partitions=())
    return _next(
        stored,
        state,
        now_ms,
        partitions=(),
        producer_id=stored.next_producer_id,
        epoch=0,
        next_producer_id=NO_PRODUCER_ID,
    )


def _next(stored: TransactionStored, state: TransactionState, now_ms: int, **changes: object) -> TransactionStored:
    assert may_follow(stored.state, state), f"{stored.transactional_id}: {stored.state} -> {state}"
    following = stored._replace(
        state=state,
        previous_producer_id=stored.producer_id,
        update_ms=now_ms,
        **changes,  # type: ignore[arg-type]
    )
    assert following.producer_id != stored.producer_id or following.epoch >= stored.epoch
    return following

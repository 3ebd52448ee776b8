"""Transactions across the partitions of one store.

Keeps true:
- Records and positions of a transaction become visible to `read_committed` readers (Kafka's consumers too) together, or
  never. They are Kafka's transactional batches, ended by control markers in every partition.
- What was decided is in `__transaction_state` before the first marker is written. A store that was killed in between
  finishes it when it is opened again; one that was killed before that aborts it; so would a broker started there.
- A transaction that met an error can only be aborted.
With durability "page-cache" a power cut may take the decision and leave some markers, as Kafka without flushing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from pylog._columns import Producer
from pylog.log import Log
from pylog.partition import Durability, Partition
from pylog.position import Positions, position_record
from pylog.record import HeadersLike, NewRecord, as_headers
from pylog.records import EndMarker, RecordBatchBuilder
from pylog.store_errors import TransactionError
from pylog.transaction_log import (
    TRANSACTION_TOPIC,
    TransactionFact,
    TransactionState,
    decode_transaction,
    transaction_record,
)
from pylog.typed import Self
from pylog.types import TopicPartition

_ID_PREFIX = "__pylog-"
_LAST_EPOCH = 0x7FFE
_COORDINATOR_EPOCH = 0

PartitionOf = Callable[[str, int], Partition]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Slot:
    """A producer id, used by one transaction after the other. Sequence numbers go on within an epoch."""

    __slots__ = ("epoch", "producer_id", "sequences", "transactional_id")

    def __init__(self, transactional_id: str, producer_id: int, epoch: int) -> None:
        self.transactional_id = transactional_id
        self.producer_id = producer_id
        self.epoch = epoch
        self.sequences: dict[TopicPartition, int] = {}


class Transactions:
    """The transactions of a store: producer ids, the log of decisions, and what a crash left undecided. Any thread."""

    __slots__ = ("_builder", "_free", "_guard", "_log", "_make", "_next_id", "_open")

    def __init__(self, make: Callable[[str], Sequence[Partition]]) -> None:
        """make: the partitions of an internal topic, made if need be."""
        self._guard = threading.Lock()
        self._make = make
        self._log: Partition | None = None
        self._free: list[_Slot] = []
        self._open: set[Transaction] = set()
        self._next_id = 0
        self._builder = RecordBatchBuilder()

    # ------------------------------------------------------------------------------------------------ after a crash

    def recover(self, logs: Iterable[Log], there: Sequence[Partition], partition_of: PartitionOf) -> None:
        """Finish what was decided, abort what was not. there: the partitions of __transaction_state, if any.

        logs: those that know producers. Only this library's transactions are touched: others have their coordinator.
        """
        facts: dict[str, TransactionFact] = {}
        for partition in there:
            for record in partition.read():
                fact = decode_transaction(record)
                if fact is not None:
                    facts[fact.transactional_id] = fact
        logs = list(logs)
        known = [p.producer_id for log in logs for p in log.producers()] + [f.producer_id for f in facts.values()]
        self._next_id = max(known, default=-1) + 1
        ours = [fact for fact in facts.values() if fact.transactional_id.startswith(_ID_PREFIX)]
        for fact in ours:
            self._finish(fact, logs, partition_of)
            if fact.producer_epoch < _LAST_EPOCH:
                self._free.append(_Slot(fact.transactional_id, fact.producer_id, fact.producer_epoch + 1))

    def _finish(self, fact: TransactionFact, logs: list[Log], partition_of: PartitionOf) -> None:
        commit = fact.state == TransactionState.PREPARE_COMMIT
        unfinished = fact.state in (TransactionState.ONGOING, TransactionState.PREPARE_ABORT) or commit
        for log in logs:
            for producer in log.producers():
                if producer.producer_id == fact.producer_id and producer.current_txn_first_offset >= 0:
                    unfinished = True
                    self.mark(
                        partition_of(*log.partition), commit, producer.producer_id, max(producer.producer_epoch, 0)
                    )
        if unfinished:
            done = TransactionState.COMPLETE_COMMIT if commit else TransactionState.COMPLETE_ABORT
            self.note(fact._replace(state=done, partitions=(), update_ms=_now_ms(), start_ms=-1))

    # ------------------------------------------------------------------------------------------------ what is written

    def note(self, fact: TransactionFact, *, sync: bool = False) -> None:
        """Write down what became of a transaction."""
        with self._guard:
            if self._log is None:
                self._log = self._make(TRANSACTION_TOPIC)[0]
            log = self._log
        log.append_many([transaction_record(fact)], durability="fsync" if sync else "page-cache")

    def mark(self, partition: Partition, commit: bool, producer_id: int, epoch: int) -> None:
        """Write the marker that ends a transaction in a partition."""
        with self._guard:
            batch = self._builder.build_end_marker(
                EndMarker(commit, _COORDINATOR_EPOCH),
                timestamp=_now_ms(),
                producer_id=producer_id,
                producer_epoch=epoch,
            )
        partition.append_control_batch(batch)

    # ------------------------------------------------------------------------------------------------ one after another

    def begin(self, positions: Positions, partition_of: PartitionOf, durability: Durability) -> Transaction:
        with self._guard:
            if self._free:
                slot = self._free.pop()
            else:
                number = self._next_id
                self._next_id += 1
                slot = _Slot(f"{_ID_PREFIX}{number}", number, 0)
            transaction = Transaction(self, slot, positions, partition_of, durability)
            self._open.add(transaction)
            return transaction

    def ended(self, transaction: Transaction, slot: _Slot, *, anew: bool) -> None:
        """Its producer id serves the next one; with a new epoch when the sequence numbers are in doubt."""
        with self._guard:
            self._open.discard(transaction)
            if anew:
                slot = _Slot(slot.transactional_id, slot.producer_id, slot.epoch + 1)
            if slot.epoch <= _LAST_EPOCH:
                self._free.append(slot)

    def abort_all(self) -> None:
        """The store closes. What cannot be aborted now is when it is opened."""
        with self._guard:
            left = list(self._open)
        for transaction in left:
            if transaction.state == "open":
                transaction.abort()


class Transaction:
    """One transaction. One thread at a time. Got from `Store.transaction`; leaving its `with` block commits it, an
    exception aborts it.

    `state`: "open", "committing" (decided, but a marker could not be written: call `commit` again, or open the store
    again), "committed", "aborted".
    """

    __slots__ = (
        "_failed", "_partition_of", "_partitions", "_positions", "_positions_home", "_slot", "_start_ms", "_sync",
        "_transactions", "state",
    )  # fmt: skip

    def __init__(
        self,
        transactions: Transactions,
        slot: _Slot,
        positions: Positions,
        partition_of: PartitionOf,
        durability: Durability,
    ) -> None:
        self._transactions = transactions
        self._slot = slot
        self._positions_home = positions
        self._partition_of = partition_of
        self._sync = durability == "fsync"
        self._partitions: dict[TopicPartition, Partition] = {}
        self._positions: list[tuple[str, dict[TopicPartition, int], int]] = []
        self._failed = False
        self._start_ms = _now_ms()
        self.state = "open"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self.state != "open":
            return
        if kind is None and not self._failed:
            self.commit()
        else:
            self.abort()
            if kind is None:
                raise TransactionError("an append of the transaction failed, so it was aborted")

    # ------------------------------------------------------------------------------------------------ what is in it

    def append(
        self,
        partition: Partition | TopicPartition | tuple[str, int],
        value: bytes | None,
        key: bytes | None = None,
        *,
        timestamp_ms: int | None = None,
        headers: HeadersLike = (),
    ) -> int:
        """Append one record; returns its offset. Raises TransactionError, and as Partition.append does."""
        record = NewRecord(value, key, timestamp_ms, as_headers(headers))
        return self.append_many(partition, [record])[0]

    def append_many(
        self, partition: Partition | TopicPartition | tuple[str, int], records: Iterable[NewRecord | bytes | None]
    ) -> range:
        """Append records; returns their offsets. Raises TransactionError, and as Partition.append_many does."""
        where = self._enter(partition)
        return self._counted(where, lambda producer: where.append_many(records, producer=producer))

    def append_columns(
        self,
        partition: Partition | TopicPartition | tuple[str, int],
        values: object,
        *,
        keys: object = None,
        timestamps_ms: object = None,
        headers: Sequence[HeadersLike] | None = None,
    ) -> range:
        """Append columns; returns their offsets. Raises TransactionError, and as Partition.append_columns does."""
        where = self._enter(partition)
        return self._counted(
            where,
            lambda producer: where.append_columns(
                values, keys=keys, timestamps_ms=timestamps_ms, headers=headers, producer=producer
            ),
        )

    def commit_positions(self, reader: str, positions: Mapping[TopicPartition, int]) -> None:
        """The named reader goes on there when the transaction is committed: read, process and write exactly once."""
        if not positions:
            return
        now_ms = _now_ms()
        home = self._positions_home.home(reader)
        self.append_many(home, [position_record(reader, p, offset, now_ms) for p, offset in positions.items()])
        self._positions.append((reader, dict(positions), now_ms))

    def _enter(self, partition: Partition | TopicPartition | tuple[str, int]) -> Partition:
        self._check_open()
        where = partition if isinstance(partition, Partition) else self._partition_of(*partition)
        which = where.topic_partition
        if which not in self._partitions:
            self._partitions[which] = where
            self._note(TransactionState.ONGOING)
        return where

    def _counted(self, where: Partition, append: Callable[[Producer], range]) -> range:
        slot, which = self._slot, where.topic_partition
        sequence = slot.sequences.get(which, 0)
        try:
            offsets = append(Producer(slot.producer_id, slot.epoch, sequence))
        except BaseException:
            self._failed = True
            raise
        slot.sequences[which] = (sequence + len(offsets)) & 0x7FFFFFFF
        return offsets

    def _check_open(self) -> None:
        if self.state != "open":
            raise TransactionError(f"the transaction is {self.state}")
        if self._failed:
            raise TransactionError("an append of the transaction failed: it can only be aborted")

    # ------------------------------------------------------------------------------------------------ its end

    def commit(self) -> None:
        """Make everything visible. Raises TransactionError; OSError: `state` says whether it is decided."""
        if self.state != "committing":
            self._check_open()
            if self._sync:
                for partition in self._partitions.values():
                    partition.flush()
            if self._partitions:
                self._note(TransactionState.PREPARE_COMMIT, sync=self._sync)
            self.state = "committing"
        self._end(True)
        for reader, positions, commit_ms in self._positions:
            self._positions_home.note(reader, positions, commit_ms)
        self.state = "committed"
        self._transactions.ended(self, self._slot, anew=False)

    def abort(self) -> None:
        """Nothing of it will be visible. Raises TransactionError when it has ended; OSError: the next open aborts."""
        if self.state != "open":
            raise TransactionError(f"the transaction is {self.state}")
        self.state = "aborting"
        if self._partitions:
            self._note(TransactionState.PREPARE_ABORT)
        self._end(False)
        self.state = "aborted"
        self._transactions.ended(self, self._slot, anew=self._failed)

    def _end(self, commit: bool) -> None:
        """Markers where there are none yet, then a note that all are there."""
        if not self._partitions:
            return
        marked = list(self._partitions.values())
        for partition in marked:
            self._transactions.mark(partition, commit, self._slot.producer_id, self._slot.epoch)
            if self._sync:
                partition.flush()
            del self._partitions[partition.topic_partition]
        self._note(TransactionState.COMPLETE_COMMIT if commit else TransactionState.COMPLETE_ABORT)

    def _note(self, state: TransactionState, *, sync: bool = False) -> None:
        ended = state in (TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT)
        fact = TransactionFact(
            self._slot.transactional_id,
            self._slot.producer_id,
            self._slot.epoch,
            state,
            tuple(self._partitions),
            _now_ms(),
            -1 if ended else self._start_ms,
        )
        self._transactions.note(fact, sync=sync)

"""What one group has committed.

What stays true:
  - a committed offset changes only by replay, and of two commits the one later in the log wins, whichever is replayed
    first (a transaction's commit is replayed when its marker comes, perhaps after a later plain one);
  - `unstable` is true of a partition while a commit for it is on its way to the log or in an open transaction: a
    consumer that asks for stable offsets has to come back;
  - an unstable offset does not expire;
  - a tombstone ends everything the log said of its partition before, what open transactions hold included: compaction
    leaves nothing else of it, so a coordinator that loads the log late must not know more than one that saw it all.
"""

from __future__ import annotations

from collections.abc import Iterable

from pylog.facts import NamedTuple
from pylog.typed import TypeAlias

TopicPartition: TypeAlias = tuple[str, int]


class Committed(NamedTuple):
    """`log_offset`: of the record that says so. `expire_ms`: -1 unless the commit asked for its own retention."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_ms: int
    expire_ms: int
    log_offset: int


class Offsets:
    __slots__ = ("_in_flight", "_in_transaction", "committed")

    def __init__(self) -> None:
        self.committed: dict[TopicPartition, Committed] = {}
        self._in_flight: dict[TopicPartition, int] = {}
        self._in_transaction: dict[int, dict[TopicPartition, Committed]] = {}

    def __bool__(self) -> bool:
        """Whether the group has anything that must keep it alive."""
        return bool(self.committed or self._in_flight or self._in_transaction)

    def unstable(self, partition: TopicPartition) -> bool:
        return partition in self._in_flight or any(partition in held for held in self._in_transaction.values())

    def begin(self, partitions: Iterable[TopicPartition]) -> None:
        """Commits for these are on their way to the log; every `begin` is followed by one `end`."""
        for partition in partitions:
            self._in_flight[partition] = self._in_flight.get(partition, 0) + 1

    def end(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            left = self._in_flight[partition] - 1
            if left:
                self._in_flight[partition] = left
            else:
                del self._in_flight[partition]

    def replay_commit(self, partition: TopicPartition, committed: Committed, producer_id: int) -> None:
        if producer_id >= 0:
            self._in_transaction.setdefault(producer_id, {})[partition] = committed
        else:
            self._apply(partition, committed)

    def replay_delete(self, partition: TopicPartition, producer_id: int) -> None:
        if producer_id >= 0:
            self._forget_held(partition, [producer_id])
        else:
            self.committed.pop(partition, None)
            self._forget_held(partition, list(self._in_transaction))

    def _forget_held(self, partition: TopicPartition, producer_ids: Iterable[int]) -> None:
        for producer_id in producer_ids:
            held = self._in_transaction.get(producer_id)
            if held is not None and held.pop(partition, None) is not None and not held:
                del self._in_transaction[producer_id]

    def replay_marker(self, producer_id: int, *, commit: bool) -> None:
        held = self._in_transaction.pop(producer_id, {})
        if commit:
            for partition, committed in held.items():
                self._apply(partition, committed)

    def known(self) -> list[TopicPartition]:
        """Every partition that has an offset or is about to, so that deleting these leaves nothing."""
        known: dict[TopicPartition, object] = self.committed | dict.fromkeys(self._in_flight)
        for held in self._in_transaction.values():
            known |= held
        return list(known)

    def of_topics(self, topics: frozenset[str], until_ms: int | None = None) -> list[TopicPartition]:
        """`until_ms`: only of those that are committed, and were no later than that."""
        if until_ms is None:
            return [partition for partition in self.known() if partition[0] in topics]
        committed = self.committed.items()
        return [partition for partition, each in committed if partition[0] in topics and each.commit_ms <= until_ms]

    def expired(
        self, now_ms: int, retention_ms: int, *, empty_since_ms: int | None, subscribed: frozenset[str]
    ) -> list[TopicPartition]:
        """Offsets whose time is over.

        `empty_since_ms`: retention runs from here for all; None: from each offset's own commit. Topics in `subscribed`
        are in use and stay.
        """
        over = []
        for partition, committed in self.committed.items():
            if partition[0] in subscribed:
                continue
            if committed.expire_ms != -1:
                due = now_ms >= committed.expire_ms
            else:
                since_ms = committed.commit_ms if empty_since_ms is None else empty_since_ms
                due = now_ms - since_ms >= retention_ms
            if due and not self.unstable(partition):
                over.append(partition)
        return over

    def has_only(self, partitions: Iterable[TopicPartition]) -> bool:
        """Whether nothing would keep the group alive once these are gone."""
        return not self._in_flight and set(self.known()) <= set(partitions)

    def _apply(self, partition: TopicPartition, committed: Committed) -> None:
        current = self.committed.get(partition)
        if current is None or current.log_offset <= committed.log_offset:
            self.committed[partition] = committed

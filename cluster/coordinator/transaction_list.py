"""What a ListTransactions is looking for."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.coordinator.transaction_records import TransactionStored
from cluster.coordinator.transaction_state import named
from cluster.protocol import messages as m
from pylog.errors import ErrorCode, KafkaError


class Listing:
    """`error`: why nothing can be listed; nothing is found then. A filter without a word lets all pass; one with
    unknown words only, nothing. An id that never had a transaction is older than any duration. Patterns are RE2's, and
    match whole ids in time proportional to their length."""

    __slots__ = ("_duration_ms", "_now_ms", "_pattern", "_producer_ids", "_states", "error")

    def __init__(self, request: m.ListTransactionsRequest, now_ms: int) -> None:
        self.error = ErrorCode.NONE
        self._now_ms = now_ms
        self._duration_ms = request.duration_filter
        self._producer_ids = frozenset(request.producer_id_filters)
        self._states = frozenset(map(named, request.state_filters))
        self._pattern = request.transactional_id_pattern or ""
        if self._pattern:
            from cluster.coordinator.consumer_regex import check_regex

            try:
                check_regex(self._pattern)
            except KafkaError as error:
                self.error = error.code

    def found(self, everything: Iterable[TransactionStored]) -> list[TransactionStored]:
        if self.error:
            return []
        found = [stored for stored in everything if self._has(stored)]
        if not self._pattern:
            return found
        from cluster.coordinator.consumer_regex import matching

        matched = matching((self._pattern,), [stored.transactional_id for stored in found])[self._pattern]
        return [stored for stored in found if stored.transactional_id in matched]

    def _has(self, stored: TransactionStored) -> bool:
        if self._producer_ids and stored.producer_id not in self._producer_ids:
            return False
        if self._states and stored.state not in self._states:
            return False
        return self._duration_ms < 0 or self._now_ms - stored.start_ms > self._duration_ms

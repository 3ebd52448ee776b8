"""What a ListTransactions is looking for."""

from __future__ import annotations

from cluster.coordinator.transaction_records import TransactionStored
from cluster.coordinator.transaction_state import named
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from re import Pattern


class Listing:
    """`error`: why nothing can be listed; the answers of `has` mean nothing then. A filter without a word lets all
    pass; one with unknown words only, nothing. An id that never had a transaction is older than any duration."""

    __slots__ = ("_duration_ms", "_now_ms", "_pattern", "_producer_ids", "_states", "error")

    def __init__(self, request: m.ListTransactionsRequest, now_ms: int) -> None:
        self.error = ErrorCode.NONE
        self._now_ms = now_ms
        self._duration_ms = request.duration_filter
        self._producer_ids = frozenset(request.producer_id_filters)
        self._states = frozenset(map(named, request.state_filters))
        self._pattern: Pattern[str] | None = None
        if request.transactional_id_pattern:
            self._compile(request.transactional_id_pattern)

    def _compile(self, pattern: str) -> None:
        import re

        try:
            self._pattern = re.compile(pattern)
        except re.error:
            self.error = ErrorCode.INVALID_REGULAR_EXPRESSION

    def has(self, stored: TransactionStored) -> bool:
        if self._producer_ids and stored.producer_id not in self._producer_ids:
            return False
        if self._states and stored.state not in self._states:
            return False
        if self._duration_ms >= 0 and self._now_ms - stored.start_ms <= self._duration_ms:
            return False
        return self._pattern is None or self._pattern.fullmatch(stored.transactional_id) is not None

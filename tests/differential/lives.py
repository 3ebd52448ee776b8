"""The sorts of sessions."""

from __future__ import annotations

from typing import Protocol

from tests.differential.consumers import ConsumerScript
from tests.differential.groups import GroupScript
from tests.differential.offsets import OffsetScript
from tests.differential.scripts import Ranges, Script
from tests.differential.session import Session
from tests.differential.transactions import TransactionScript


class Life(Protocol):
    """Builds one session."""

    def __init__(self, seed: int, prefix: str, ranges: Ranges) -> None: ...

    def build(self) -> Session: ...


LIVES: dict[str, type[Life]] = {
    "any": Script,
    "groups": GroupScript,
    "offsets": OffsetScript,
    "transactions": TransactionScript,
    "consumers": ConsumerScript,
}

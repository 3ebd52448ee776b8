"""What comes in with a request and beside it: who asks, which limits hold, which topics exist."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from pylog.facts import NamedTuple
from pylog.typed import Protocol, TypeAlias

NewId: TypeAlias = Callable[[], str]
"""Makes an id nobody has had before, in Kafka's form of a random UUID (36 characters)."""


class RequestContext(NamedTuple):
    """One request. `reply_to`: comes back in the `Reply`, never looked at. `client_host`: the bare address."""

    reply_to: Hashable
    api_key: int
    api_version: int
    client_id: str = ""
    client_host: str = ""
    principal: str = ""


class GroupConfig(NamedTuple):
    """The `group.*` and `offsets.*` settings, with Kafka's defaults."""

    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 1_800_000
    max_size: int = 2_147_483_647
    initial_rebalance_delay_ms: int = 3_000
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_ms: int = 10_080 * 60_000
    offsets_retention_check_interval_ms: int = 600_000
    offsets_commit_timeout_ms: int = 5_000
    offsets_topic_partitions: int = 50


class Topics(Protocol):
    """The topics as the broker's metadata shows them at this moment."""

    def partition_count(self, topic: str) -> int:
        """Partitions are numbered below this; 0: there is no such topic."""

    def topic_id(self, topic: str) -> bytes | None: ...

    def topic_name(self, topic_id: bytes) -> str | None: ...

"""What comes in with a request and beside it: who asks, which limits hold, which topics exist."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.typed import Protocol, TypeAlias

NewId: TypeAlias = Callable[[], str]
"""Makes an id nobody has had before, in Kafka's form of a random UUID (36 characters)."""


class RequestContext(NamedTuple):
    """One request. `reply_to`: comes back in the `Reply`, never looked at. `client_host`: the bare address. `verified`:
    what the coordinator of its transaction has said of it."""

    reply_to: Hashable
    api_key: int
    api_version: int
    client_id: str = ""
    client_host: str = ""
    principal: str = ""
    verified: ErrorCode = ErrorCode.NONE


class ConsumerConfig(NamedTuple):
    """The `group.consumer.*` settings, with Kafka 4's defaults. `assignors`: the first is what a group takes whose
    members ask for none."""

    session_timeout_ms: int = 45_000
    min_session_timeout_ms: int = 45_000
    max_session_timeout_ms: int = 60_000
    heartbeat_interval_ms: int = 5_000
    min_heartbeat_interval_ms: int = 5_000
    max_heartbeat_interval_ms: int = 15_000
    assignment_interval_ms: int = 1_000
    max_size: int = 2_147_483_647
    assignors: tuple[str, ...] = ("uniform", "range")
    migration_policy: str = "bidirectional"
    regex_refresh_interval_ms: int = 600_000


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
    consumer: ConsumerConfig = ConsumerConfig()


class Topics(Protocol):
    """The topics as the broker's metadata shows them at this moment."""

    def partition_count(self, topic: str) -> int:
        """Partitions are numbered below this; 0: there is no such topic."""

    def topic_id(self, topic: str) -> bytes | None: ...

    def topic_name(self, topic_id: bytes) -> str | None: ...

    def version(self) -> int:
        """Rises whenever anything here, or the settings that groups have of their own, may have changed."""

    def partition_racks(self, topic: str) -> Sequence[Iterable[str]]:
        """Of each partition, the racks of its replicas that say theirs."""


Overrides: TypeAlias = Callable[[str], Mapping[str, str]]
"""Group id -> the settings that it has of its own."""

Heard: TypeAlias = Callable[[str, str, int], "int | None"]
"""Group id, member id and now_ms -> when a heartbeat of a published member was last answered; None: never, or not
published since it was forgotten. Where nobody answers heartbeats but the machine there is no such thing."""

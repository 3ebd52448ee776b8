"""The settings of the transaction coordinator."""

from __future__ import annotations

from pylog.facts import NamedTuple


class TransactionConfig(NamedTuple):
    """The `transaction.*` and `transactional.*` settings and those beside them, with Kafka's defaults.

    `transaction_version`: the level of Kafka's feature transaction.version. From 1 on records are flexible; from 2 on
    producers who speak of it get a new epoch with each transaction. `write_timeout_ms`: request.timeout.ms.
    """

    max_timeout_ms: int = 900_000
    id_expiration_ms: int = 604_800_000
    abort_interval_ms: int = 10_000
    expiry_interval_ms: int = 3_600_000
    transaction_topic_partitions: int = 50
    offsets_topic_partitions: int = 50
    transaction_version: int = 0
    write_timeout_ms: int = 30_000

"""What a coordinator asks of the world, and what it is told.

Keeps true: a question is a plain fact, and says everything that is needed to answer it; each has one answer, given by
`Runtime.told`, unless `CancelAsk` came first. Who answers may take as long as it needs: the shard goes on with others.
"""

from __future__ import annotations

from pylog.facts import NamedTuple


class NewProducerId(NamedTuple):
    """A producer id that nobody has had before. Answer: the id (an int), or the ErrorCode why there is none.

    `transactional_id`: for whom, to be told in a log line; it changes nothing.
    """

    transactional_id: str


class WriteMarkers(NamedTuple):
    """End a transaction in these partitions, by a marker in each.

    Answer: an ErrorCode. NONE when every partition that still exists has the marker; TRANSACTION_COORDINATOR_FENCED or
    NOT_COORDINATOR when a newer coordinator has written there: it goes on. Anything else that happens is tried again
    by whoever carries this out, as long as it takes.

    `coordinator_epoch`: the leader epoch of the shard that asks. `transaction_version`: with which of Kafka's feature
    levels the producer ran the transaction; from 2 on its epoch is one that no record was written with yet.
    """

    transactional_id: str
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    commit: bool
    partitions: tuple[tuple[str, int], ...]
    transaction_version: int = 0

"""What was done to Apache Kafka's transactional topics when the archive was captured, and is done to ours.

Everything is told by numbers of our choosing: producer ids, epochs, sequences. Records' times are those numbers of ms
after the capture began; markers bear the broker's own clock, which their batches tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pylog.records import NewRecord, RecordBatchBuilder

SETTINGS = {"segment.bytes": "2600", "index.interval.bytes": "300", "retention.ms": "-1"}
FETCH_SIZES = (1, 200, 400, 700, 1500, 1 << 20)
TIMES = (-1, 0, 3, 10, 25, 60, 100_000_000)


class Produce(NamedTuple):
    """A batch of a client; producer_id -1: of nobody in particular."""

    producer_id: int
    epoch: int
    sequence: int
    count: int
    transactional: bool


class Mark(NamedTuple):
    """The transaction coordinator's marker."""

    producer_id: int
    epoch: int
    coordinator_epoch: int
    committed: bool


class Delete(NamedTuple):
    """DeleteRecords."""

    offset: int


Step = Produce | Mark | Delete


class Answer(NamedTuple):
    """What a step got, and where the partition stood after it."""

    error: int
    offset: int
    log_start: int
    last_stable: int
    high_watermark: int


class Read(NamedTuple):
    """One Fetch and its answer: the bytes by their CRC-32."""

    offset: int
    max_bytes: int
    isolation: int
    error: int
    last_stable: int
    size: int
    crc: int
    aborted: list[tuple[int, int]] | None


_builder = RecordBatchBuilder()


def batch_of(step: Produce, number: int, base_ms: int) -> bytes:
    """The bytes of step `number`, not compressed: every codec library writes other bytes."""
    records = [NewRecord(base_ms + number, b"k%d" % i, b"%d " % number * (1 + number % 9)) for i in range(step.count)]
    return _builder.build(
        records,
        producer_id=step.producer_id,
        producer_epoch=step.epoch,
        base_sequence=step.sequence,
        transactional=step.transactional,
    )


class _Chance:
    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, n: int) -> int:
        self.state = self.state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        return (self.state >> 33) % n


class _Producers:
    """Clients that keep their sequences, and know whether they are in a transaction."""

    def __init__(self) -> None:
        self.sequences: dict[int, int] = {}
        self.open: set[int] = set()

    def write(self, producer_id: int, count: int, transactional: bool = True) -> Produce:
        sequence = self.sequences.get(producer_id, 0)
        self.sequences[producer_id] = sequence + count
        if transactional:
            self.open.add(producer_id)
        return Produce(producer_id, 0, sequence, count, transactional)

    def end(self, producer_id: int, committed: bool) -> Mark:
        self.open.discard(producer_id)
        return Mark(producer_id, 0, 3, committed)


def _interleaved() -> Iterator[Step]:
    """Seven producers in no order; one transaction lasts over many segments and is aborted; two stay open."""
    chance, producers = _Chance(1), _Producers()
    ids = (4001, 17, 33, 1 << 33, 5_000_000_019, 100)
    yield producers.write(77, 2)
    for step in range(150):
        if step % 11 == 10:
            yield Produce(-1, -1, -1, 1 + chance.below(3), False)
        elif step == 120:
            yield producers.end(77, False)
        elif step % 13 == 12 and step < 120:
            yield producers.write(77, 1)
        else:
            producer = ids[chance.below(len(ids))]
            if producer in producers.open and chance.below(3) == 0:
                yield producers.end(producer, chance.below(2) == 0)
            else:
                yield producers.write(producer, 1 + chance.below(4))
    for producer in sorted(producers.open)[2:]:
        yield producers.end(producer, producer % 2 == 0)


def _crowd() -> Iterator[Step]:
    """Sixty producers, so that the order of a snapshot shows; some ids fall on one another in a small table, but not
    eight: of so many Kafka makes a tree, and the order is another story."""
    chance, producers = _Chance(2), _Producers()
    for step in range(60):
        producer = (step * 7 + step % 3, chance.below(1 << 31) << 20 | step, (step % 9) << 32 | 1000 + step % 5)[
            step % 3
        ]
        if step % 5 == 4:
            yield producers.write(producer, 2)
            if step % 2:
                yield producers.end(producer, step % 4 == 1)
        else:
            yield producers.write(producer, 1 + step % 2, transactional=False)
    for producer in sorted(producers.open):
        yield producers.end(producer, producer % 2 == 0)


def _refused() -> Iterator[Step]:
    """What is refused, between what is not."""
    yield Mark(9, 0, 5, True)  # never seen
    yield Mark(9, 0, 4, True)  # an older coordinator
    yield Produce(9, 0, 0, 2, True)
    yield Produce(9, 0, 2, 1, False)  # outside of the transaction
    yield Produce(9, 0, 3, 1, True)  # a gap
    yield Produce(9, 0, 0, 2, True)  # again
    yield Mark(9, -1, 5, True)
    yield Mark(9, 0, 4, False)
    yield Mark(9, 0, 5, False)
    yield Mark(9, 0, 5, False)  # nothing to end
    yield Produce(9, 0, 2, 1, False)
    yield Mark(9, 2, 6, True)  # a marker raises the epoch
    yield Produce(9, 1, 0, 1, True)  # fenced by it
    yield Produce(9, 2, 5, 1, True)  # an epoch known from a marker only
    yield Produce(9, 2, 0, 1, True)
    yield Produce(9, 3, 1, 1, True)
    yield Produce(9, 3, 0, 1, True)  # a new epoch in the middle of a transaction
    yield Mark(9, 3, 6, False)
    yield Produce(9, 3, 1, 1, True)
    yield Mark(9, 4, 7, False)  # how a coordinator fences: the epoch after
    yield Produce(9, 3, 2, 1, True)
    yield Mark(9, 3, 7, False)
    yield Produce(10, 0, 7, 1, True)  # never seen: may begin anywhere
    yield Produce(10, 0, 8, 1, True)
    yield Produce(11, 5, 0, 1, False)
    yield Produce(11, 5, 1, 1, True)
    yield Produce(11, 6, 0, 1, False)
    yield Mark(11, 6, 0, True)
    yield Mark(11, 6, -1, True)
    yield Produce(11, 6, 0, 1, False)


def _cut() -> Iterator[Step]:
    """DeleteRecords into and past transactions."""
    producers = _Producers()
    yield producers.write(1, 3)
    yield Produce(-1, -1, -1, 2, False)
    yield producers.write(2, 2)
    yield Delete(1)
    yield Delete(4)
    yield producers.write(3, 2)
    yield producers.end(2, False)
    yield Delete(6)
    yield producers.end(1, True)
    yield Delete(9)
    yield Delete(100)
    yield Delete(-1)
    yield producers.write(2, 2)
    for _ in range(40):
        yield producers.write(3, 2)
    yield Delete(30)
    yield producers.end(3, False)
    yield producers.write(1, 1)
    yield Delete(60)
    yield Delete(-2)


TOPICS = {"interleaved": _interleaved, "crowd": _crowd, "refused": _refused, "cut": _cut}


def steps_of(topic: str) -> list[Step]:
    return list(TOPICS[topic]())

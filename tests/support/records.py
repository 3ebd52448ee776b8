"""A stream of records whose every byte can be checked by whoever reads it.

Record `sequence` of partition `partition` has one value, computed from the two numbers alone; so a reader needs no copy
of what was written to find a record that was lost, doubled, moved or changed.
"""

import random
from collections.abc import Iterator

_FILLER = "".join(random.Random(2025).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=4096))


def key(sequence: int) -> bytes:
    return b"k%03d" % (sequence % 1000)


def value(partition: int, sequence: int, size: int = 40) -> bytes:
    """`size` bytes, at least 13: partition, sequence, filler that differs by record. No blanks, no newline."""
    start = (sequence * 7 + partition) % 3072
    return f"{partition:03d}:{sequence:08d}:{_FILLER[start : start + size - 13]}".encode()


def values(partition: int, count: int, size: int = 40) -> Iterator[bytes]:
    return (value(partition, sequence, size) for sequence in range(count))


class Checker:
    """Takes what a consumer sees, in the order it sees it, and raises at the first wrong record."""

    def __init__(self, partitions: int, count: int, size: int = 40) -> None:
        self.left = partitions * count
        self._count = count
        self._size = size
        self._next = [0] * partitions
        self._offset = [-1] * partitions

    def take(self, partition: int, offset: int, got: bytes | None) -> None:
        sequence = self._next[partition]
        expected = value(partition, sequence, self._size)
        if got != expected:
            raise AssertionError(f"partition {partition} offset {offset}: {got!r} in place of {expected!r}")
        if offset <= self._offset[partition]:
            raise AssertionError(f"partition {partition}: offset {offset} after {self._offset[partition]}")
        if sequence >= self._count:
            raise AssertionError(f"partition {partition} offset {offset}: more records than were written")
        self._offset[partition] = offset
        self._next[partition] = sequence + 1
        self.left -= 1

    def done(self) -> None:
        """Every record of every partition was seen."""
        missing = {partition: seen for partition, seen in enumerate(self._next) if seen != self._count}
        if missing:
            raise AssertionError(f"records seen, of {self._count} in each partition: {missing}")

"""The order in which a Java HashMap is walked.

Kafka's assignors break ties by that order, and its records list topics in it. What stays true: the same keys, put in
the same order, are walked here as there, for any keys with Java's `hashCode` and any number of them that a bucket keeps
as a list (Kafka turns a bucket of more than seven into a tree; such a bucket keeps the order of insertion too).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pylog.typed import TypeVar

Key = TypeVar("Key")

_SMALLEST_TABLE = 16
_LOAD_PERCENT = 75
_UPPER_BITS = 1 << 16  # from here on a number's bucket depends on them too
_MOST_REMEMBERED = 1 << 16

_hashes: dict[str, int] = {}  # of texts, as a Java string keeps its own: members are walked at each assignment


def string_hash(text: str) -> int:
    """`String.hashCode`, as an unsigned number."""
    value = _hashes.get(text)
    if value is None:
        if len(_hashes) >= _MOST_REMEMBERED:
            _hashes.clear()
        value = _hashes[text] = _string_hash(text)
    return value


def _string_hash(text: str) -> int:
    value = 0
    if text.isascii():
        for unit in text.encode():
            value = (31 * value + unit) & 0xFFFFFFFF
        return value
    data = text.encode("utf-16-be", "surrogatepass")
    for position in range(0, len(data), 2):
        value = (31 * value + (data[position] << 8 | data[position + 1])) & 0xFFFFFFFF
    return value


def uuid_hash(raw: bytes) -> int:
    """`Uuid.hashCode`, as an unsigned number."""
    both = int.from_bytes(raw[:8], "big") ^ int.from_bytes(raw[8:], "big")
    return (both >> 32 ^ both) & 0xFFFFFFFF


def int_hash(number: int) -> int:
    return number & 0xFFFFFFFF


def grown_table(count: int) -> int:
    """The size of the table of a map that began empty and has grown to `count` keys."""
    size = _SMALLEST_TABLE
    while count * 100 > size * _LOAD_PERCENT:
        size *= 2
    return size


def copied_table(count: int) -> int:
    """The size of the table of a set that was made as a copy of a collection of `count`."""
    return sized_table(max(int(count / 0.75) + 1, _SMALLEST_TABLE))


def sized_table(wanted: int) -> int:
    """The size of the table of a map that was asked to have room for `wanted`."""
    size = 1
    while size < wanted:
        size *= 2
    return size


def hash_order(keys: Iterable[Key], hash_of: Callable[[Key], int], table: int) -> list[Key]:
    """`keys`, in the order of their insertion, as a table of that size is walked."""
    found = list(keys)
    if len(found) < 2:
        return found
    mask = table - 1
    buckets = [(value ^ value >> 16) & mask for value in map(hash_of, found)]
    return [found[number] for number in sorted(range(len(found)), key=buckets.__getitem__)]


def int_order(numbers: Iterable[int], table: int) -> list[int]:
    """The same for numbers that were put in in ascending order. Those that are smaller than the table stay so."""
    found = sorted(numbers)
    if len(found) > 1 and (found[-1] >= min(table, _UPPER_BITS) or found[0] < 0):
        return hash_order(found, int_hash, table)
    return found

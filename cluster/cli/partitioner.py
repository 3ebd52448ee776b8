"""Which partition a record goes to: what Java's producer does, so that a key always meets its earlier records.

What it keeps true: equal keys go to equal partitions, whichever client wrote them, as long as the number of
partitions stays.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct, unpack_from

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
_REMEMBERED_KEYS = 16_384

_SHORT_KEYS = [Struct(f"<{words}I").unpack_from for words in range(9)]


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2, as an unsigned number."""
    size = len(data)
    count = size >> 2
    words = _SHORT_KEYS[count](data) if count < 9 else unpack_from(f"<{count}I", data)
    value = _SEED ^ size
    for word in words:
        word = word * _MULTIPLIER & _MASK
        value = (value * _MULTIPLIER & _MASK) ^ ((word ^ word >> 24) * _MULTIPLIER & _MASK)
    left = size & 3
    if left:
        value = (value ^ int.from_bytes(data[size - left :], "little")) * _MULTIPLIER & _MASK
    value = (value ^ value >> 13) * _MULTIPLIER & _MASK
    return value ^ value >> 15


@lru_cache(maxsize=_REMEMBERED_KEYS)
def partition_for_key(key: bytes, partition_count: int) -> int:
    """The partition of a key. Keys tend to come back, so the latest ones are remembered."""
    return (murmur2(key) & _POSITIVE) % partition_count if partition_count > 1 else 0

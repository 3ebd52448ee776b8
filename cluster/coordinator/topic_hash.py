"""A hash of what a group's assignment depends on: the topics its members read, their partitions, and those's racks.

What stays true: the number is the one Kafka 4 computes, because it is stored with the group's epoch: a broker that
takes the group over must not find it changed when it is not. 0: of no topics at all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

_MAGIC = b"\0"


def topic_hash(name: str, topic_id: bytes, racks: Sequence[Iterable[str]]) -> int:
    """`racks`: of each partition, those of its replicas."""
    # bytes of a topic: magic, id as two little-endian halves, name, count, then each partition and its racks in order
    high, low = int.from_bytes(topic_id[:8], "big"), int.from_bytes(topic_id[8:], "big")
    parts = [_MAGIC, struct.pack("<QQ", high, low), _text(name), struct.pack("<i", len(racks))]
    for number, found in enumerate(racks):
        parts.append(struct.pack("<i", number))
        for rack in sorted(found, key=lambda text: text.encode("utf-16-be", "surrogatepass")):
            parts.append(struct.pack("<i", len(rack.encode("utf-16-le", "surrogatepass")) // 2) + _text(rack))
    return _xxh3(b"".join(parts))


def group_hash(hashes: dict[str, int]) -> int:
    """Of the hashes of topics that exist, by name."""
    if not hashes:
        return 0
    ordered = sorted(hashes.items(), key=lambda item: item[0].encode("utf-16-be", "surrogatepass"))
    return _xxh3(struct.pack(f"<{len(ordered)}q", *(value for _, value in ordered)))


def _text(text: str) -> bytes:
    data = text.encode("utf-16-le", "surrogatepass")
    return data + struct.pack("<i", len(data) // 2)


def _xxh3(data: bytes) -> int:
    import xxhash

    value = xxhash.xxh3_64_intdigest(data)
    return value - (1 << 64) if value >> 63 else value

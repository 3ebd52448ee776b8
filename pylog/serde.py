"""Keys and values that are not bytes: how they are encoded, and partitions that do it.

Keeps true: what is written is what Kafka's serializers of the same name write (text UTF-8, integers and doubles big
endian), so other clients read it; null stays null and is never given to a serde.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Generic, TypeVar

from pylog.partition import Durability, Partition
from pylog.partition_reader import Isolation, PartitionReader, Start
from pylog.record import HeadersLike, Record
from pylog.records import Header

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Serde(Generic[T]):
    """A pair of functions: a value to bytes, and back. What they raise reaches the caller.

    There are Serde.BYTES, .TEXT (UTF-8), .JSON, .INT64 and .DOUBLE (big endian).
    """

    __slots__ = ("decode", "encode")

    BYTES: ClassVar[Serde[bytes]]
    TEXT: ClassVar[Serde[str]]
    JSON: ClassVar[Serde[object]]
    INT64: ClassVar[Serde[int]]
    DOUBLE: ClassVar[Serde[float]]

    def __init__(self, encode: Callable[[T], bytes], decode: Callable[[bytes], T]) -> None:
        self.encode = encode
        self.decode = decode


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


_INT64 = struct.Struct(">q")
_DOUBLE = struct.Struct(">d")

Serde.BYTES = Serde(bytes, bytes)
Serde.TEXT = Serde(str.encode, bytes.decode)
Serde.JSON = Serde(_json, json.loads)
Serde.INT64 = Serde(_INT64.pack, lambda data: int(_INT64.unpack(data)[0]))
Serde.DOUBLE = Serde(_DOUBLE.pack, lambda data: float(_DOUBLE.unpack(data)[0]))


class TypedRecord(Generic[K, V]):
    """A record whose key and value were decoded."""

    __slots__ = ("headers", "key", "offset", "timestamp_ms", "value")

    def __init__(self, record: Record, key: K | None, value: V | None) -> None:
        self.offset: int = record.offset
        self.timestamp_ms: int = record.timestamp_ms
        self.key = key
        self.value = value
        self.headers: tuple[Header, ...] = record.headers

    def __repr__(self) -> str:
        return f"TypedRecord(offset={self.offset}, key={self.key!r}, value={self.value!r})"


class TypedReader(Generic[K, V]):
    """A partition whose records are decoded as they are read."""

    __slots__ = ("_key", "_reader", "_value")

    def __init__(self, partition: PartitionReader, *, key: Serde[K], value: Serde[V]) -> None:
        self._reader = partition
        self._key = key
        self._value = value

    def read(
        self,
        start: Start = "earliest",
        *,
        timestamp_ms: int | None = None,
        end_offset: int | None = None,
        max_records: int | None = None,
        timeout_ms: int | None = 0,
        isolation: Isolation = "read_committed",
    ) -> Iterator[TypedRecord[K, V]]:
        """As PartitionReader.read; also raises what the serdes raise for bytes that they cannot decode."""
        decode_key, decode_value = self._key.decode, self._value.decode
        for record in self._reader.read(
            start,
            timestamp_ms=timestamp_ms,
            end_offset=end_offset,
            max_records=max_records,
            timeout_ms=timeout_ms,
            isolation=isolation,
        ):
            key = None if record.key is None else decode_key(record.key)
            value = None if record.value is None else decode_value(record.value)
            yield TypedRecord(record, key, value)


class TypedPartition(TypedReader[K, V]):
    """A partition that takes and gives values of other types than bytes."""

    __slots__ = ("_partition",)

    def __init__(self, partition: Partition, *, key: Serde[K], value: Serde[V]) -> None:
        super().__init__(partition, key=key, value=value)
        self._partition = partition

    def append(
        self,
        value: V | None,
        key: K | None = None,
        *,
        timestamp_ms: int | None = None,
        headers: HeadersLike = (),
        codec: str | None = None,
        durability: Durability | None = None,
    ) -> int:
        """As Partition.append; also raises what the serdes raise."""
        return self._partition.append(
            None if value is None else self._value.encode(value),
            None if key is None else self._key.encode(key),
            timestamp_ms=timestamp_ms,
            headers=headers,
            codec=codec,
            durability=durability,
        )

    def append_many(
        self, values: Iterable[V | None], *, codec: str | None = None, durability: Durability | None = None
    ) -> range:
        """Append values without keys; returns their offsets. As Partition.append_many."""
        encode = self._value.encode
        encoded = [None if value is None else encode(value) for value in values]
        return self._partition.append_many(encoded, codec=codec, durability=durability)

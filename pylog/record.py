"""Records as users of a store see them.

Keeps true: a record read is a plain tuple with names, made without running Python code per field; names are Kafka's,
times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pylog._columns import Decoded
from pylog.facts import NamedTuple
from pylog.records import Header, decode_headers
from pylog.typed import TypeAlias

HeadersLike: TypeAlias = Iterable[tuple[str, bytes | None]]


class Record(NamedTuple):
    """One record. timestamp_ms: when it was made, or appended where the topic says so; -1: it has none.

    key, value: None is Kafka's null (a value of None in a compacted topic deletes its key), which b"" is not.
    """

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()


class NewRecord(NamedTuple):
    """One record to be appended. timestamp_ms: None, it is now."""

    value: bytes | None
    key: bytes | None = None
    timestamp_ms: int | None = None
    headers: tuple[Header, ...] = ()


Row: TypeAlias = tuple[int, int, bytes | None, bytes | None, tuple[Header, ...]]
"""The fields of a Record, without their names."""


def as_headers(headers: HeadersLike) -> tuple[Header, ...]:
    """Headers given as any pairs."""
    return tuple(Header(name, value) for name, value in headers)


def rows_of(decoded: Decoded) -> Iterator[Row]:
    """The fields of the records of a decode, in order, each made when it is asked for."""
    return decoded.rows(tuple, decode_headers)


def records_of(decoded: Decoded) -> Iterator[Record]:
    """The records of a decode, in order, each made when it is asked for."""
    return decoded.rows(Record, decode_headers)

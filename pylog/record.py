"""Records as users of a store see them.

Keeps true: a record read is a plain tuple with names, made without running Python code per field; names are Kafka's,
times are milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat

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


def _reduced(record: Record) -> tuple[object, ...]:
    return Record, tuple(record)


def _record_maker() -> Callable[[Row], Record]:
    """What makes a Record of its fields in a tuple, and runs no Python code and no wrapper of `__new__` for it.

    It is a class below Record that has the constructor of tuple; C finds it there by the first base. What it makes is
    a Record in everything but that constructor.
    """
    plain = type("plain", (tuple,), {"__slots__": ()})
    body = {"__slots__": (), "__module__": __name__, "__new__": tuple.__new__, "__reduce__": _reduced}
    return type.__new__(type(Record), Record.__name__, (plain, Record), body)  # type: ignore[return-value]


_made_of = _record_maker()


def rows_of(decoded: Decoded) -> Iterator[Row]:
    """The fields of the records of a decode, in order, each made when it is asked for."""
    headers: Iterable[tuple[Header, ...]] = repeat(())
    if decoded.has_headers:
        counts = decoded.headers_counts()
        headers = [decode_headers(data or b"", n) for data, n in zip(decoded.headers(), counts, strict=True)]
    return zip(decoded.offsets(), decoded.timestamps(), decoded.keys(), decoded.values(), headers, strict=False)


def records_of(decoded: Decoded) -> Iterator[Record]:
    """The records of a decode, in order, each made when it is asked for."""
    return map(_made_of, rows_of(decoded))

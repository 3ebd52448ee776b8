"""What users hand over as a column of byte strings, made into what C reads.

Keeps true: buffers are not copied, only looked at; a list of `bytes` is joined once. Every form says how many records
it has; C checks offsets against the data. Neither NumPy nor pyarrow is imported for it: their objects say what they are
by the buffer protocol and by Arrow's C data interface.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Protocol, TypeAlias

from pylog._columns import NO_COLUMN, ByteColumn, ColumnKind
from pylog.facts import NamedTuple
from pylog.records import Header, encode_headers


class Packed(NamedTuple):
    """Byte strings in one buffer: number i is `data[offsets[i]:offsets[i + 1]]`.

    data: anything with the buffer protocol. offsets: int32 or int64 in anything with the buffer protocol, one more than
    there are byte strings. null: None, or one byte (bool) each in a buffer, not 0 where the value is null.
    """

    data: object
    offsets: object
    null: object = None


class PackedLike(Protocol):
    """What has the three buffers of `Packed`, such as a `BytesColumn` that was read."""

    @property
    def data(self) -> object: ...
    @property
    def offsets(self) -> object: ...
    @property
    def null(self) -> object: ...


class ArrowArrayLike(Protocol):
    """An array that exports itself through Arrow's C data interface (pyarrow, polars, nanoarrow, ...)."""

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]: ...


BytesLike: TypeAlias = bytes | bytearray | memoryview


class Column(NamedTuple):
    """A column as C reads it, and how many values it has."""

    column: ByteColumn
    size: int


def byte_column(values: object, what: str) -> Column:
    """A column of whatever form. what: its name, for messages. Raises TypeError, ValueError.

    Taken are: a sequence of bytes-like values and None; `Packed` or anything like it; an Arrow array of binary, string
    or fixed-size binary; and a C-contiguous buffer of one dimension (each item's bytes are a value: int64, `S8`, ...)
    or two (each row is).
    """
    if hasattr(values, "__arrow_c_array__"):
        from pylog.arrow import arrow_column

        return arrow_column(values, what)
    if hasattr(values, "offsets") and hasattr(values, "data") and hasattr(values, "null"):
        return _packed(values, what)
    if isinstance(values, list | tuple):
        return _listed(values, what)
    if isinstance(values, str | bytes | bytearray):
        raise TypeError(f"{what}: one {type(values).__name__} is no column; give a list, Packed, or an array")
    try:
        view = memoryview(values)  # type: ignore[arg-type]
    except TypeError:
        return _listed(list(values), what) if isinstance(values, Iterable) else _no_column(values, what)
    return _fixed(view, values, what)


def _no_column(values: object, what: str) -> Column:
    raise TypeError(f"{what}: no column of bytes can be made of {type(values).__name__}")


def _packed(values: PackedLike, what: str) -> Column:
    offsets = memoryview(values.offsets)  # type: ignore[arg-type]
    kinds = {4: ColumnKind.OFFSETS32, 8: ColumnKind.OFFSETS64}
    if offsets.ndim != 1 or offsets.itemsize not in kinds or offsets.format not in ("i", "l", "q") or not len(offsets):
        raise ValueError(f"{what}: offsets are int32 or int64, one more than there are values")
    count = len(offsets) - 1
    if values.null is not None and memoryview(values.null).nbytes != count:  # type: ignore[arg-type]
        raise ValueError(f"{what}: null has one byte per value, {count}")
    column = ByteColumn(kinds[offsets.itemsize], values.data, offsets=values.offsets, nulls=values.null)
    return Column(column, count)


def _listed(values: Sequence[BytesLike | None], what: str) -> Column:
    nulls: bytes | None = None
    try:
        data = b"".join(values)  # type: ignore[arg-type]
    except TypeError:
        if None not in values:
            raise TypeError(f"{what}: a list of bytes-like values and None is wanted") from None
        nulls = bytes([value is None for value in values])
        values = [b"" if value is None else value for value in values]
        data = b"".join(values)  # type: ignore[arg-type]
    return _column_of(data, values, nulls)


def _column_of(data: bytes, values: Sequence[BytesLike | None], nulls: bytes | None) -> Column:
    """values: none of them None. data: they joined."""
    count = len(values)
    widths = set(map(len, values))  # type: ignore[arg-type]
    if len(widths) == 1 and nulls is None and (width := widths.pop()) * count == len(data):
        return Column(ByteColumn(ColumnKind.FIXED, data, width=width), count)
    lengths: Iterable[int] = map(len, values)  # type: ignore[arg-type]
    offsets = array("q", accumulate(lengths, initial=0))
    if offsets[-1] != len(data):  # a memoryview's len() counts items
        offsets = array("q", accumulate((memoryview(v or b"").nbytes for v in values), initial=0))
    return Column(ByteColumn(ColumnKind.OFFSETS64, data, offsets=offsets, nulls=nulls), count)


def joined_column(values: Sequence[object]) -> Column | None:
    """A column of values that are all bytes-like; None: they are not. To try costs less than to look at each."""
    try:
        data = b"".join(values)  # type: ignore[arg-type]
    except TypeError:
        return None
    return _column_of(data, values, None)  # type: ignore[arg-type]


def _fixed(view: memoryview, values: object, what: str) -> Column:
    if not view.c_contiguous or view.ndim not in (1, 2):
        raise ValueError(f"{what}: an array has one or two dimensions and is C-contiguous")
    assert view.shape is not None
    count = view.shape[0]
    width = view.itemsize * (view.shape[1] if view.ndim == 2 else 1)
    return Column(ByteColumn(ColumnKind.FIXED, values, width=width), count)


def null_column() -> ByteColumn:
    """A column of nulls."""
    return NO_COLUMN


def timestamp_column(timestamps_ms: object, count: int) -> object:
    """int64 for C, or None for "now". One number stands for all. Raises ValueError when there are not `count`."""
    if timestamps_ms is None:
        return None
    if isinstance(timestamps_ms, int):
        return array("q", [timestamps_ms]) * count
    try:
        view = memoryview(timestamps_ms)  # type: ignore[arg-type]
    except TypeError:
        numbers = array("q", timestamps_ms)  # type: ignore[call-overload]
        timestamps_ms, view = numbers, memoryview(numbers)
    if view.ndim != 1 or view.itemsize != 8 or view.format not in ("l", "q") or not view.c_contiguous:
        raise ValueError("timestamps_ms: a sequence of int, or a contiguous array of int64")
    if len(view) != count:
        raise ValueError(f"timestamps_ms: {len(view)} for {count} records")
    return timestamps_ms


class HeadersColumn(NamedTuple):
    """Headers as C reads them."""

    column: ByteColumn
    counts: object


NO_HEADERS = HeadersColumn(NO_COLUMN, None)


def headers_column(headers: Sequence[Iterable[tuple[str, bytes | None]]] | None, count: int) -> HeadersColumn:
    """The headers of each record. Raises ValueError when there are not `count`."""
    if headers is None:
        return NO_HEADERS
    if len(headers) != count:
        raise ValueError(f"headers: {len(headers)} for {count} records")
    lists = [[Header(key, value) for key, value in each] for each in headers]
    encoded = _listed([encode_headers(each) for each in lists], "headers")
    return HeadersColumn(encoded.column, array("i", map(len, lists)))

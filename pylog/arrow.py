"""Arrow arrays by the C data interface, without any Arrow library.

Keeps true: the buffers are read where they lie, and held as long as the column is; only a validity bitmap is unpacked.
What the interface's structures look like is fixed by its specification, for all versions.
"""

from __future__ import annotations

import ctypes

from pylog._columns import ByteColumn, ColumnKind
from pylog.column_input import ArrowArrayLike, Column


class _Schema(ctypes.Structure):
    _fields_ = [("format", ctypes.c_char_p), ("name", ctypes.c_char_p)]


class _Array(ctypes.Structure):
    _fields_ = [
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ]


_OFFSET_BYTES = {b"z": 4, b"u": 4, b"Z": 8, b"U": 8}
_FIXED = b"w:"


class _Memory:
    """A range of an Arrow array's memory, for the buffer protocol; holds the array."""

    def __init__(self, owner: object, address: int | None, size_bytes: int) -> None:
        self.owner = owner
        self.bytes = (ctypes.c_uint8 * size_bytes).from_address(address) if address and size_bytes else b""


def _pointer(capsule: object, name: bytes) -> int:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(get(capsule, name))


def arrow_column(values: ArrowArrayLike, what: str) -> Column:
    """A binary, string or fixed-size binary array as a column. Raises TypeError for other types."""
    capsules = values.__arrow_c_array__()
    kind = _Schema.from_address(_pointer(capsules[0], b"arrow_schema")).format
    held = _Array.from_address(_pointer(capsules[1], b"arrow_array"))
    count, first = held.length, held.offset
    nulls = _nulls(held, capsules, count, first)
    if kind.startswith(_FIXED):
        width = int(kind[len(_FIXED) :])
        start = (held.buffers[1] or 0) + first * width
        data = _Memory(capsules, start, count * width)
        return Column(ByteColumn(ColumnKind.FIXED, data.bytes, width=width, nulls=nulls, held=capsules), count)
    size = _OFFSET_BYTES.get(kind)
    if size is None:
        raise TypeError(
            f"{what}: an Arrow array of binary, string or fixed-size binary is wanted, not {kind.decode()!r}"
        )
    if not count:
        return Column(ByteColumn(), 0)
    offsets = _Memory(capsules, held.buffers[1] + first * size, (count + 1) * size)
    last = ctypes.c_int32 if size == 4 else ctypes.c_int64
    end = last.from_address(held.buffers[1] + (first + count) * size).value
    data = _Memory(capsules, held.buffers[2], end)
    offsets_kind = ColumnKind.OFFSETS32 if size == 4 else ColumnKind.OFFSETS64
    column = ByteColumn(offsets_kind, data.bytes, offsets=offsets.bytes, nulls=nulls, held=capsules)
    return Column(column, count)


def _nulls(held: _Array, capsules: object, count: int, first: int) -> bytes | None:
    address = held.buffers[0]
    if not address or held.null_count == 0:
        return None
    bits = _Memory(capsules, address, (first + count + 7) // 8).bytes
    return bytes(not bits[i >> 3] >> (i & 7) & 1 for i in range(first, first + count))

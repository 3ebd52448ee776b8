"""Records as columns: NumPy arrays over the memory that C decoded them into, and Arrow arrays over the same.

Keeps true: no array is copied; the memory lives as long as any array made from it, and is read-only. Needs NumPy,
imported when a column is first asked for; Arrow needs pyarrow.
"""

from __future__ import annotations

from pylog._columns import Decoded, Memory
from pylog.record import Record, records_of
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray


class BytesColumn:
    """A column of byte strings: number i is `data[offsets[i]:offsets[i + 1]]`.

    data: uint8[total]. offsets: int64[n + 1], rising from 0. null: bool[n], or None when none is null (a null is empty
    in data).
    """

    __slots__ = ("data", "null", "offsets")

    def __init__(self, data: NDArray[np.uint8], offsets: NDArray[np.int64], null: NDArray[np.bool_] | None) -> None:
        self.data = data
        self.offsets = offsets
        self.null = null

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> bytes | None:
        count = len(self)
        if not -count <= i < count:
            raise IndexError(f"row {i} of {count}")
        i %= count
        if self.null is not None and self.null[i]:
            return None
        return self.data[self.offsets[i] : self.offsets[i + 1]].tobytes()

    def to_list(self) -> list[bytes | None]:
        """Every value as bytes, None for null."""
        data = self.data.tobytes()
        starts, ends = self.offsets[:-1].tolist(), self.offsets[1:].tolist()
        values: list[bytes | None] = [data[start:end] for start, end in zip(starts, ends, strict=True)]
        if self.null is not None:
            for i in self.null.nonzero()[0].tolist():
                values[i] = None
        return values

    def to_arrow(self) -> pyarrow.LargeBinaryArray:
        """A pyarrow large_binary array over the same memory. Raises ImportError without pyarrow."""
        import numpy
        import pyarrow

        validity = None
        if self.null is not None:
            validity = pyarrow.py_buffer(numpy.packbits(~self.null, bitorder="little"))
        buffers = [validity, pyarrow.py_buffer(self.offsets), pyarrow.py_buffer(self.data)]
        return pyarrow.LargeBinaryArray.from_buffers(pyarrow.large_binary(), len(self), buffers)


def _column(data: Memory, ends: Memory, nulls: Memory | None) -> BytesColumn:
    import numpy

    null = None if nulls is None else numpy.frombuffer(nulls, numpy.bool_)
    return BytesColumn(numpy.frombuffer(data, numpy.uint8), numpy.frombuffer(ends, numpy.int64), null)


class Columns:
    """Records of one partition, in offset order, as columns. len(): how many records.

    Offsets may have gaps (transactions, compaction). The arrays are read-only views of memory that C decoded into; a
    store that is read on uses it again once nothing refers to it, so keep what you need, not everything.
    """

    __slots__ = ("_decoded", "next_offset")

    def __init__(self, decoded: Decoded, next_offset: int) -> None:
        self._decoded = decoded
        self.next_offset = next_offset
        """Where to read on after these."""

    def __len__(self) -> int:
        return self._decoded.count

    def __repr__(self) -> str:
        return f"<Columns of {len(self)} records, next_offset={self.next_offset}>"

    @property
    def offset(self) -> NDArray[np.int64]:
        """int64[n]."""
        import numpy

        return numpy.frombuffer(self._decoded.offsets_memory(), numpy.int64)

    @property
    def timestamp_ms(self) -> NDArray[np.int64]:
        """int64[n], milliseconds since 1970; -1: none."""
        import numpy

        return numpy.frombuffer(self._decoded.timestamps_memory(), numpy.int64)

    @property
    def key(self) -> BytesColumn:
        return _column(*self._decoded.keys_memory())

    @property
    def value(self) -> BytesColumn:
        return _column(*self._decoded.values_memory())

    @property
    def has_headers(self) -> bool:
        """Whether any of the records has headers; `records` shows them."""
        return self._decoded.has_headers

    def records(self) -> list[Record]:
        """The same as records."""
        return list(records_of(self._decoded))

    def to_arrow(self) -> pyarrow.RecordBatch:
        """A pyarrow RecordBatch: offset and timestamp_ms int64, key and value large_binary. Raises ImportError."""
        import pyarrow

        names = ["offset", "timestamp_ms", "key", "value"]
        columns = [
            pyarrow.array(self.offset),
            pyarrow.array(self.timestamp_ms),
            self.key.to_arrow(),
            self.value.to_arrow(),
        ]
        return pyarrow.RecordBatch.from_arrays(columns, names)

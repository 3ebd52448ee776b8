"""The transaction index of a segment: which transactions whose marker lies in it were aborted.

Keeps true: entries are ordered by last offset, 34 bytes each, and a reader of committed records who meets one skips the
producer's records between its first and last offset. The C log appends to it; here it is read and written for tools and
for compaction.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from pylog.facts import NamedTuple
from pylog.files import CorruptFileError, read_file, replace_file

_ENTRY = struct.Struct(">hqqqq")
_VERSION = 0
TRANSACTION_ENTRY_BYTES = _ENTRY.size


class AbortedTransaction(NamedTuple):
    """One aborted transaction. last_offset is that of its abort marker."""

    version: int
    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int
    """The last stable offset once this transaction had ended."""


def decode_transaction_index(data: bytes, path: str = "transaction index") -> list[AbortedTransaction]:
    """Every entry. Raises CorruptFileError naming the entry (as its line)."""
    if len(data) % _ENTRY.size:
        raise CorruptFileError(path, len(data) // _ENTRY.size + 1, f"{len(data) % _ENTRY.size} bytes of an entry of 34")
    entries: list[AbortedTransaction] = []
    for number, fields in enumerate(_ENTRY.iter_unpack(data), 1):
        entry = AbortedTransaction(*fields)
        if entry.version != _VERSION:
            raise CorruptFileError(path, number, f"version {_VERSION} expected, found {entry.version}")
        if entries and entry.last_offset <= entries[-1].last_offset:
            raise CorruptFileError(path, number, f"last offset {entry.last_offset} does not rise")
        entries.append(entry)
    return entries


def encode_transaction_index(entries: Iterable[AbortedTransaction]) -> bytes:
    """The file's bytes."""
    return b"".join(_ENTRY.pack(*entry) for entry in entries)


def read_transaction_index(path: str) -> list[AbortedTransaction]:
    """The entries of a .txnindex file; none when there is no file, as a segment without aborted transactions has
    none."""
    return decode_transaction_index(read_file(path) or b"", path)


def write_transaction_index(path: str, entries: Iterable[AbortedTransaction]) -> None:
    """Replace the file durably. Raises OSError."""
    replace_file(path, encode_transaction_index(entries))

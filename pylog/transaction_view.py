"""Which transactions of a partition directory have ended, found out from its files alone.

Keeps true: what it calls decided stays so; every aborted transaction that overlaps what is decided is listed. It needs
no writer: the newest producer snapshot says which transactions were open there, the batches behind it what became of
them, the transaction indexes of older segments which were aborted before. One thread at a time.
"""

from __future__ import annotations

import os

from pylog._native import decode_snapshot
from pylog.cursor import Cursor, segment_bases
from pylog.errors import KafkaError
from pylog.files import CorruptFileError, read_file
from pylog.records import RecordBatch, batches, end_marker
from pylog.segment import SNAPSHOT_SUFFIX, TRANSACTION_INDEX_SUFFIX, segment_file, segment_file_name
from pylog.transaction_index import TRANSACTION_ENTRY_BYTES, decode_transaction_index


class TransactionView:
    """Follows the transactions of a log that another process may be writing."""

    __slots__ = ("_aborted", "_cursor", "_open")

    def __init__(self, path: str) -> None:
        self._open: dict[int, int] = {}
        start, open_there = _newest_snapshot(path)
        self._open.update(open_there)
        self._aborted = _indexed_aborts(path, start)
        self._cursor = Cursor(path, start)

    def decide(self) -> tuple[int, list[tuple[int, int, int]]]:
        """(offset, aborted): transactions below offset have ended, and those among them that were aborted.

        Aborted ones as (producer id, first offset, last offset). Looks at what was written since the last call.
        """
        cursor = self._cursor
        while size_bytes := cursor.read():
            used = 0
            try:
                for batch in batches(cursor.data(size_bytes)):
                    if not batch.check():
                        break
                    self._enter(batch)
                    used += batch.header.size_bytes
                    cursor.offset = batch.next_offset
            except KafkaError:
                pass  # what is behind is no batch: reading the records will tell
            cursor.advance(used, cursor.offset)
            if not used and not cursor.make_room(2 * size_bytes):
                break
        return min(self._open.values(), default=cursor.offset), self._aborted

    def _enter(self, batch: RecordBatch) -> None:
        header = batch.header
        if not batch.transactional:
            return
        if not batch.control:
            self._open.setdefault(header.producer_id, header.base_offset)
            return
        for record in batch.records():
            marker = end_marker(record)
            first = self._open.pop(header.producer_id, None)
            if marker is not None and not marker.committed and first is not None:
                self._aborted.append((header.producer_id, first, record.offset))


def _newest_snapshot(path: str) -> tuple[int, dict[int, int]]:
    """An offset to begin at, and the first offsets of the transactions that were open there, by producer id."""
    bases = segment_bases(path)
    first = bases[0] if bases else 0
    files = [file for name in os.listdir(path) if (file := segment_file(name)) is not None]
    found = sorted((f.offset for f in files if f.kind == SNAPSHOT_SUFFIX and not f.state), reverse=True)
    for offset in found:
        if offset < first:
            break
        data = read_file(os.path.join(path, segment_file_name(offset, SNAPSHOT_SUFFIX)))
        if data is None:
            continue
        try:
            producers = decode_snapshot(data)
        except KafkaError:
            continue
        return offset, {p.producer_id: p.current_txn_first_offset for p in producers if p.current_txn_first_offset >= 0}
    return first, {}


def _indexed_aborts(path: str, below: int) -> list[tuple[int, int, int]]:
    """Aborted transactions whose markers lie below this offset."""
    aborted = []
    for base in segment_bases(path):
        data = read_file(os.path.join(path, segment_file_name(base, TRANSACTION_INDEX_SUFFIX)))
        if base >= below or not data:
            continue
        try:
            entries = decode_transaction_index(data[: len(data) // TRANSACTION_ENTRY_BYTES * TRANSACTION_ENTRY_BYTES])
        except CorruptFileError as e:
            raise CorruptFileError(
                os.path.join(path, segment_file_name(base, TRANSACTION_INDEX_SUFFIX)), e.line, e.what
            ) from None
        aborted += [(e.producer_id, e.first_offset, e.last_offset) for e in entries if e.last_offset < below]
    return aborted

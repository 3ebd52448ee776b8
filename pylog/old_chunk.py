"""Messages of formats 0 and 1, turned into a batch of today's, so that whoever reads columns need not know them.

Keeps true: offsets, timestamps, keys and values are those of the messages, whatever was compressed; nothing is written
anywhere. Slow, for few directories are that old.
"""

from __future__ import annotations

from pylog.errors import ErrorCode, KafkaError
from pylog.old_format import old_batch, old_size
from pylog.records import NewRecord, RecordBatchBuilder


def old_message_size(data: memoryview) -> int | None:
    """Bytes of the old message that begins data; None when it is none, or its head is not there yet."""
    return old_size(data) if len(data) > 16 else None


def as_batches(message: memoryview) -> tuple[bytes, int]:
    """The records of one whole old message as batches of format 2, and the offset behind the last.

    Raises CORRUPT_MESSAGE when the message's CRC is wrong.
    """
    old = old_batch(message)
    if not old.check():
        raise KafkaError(ErrorCode.CORRUPT_MESSAGE, "the CRC of an old message is wrong")
    builder = RecordBatchBuilder()
    try:
        batches = [builder.build([NewRecord(r.timestamp, r.key, r.value)], base_offset=r.offset) for r in old.records()]
    finally:
        builder.close()
    return b"".join(batches), old.next_offset

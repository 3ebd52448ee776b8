"""Telling messages of formats 0 and 1, from before Kafka 0.11, so that they are not taken for damage.

Keeps true: only a message whose length and CRC-32 are right counts as one; zeros and garbage do not.
"""

import os
import zlib

from pylog.errors import ErrorCode, KafkaError

_SIZE_AT = 8
_CRC_AT = 12
_MAGIC_AT = 16
_SMALLEST_BYTES = 14
"""CRC, magic, attributes, and the lengths of key and value."""


def old_format_of(path: str) -> int | None:
    """0 or 1 when the .log file begins with a message of that format, else None. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = os.pread(fd, _MAGIC_AT + 1, 0)
        if len(head) <= _MAGIC_AT or head[_MAGIC_AT] > 1:
            return None
        size = int.from_bytes(head[_SIZE_AT:_CRC_AT], "big", signed=True)
        if not _SMALLEST_BYTES <= size <= os.fstat(fd).st_size - _CRC_AT:
            return None
        body = os.pread(fd, size - (_MAGIC_AT - _CRC_AT), _MAGIC_AT)
        crc = int.from_bytes(head[_CRC_AT:_MAGIC_AT], "big")
        return head[_MAGIC_AT] if zlib.crc32(body) == crc else None
    finally:
        os.close(fd)


def refuse_old_format(path: str) -> None:
    """Raise UNSUPPORTED_FOR_MESSAGE_FORMAT when the .log file begins with an old message."""
    magic = old_format_of(path)
    if magic is not None:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
            f"{path} holds messages of format {magic}, from before Kafka 0.11, which pylog does not read",
        )

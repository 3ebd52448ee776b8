"""The codecs by Kafka's names.

Keeps true: a codec's number is what the attributes of a record batch hold; the bytes are those Kafka's Java client
writes and reads. The work is done in C, by the system's libraries, loaded when first used: a codec whose library is
missing raises UNSUPPORTED_COMPRESSION_TYPE and says which.
"""

from __future__ import annotations

from pylog._native import compress as _compress
from pylog._native import decompress as _decompress
from pylog.facts import IntEnum

PRODUCER = "producer"
"""compression.type of a topic that stores batches as they were sent."""
UNCOMPRESSED = "uncompressed"

LARGEST_BATCH_BYTES = 1 << 30
"""More than this no batch decompresses to: what Kafka could not have held in one buffer either."""


class Codec(IntEnum):
    """A compression codec, as in bits 0-2 of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4

    @property
    def kafka_name(self) -> str:
        return self.name.lower()


_BY_NAME = {codec.kafka_name: codec for codec in Codec} | {UNCOMPRESSED: Codec.NONE}


def codec_named(name: str) -> Codec:
    """The codec of Kafka's name for it; `uncompressed` and `none` are the same. Raises ValueError."""
    codec = _BY_NAME.get(name)
    if codec is None:
        raise ValueError(f"unknown compression codec {name!r}: one of {', '.join(_BY_NAME)}")
    return codec


def compress(codec: Codec, data: bytes, level: int | None = None) -> bytes:
    """Compress all of data; level None: the codec's default."""
    return _compress(codec, data, level)


def decompress(codec: Codec, data: bytes, limit_bytes: int = LARGEST_BATCH_BYTES) -> bytes:
    """Decompress all of data. Raises CORRUPT_MESSAGE when it is not what the codec writes, MESSAGE_TOO_LARGE beyond the
    limit."""
    return _decompress(codec, data, limit_bytes)

"""Coordinator records and the consumer protocol carry their version in front, as an int16.

In a key of __consumer_offsets or __transaction_state that number is the record type: version and type of a key are one,
so `encode_versioned(GroupMetadataKey(...), 2)` writes a whole key, and `read_version` tells which class reads a key.
"""

from struct import Struct
from struct import error as StructError

from cluster.protocol.errors import DecodeError
from cluster.protocol.message import Message

_VERSION = Struct(">h")

VERSION_BYTES = 2


def encode_versioned(message: Message, version: int) -> bytes:
    """The version, then the message in it. Raises EncodeError."""
    body = message.encode(version)
    return _VERSION.pack(version) + body


def read_version(data: bytes | bytearray | memoryview) -> int:
    """The version in front; the message itself starts at VERSION_BYTES. Raises DecodeError."""
    try:
        version: int = _VERSION.unpack_from(data)[0]
    except StructError:
        raise DecodeError(f"{len(data)} bytes are too few for a version") from None
    return version

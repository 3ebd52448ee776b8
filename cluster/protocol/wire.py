"""The pieces of Kafka's encoding that generated code calls when it leaves its short path: varints, tags, refusals.

A reader here never looks behind the end of its bytes: it raises IndexError or DecodeError, and both leave
Message.decode as DecodeError.
"""

from __future__ import annotations

from cluster.protocol.errors import DecodeError, EncodeError
from pylog.typed import NoReturn

LONGEST_STRING = 32767

# One-byte varints, by value.
SMALL_VARINTS = tuple(bytes((value,)) for value in range(128))


def uvarint(value: int) -> bytes:
    """An unsigned varint, least significant group first."""
    if value < 128:
        return SMALL_VARINTS[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def string_length(length_plus_one: int) -> bytes:
    """The length in front of a compact string, which has Kafka's classic limit too."""
    if length_plus_one > LONGEST_STRING + 1:
        raise EncodeError(f"a string of {length_plus_one - 1} bytes is longer than {LONGEST_STRING}")
    return uvarint(length_plus_one)


def read_uvarint(data: bytes, position: int) -> tuple[int, int]:
    """The value and the position behind it. Values above 2^31-1 are lengths that no receiver could mean."""
    value = shift = 0
    start = position
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value > 0x7FFFFFFF:
                break
            return value, position
        shift += 7
        if shift > 28:
            break
    raise DecodeError(f"varint at byte {start} is out of range")


def read_string_length(data: bytes, position: int) -> tuple[int, int]:
    value, position = read_uvarint(data, position)
    if value > LONGEST_STRING + 1:
        raise DecodeError(f"string of {value - 1} bytes at byte {position} is longer than {LONGEST_STRING}")
    return value, position


def skip_tags(data: bytes, position: int, count: int, end: int) -> int:
    """Step over `count` tagged fields that nobody here knows."""
    if count > 127:
        count, position = read_uvarint(data, position - 1)
    for _ in range(count):
        _, position = read_uvarint(data, position)
        size, position = read_uvarint(data, position)
        position += size
        if position > end:
            raise DecodeError(f"tagged field ends at byte {position} of {end}")
    return position


def bad_length(field: str, length: int, position: int, end: int) -> NoReturn:
    raise DecodeError(f"{field}: length {length} at byte {position} of {end}")


def bad_tag(field: str, position: int, expected: int) -> NoReturn:
    raise DecodeError(f"{field}: tagged field ends at byte {position}, its size says {expected}")


def bad_uuid(field: str) -> NoReturn:
    raise EncodeError(f"{field}: a uuid has 16 bytes")


def not_in_version(field: str, version: int) -> NoReturn:
    """Kafka's rule: a field that matters and is set must not be dropped silently."""
    raise EncodeError(f"{field} is set, but version {version} has no such field")

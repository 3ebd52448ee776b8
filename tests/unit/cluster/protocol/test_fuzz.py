"""Bytes from outside: whatever they are, a message comes out that can be written again, or DecodeError."""

import random
import tracemalloc

import pytest

from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.headers import decode_request_header
from cluster.protocol.message import Message
from tests.unit.cluster.protocol import filled

LENGTHS = (
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\x07",
)


def survive(message_class: type[Message], version: int, data: bytes) -> None:
    try:
        message = message_class.decode(data, version)
    except DecodeError:
        return
    # Compared as bytes, since a NaN does not equal itself.
    encoded = message.encode(version)
    assert message_class.decode(encoded, version).encode(version) == encoded


def mutate(rng: random.Random, valid: bytes) -> bytes:
    data = bytearray(valid)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                del data[at:]
            case 1:
                data[at:at] = rng.randbytes(rng.randint(1, 5))
            case 2:
                data[at : at + 4] = rng.choice(LENGTHS)
            case 3:
                data[at : at + 1] = bytes([rng.choice((0, 1, 2, 127, 128, 255))])
            case _:
                del data[at : at + rng.randint(1, 4)]
    return bytes(data)


@pytest.mark.parametrize("name", m.names())
def test_mutated_and_random_bytes(name: str) -> None:
    rng = random.Random(name)
    message_class = m.message_class(name)
    low, high = message_class.valid_versions
    for version in range(low, high + 1):
        valid = filled.full(message_class, version).encode(version)
        for cut in range(0, len(valid), max(1, len(valid) // 24)):
            with pytest.raises(DecodeError):
                message_class.decode(valid[:cut], version)
        for _ in range(24):
            survive(message_class, version, mutate(rng, valid))
            survive(message_class, version, rng.randbytes(rng.randrange(64)))


def test_mutated_headers() -> None:
    rng = random.Random(1)
    valid = m.RequestHeader(request_api_key=3, request_api_version=12, correlation_id=7, client_id="ab").encode(2)
    for _ in range(3000):
        try:
            header = decode_request_header(mutate(rng, valid))
        except DecodeError:
            continue
        assert header.body_offset >= 8


@pytest.mark.parametrize(
    ("name", "version", "data"),
    [
        ("MetadataRequest", 1, b"\x7f\xff\xff\xff" + bytes(100)),
        ("MetadataRequest", 12, b"\xff\xff\xff\xff\x07" + bytes(100)),
        ("JoinGroupResponse", 0, bytes(6) + b"\x00\x00" * 3 + b"\x7f\xff\xff\xff" + bytes(100)),
        ("OffsetFetchRequest", 1, b"\x00\x01g" + b"\x00\x00\x00\x01\x00\x01t" + b"\x7f\xff\xff\xff" + bytes(100)),
        ("SyncGroupResponse", 0, b"\x00\x00" + b"\x7f\xff\xff\xff" + bytes(100)),
        ("ApiVersionsRequest", 3, b"\x01\x01" + b"\xff\xff\xff\xff\x07" + bytes(100)),
    ],
)
def test_a_count_allocates_nothing(name: str, version: int, data: bytes) -> None:
    message_class = m.message_class(name)
    with pytest.raises(DecodeError):
        message_class.decode(data, version)
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            message_class.decode(data, version)
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()

"""Request headers, and which header version goes with which API version."""

import pytest

from cluster.protocol import messages as m
from cluster.protocol.api_keys import FLEXIBLE_SINCE, ApiKey
from cluster.protocol.errors import DecodeError
from cluster.protocol.headers import decode_request_header, request_header_version, response_header_version
from cluster.protocol.served import SERVED


def name_of(key: ApiKey) -> str:
    """Kafka's name of an API, found by the key in its request's table."""
    return next(name for name in m.names() if name.endswith("Request") and m.message_class(name).api_key == key)


def test_flexible_versions_are_the_tables() -> None:
    for name in m.names():
        if not name.endswith(("Request", "Response")):
            continue
        made = m.message_class(name)
        assert made.api_key in list(ApiKey)
        assert FLEXIBLE_SINCE.get(made.api_key, 32768) == made.flexible_versions, name


def test_header_versions() -> None:
    assert request_header_version(ApiKey.CONTROLLED_SHUTDOWN, 0) == 0
    assert request_header_version(ApiKey.CONTROLLED_SHUTDOWN, 3) == 2
    assert request_header_version(ApiKey.METADATA, 8) == 1
    assert request_header_version(ApiKey.METADATA, 9) == 2
    assert request_header_version(ApiKey.SASL_HANDSHAKE, 1) == 1
    assert response_header_version(ApiKey.METADATA, 8) == 0
    assert response_header_version(ApiKey.METADATA, 9) == 1
    assert request_header_version(ApiKey.API_VERSIONS, 4) == 2
    assert response_header_version(ApiKey.API_VERSIONS, 4) == 0


@pytest.mark.parametrize("client_id", ["rdkafka", "", None, "ü"])
def test_request_headers_are_read_as_their_table_writes_them(client_id: str | None) -> None:
    for key, (low, high) in SERVED.items():
        for version in (low, high):
            header = m.RequestHeader(
                request_api_key=key, request_api_version=version, correlation_id=-5, client_id=client_id
            ).encode(request_header_version(key, version))
            for data in (header + b"body", memoryview(header + b"body")):
                assert decode_request_header(data) == (key, version, -5, client_id, len(header))


def test_tags_of_a_header_are_skipped() -> None:
    data = b"\x00\x03\x00\x0c\x00\x00\x00\x07\x00\x01c" + b"\x01\x00\x02ab" + b"body"
    assert decode_request_header(data) == (3, 12, 7, "c", len(data) - 4)


def test_an_unknown_version_of_api_versions_is_read_as_flexible() -> None:
    assert decode_request_header(b"\x00\x12\x00\x63\x00\x00\x00\x07\x00\x01c\x00").body_offset == 12


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x03\x00\x01\x00\x00\x00",
        b"\x00\x03\x00\x01\x00\x00\x00\x07",
        b"\x00\x03\x00\x01\x00\x00\x00\x07\x00\x02c",
        b"\x00\x03\x00\x01\x00\x00\x00\x07\xff\xfec",
        b"\x00\x03\x00\x0c\x00\x00\x00\x07\x00\x01c",
        b"\x00\x03\x00\x0c\x00\x00\x00\x07\x00\x01c\x01\x00\x02a",
        b"\x7f\xff\x00\x00\x00\x00\x00\x07\x00\x01c",
        b"\xff\xff\x00\x00\x00\x00\x00\x07\x00\x01c",
    ],
)
def test_broken_headers(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_request_header(data)


def test_what_is_served_exists() -> None:
    for key, (low, high) in SERVED.items():
        for name in (name_of(key), name_of(key).replace("Request", "Response")):
            made = m.message_class(name)
            assert made.valid_versions[0] <= low <= high <= made.valid_versions[1], name
            if made.latest_version_unstable:
                assert high < made.valid_versions[1], name

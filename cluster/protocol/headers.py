"""Request and response headers: which version of them goes with an API's version, and reading a request's.

The client id is a classic string in every header version, so that a broker can read it before it knows the version at
all. The response to ApiVersions has header version 0 always: the client does not know yet what we speak.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError

from cluster.protocol.api_keys import FLEXIBLE_SINCE, ApiKey
from cluster.protocol.errors import DecodeError
from cluster.protocol.wire import skip_tags
from pylog.facts import NamedTuple

_NEVER = 32768
_FIXED = Struct(">hhi")
_LENGTH = Struct(">h")
_API_KEYS = frozenset(map(int, ApiKey))


class RequestHeader(NamedTuple):
    """A request's header, and where its body starts."""

    api_key: int
    version: int
    correlation_id: int
    client_id: str | None
    body_offset: int


def request_header_version(key: int, version: int) -> int:
    if key == ApiKey.CONTROLLED_SHUTDOWN and version == 0:
        return 0
    return 2 if version >= FLEXIBLE_SINCE.get(key, _NEVER) else 1


def response_header_version(key: int, version: int) -> int:
    if key == ApiKey.API_VERSIONS:
        return 0
    return 1 if version >= FLEXIBLE_SINCE.get(key, _NEVER) else 0


def decode_request_header(data: bytes | bytearray | memoryview) -> RequestHeader:
    """Read the header in front of a request of any version. Raises DecodeError, also for an unknown API key.

    ApiVersions of a version that nobody knows yet is read like its newest one: that is how a newer client asks.
    """
    if type(data) is not bytes:
        data = bytes(data)
    try:
        api_key, version, correlation_id = _FIXED.unpack_from(data)
        if api_key not in _API_KEYS:
            raise DecodeError(f"unknown API key {api_key}")
        header_version = request_header_version(api_key, version)
        offset = _FIXED.size
        client_id = None
        if header_version > 0:
            (size,) = _LENGTH.unpack_from(data, offset)
            offset += _LENGTH.size
            if size < -1 or size > len(data) - offset:
                raise DecodeError(f"request header: client id of {size} bytes, {len(data) - offset} are left")
            if size >= 0:
                client_id = data[offset : offset + size].decode("utf-8", "replace")
                offset += size
        if header_version > 1:
            offset = skip_tags(data, offset + 1, data[offset], len(data))
    except (StructError, IndexError):
        raise DecodeError(f"request header: {len(data)} bytes are too few") from None
    return RequestHeader(api_key, version, correlation_id, client_id, offset)

"""Which partition of which internal topic answers for a key: the part of FindCoordinator that is arithmetic.

What stays true: the partition is Kafka's, from Java's hash of the key, so that a broker of either kind finds the same
coordinator. Who leads that partition is for the caller to know.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from cluster.coordinator.context import RequestContext
from cluster.effects import Reply, Shard
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple

_TOPIC_OF_KEY_TYPE = {0: "__consumer_offsets", 1: "__transaction_state"}
_SHARE = 2  # a type of keys that there is, and that is not served
_MANY_KEYS_SINCE = 4
_NO_NODE = -1


class Endpoint(NamedTuple):
    """Where a broker is reached, as seen through the listener that the request came in on."""

    node_id: int
    host: str
    port: int


@lru_cache(maxsize=4096)
def java_hash(text: str) -> int:
    """`String.hashCode`: of UTF-16 units, as a signed 32-bit number."""
    value = 0
    data = text.encode("utf-16-be", "surrogatepass")
    for position in range(0, len(data), 2):
        value = (value * 31 + (data[position] << 8 | data[position + 1])) & 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def partition_of_key(key: str, partition_count: int) -> int:
    value = java_hash(key)
    return 0 if value == -(1 << 31) else abs(value) % partition_count


def find_coordinators(
    ctx: RequestContext,
    request: m.FindCoordinatorRequest,
    partition_count: Callable[[str], int],
    locate: Callable[[str, Shard], Endpoint | ErrorCode],
) -> Reply:
    """Answer FindCoordinator.

    `partition_count`: of an internal topic, or what it will have once it is there. `locate`: where a key's shard is
    led, or the error to give (no right to know, topic not there yet); creating the topic is the caller's business too.
    Of several keys Kafka puts an error into words only when it is the request's.
    """
    if ctx.api_version >= _MANY_KEYS_SINCE:
        coordinators = []
        for key in request.coordinator_keys:
            found = _find(request.key_type, key, partition_count, locate)
            entry = m.FindCoordinatorResponse.Coordinator(key=key, node_id=_NO_NODE, host="", port=_NO_NODE)
            if isinstance(found, ErrorCode):
                entry.error_code = found
                if found is ErrorCode.INVALID_REQUEST and request.key_type != _SHARE:
                    entry.error_message = found.message
            else:
                entry.node_id, entry.host, entry.port = found
            coordinators.append(entry)
        return Reply(ctx.reply_to, m.FindCoordinatorResponse(coordinators=coordinators))
    found = _find(request.key_type, request.key, partition_count, locate)
    response = m.FindCoordinatorResponse(node_id=_NO_NODE, host="", port=_NO_NODE)
    if isinstance(found, ErrorCode):
        response.error_code = found
        response.error_message = found.message
    else:
        response.node_id, response.host, response.port = found
        response.error_message = ErrorCode.NONE.message
    return Reply(ctx.reply_to, response)


def _find(
    key_type: int,
    key: str,
    partition_count: Callable[[str], int],
    locate: Callable[[str, Shard], Endpoint | ErrorCode],
) -> Endpoint | ErrorCode:
    topic = _TOPIC_OF_KEY_TYPE.get(key_type)
    if topic is None:
        return ErrorCode.INVALID_REQUEST
    return locate(key, Shard(topic, partition_of_key(key, partition_count(topic))))

"""A broker on a real socket that answers what a test tells it to.

What it keeps true: every wait is bounded; a handler's failure closes the connection and is raised again by `close`,
so that a defect of the test is not taken for a behaviour of the code under test.
"""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.headers import decode_request_header, response_header_version
from cluster.protocol.message import Message

WAIT_S = 10.0

# What a handler returns: the answer; raw bytes to send as they are; None for no answer at all.
Handler = Callable[[Message, int], Message | bytes | None]

# Kafka 3.9's ranges of what the command line uses, and what brokers say to one another.
VERSIONS: dict[ApiKey, tuple[int, int]] = {
    ApiKey.PRODUCE: (0, 11),
    ApiKey.FETCH: (0, 17),
    ApiKey.LIST_OFFSETS: (0, 9),
    ApiKey.METADATA: (0, 12),
    ApiKey.OFFSET_COMMIT: (0, 9),
    ApiKey.OFFSET_FETCH: (0, 9),
    ApiKey.FIND_COORDINATOR: (0, 6),
    ApiKey.JOIN_GROUP: (0, 9),
    ApiKey.HEARTBEAT: (0, 4),
    ApiKey.LEAVE_GROUP: (0, 5),
    ApiKey.SYNC_GROUP: (0, 5),
    ApiKey.DESCRIBE_GROUPS: (0, 5),
    ApiKey.LIST_GROUPS: (0, 5),
    ApiKey.DELETE_GROUPS: (0, 2),
    ApiKey.API_VERSIONS: (0, 4),
    ApiKey.CREATE_TOPICS: (0, 7),
    ApiKey.DELETE_TOPICS: (0, 6),
    ApiKey.INIT_PRODUCER_ID: (0, 5),
    ApiKey.DESCRIBE_CONFIGS: (0, 4),
    ApiKey.LEADER_AND_ISR: (0, 7),
    ApiKey.STOP_REPLICA: (0, 4),
    ApiKey.UPDATE_METADATA: (0, 8),
    ApiKey.CONTROLLED_SHUTDOWN: (0, 3),
    ApiKey.ALTER_PARTITION: (0, 3),
    ApiKey.ALLOCATE_PRODUCER_IDS: (0, 0),
}


class CloseConnection(Exception):
    """Raised by a handler: drop this connection instead of answering."""


class FakeBroker:
    """Listens on 127.0.0.1 from construction to `close`. `handlers` may be changed at any time."""

    def __init__(
        self, handlers: dict[ApiKey, Handler] | None = None, versions: dict[ApiKey, tuple[int, int]] | None = None
    ) -> None:
        self.handlers: dict[ApiKey, Handler] = {ApiKey.API_VERSIONS: self.api_versions, **(handlers or {})}
        self.versions = VERSIONS if versions is None else versions
        self.seen: list[tuple[ApiKey, int]] = []
        self.failures: list[BaseException] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.host, self.port = self._listener.getsockname()
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bootstrap(self) -> str:
        return f"{self.host}:{self.port}"

    def close(self) -> None:
        """Drop every connection, end the threads, raise what went wrong in a handler."""
        for sock in [self._listener, *self._connections]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive(), "a thread of the fake broker does not end"
        if self.failures:
            raise self.failures[0]

    def api_versions(self, request: Message, version: int) -> Message:
        """The default answer: `versions`."""
        return m.ApiVersionsResponse(
            api_keys=[
                m.ApiVersionsResponse.ApiVersion(api_key=key, min_version=low, max_version=high)
                for key, (low, high) in self.versions.items()
            ]
        )

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while size := stream.read(4):
                    answer = self._answer(stream.read(struct.unpack(">i", size)[0]))
                    if answer is not None:
                        connection.sendall(answer)
        except (OSError, CloseConnection, struct.error):
            return  # the client or `close` has ended it
        except BaseException as failure:
            self.failures.append(failure)

    def _answer(self, frame: bytes) -> bytes | None:
        header = decode_request_header(frame)
        key = ApiKey(header.api_key)
        self.seen.append((key, header.version))
        request = REQUESTS[key].decode(frame, header.version, header.body_offset)
        answer = self.handlers[key](request, header.version)
        if answer is None or isinstance(answer, bytes):
            return answer
        tags = b"\0" if response_header_version(key, header.version) >= 1 else b""
        body = struct.pack(">i", header.correlation_id) + tags + answer.encode(header.version)
        return struct.pack(">i", len(body)) + body


REQUESTS: dict[ApiKey, type[Message]] = {
    ApiKey.PRODUCE: m.ProduceRequest,
    ApiKey.FETCH: m.FetchRequest,
    ApiKey.LIST_OFFSETS: m.ListOffsetsRequest,
    ApiKey.METADATA: m.MetadataRequest,
    ApiKey.OFFSET_COMMIT: m.OffsetCommitRequest,
    ApiKey.OFFSET_FETCH: m.OffsetFetchRequest,
    ApiKey.FIND_COORDINATOR: m.FindCoordinatorRequest,
    ApiKey.JOIN_GROUP: m.JoinGroupRequest,
    ApiKey.HEARTBEAT: m.HeartbeatRequest,
    ApiKey.LEAVE_GROUP: m.LeaveGroupRequest,
    ApiKey.SYNC_GROUP: m.SyncGroupRequest,
    ApiKey.DESCRIBE_GROUPS: m.DescribeGroupsRequest,
    ApiKey.LIST_GROUPS: m.ListGroupsRequest,
    ApiKey.DELETE_GROUPS: m.DeleteGroupsRequest,
    ApiKey.API_VERSIONS: m.ApiVersionsRequest,
    ApiKey.CREATE_TOPICS: m.CreateTopicsRequest,
    ApiKey.DELETE_TOPICS: m.DeleteTopicsRequest,
    ApiKey.INIT_PRODUCER_ID: m.InitProducerIdRequest,
    ApiKey.DESCRIBE_CONFIGS: m.DescribeConfigsRequest,
    ApiKey.LEADER_AND_ISR: m.LeaderAndIsrRequest,
    ApiKey.STOP_REPLICA: m.StopReplicaRequest,
    ApiKey.UPDATE_METADATA: m.UpdateMetadataRequest,
    ApiKey.CONTROLLED_SHUTDOWN: m.ControlledShutdownRequest,
    ApiKey.ALTER_PARTITION: m.AlterPartitionRequest,
    ApiKey.ALLOCATE_PRODUCER_IDS: m.AllocateProducerIdsRequest,
}

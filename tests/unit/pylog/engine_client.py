"""An engine with partitions on a directory of its own, and a raw client of it.

The client's requests are encoded, and the answers decoded, by cluster/protocol, which knows Produce and Fetch on its
own: C and the tables must read the same bytes.
"""

import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

from cluster.protocol.headers import request_header_version, response_header_version
from cluster.protocol.message import Message
from cluster.protocol.messages import FetchRequest, FetchResponse, ProduceRequest, ProduceResponse
from pylog._engine import (
    GRANT_ALL,
    PRINCIPAL_ANY,
    RESOURCE_ANY,
    ROLE_LEADER,
    Engine,
    EngineConfig,
    PartitionState,
    Upcall,
)
from pylog._native import INT64_MAX, Log, LogSettings, Sys
from pylog.records import NewRecord, RecordBatchBuilder

TIMEOUT_S = 20.0
TIMEOUT_MS = 20_000
SETTINGS = LogSettings(1 << 30, INT64_MAX, 0, 1 << 20, 4096, INT64_MAX, False, 1)
CONFIG = EngineConfig(
    broker_id=1,
    max_request_bytes=100 << 20,
    send_buffer_bytes=-1,
    receive_buffer_bytes=-1,
    connections_max_idle_ms=-1,
    max_connections=10_000,
    max_connections_per_ip=(1 << 31) - 1,
    fetch_max_bytes=55 << 20,
    fetch_session_slots=1000,
    disk_threads=2,
    send_mode=0,
    answer_cache_bytes=1 << 20,
    replica_lag_time_max_ms=30_000,
    max_upcall_bytes=64 << 20,
)
LEADER = PartitionState(
    role=ROLE_LEADER,
    leader_epoch=0,
    leader_id=1,
    replicas=(1,),
    isr=(1,),
    min_insync_replicas=1,
    max_message_bytes=2 << 20,
    timestamp_type=0,
    timestamp_before_max_ms=INT64_MAX,
    timestamp_after_max_ms=INT64_MAX,
    compression=-1,
    compression_level=-(1 << 31),
    compacted=False,
    internal=False,
    high_watermark=-1,
)
PRODUCE_VERSIONS = (3, 13)
FETCH_VERSIONS = (4, 18)
WALL_MS = 1_790_000_000_000


def topic_id(name: str) -> bytes:
    return name.encode().ljust(16, b"\1")


class Hosted(NamedTuple):
    topic: str
    index: int
    number: int
    log: Log


class Host:
    """An engine on `directory`. Started by `start`, closed by `close`. authorizer: nothing is allowed unasked."""

    def __init__(self, directory: Path, config: EngineConfig = CONFIG, authorizer: bool = False) -> None:
        self.directory = directory
        self.sys = Sys()
        self.engine = Engine(self.sys, config)
        self.engine.serve(0, *PRODUCE_VERSIONS)
        self.engine.serve(1, *FETCH_VERSIONS)
        if not authorizer:
            self.engine.publish_grant(PRINCIPAL_ANY, RESOURCE_ANY, b"", GRANT_ALL)
        self.port = self.engine.listen("127.0.0.1", 0, 7)
        self._seen: list[Upcall] = []
        self._logs: list[Log] = []

    def start(self) -> Self:
        self.engine.start()
        return self

    def host(
        self, topic: str = "t", index: int = 0, state: PartitionState = LEADER, settings: LogSettings = SETTINGS
    ) -> Hosted:
        directory = self.directory / f"{topic}-{index}"
        directory.mkdir()
        log, _ = Log.open(
            self.sys,
            str(directory),
            settings,
            [],
            log_start=0,
            recovery_point=0,
            clean=False,
            epochs=(),
            now_ms=WALL_MS,
        )
        number = self.engine.add_partition(topic, topic_id(topic), index, log, state)
        return Hosted(topic, index, number, log)

    def remove(self, hosted: Hosted, error: int) -> None:
        log = self.engine.remove_partition(hosted.number, error)
        assert log is hosted.log
        log.close(clean=False)

    def client(self, timeout_s: float = TIMEOUT_S, receive_buffer_bytes: int | None = None) -> "Client":
        return Client(self.port, timeout_s, receive_buffer_bytes)

    def next_upcall(self, kind: int, accept: Callable[[Upcall], bool] = lambda _: True) -> Upcall:
        """The next upcall of this kind; others are kept for later calls."""
        while True:
            for i, upcall in enumerate(self._seen):
                if upcall.kind == kind and accept(upcall):
                    return self._seen.pop(i)
            more = self.engine.poll(TIMEOUT_MS, 64)
            assert more, f"no upcall of kind {kind} came"
            self._seen += more

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Until what() holds: looked at every millisecond and after every upcall, within the time limit."""
        for _ in range(TIMEOUT_MS):
            if what():
                return
            self._seen += self.engine.poll(1, 64)
        raise AssertionError("it did not come true in time")

    def close(self) -> None:
        self.engine.stop(1000)
        self.engine.close()
        self.sys.close()


class Client:
    """One connection; requests are sent without waiting, answers are taken in order."""

    def __init__(self, port: int, timeout_s: float = TIMEOUT_S, receive_buffer_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(timeout_s)
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._correlation = 0
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def frame(self, key: int, version: int, body: bytes, client_id: bytes | None = b"me") -> bytes:
        """A request with the next correlation id."""
        self._correlation += 1
        header = struct.pack(">hhi", key, version, self._correlation)
        header += struct.pack(">h", -1) if client_id is None else struct.pack(">h", len(client_id)) + client_id
        if request_header_version(key, version) >= 2:
            header += b"\0"
        return struct.pack(">i", len(header) + len(body)) + header + body

    def send(self, key: int, version: int, body: bytes, client_id: bytes | None = b"me") -> int:
        """Returns the correlation id."""
        self.socket.sendall(self.frame(key, version, body, client_id))
        return self._correlation

    def receive_exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            more = self.socket.recv(1 << 20)
            if not more:
                raise ConnectionError("closed by the engine")
            self._buffer += more
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def receive(self) -> tuple[int, bytes]:
        """Correlation id, and the answer behind it."""
        (size,) = struct.unpack(">i", self.receive_exactly(4))
        answer = self.receive_exactly(size)
        return struct.unpack_from(">i", answer)[0], answer[4:]

    def decode(self, kind: type[Message], key: int, version: int) -> Message:
        """The next answer, which must be to the oldest request that has none yet."""
        _, body = self.receive()
        start = 0
        if response_header_version(key, version) >= 1:
            assert body[0] == 0
            start = 1
        return kind.decode(body[start:], version)

    def expect_closed(self) -> None:
        """The engine closes the connection, with no further answer."""
        try:
            data = self.socket.recv(1)
        except ConnectionResetError:
            return
        assert data == b"", f"an answer came: {data!r}"

    def expect_silence(self) -> None:
        """Nothing has come so far. Use it only after something that would have come later has come."""
        assert not self._buffer
        self.socket.setblocking(False)
        try:
            data = self.socket.recv(1)
        except BlockingIOError:
            data = None
        self.socket.settimeout(TIMEOUT_S)
        assert data is None, f"came: {data!r}"

    # ------------------------------------------------------------------------------------------------- produce

    def send_produce(
        self,
        records: dict[tuple[str, int], bytes | None],
        *,
        version: int = 9,
        acks: int = 1,
        timeout_ms: int = TIMEOUT_MS,
        client_id: bytes | None = b"me",
        transactional_id: str | None = None,
    ) -> None:
        topics: dict[str, list[ProduceRequest.PartitionProduceData]] = {}
        for (topic, index), data in records.items():
            topics.setdefault(topic, []).append(ProduceRequest.PartitionProduceData(index=index, records=data))
        data = [
            ProduceRequest.TopicProduceData(name=name, topic_id=topic_id(name), partition_data=parts)
            for name, parts in topics.items()
        ]
        request = ProduceRequest(transactional_id=transactional_id, acks=acks, timeout_ms=timeout_ms, topic_data=data)
        self.send(0, version, request.encode(version), client_id)

    def produced(self, version: int = 9) -> list[ProduceResponse.PartitionProduceResponse]:
        """The partitions of the next answer, in order."""
        answer = self.decode(ProduceResponse, 0, version)
        assert isinstance(answer, ProduceResponse)
        assert answer.throttle_time_ms == 0
        return [part for topic in answer.responses for part in topic.partition_responses]

    def produce(
        self, data: bytes | None, topic: str = "t", index: int = 0, *, version: int = 9, acks: int = 1
    ) -> ProduceResponse.PartitionProduceResponse:
        self.send_produce({(topic, index): data}, version=version, acks=acks)
        (part,) = self.produced(version)
        assert part.index == index
        return part

    # ------------------------------------------------------------------------------------------------- fetch

    def send_fetch(
        self,
        offsets: dict[tuple[str, int], int],
        *,
        version: int = 12,
        max_wait_ms: int = 0,
        min_bytes: int = 1,
        max_bytes: int = 50 << 20,
        partition_max_bytes: int = 1 << 20,
        session: tuple[int, int] = (0, -1),
        forget: tuple[tuple[str, int], ...] = (),
        isolation: int = 0,
        replica_id: int = -1,
        leader_epoch: int = -1,
        last_epoch: int = -1,
        log_start: int = -1,
        rack: str = "",
    ) -> None:
        topics: dict[str, list[FetchRequest.FetchPartition]] = {}
        for (topic, index), offset in offsets.items():
            topics.setdefault(topic, []).append(
                FetchRequest.FetchPartition(
                    partition=index,
                    current_leader_epoch=leader_epoch,
                    fetch_offset=offset,
                    last_fetched_epoch=last_epoch,
                    log_start_offset=log_start,
                    partition_max_bytes=partition_max_bytes,
                )
            )
        request = FetchRequest(
            max_wait_ms=max_wait_ms,
            min_bytes=min_bytes,
            max_bytes=max_bytes,
            isolation_level=isolation,
            topics=[
                FetchRequest.FetchTopic(topic=name, topic_id=topic_id(name), partitions=parts)
                for name, parts in topics.items()
            ],
        )
        if version >= 7:
            request.session_id, request.session_epoch = session
            request.forgotten_topics_data = [
                FetchRequest.ForgottenTopic(topic=name, topic_id=topic_id(name), partitions=[index])
                for name, index in forget
            ]
        if version >= 11:
            request.rack_id = rack
        if version <= 14:
            request.replica_id = replica_id
        elif replica_id != -1:
            request.replica_state = FetchRequest.ReplicaState(replica_id=replica_id, replica_epoch=-1)
        self.send(1, version, request.encode(version))

    def fetched(self, version: int = 12) -> FetchResponse:
        answer = self.decode(FetchResponse, 1, version)
        assert isinstance(answer, FetchResponse)
        return answer

    def fetch(
        self, offset: int, topic: str = "t", index: int = 0, *, version: int = 12, **settings: int | str
    ) -> Message:
        """The only partition of the answer."""
        self.send_fetch({(topic, index): offset}, version=version, **settings)  # type: ignore[arg-type]
        (answer,) = self.fetched(version).responses
        (part,) = answer.partitions
        assert part.partition_index == index
        return part  # type: ignore[no-any-return]


def parts_of(answer: FetchResponse) -> dict[tuple[str, int], FetchResponse.PartitionData]:
    return {(topic.topic, part.partition_index): part for topic in answer.responses for part in topic.partitions}


_builder = RecordBatchBuilder()


def batch(
    values: list[bytes],
    *,
    producer: tuple[int, int, int] = (-1, -1, -1),
    transactional: bool = False,
    key: bytes | None = b"k",
    timestamp: int = WALL_MS,
) -> bytes:
    """A client's batch; producer: id, epoch, first sequence."""
    producer_id, epoch, sequence = producer
    return _builder.build(
        [NewRecord(timestamp, key, value) for value in values],
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        transactional=transactional,
    )

"""A connection to a broker: versions, order, bounds, and what each failure is called."""

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from cluster.broker.peer import (
    DisconnectedError,
    MalformedAnswerError,
    Peer,
    PeerError,
    PeerTimeoutError,
    UnreachableError,
    UnsupportedApiError,
)
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.support.fake_broker import CloseConnection, FakeBroker
from tests.support.ports import free_port

TIMEOUT_MS = 5_000
SOON_MS = 50


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker({ApiKey.METADATA: _metadata, ApiKey.HEARTBEAT: _heartbeat}) as running:
        yield running


def _metadata(request: Message, version: int) -> Message:
    assert isinstance(request, m.MetadataRequest)
    return m.MetadataResponse(controller_id=7, cluster_id="c" * 22)


def _heartbeat(request: Message, version: int) -> Message:
    """Answers with the generation as its error code, so that an answer tells which request it belongs to."""
    assert isinstance(request, m.HeartbeatRequest)
    return m.HeartbeatResponse(error_code=request.generation_id)


def _peer(broker: FakeBroker, **options: int) -> Peer:
    return Peer(broker.host, broker.port, "test", options.pop("timeout_ms", TIMEOUT_MS), **options)


def _beat(generation: int) -> m.HeartbeatRequest:
    return m.HeartbeatRequest(group_id="g", generation_id=generation, member_id="m")


def test_the_newest_common_version_is_used(broker: FakeBroker) -> None:
    with _peer(broker) as peer:
        assert peer.request(m.MetadataRequest(topics=[]), m.MetadataResponse).controller_id == 7
        assert peer.request(m.MetadataRequest(topics=[]), m.MetadataResponse, versions=(1, 4)).controller_id == 7
    assert broker.seen == [(ApiKey.API_VERSIONS, 3), (ApiKey.METADATA, 12), (ApiKey.METADATA, 4)]


def test_an_old_broker_is_asked_again_in_its_own_version(broker: FakeBroker) -> None:
    broker.versions = {ApiKey.API_VERSIONS: (0, 1), ApiKey.METADATA: (0, 5)}

    def old(request: Message, version: int) -> Message | bytes:
        if version > 1:  # the refusal has the layout of version 0, whatever was asked in
            body = struct.pack(">ihihhh", 1, ErrorCode.UNSUPPORTED_VERSION, 1, ApiKey.API_VERSIONS, 0, 1)
            return struct.pack(">i", len(body)) + body
        return broker.api_versions(request, version)

    broker.handlers[ApiKey.API_VERSIONS] = old
    with _peer(broker) as peer:
        peer.request(m.MetadataRequest(topics=[]), m.MetadataResponse)
    assert broker.seen == [(ApiKey.API_VERSIONS, 3), (ApiKey.API_VERSIONS, 1), (ApiKey.METADATA, 5)]


def test_what_the_broker_does_not_serve_leaves_the_connection_usable(broker: FakeBroker) -> None:
    with _peer(broker) as peer:
        with pytest.raises(UnsupportedApiError, match="does not serve DESCRIBE_QUORUM"):
            peer.request(m.DescribeQuorumRequest(), m.DescribeQuorumResponse)
        with pytest.raises(UnsupportedApiError, match="serves METADATA 0 to 12, this program needs 13 to 13"):
            peer.request(m.MetadataRequest(), m.MetadataResponse, versions=(13, 13))
        assert peer.serves(m.MetadataRequest)
        assert not peer.serves(m.MetadataRequest, (13, 13))
        assert peer.request(_beat(1), m.HeartbeatResponse).error_code == 1


def test_requests_are_pipelined_and_answers_keep_their_order(broker: FakeBroker) -> None:
    with _peer(broker) as peer:
        pending = [peer.send(_beat(number), m.HeartbeatResponse) for number in range(50)]
        assert peer.in_flight == 50
        assert [peer.receive(one).error_code for one in pending] == list(range(50))
        assert peer.in_flight == 0


def test_reading_out_of_order_is_a_defect(broker: FakeBroker) -> None:
    with _peer(broker) as peer:
        peer.send(_beat(1), m.HeartbeatResponse)
        second = peer.send(_beat(2), m.HeartbeatResponse)
        with pytest.raises(AssertionError, match="order"):
            peer.receive(second)


def test_a_request_without_answer_leaves_nothing_to_wait_for(broker: FakeBroker) -> None:
    broker.handlers[ApiKey.PRODUCE] = lambda request, version: None
    with _peer(broker) as peer:
        peer.send_unanswered(m.ProduceRequest(acks=0), versions=(3, 11))
        assert peer.in_flight == 0
        assert peer.request(_beat(3), m.HeartbeatResponse).error_code == 3


def test_a_large_request_goes_out_whole(broker: FakeBroker) -> None:
    sizes = []

    def produce(request: Message, version: int) -> Message:
        assert isinstance(request, m.ProduceRequest)
        sizes.append(len(request.topic_data[0].partition_data[0].records or b""))
        return m.ProduceResponse()

    broker.handlers[ApiKey.PRODUCE] = produce
    part = m.ProduceRequest.PartitionProduceData(index=0, records=bytes(5_000_000))
    request = m.ProduceRequest(acks=-1, topic_data=[m.ProduceRequest.TopicProduceData(name="t", partition_data=[part])])
    with _peer(broker) as peer:
        peer.request(request, m.ProduceResponse)
    assert sizes == [5_000_000]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (struct.pack(">ii", 2_000, 2), "an answer of 2000 bytes, and at most 1000"),
        (struct.pack(">ii", -5, 2), "an answer of -5 bytes"),
        (struct.pack(">ii", 3, 2), "an answer of 3 bytes"),
        (struct.pack(">ii", 100, 77), "answer to request 77 instead of 2"),
        (struct.pack(">iihb", 7, 2, 0, 0), "unreadable answer to HEARTBEAT version 0"),
    ],
)
def test_an_answer_that_is_none_closes_the_connection(broker: FakeBroker, head: bytes, message: str) -> None:
    broker.handlers[ApiKey.HEARTBEAT] = lambda request, version: head
    with _peer(broker, max_answer_bytes=1_000) as peer:
        with pytest.raises(MalformedAnswerError, match=message):
            peer.request(_beat(1), m.HeartbeatResponse, versions=(0, 0))
        assert not peer.connected
        with pytest.raises(DisconnectedError, match="not connected"):
            peer.request(_beat(1), m.HeartbeatResponse)


def test_a_lost_connection_loses_all_that_is_under_way(broker: FakeBroker) -> None:
    def drop(request: Message, version: int) -> Message:
        raise CloseConnection

    broker.handlers[ApiKey.HEARTBEAT] = drop
    with _peer(broker) as peer:
        first, second = (peer.send(_beat(number), m.HeartbeatResponse) for number in range(2))
        with pytest.raises(DisconnectedError, match=r"closed the connection|reset"):
            peer.receive(first)
        with pytest.raises(DisconnectedError):
            peer.receive(second)
        broker.handlers[ApiKey.HEARTBEAT] = _heartbeat
        peer.connect()
        assert peer.request(_beat(9), m.HeartbeatResponse).error_code == 9


def test_an_answer_too_late_closes_the_connection(broker: FakeBroker) -> None:
    broker.handlers[ApiKey.HEARTBEAT] = lambda request, version: None
    with _peer(broker) as peer:
        started = time.monotonic()
        with pytest.raises(PeerTimeoutError, match="no answer in time"):
            peer.request(_beat(1), m.HeartbeatResponse, timeout_ms=SOON_MS)
        assert time.monotonic() - started < TIMEOUT_MS / 1000
        assert not peer.connected


def test_an_interrupt_in_an_answer_closes_the_connection(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    broker.handlers[ApiKey.HEARTBEAT] = lambda request, version: None
    with _peer(broker) as peer:
        pending = peer.send(_beat(1), m.HeartbeatResponse)
        monkeypatch.setattr(peer, "_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            peer.receive(pending)
        assert not peer.connected


def test_nobody_listens() -> None:
    with pytest.raises(UnreachableError, match="connection refused"):
        Peer("127.0.0.1", free_port(), "test", TIMEOUT_MS).connect()


def test_an_unknown_host() -> None:
    with pytest.raises(UnreachableError, match="unknown host"):
        Peer("no-such-host.invalid", 9092, "test", TIMEOUT_MS).connect()


def test_a_listener_that_closes_at_once_may_want_tls(broker: FakeBroker) -> None:
    def drop(request: Message, version: int) -> Message:
        raise CloseConnection

    broker.handlers[ApiKey.API_VERSIONS] = drop
    peer = _peer(broker)
    with pytest.raises(UnreachableError, match="does it expect TLS or SASL"):
        peer.connect()
    assert not peer.connected


def test_a_listener_that_speaks_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UnreachableError, match="does not speak Kafka's protocol"):
            Peer("127.0.0.1", listener.getsockname()[1], "test", TIMEOUT_MS).connect()
        thread.join(TIMEOUT_MS / 1000)
        assert not thread.is_alive()


def test_a_listener_that_says_nothing(broker: FakeBroker) -> None:
    broker.handlers[ApiKey.API_VERSIONS] = lambda request, version: None
    with pytest.raises(UnreachableError, match="connected, but no answer within 50 ms"):
        _peer(broker, timeout_ms=SOON_MS).connect()


def test_every_failure_names_the_address(broker: FakeBroker) -> None:
    with _peer(broker) as peer, pytest.raises(PeerError) as raised:
        peer.request(m.DescribeQuorumRequest(), m.DescribeQuorumResponse)
    assert raised.value.address == broker.bootstrap
    assert str(raised.value).startswith(f"{broker.bootstrap}: ")
    assert Peer("::1", 9092, "test", 1).address == "[::1]:9092"

"""Between brokers and their controller: in order, one at a time, asked again until it is answered."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cluster.broker.controller_channel import Channel
from cluster.broker.controller_client import ControllerClient, shut_down_controlled
from cluster.model import Broker, BrokerId
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from pylog.types import TopicPartition
from tests.support.fake_broker import CloseConnection, FakeBroker, Handler

WAIT_S = 10
TIMEOUT_MS = 5000


class Found:
    """Where the controller is, as the client is told; `None` while nobody is known to be it."""

    def __init__(self, *brokers: FakeBroker | None) -> None:
        self._brokers = list(brokers)

    def __call__(self) -> tuple[str, int] | None:
        broker = self._brokers.pop(0) if len(self._brokers) > 1 else self._brokers[0]
        return None if broker is None else (broker.host, broker.port)


def producer_ids(start: int, error: ErrorCode = ErrorCode.NONE) -> Handler:
    return lambda request, version: m.AllocateProducerIdsResponse(
        error_code=int(error), producer_id_start=start, producer_id_len=1000
    )


@pytest.fixture
def client() -> Iterator[Callable[[Found], ControllerClient]]:
    made: list[ControllerClient] = []

    def make(find: Found) -> ControllerClient:
        made.append(ControllerClient(1, find, lambda task: task(), TIMEOUT_MS))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def ask(client: ControllerClient) -> Message:
    answers: queue.Queue[Message] = queue.Queue()
    request = m.AllocateProducerIdsRequest(broker_id=1, broker_epoch=7)
    client.ask(request, m.AllocateProducerIdsResponse, answers.put, (0, 0))
    return answers.get(timeout=WAIT_S)


def test_the_controller_is_looked_for_until_there_is_one(client: Callable[[Found], ControllerClient]) -> None:
    with FakeBroker({ApiKey.ALLOCATE_PRODUCER_IDS: producer_ids(3000)}) as broker:
        answer = ask(client(Found(None, None, broker)))
    assert isinstance(answer, m.AllocateProducerIdsResponse)
    assert answer.producer_id_start == 3000


def test_one_that_is_not_the_controller_any_more_sends_us_on(client: Callable[[Found], ControllerClient]) -> None:
    with (
        FakeBroker({ApiKey.ALLOCATE_PRODUCER_IDS: producer_ids(0, ErrorCode.NOT_CONTROLLER)}) as old,
        FakeBroker({ApiKey.ALLOCATE_PRODUCER_IDS: producer_ids(5000)}) as new,
    ):
        answer = ask(client(Found(old, new)))
    assert isinstance(answer, m.AllocateProducerIdsResponse)
    assert answer.producer_id_start == 5000


def test_a_lost_connection_is_made_again(client: Callable[[Found], ControllerClient]) -> None:
    tries = iter([True, True, False])

    def sometimes(request: Message, version: int) -> Message:
        if next(tries):
            raise CloseConnection
        return m.AllocateProducerIdsResponse(producer_id_start=1, producer_id_len=1000)

    with FakeBroker({ApiKey.ALLOCATE_PRODUCER_IDS: sometimes}) as broker:
        assert isinstance(ask(client(Found(broker))), m.AllocateProducerIdsResponse)


def test_a_controller_that_hangs_is_left_when_there_is_another(client: Callable[[Found], ControllerClient]) -> None:
    """Long before its answer would be late: as many partitions as it was asked about wait for that."""
    awake = threading.Event()

    def hang(request: Message, version: int) -> Message:
        awake.wait(WAIT_S)
        raise CloseConnection

    began = time.monotonic()
    with (
        FakeBroker({ApiKey.ALLOCATE_PRODUCER_IDS: hang}) as old,
        FakeBroker({ApiKey.ALLOCATE_PRODUCER_IDS: producer_ids(5000)}) as new,
    ):
        answer = ask(client(Found(old, new)))
        awake.set()
    assert isinstance(answer, m.AllocateProducerIdsResponse)
    assert answer.producer_id_start == 5000
    assert time.monotonic() - began < TIMEOUT_MS / 1000


# ------------------------------------------------------------------------------------------------ controlled shutdown


def shut_down(*answers: tuple[ErrorCode, list[int]], find: Found | None = None) -> list[TopicPartition] | None:
    left = list(answers)

    def answer(request: Message, version: int) -> Message:
        error, indices = left.pop(0) if len(left) > 1 else left[0]
        entry = m.ControlledShutdownResponse.RemainingPartition
        remaining = [entry(topic_name="orders", partition_index=index) for index in indices]
        return m.ControlledShutdownResponse(error_code=int(error), remaining_partitions=remaining)

    with FakeBroker({ApiKey.CONTROLLED_SHUTDOWN: answer}) as broker:
        return shut_down_controlled(1, 7, find or Found(broker), retries=3, backoff_ms=1, timeout_ms=TIMEOUT_MS)


def test_controlled_shutdown_is_asked_until_nothing_is_led() -> None:
    assert shut_down((ErrorCode.NONE, [0, 1]), (ErrorCode.NOT_CONTROLLER, []), (ErrorCode.NONE, [])) == []


def test_controlled_shutdown_says_what_is_led_all_the_same() -> None:
    assert shut_down((ErrorCode.NONE, [2])) == [TopicPartition("orders", 2)]


def test_controlled_shutdown_without_a_controller() -> None:
    assert shut_down((ErrorCode.NONE, []), find=Found(None)) is None


# ------------------------------------------------------------------------------------------------ channels


def test_a_channel_keeps_the_order_and_sends_again() -> None:
    """What got no answer is sent again before anything else is."""
    came: list[int] = []
    answered: queue.Queue[tuple[int, Message, Message]] = queue.Queue()

    def take(request: Message, version: int) -> Message:
        assert isinstance(request, m.UpdateMetadataRequest)
        came.append(request.controller_epoch)
        if len(came) == 2:
            raise CloseConnection
        return m.UpdateMetadataResponse()

    with FakeBroker({ApiKey.UPDATE_METADATA: take}) as broker:
        channel = Channel(
            broker.host, broker.port, Broker(BrokerId(3), ()), 1, TIMEOUT_MS, lambda *told: answered.put(told)
        )
        sent = [m.UpdateMetadataRequest(controller_id=1, controller_epoch=epoch) for epoch in range(1, 5)]
        for each in sent:
            channel.send(8, each)
        told = [answered.get(timeout=WAIT_S) for _ in sent]
        channel.stop()
    assert came == [1, 2, 2, 3, 4]
    assert [each[:2] for each in told] == [(3, each) for each in sent]


def test_a_channel_that_is_stopped_sends_no_more() -> None:
    channel = Channel("127.0.0.1", 1, Broker(BrokerId(3), ()), 1, TIMEOUT_MS, lambda *told: pytest.fail("answered"))
    channel.send(8, m.UpdateMetadataRequest(controller_id=1, controller_epoch=1))
    channel.stop()
    assert channel.ended(WAIT_S)

"""Asking leaders where their logs begin and end."""

import queue
import threading
from collections.abc import Iterator

import pytest

from cluster.broker.leader_offsets import LeaderOffsets, OffsetAnswer, OffsetQuestion
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from cluster.replication.follower import EARLIEST, LATEST
from pylog.errors import ErrorCode
from pylog.types import TopicPartition
from tests.support.fake_broker import FakeBroker
from tests.support.ports import free_port

TIMEOUT_S = 5.0
ORDERS = TopicPartition("orders", 3)


def _list_offsets(request: Message, version: int) -> Message:
    """Says 7 or 90 to the replica 1 in leader epoch 5, and that anybody else is fenced."""
    assert isinstance(request, m.ListOffsetsRequest)
    said = m.ListOffsetsResponse
    asked = request.topics[0].partitions[0]
    known = request.replica_id == 1 and asked.current_leader_epoch == 5
    told = said.ListOffsetsPartitionResponse(
        partition_index=asked.partition_index,
        error_code=0 if known else int(ErrorCode.FENCED_LEADER_EPOCH),
        offset={EARLIEST: 7, LATEST: 90}[asked.timestamp] if known else -1,
        timestamp=-1,
    )
    return said(topics=[said.ListOffsetsTopicResponse(name=request.topics[0].name, partitions=[told])])


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker({ApiKey.LIST_OFFSETS: _list_offsets}) as running:
        yield running


@pytest.fixture
def leaders() -> Iterator[LeaderOffsets]:
    asking = LeaderOffsets(1, int(TIMEOUT_S * 1000))
    yield asking
    asking.close()


def question(broker: FakeBroker, timestamp: int, leader_epoch: int = 5) -> OffsetQuestion:
    return OffsetQuestion(broker.host, broker.port, ORDERS, leader_epoch, timestamp)


def test_questions_are_answered_in_order_on_one_connection(broker: FakeBroker, leaders: LeaderOffsets) -> None:
    answers: queue.SimpleQueue[OffsetAnswer] = queue.SimpleQueue()
    asked_next = threading.Event()

    def first(answer: OffsetAnswer) -> None:
        assert asked_next.wait(TIMEOUT_S)
        answers.put(answer)

    leaders.ask(question(broker, LATEST), first)
    leaders.ask(question(broker, EARLIEST), answers.put)
    leaders.ask(question(broker, EARLIEST, leader_epoch=4), answers.put)
    asked_next.set()
    assert answers.get(timeout=TIMEOUT_S) == OffsetAnswer(0, 90)
    assert answers.get(timeout=TIMEOUT_S) == OffsetAnswer(0, 7)
    assert answers.get(timeout=TIMEOUT_S) == OffsetAnswer(int(ErrorCode.FENCED_LEADER_EPOCH), -1)
    assert [api_key for api_key, _ in broker.seen] == [ApiKey.API_VERSIONS] + [ApiKey.LIST_OFFSETS] * 3


def test_a_leader_that_is_not_there_is_an_answer_too(leaders: LeaderOffsets) -> None:
    answers: queue.SimpleQueue[OffsetAnswer] = queue.SimpleQueue()
    leaders.ask(OffsetQuestion("127.0.0.1", free_port(), ORDERS, 5, LATEST), answers.put)
    assert answers.get(timeout=TIMEOUT_S) == OffsetAnswer(int(ErrorCode.NETWORK_EXCEPTION), -1)


def test_the_thread_is_there_only_while_there_are_questions(broker: FakeBroker, leaders: LeaderOffsets) -> None:
    def threads() -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name == "leader-offsets"]

    asked_on: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    for _ in range(2):
        leaders.ask(question(broker, LATEST), lambda _: asked_on.put(threading.current_thread()))
        thread = asked_on.get(timeout=TIMEOUT_S)
        thread.join(TIMEOUT_S)
        assert not thread.is_alive() and threads() == []


def test_nothing_is_answered_once_it_is_closed(broker: FakeBroker, leaders: LeaderOffsets) -> None:
    answers: queue.SimpleQueue[OffsetAnswer] = queue.SimpleQueue()
    asked_on: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    closed = threading.Event()

    def first(_: OffsetAnswer) -> None:
        asked_on.put(threading.current_thread())
        assert closed.wait(TIMEOUT_S)

    leaders.ask(question(broker, LATEST), first)
    leaders.ask(question(broker, LATEST), answers.put)
    thread = asked_on.get(timeout=TIMEOUT_S)
    leaders.close()
    leaders.ask(question(broker, LATEST), answers.put)
    closed.set()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive() and answers.empty()

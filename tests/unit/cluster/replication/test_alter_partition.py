"""Changes of ISRs on their way to the controller."""

from typing import NamedTuple

import pytest

from cluster.protocol import messages as m
from cluster.replication.alter_partition import RETRY_MS, AlterPartitions, in_version, newest_version
from cluster.replication.isr import IsrAnswer, IsrChange
from pylog.errors import ErrorCode
from pylog.types import ZERO_TOPIC_ID, TopicPartition

ORDERS, EVENTS = b"o" * 16, b"e" * 16
NOW = 1_000


def change(topic: str, partition: int, topic_id: bytes = ORDERS, partition_epoch: int = 7) -> IsrChange:
    return IsrChange(TopicPartition(topic, partition), topic_id, 5, partition_epoch, (1, 2), 2)


class Told(NamedTuple):
    """What the controller says of one partition."""

    partition: int
    error: int = 0
    isr: tuple[int, ...] = (1, 2)
    recovery: int = 0


def response(*topics: tuple[str, bytes, list[Told]], error: int = 0) -> m.AlterPartitionResponse:
    said = m.AlterPartitionResponse
    return said(
        error_code=error,
        topics=[
            said.TopicData(
                topic_name=name,
                topic_id=topic_id,
                partitions=[
                    said.PartitionData(
                        partition_index=each.partition,
                        error_code=each.error,
                        leader_id=1,
                        leader_epoch=5,
                        isr=list(each.isr),
                        leader_recovery_state=each.recovery,
                        partition_epoch=8,
                    )
                    for each in partitions
                ],
            )
            for name, topic_id, partitions in topics
        ],
    )


def waiting(*changes: IsrChange) -> AlterPartitions:
    changes_under_way = AlterPartitions(1)
    for each in changes:
        changes_under_way.submit(each)
    return changes_under_way


def sent(changes: AlterPartitions, now_ms: int = NOW) -> m.AlterPartitionRequest:
    request = changes.request(42, now_ms)
    assert request is not None
    return request


def partitions(request: m.AlterPartitionRequest) -> set[tuple[str, int]]:
    return {(topic.topic_name, each.partition_index) for topic in request.topics for each in topic.partitions}


def test_all_that_waits_goes_in_one_request() -> None:
    changes = waiting(change("orders", 0), change("events", 1, EVENTS), change("orders", 2))
    request = sent(changes)
    assert (request.broker_id, request.broker_epoch) == (1, 42)
    assert [(t.topic_name, t.topic_id, len(t.partitions)) for t in request.topics] == [
        ("orders", ORDERS, 2),
        ("events", EVENTS, 1),
    ]
    first = request.topics[0].partitions[0]
    assert (first.leader_epoch, first.partition_epoch, first.leader_recovery_state) == (5, 7, 0)
    assert [(each.broker_id, each.broker_epoch) for each in first.new_isr_with_epochs] == [(1, -1), (2, -1)]


def test_one_request_is_under_way_and_the_next_takes_what_came_meanwhile() -> None:
    changes = waiting(change("orders", 0))
    sent(changes)
    changes.submit(change("orders", 1))
    assert changes.request(42, NOW) is None and changes.due_ms() is None
    answers = changes.answered(response(("", ORDERS, [Told(0)])), NOW)
    assert answers == [(change("orders", 0), IsrAnswer(0, 5, 8, (1, 2)))]
    assert partitions(sent(changes)) == {("orders", 1)}
    assert changes.answered(response(("", ORDERS, [Told(1)])), NOW)
    assert changes.request(42, NOW) is None, "nothing waits"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        response(error=int(ErrorCode.STALE_BROKER_EPOCH)),
        response(error=int(ErrorCode.NOT_CONTROLLER)),
        response(error=int(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)),
    ],
    ids=["none", "stale", "not-controller", "not-authorized"],
)
def test_after_an_error_of_the_whole_everything_is_asked_again_a_little_later(
    answer: m.AlterPartitionResponse | None,
) -> None:
    changes = waiting(change("orders", 0), change("orders", 1))
    sent(changes)
    assert changes.answered(answer, NOW) == []
    assert changes.request(43, NOW) is None and changes.due_ms() == NOW + RETRY_MS
    again = sent(changes, NOW + RETRY_MS)
    assert partitions(again) == {("orders", 0), ("orders", 1)}


def test_what_the_answer_leaves_out_is_asked_again() -> None:
    changes = waiting(change("orders", 0), change("orders", 1), change("orders", 2))
    sent(changes)
    answers = changes.answered(response(("", ORDERS, [Told(1, error=int(ErrorCode.INVALID_UPDATE_VERSION))])), NOW)
    assert answers == [(change("orders", 1), IsrAnswer(int(ErrorCode.INVALID_UPDATE_VERSION)))]
    assert partitions(sent(changes, NOW + RETRY_MS)) == {("orders", 0), ("orders", 2)}


def test_a_change_that_is_retried_waits_and_one_that_came_meanwhile_has_precedence() -> None:
    changes = waiting(change("orders", 0))
    sent(changes)
    newer = change("orders", 0, partition_epoch=9)
    changes.drop(newer.partition)
    changes.submit(newer)
    assert changes.answered(None, NOW) == []
    changes.retry(change("orders", 1), NOW)
    request = sent(changes, NOW + RETRY_MS)
    epochs = {each.partition_index: each.partition_epoch for each in request.topics[0].partitions}
    assert epochs == {0: 9, 1: 7}


def test_the_answer_to_what_was_dropped_is_for_nobody() -> None:
    changes = waiting(change("orders", 0), change("orders", 1))
    sent(changes)
    changes.drop(TopicPartition("orders", 0))
    answers = changes.answered(response(("", ORDERS, [Told(0), Told(1)])), NOW)
    assert [each for each, _ in answers] == [change("orders", 1)]
    assert changes.due_ms() is None


def test_a_dropped_change_is_not_sent() -> None:
    changes = waiting(change("orders", 0))
    changes.drop(TopicPartition("orders", 0))
    assert changes.request(42, NOW) is None


def test_answers_without_topic_ids_are_by_name_and_unknown_topics_are_nobodys() -> None:
    changes = waiting(change("orders", 0, ZERO_TOPIC_ID))
    sent(changes)
    answers = changes.answered(response(("orders", ZERO_TOPIC_ID, [Told(0)]), ("", EVENTS, [Told(0)])), NOW)
    assert [each for each, _ in answers] == [change("orders", 0, ZERO_TOPIC_ID)]


def test_a_recovery_state_that_is_none_is_an_error() -> None:
    changes = waiting(change("orders", 0))
    sent(changes)
    answers = changes.answered(response(("", ORDERS, [Told(0, recovery=9)])), NOW)
    assert answers == [(change("orders", 0), IsrAnswer(int(ErrorCode.UNKNOWN_SERVER_ERROR)))]


@pytest.mark.parametrize("version", range(4))
def test_a_request_is_put_in_every_version(version: int) -> None:
    request = sent(waiting(change("orders", 3)))
    assert newest_version(request) == 3
    read = m.AlterPartitionRequest.decode(in_version(request, version).encode(version), version, 0)
    topic = read.topics[0]
    assert (topic.topic_id if version >= 2 else topic.topic_name) == (ORDERS if version >= 2 else "orders")
    each = topic.partitions[0]
    isr = [state.broker_id for state in each.new_isr_with_epochs] if version >= 3 else each.new_isr
    assert (each.partition_index, each.leader_epoch, each.partition_epoch, isr) == (3, 5, 7, [1, 2])


def test_topics_without_ids_go_by_names() -> None:
    request = sent(waiting(change("orders", 3), change("events", 0, ZERO_TOPIC_ID)))
    assert newest_version(request) == 1

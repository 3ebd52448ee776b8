"""LeaderAndIsr about a topic whose settings have to be read first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

from cluster.broker.apis import Apis, ReplyTo, Request
from cluster.broker.handlers.replication import HANDLERS
from cluster.broker.leadership import ReplicaDecision
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode
from pylog.types import TopicPartition

VERSION = 7
ID = b"t" * 16


class Played:
    """A broker whose tree answers at once, and whose `become` does what a test says."""

    def __init__(self, become: Callable[[Sequence[ReplicaDecision]], dict[TopicPartition, ErrorCode]]) -> None:
        self.broker_id, self.served = 1, {}
        self.known: set[str] = set()
        self.controller_epoch = 3
        self.leadership = SimpleNamespace(
            refuses=self.refuses, heed=lambda _, *told: self.refuses(*told), become=become
        )
        self.answers: list[bytes] = []
        engine = SimpleNamespace(answer=lambda conn, slot, data, *_: self.answers.append(data))
        self.apis = Apis(self, engine)  # type: ignore[arg-type]

    def joined(self) -> Played:
        return self

    def refuses(self, controller_epoch: int, broker_epoch: int) -> ErrorCode:
        return ErrorCode.STALE_CONTROLLER_EPOCH if controller_epoch < self.controller_epoch else ErrorCode.NONE

    def unknown_settings(self, topics: Sequence[str]) -> list[str]:
        return [topic for topic in topics if topic not in self.known]

    def read_settings(self, topics: Sequence[str], then: Callable[[], None]) -> None:
        self.known.update(topics)
        then()

    def ask(self) -> m.LeaderAndIsrResponse:
        part = m.LeaderAndIsrRequest.LeaderAndIsrPartitionState(
            partition_index=0, leader=1, leader_epoch=1, isr=[1], replicas=[1], partition_epoch=1
        )
        topic = m.LeaderAndIsrRequest.LeaderAndIsrTopicState(topic_name="orders", topic_id=ID, partition_states=[part])
        message = m.LeaderAndIsrRequest(controller_epoch=3, broker_epoch=-1, topic_states=[topic])
        to = ReplyTo(1, 0, 0, int(ApiKey.LEADER_AND_ISR), VERSION, 0)
        self.apis.serve(HANDLERS[ApiKey.LEADER_AND_ISR], Request(to, VERSION, None, 0, message))
        (answer,) = self.answers
        return m.LeaderAndIsrResponse.decode(answer, VERSION, 5)


def test_answered_when_the_settings_are_there() -> None:
    played = Played(lambda decisions: {each.partition: ErrorCode.NONE for each in decisions})
    answer = played.ask()
    assert (answer.error_code, [each.topic_id for each in answer.topics]) == (0, [ID])


def test_answered_also_when_it_fails_then() -> None:
    """Or the controller would wait for the end of its patience, and everything it has to tell us with it."""

    def become(_: Sequence[ReplicaDecision]) -> dict[TopicPartition, ErrorCode]:
        raise RuntimeError("of all things")

    played = Played(become)
    assert played.ask().error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    assert played.apis.failures == 1


def test_refused_when_another_controller_has_spoken_meanwhile() -> None:
    played = Played(lambda _: {})
    read = played.read_settings

    def slowly(topics: Sequence[str], then: Callable[[], None]) -> None:
        played.controller_epoch = 4
        read(topics, then)

    played.read_settings = slowly  # type: ignore[method-assign]
    assert played.ask().error_code == ErrorCode.STALE_CONTROLLER_EPOCH

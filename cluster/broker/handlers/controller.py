"""What is asked of the controller by brokers (AlterPartition, ControlledShutdown, AllocateProducerIds) and by clients
(ElectLeaders, and AlterPartitionReassignments and ListPartitionReassignments of a cluster).

What stays true: a request becomes one event of the controller's thread and is answered by what that says; a broker that
is not the controller says so.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.broker.apis import Handler, Held, Message, ReplyTo, Request
from cluster.controller import events
from cluster.controller.events import Event, LeadersElected, Outcome, PartitionResults, ReassignmentsListed
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING
from pylog.types import TopicPartition

if TYPE_CHECKING:
    from cluster.broker.broker import Broker


class Asked(NamedTuple):
    """A request that the controller has. `build`: the answer from what the controller says."""

    reply_to: ReplyTo
    build: Callable[..., Message | Held]

    def answered(self, broker: Broker, result: object) -> None:
        """Control thread."""
        broker.apis.ending(self.reply_to.conn, lambda: broker.apis.give(self.reply_to, self.build(result)))


def _post(broker: Broker, event: Event) -> None:
    broker.joined().controller.post(event)


def _words(error: ErrorCode, text: str | None) -> str | None:
    """The general ones where there are none of its own."""
    return None if error is ErrorCode.NONE else text or error.message


def _as_it_is(message: Message) -> Message:
    return message


# ------------------------------------------------------------------------------------------------ brokers


def _alter_partition(broker: Broker, request: Request) -> None:
    to = Asked(request.reply_to, _as_it_is)
    _post(broker, events.AlterPartitionReceived(to, request.api_version, request.message))


def _refuse_alter_partition(request: Request, code: int) -> m.AlterPartitionResponse:
    return m.AlterPartitionResponse(error_code=code)


def _controlled_shutdown(broker: Broker, request: Request) -> None:
    _post(broker, events.ControlledShutdownReceived(Asked(request.reply_to, _as_it_is), request.message))


def _refuse_controlled_shutdown(request: Request, code: int) -> m.ControlledShutdownResponse:
    return m.ControlledShutdownResponse(error_code=code)


def _allocate_producer_ids(broker: Broker, request: Request) -> None:
    _post(broker, events.AllocateProducerIdsReceived(Asked(request.reply_to, _as_it_is), request.message))


def _refuse_allocate_producer_ids(request: Request, code: int) -> m.AllocateProducerIdsResponse:
    return m.AllocateProducerIdsResponse(error_code=code, producer_id_start=-1, producer_id_len=0)


# ------------------------------------------------------------------------------------------------ elections


def _elect_leaders(broker: Broker, request: Request) -> None:
    message: m.ElectLeadersRequest = request.message
    partitions = None
    if message.topic_partitions is not None:
        partitions = [TopicPartition(t.topic, index) for t in message.topic_partitions for index in t.partitions]
    kind = message.election_type if request.api_version >= 1 else events.PREFERRED
    if kind not in (events.PREFERRED, events.UNCLEAN):
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)

    def build(elected: LeadersElected) -> Message | Held:
        return _elected(broker, message, elected, partitions is None)

    _post(broker, events.ElectLeadersReceived(Asked(request.reply_to, build), partitions, kind))


def _elected(
    broker: Broker, message: m.ElectLeadersRequest, elected: LeadersElected, asked_all: bool
) -> m.ElectLeadersResponse | Held:
    """Answered when the brokers know their leaders. Whoever asked for all is not told of those that needed none."""
    if elected.outcome.error is not ErrorCode.NONE:
        # Kafka says nothing to who asked for all, which a client would take for done.
        code = int(elected.outcome.error)
        return m.ElectLeadersResponse(error_code=code) if asked_all else _refused_elections(message, 0, code)
    outcomes = dict.fromkeys(elected.leaders, Outcome())
    for name, outcome in elected.failed.items():
        if not (asked_all and outcome.error is ErrorCode.ELECTION_NOT_NEEDED):
            outcomes[name] = outcome
    answer = m.ElectLeadersResponse(replica_election_results=_election_results(outcomes))
    if not elected.leaders or message.timeout_ms <= 0:
        return answer

    def missing() -> list[str]:
        return [str(name) for name, leader in elected.leaders.items() if _leader_of(broker, name) != leader]

    def late(names: list[str]) -> None:
        behind = Outcome(ErrorCode.REQUEST_TIMED_OUT, ErrorCode.REQUEST_TIMED_OUT.message)
        shown = {name: behind if str(name) in names else outcome for name, outcome in outcomes.items()}
        answer.replica_election_results = _election_results(shown)

    return Held(answer, missing, message.timeout_ms, late)


def _leader_of(broker: Broker, name: TopicPartition) -> int:
    known = broker.metadata.partition(*name)
    return -1 if known is None else known.leader


def _election_results(
    outcomes: dict[TopicPartition, Outcome],
) -> list[m.ElectLeadersResponse.ReplicaElectionResult]:
    entry = m.ElectLeadersResponse.PartitionResult
    by_topic: dict[str, list[m.ElectLeadersResponse.PartitionResult]] = {}
    for (topic, index), (error, text) in outcomes.items():
        result = entry(partition_id=index, error_code=int(error), error_message=_words(error, text))
        by_topic.setdefault(topic, []).append(result)
    topic_entry = m.ElectLeadersResponse.ReplicaElectionResult
    return [topic_entry(topic=topic, partition_result=results) for topic, results in by_topic.items()]


def _refuse_elect_leaders(request: Request, code: int) -> m.ElectLeadersResponse:
    return _refused_elections(request.message, code, code)


def _refused_elections(message: m.ElectLeadersRequest, code: int, code_of_each: int) -> m.ElectLeadersResponse:
    topic_entry = m.ElectLeadersResponse.ReplicaElectionResult
    entry = m.ElectLeadersResponse.PartitionResult
    results = [
        topic_entry(
            topic=topic.topic,
            partition_result=[
                entry(partition_id=each, error_code=code_of_each, error_message=None) for each in topic.partitions
            ],
        )
        for topic in message.topic_partitions or []
    ]
    return m.ElectLeadersResponse(error_code=code, replica_election_results=results)


# ------------------------------------------------------------------------------------------------ reassignments


def alter_reassignments(broker: Broker, request: Request) -> None:
    """AlterPartitionReassignments of a cluster."""
    message: m.AlterPartitionReassignmentsRequest = request.message
    targets: dict[TopicPartition, tuple[int, ...] | None] = {}
    for topic in message.topics:
        for part in topic.partitions:
            wanted = None if part.replicas is None else tuple(part.replicas)
            targets[TopicPartition(topic.name, part.partition_index)] = wanted

    def build(results: PartitionResults) -> m.AlterPartitionReassignmentsResponse:
        if results.outcome.error is not ErrorCode.NONE:
            code, text = results.outcome
            return m.AlterPartitionReassignmentsResponse(error_code=int(code), error_message=text or code.message)
        part_entry = m.AlterPartitionReassignmentsResponse.ReassignablePartitionResponse
        by_topic: dict[str, list[m.AlterPartitionReassignmentsResponse.ReassignablePartitionResponse]] = {}
        for (name, index), (error, text) in results.partitions.items():
            part = part_entry(partition_index=index, error_code=int(error), error_message=_words(error, text))
            by_topic.setdefault(name, []).append(part)
        topic_entry = m.AlterPartitionReassignmentsResponse.ReassignableTopicResponse
        return m.AlterPartitionReassignmentsResponse(
            responses=[topic_entry(name=name, partitions=parts) for name, parts in by_topic.items()],
            allow_replication_factor_change=message.allow_replication_factor_change,
        )

    _post(broker, events.ReassignReceived(Asked(request.reply_to, build), targets))


def list_reassignments(broker: Broker, request: Request) -> None:
    """ListPartitionReassignments of a cluster."""
    message: m.ListPartitionReassignmentsRequest = request.message
    partitions = None
    if message.topics is not None:
        partitions = [
            TopicPartition(topic.name, index) for topic in message.topics for index in topic.partition_indexes
        ]

    def build(listed: ReassignmentsListed) -> m.ListPartitionReassignmentsResponse:
        if listed.outcome.error is not ErrorCode.NONE:
            code, text = listed.outcome
            return m.ListPartitionReassignmentsResponse(error_code=int(code), error_message=text or code.message)
        part_entry = m.ListPartitionReassignmentsResponse.OngoingPartitionReassignment
        by_topic: dict[str, list[m.ListPartitionReassignmentsResponse.OngoingPartitionReassignment]] = {}
        for (name, index), assignment in listed.partitions.items():
            part = part_entry(
                partition_index=index,
                replicas=list(assignment.replicas),
                adding_replicas=list(assignment.adding),
                removing_replicas=list(assignment.removing),
            )
            by_topic.setdefault(name, []).append(part)
        topic_entry = m.ListPartitionReassignmentsResponse.OngoingTopicReassignment
        topics = [topic_entry(name=name, partitions=parts) for name, parts in by_topic.items()]
        return m.ListPartitionReassignmentsResponse(topics=topics)

    _post(broker, events.ListReassignmentsReceived(Asked(request.reply_to, build), partitions))


HANDLERS = {
    ApiKey.ALTER_PARTITION: Handler(m.AlterPartitionRequest.decode, _alter_partition, _refuse_alter_partition),
    ApiKey.CONTROLLED_SHUTDOWN: Handler(
        m.ControlledShutdownRequest.decode, _controlled_shutdown, _refuse_controlled_shutdown
    ),
    ApiKey.ALLOCATE_PRODUCER_IDS: Handler(
        m.AllocateProducerIdsRequest.decode, _allocate_producer_ids, _refuse_allocate_producer_ids
    ),
    ApiKey.ELECT_LEADERS: Handler(m.ElectLeadersRequest.decode, _elect_leaders, _refuse_elect_leaders, controller=True),
}

"""InitProducerId (KIP-98), and DescribeProducers (KIP-664)."""

from __future__ import annotations

from cluster.broker.apis import Handler, Request
from cluster.controller.topics import check_name
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode, KafkaError
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker


_OLD_ID_SINCE: Final = 3  # a producer tells the id and epoch that it had, both or none


def _init_producer_id(broker: Broker, request: Request) -> m.InitProducerIdResponse | None:
    """A new producer id with epoch 0; without a transactional id Kafka gives a new one whatever id the producer had.
    With one the transaction coordinator answers."""
    message: m.InitProducerIdRequest = request.message
    if request.api_version >= _OLD_ID_SINCE and (message.producer_id == -1) != (message.producer_epoch == -1):
        raise KafkaError(ErrorCode.INVALID_REQUEST)
    if message.transactional_id is not None:
        broker.coordinators.transactions.serve(request)
        return None
    return m.InitProducerIdResponse(producer_id=broker.producer_ids.next(), producer_epoch=0)


def _refuse_init(request: Request, code: int) -> m.InitProducerIdResponse:
    return m.InitProducerIdResponse(error_code=code, producer_id=-1, producer_epoch=-1)


def _describe_producers(broker: Broker, request: Request) -> m.DescribeProducersResponse:
    message: m.DescribeProducersRequest = request.message
    entry = m.DescribeProducersResponse.PartitionResponse
    topics = []
    for topic in message.topics:
        partitions = []
        refused = _refused(broker, topic.name)
        for index in topic.partition_indexes:
            if refused is not None:
                code = int(refused.code)
                partitions.append(entry(partition_index=index, error_code=code, error_message=refused.message))
                continue
            try:
                producers = broker.replicas.leader(topic.name, index, any_replica=True).log.producers()
            except KafkaError as error:
                partitions.append(entry(partition_index=index, error_code=int(error.code)))
                continue
            active = [
                m.DescribeProducersResponse.ProducerState(
                    producer_id=p.producer_id,
                    producer_epoch=p.producer_epoch,
                    last_sequence=p.last_sequence,
                    last_timestamp=p.last_timestamp,
                    coordinator_epoch=p.coordinator_epoch,
                    current_txn_start_offset=p.current_txn_first_offset,
                )
                for p in producers
            ]
            partitions.append(entry(partition_index=index, active_producers=active))
        topics.append(m.DescribeProducersResponse.TopicResponse(name=topic.name, partitions=partitions))
    return m.DescribeProducersResponse(topics=topics)


def _refused(broker: Broker, topic: str) -> KafkaError | None:
    """Why nothing of a topic can be described."""
    try:
        check_name(topic)
    except KafkaError as error:
        return error
    return None if topic in broker.metadata.topics else KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


def _refuse_describe(request: Request, code: int) -> m.DescribeProducersResponse:
    entry = m.DescribeProducersResponse.PartitionResponse
    return m.DescribeProducersResponse(
        topics=[
            m.DescribeProducersResponse.TopicResponse(
                name=t.name, partitions=[entry(partition_index=i, error_code=code) for i in t.partition_indexes]
            )
            for t in request.message.topics
        ]
    )


HANDLERS = {
    ApiKey.INIT_PRODUCER_ID: Handler(m.InitProducerIdRequest.decode, _init_producer_id, _refuse_init),
    ApiKey.DESCRIBE_PRODUCERS: Handler(m.DescribeProducersRequest.decode, _describe_producers, _refuse_describe),
}

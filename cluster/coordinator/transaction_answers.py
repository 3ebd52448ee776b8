"""The answers of the transaction coordinator, in the words of each version.

What stays true: a producer that does not know PRODUCER_FENCED (it came with the versions below) is told
INVALID_PRODUCER_EPOCH; nothing of a transaction is told beside an error.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.coordinator.context import RequestContext
from cluster.coordinator.transaction_records import NO_EPOCH, NO_PRODUCER_ID, TopicPartition, TransactionStored
from cluster.coordinator.transaction_state import name_of, named
from cluster.effects import Reply
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple

ADD_MANY_SINCE = 4

_FENCED_SINCE = {
    int(ApiKey.INIT_PRODUCER_ID): 4,
    int(ApiKey.ADD_PARTITIONS_TO_TXN): 2,
    int(ApiKey.ADD_OFFSETS_TO_TXN): 2,
    int(ApiKey.END_TXN): 2,
}


def _known(ctx: RequestContext, error: ErrorCode) -> ErrorCode:
    if error is ErrorCode.PRODUCER_FENCED and ctx.api_version < _FENCED_SINCE[ctx.api_key]:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    return error


def init_failed(ctx: RequestContext, error: ErrorCode) -> Reply:
    return Reply(
        ctx.reply_to,
        m.InitProducerIdResponse(error_code=_known(ctx, error), producer_id=NO_PRODUCER_ID, producer_epoch=NO_EPOCH),
    )


def inited(ctx: RequestContext, producer_id: int, epoch: int) -> Reply:
    return Reply(ctx.reply_to, m.InitProducerIdResponse(producer_id=producer_id, producer_epoch=epoch))


def offsets_added(ctx: RequestContext, error: ErrorCode) -> Reply:
    return Reply(ctx.reply_to, m.AddOffsetsToTxnResponse(error_code=_known(ctx, error)))


def end_failed(ctx: RequestContext, error: ErrorCode) -> Reply:
    return ended(ctx, NO_PRODUCER_ID, NO_EPOCH, error)


def ended(ctx: RequestContext, producer_id: int, epoch: int, error: ErrorCode = ErrorCode.NONE) -> Reply:
    return Reply(
        ctx.reply_to,
        m.EndTxnResponse(error_code=_known(ctx, error), producer_id=producer_id, producer_epoch=epoch),
    )


class Adding(NamedTuple):
    """What a transaction wants. `partitions`: each once, in the order of the request."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    verify_only: bool
    partitions: tuple[TopicPartition, ...]


def adding(ctx: RequestContext, request: m.AddPartitionsToTxnRequest) -> Adding:
    """What the only transaction of a request wants; up to version 3 the request itself says it."""
    if ctx.api_version >= ADD_MANY_SINCE:
        (each,) = request.transactions
        partitions = _partitions_of(each.topics)
        return Adding(each.transactional_id, each.producer_id, each.producer_epoch, each.verify_only, partitions)
    return Adding(
        request.v3_and_below_transactional_id,
        request.v3_and_below_producer_id,
        request.v3_and_below_producer_epoch,
        False,
        _partitions_of(request.v3_and_below_topics),
    )


def _partitions_of(topics: list[m.AddPartitionsToTxnRequest.AddPartitionsToTxnTopic]) -> tuple[TopicPartition, ...]:
    return tuple(dict.fromkeys([(topic.name, partition) for topic in topics for partition in topic.partitions]))


def added(ctx: RequestContext, wanted: Adding, error: ErrorCode) -> Reply:
    """The same for every partition."""
    return added_each(ctx, wanted, dict.fromkeys(wanted.partitions, _known(ctx, error)))


def added_each(ctx: RequestContext, wanted: Adding, errors: Mapping[TopicPartition, ErrorCode]) -> Reply:
    topics: dict[str, m.AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult] = {}
    for (topic, partition), error in errors.items():
        result = topics.setdefault(topic, m.AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult(name=topic))
        result.results_by_partition.append(
            m.AddPartitionsToTxnResponse.AddPartitionsToTxnPartitionResult(
                partition_index=partition, partition_error_code=error
            )
        )
    if ctx.api_version < ADD_MANY_SINCE:
        return Reply(ctx.reply_to, m.AddPartitionsToTxnResponse(results_by_topic_v3_and_below=list(topics.values())))
    result_of_one = m.AddPartitionsToTxnResponse.AddPartitionsToTxnResult(
        transactional_id=wanted.transactional_id, topic_results=list(topics.values())
    )
    return Reply(ctx.reply_to, m.AddPartitionsToTxnResponse(results_by_transaction=[result_of_one]))


def described_failed(transactional_id: str, error: ErrorCode) -> m.DescribeTransactionsResponse.TransactionState:
    """An id that is empty is wrong wherever one asks."""
    return m.DescribeTransactionsResponse.TransactionState(
        transactional_id=transactional_id, error_code=error if transactional_id else ErrorCode.INVALID_REQUEST
    )


def all_listed(
    request: m.ListTransactionsRequest, parts: list[m.ListTransactionsResponse]
) -> m.ListTransactionsResponse:
    """The lists of all shards as one. Of a broker that is still loading a shard nothing is told."""
    for part in parts:
        if part.error_code:
            return m.ListTransactionsResponse(error_code=part.error_code)
    return m.ListTransactionsResponse(
        unknown_state_filters=[name for name in dict.fromkeys(request.state_filters) if named(name) is None],
        transaction_states=[state for part in parts for state in part.transaction_states],
    )


def described(stored: TransactionStored) -> m.DescribeTransactionsResponse.TransactionState:
    topics: dict[str, list[int]] = {}
    for topic, partition in stored.partitions:
        topics.setdefault(topic, []).append(partition)
    return m.DescribeTransactionsResponse.TransactionState(
        transactional_id=stored.transactional_id,
        transaction_state=name_of(stored.state),
        transaction_timeout_ms=stored.timeout_ms,
        transaction_start_time_ms=stored.start_ms,
        producer_id=stored.producer_id,
        producer_epoch=stored.epoch,
        topics=[
            m.DescribeTransactionsResponse.TopicData(topic=topic, partitions=partitions)
            for topic, partitions in topics.items()
        ],
    )


def write_error(error: ErrorCode) -> ErrorCode:
    """What a failed append means to the one who waits for it."""
    return _WRITE_ERRORS.get(error, error)


_WRITE_ERRORS = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
}

"""The transaction coordinator as the runtime sees it: which shard a request goes to, how one that asks about many
transactional ids is split and its answers put together, and what is said when no shard can be asked.

What stays true: the order of the transactional ids asked about is the order of those answered. An InitProducerId
without a transactional id belongs to no shard and must not come here.
"""

from __future__ import annotations

from cluster.coordinator import transaction_answers as answers
from cluster.coordinator.context import RequestContext, Topics
from cluster.coordinator.transaction_config import TransactionConfig
from cluster.coordinator.transaction_coordinator import TransactionCoordinator
from cluster.coordinator.transaction_records import NO_EPOCH, NO_PRODUCER_ID, TRANSACTION_TOPIC, Fact, decode, encode
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from pylog.typed import Final, cast


class TransactionKind:
    topic: Final = TRANSACTION_TOPIC
    apis: Final = frozenset(
        {
            ApiKey.INIT_PRODUCER_ID,
            ApiKey.ADD_PARTITIONS_TO_TXN,
            ApiKey.ADD_OFFSETS_TO_TXN,
            ApiKey.END_TXN,
            ApiKey.DESCRIBE_TRANSACTIONS,
            ApiKey.LIST_TRANSACTIONS,
        }
    )

    def __init__(self, config: TransactionConfig, topics: Topics) -> None:
        self._config = config
        self._topics = topics
        self.write_timeout_ms = config.write_timeout_ms

    def partition_count(self) -> int:
        """As the topic has it; as it will be created, before it is."""
        return self._topics.partition_count(self.topic) or self._config.transaction_topic_partitions

    def open(self, partition: int) -> TransactionCoordinator:
        return TransactionCoordinator(self._config, self._topics)

    def check(self, ctx: RequestContext, message: Message) -> ErrorCode:
        """What is wrong with a request whoever may be asked."""
        if isinstance(message, m.InitProducerIdRequest):
            return self._check_init(message)
        if isinstance(message, (m.AddOffsetsToTxnRequest, m.EndTxnRequest)) and not message.transactional_id:
            return ErrorCode.INVALID_REQUEST
        return ErrorCode.NONE

    def _check_init(self, message: m.InitProducerIdRequest) -> ErrorCode:
        assert message.transactional_id is not None, "an InitProducerId that is not for a transaction coordinator"
        if (message.producer_id == NO_PRODUCER_ID) != (message.producer_epoch == NO_EPOCH):
            return ErrorCode.INVALID_REQUEST
        if not message.transactional_id:
            return ErrorCode.INVALID_REQUEST
        if not 0 < message.transaction_timeout_ms <= self._config.max_timeout_ms:
            return ErrorCode.INVALID_TRANSACTION_TIMEOUT
        return ErrorCode.NONE

    def key(self, ctx: RequestContext, message: Message) -> str | None:
        if isinstance(message, m.AddPartitionsToTxnRequest):
            return message.v3_and_below_transactional_id if ctx.api_version < answers.ADD_MANY_SINCE else None
        if isinstance(message, (m.InitProducerIdRequest, m.AddOffsetsToTxnRequest, m.EndTxnRequest)):
            return message.transactional_id
        return None

    def split(self, ctx: RequestContext, message: Message) -> list[tuple[str, Message]] | None:
        if isinstance(message, m.AddPartitionsToTxnRequest):
            return [
                (each.transactional_id, m.AddPartitionsToTxnRequest(transactions=[each]))
                for each in message.transactions
            ]
        if isinstance(message, m.DescribeTransactionsRequest):
            return [
                (each, m.DescribeTransactionsRequest(transactional_ids=[each])) for each in message.transactional_ids
            ]
        assert isinstance(message, m.ListTransactionsRequest)
        return None

    def merge(self, ctx: RequestContext, message: Message, parts: list[object]) -> object:
        if isinstance(message, m.AddPartitionsToTxnRequest):
            added = cast("list[m.AddPartitionsToTxnResponse]", parts)
            return m.AddPartitionsToTxnResponse(
                results_by_transaction=[result for part in added for result in part.results_by_transaction]
            )
        if isinstance(message, m.DescribeTransactionsRequest):
            described = cast("list[m.DescribeTransactionsResponse]", parts)
            return m.DescribeTransactionsResponse(
                transaction_states=[state for part in described for state in part.transaction_states]
            )
        assert isinstance(message, m.ListTransactionsRequest)
        return answers.all_listed(message, cast("list[m.ListTransactionsResponse]", parts))

    @staticmethod
    def refuse(ctx: RequestContext, message: Message, error: ErrorCode) -> object:
        if isinstance(message, m.InitProducerIdRequest):
            return answers.init_failed(ctx, error).message
        if isinstance(message, m.AddPartitionsToTxnRequest):
            return answers.added(ctx, answers.adding(ctx, message), error).message
        if isinstance(message, m.AddOffsetsToTxnRequest):
            return answers.offsets_added(ctx, error).message
        if isinstance(message, m.EndTxnRequest):
            return answers.end_failed(ctx, error).message
        if isinstance(message, m.DescribeTransactionsRequest):
            return m.DescribeTransactionsResponse(
                transaction_states=[answers.described_failed(each, error) for each in message.transactional_ids]
            )
        assert isinstance(message, m.ListTransactionsRequest)
        return m.ListTransactionsResponse(error_code=error)

    def encode(self, fact: object) -> tuple[bytes, bytes | None]:
        return encode(cast("Fact", fact), flexible=self._config.transaction_version > 0)

    def decode(self, key: bytes, value: bytes | None) -> Fact | None:
        return decode(key, value)

"""The transaction coordinator's APIs (KIP-98, KIP-664, KIP-890), and markers that coordinators have written here."""

from __future__ import annotations

from functools import partial

from cluster.broker.apis import Handler, Message, Request
from cluster.broker.marker_log import NewMarker
from cluster.broker.transactions import context
from cluster.coordinator.transaction_kind import TransactionKind
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.broker.broker import Broker


def _serve(broker: Broker, request: Request) -> None:
    broker.coordinators.transactions.serve(request)


def _refuse(request: Request, code: int) -> Message:
    return TransactionKind.refuse(context(request), request.message, ErrorCode(code))


Errors = dict[int, dict[tuple[str, int], int]]


class _Answer:
    """The answer to WriteTxnMarkers, given when every marker is committed or refused. `errors`: by producer id, as the
    asker reads them."""

    def __init__(self, broker: Broker, request: Request) -> None:
        self._broker = broker
        self._reply_to = request.reply_to
        self._errors: Errors = {}
        self._missing = 1

    def await_one(self, producer_id: int, topic: str, index: int) -> None:
        self._errors.setdefault(producer_id, {})[topic, index] = ErrorCode.NONE
        self._missing += 1

    def heard(self, producer_id: int, topic: str, index: int, error: ErrorCode) -> None:
        self._errors[producer_id][topic, index] = error
        self.done()

    def done(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._broker.apis.reply(self._reply_to, _markers_answer(self._errors))


def _write_markers(broker: Broker, request: Request) -> None:
    message: m.WriteTxnMarkersRequest = request.message
    answer = _Answer(broker, request)
    for each in message.markers:
        marker = NewMarker(each.producer_id, each.producer_epoch, each.coordinator_epoch, each.transaction_result)
        for topic in each.topics:
            for index in topic.partition_indexes:
                answer.await_one(each.producer_id, topic.name, index)
                heard = partial(answer.heard, each.producer_id, topic.name, index)
                broker.coordinators.markers.write(topic.name, index, marker, heard)
    answer.done()


def _markers_answer(errors: Errors) -> m.WriteTxnMarkersResponse:
    markers = []
    for producer_id, partitions in errors.items():
        topics: dict[str, m.WriteTxnMarkersResponse.WritableTxnMarkerTopicResult] = {}
        for (topic, index), error in partitions.items():
            entry = topics.setdefault(topic, m.WriteTxnMarkersResponse.WritableTxnMarkerTopicResult(name=topic))
            entry.partitions.append(
                m.WriteTxnMarkersResponse.WritableTxnMarkerPartitionResult(partition_index=index, error_code=error)
            )
        markers.append(
            m.WriteTxnMarkersResponse.WritableTxnMarkerResult(producer_id=producer_id, topics=list(topics.values()))
        )
    return m.WriteTxnMarkersResponse(markers=markers)


def _refuse_markers(request: Request, code: int) -> m.WriteTxnMarkersResponse:
    message: m.WriteTxnMarkersRequest = request.message
    errors: Errors = {}
    for each in message.markers:
        partitions = [(topic.name, index) for topic in each.topics for index in topic.partition_indexes]
        errors.setdefault(each.producer_id, {}).update(dict.fromkeys(partitions, code))
    return _markers_answer(errors)


HANDLERS = {
    ApiKey.ADD_PARTITIONS_TO_TXN: Handler(m.AddPartitionsToTxnRequest.decode, _serve, _refuse),
    ApiKey.ADD_OFFSETS_TO_TXN: Handler(m.AddOffsetsToTxnRequest.decode, _serve, _refuse),
    ApiKey.END_TXN: Handler(m.EndTxnRequest.decode, _serve, _refuse),
    ApiKey.WRITE_TXN_MARKERS: Handler(m.WriteTxnMarkersRequest.decode, _write_markers, _refuse_markers),
    ApiKey.DESCRIBE_TRANSACTIONS: Handler(m.DescribeTransactionsRequest.decode, _serve, _refuse),
    ApiKey.LIST_TRANSACTIONS: Handler(m.ListTransactionsRequest.decode, _serve, _refuse),
}

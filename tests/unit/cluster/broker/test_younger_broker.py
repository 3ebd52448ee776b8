"""Brokers that know more than we do: an error code that we have no name for is an error all the same, and nobody is
left waiting because of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from cluster.broker.transaction_markers import RetryKey, TransactionMarkers, _Ending, _Sent
from cluster.broker.transaction_verifier import Question, TransactionVerifier
from cluster.coordinator.questions import WriteMarkers
from cluster.protocol import messages as m
from pylog.errors import ErrorCode

YOUNG = 30_000
PARTITION = ("t", 0)


class Peer:
    def __init__(self, answer: object) -> None:
        self._answer = answer

    def request(self, *_: object, **__: object) -> Any:
        return self._answer


def test_a_transaction_that_is_asked_about() -> None:
    told: list[dict[tuple[str, int], ErrorCode]] = []
    result = m.AddPartitionsToTxnResponse.AddPartitionsToTxnPartitionResult(
        partition_index=0, partition_error_code=YOUNG
    )
    topic = m.AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult(name="t", results_by_partition=[result])
    answer = m.AddPartitionsToTxnResponse(
        results_by_transaction=[
            m.AddPartitionsToTxnResponse.AddPartitionsToTxnResult(transactional_id="id", topic_results=[topic])
        ]
    )
    verifier = TransactionVerifier(None, None)  # type: ignore[arg-type]
    for said in (answer, m.AddPartitionsToTxnResponse(error_code=YOUNG)):
        question = Question("id", 1, 0, (PARTITION,), False, True, told.append)
        verifier._exchange(Peer(said), [question])()  # type: ignore[arg-type]
    assert told == [{PARTITION: ErrorCode.UNKNOWN_SERVER_ERROR}] * 2


def test_a_marker_is_tried_again() -> None:
    timers: list[object] = []
    broker = SimpleNamespace(
        broker_id=1,
        now_ms=lambda: 0,
        loop=SimpleNamespace(timers=SimpleNamespace(set=lambda key, _: timers.append(key))),
    )
    markers = TransactionMarkers(broker, None, lambda *_: None)  # type: ignore[arg-type]
    ending = markers._endings["key"] = _Ending("key", WriteMarkers("id", 1, 0, 0, True, (PARTITION,)))
    said = m.WriteTxnMarkersResponse.WritableTxnMarkerPartitionResult(partition_index=0, error_code=YOUNG)
    topic = m.WriteTxnMarkersResponse.WritableTxnMarkerTopicResult(name="t", partitions=[said])
    result = m.WriteTxnMarkersResponse.WritableTxnMarkerResult(producer_id=1, topics=[topic])
    sent = _Sent(ending, (PARTITION,))
    markers._exchange(Peer(m.WriteTxnMarkersResponse(markers=[result])), [sent])()  # type: ignore[arg-type]
    assert list(ending.again) == [PARTITION]
    assert timers == [RetryKey()]

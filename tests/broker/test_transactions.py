"""Transactions on the wire: who may write within them, what their markers look like, who is told what.

The same tests run against Apache Kafka with PYLOG_TEST_BROKER=kafka39 or kafka4.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from pylog.records import batches as read_batches
from tests.broker.batches import batch
from tests.broker.kafkas import settled
from tests.broker.raw import Raw
from tests.support.brokers import Broker, chosen_kind, start_broker, unavailable

TOPIC = "txn"
PARTITIONS = 3
TRANSACTIONAL = 0x10
TRANSACTIONAL_CONTROL = 0x30
NONE = ErrorCode.NONE
_numbers = itertools.count()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    why = unavailable()
    if why is not None:
        pytest.skip(why)
    with start_broker(tmp_path_factory.mktemp("transactions")) as started:
        raw = Raw(started.port)
        topic = m.CreateTopicsRequest.CreatableTopic(name=TOPIC, num_partitions=PARTITIONS, replication_factor=1)
        assert raw.ask(m.CreateTopicsRequest(topics=[topic], timeout_ms=15_000), 5).topics[0].error_code == NONE
        for kind, key in ((0, "g"), (1, "t")):
            settled(
                lambda kind=kind, key=key: raw.ask(m.FindCoordinatorRequest(key_type=kind, key=key), 3).error_code,  # type: ignore[misc]
                lambda code: code == NONE,
            )
        raw.close()
        yield started


@pytest.fixture
def raw(broker: Broker) -> Iterator[Raw]:
    connection = Raw(broker.port)
    yield connection
    connection.close()


class Producer:
    """A transactional id of its own, and requests of it."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.name = f"t{next(_numbers)}"
        self.sequences = [0] * PARTITIONS
        self.init()

    def init(self) -> None:
        request = m.InitProducerIdRequest(
            transactional_id=self.name, transaction_timeout_ms=60_000, producer_id=-1, producer_epoch=-1
        )
        again = (ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR)
        answer = until(lambda: self.raw.ask(request, 4), lambda found: found.error_code not in again)
        assert answer.error_code == NONE
        self.id, self.epoch = answer.producer_id, answer.producer_epoch

    def add(self, *partitions: int, topic: str = TOPIC, version: int = 3) -> dict[tuple[str, int], int]:
        wanted = m.AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=topic, partitions=list(partitions))
        request = m.AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.name,
            v3_and_below_producer_id=self.id,
            v3_and_below_producer_epoch=self.epoch,
            v3_and_below_topics=[wanted],
        )
        answer = until(
            lambda: self.raw.ask(request, version).results_by_topic_v3_and_below,
            lambda found: found[0].results_by_partition[0].partition_error_code != ErrorCode.CONCURRENT_TRANSACTIONS,
        )
        return {
            (each.name, entry.partition_index): entry.partition_error_code
            for each in answer
            for entry in each.results_by_partition
        }

    def produce(self, partition: int, version: int = 9, **changes: Any) -> int:
        name, epoch = changes.get("name", self.name), changes.get("epoch", self.epoch)
        sequence = self.sequences[partition]
        records = batch(attributes=TRANSACTIONAL, producer=(self.id, epoch, sequence))
        data = m.ProduceRequest.PartitionProduceData(index=partition, records=records)
        topic = m.ProduceRequest.TopicProduceData(name=TOPIC, partition_data=[data])
        request = m.ProduceRequest(transactional_id=name, acks=-1, timeout_ms=5000, topic_data=[topic])
        (answered,) = until(
            lambda: self.raw.ask(request, version).responses[0].partition_responses,
            lambda found: found[0].error_code not in (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.CONCURRENT_TRANSACTIONS),
        )
        if answered.error_code == NONE:
            self.sequences[partition] += 1
        else:
            assert answered.base_offset == -1
        return int(answered.error_code)

    def end(self, commit: bool, version: int = 3) -> Any:
        request = m.EndTxnRequest(
            transactional_id=self.name, producer_id=self.id, producer_epoch=self.epoch, committed=commit
        )
        answer = self.raw.ask(request, version)
        until(lambda: self.state(), lambda state: not state.startswith("Prepare"))
        return answer

    def state(self) -> str:
        (found,) = self.raw.ask(m.DescribeTransactionsRequest(transactional_ids=[self.name]), 0).transaction_states
        return str(found.transaction_state)


def until(ask: Any, ends: Any) -> Any:
    """Ask until the answer is one of those that stay."""
    for _ in range(3000):
        answer = ask()
        if ends(answer):
            break
    return answer


def end_offset(raw: Raw, partition: int, isolation: int) -> int:
    asked = m.ListOffsetsRequest.ListOffsetsPartition(partition_index=partition, timestamp=-1)
    topic = m.ListOffsetsRequest.ListOffsetsTopic(name=TOPIC, partitions=[asked])
    answer = raw.ask(m.ListOffsetsRequest(replica_id=-1, isolation_level=isolation, topics=[topic]), 5)
    return int(answer.topics[0].partitions[0].offset)


def fetch(raw: Raw, partition: int, offset: int, isolation: int) -> Any:
    part = m.FetchRequest.FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20)
    topic = m.FetchRequest.FetchTopic(topic=TOPIC, partitions=[part])
    request = m.FetchRequest(max_wait_ms=0, max_bytes=1 << 20, isolation_level=isolation, topics=[topic])
    return raw.ask(request, 11).responses[0].partitions[0]


def write_markers(raw: Raw, producer_id: int, epoch: int, coordinator_epoch: int, *partitions: int) -> list[int]:
    request = m.WriteTxnMarkersRequest
    topic = request.WritableTxnMarkerTopic(name=TOPIC, partition_indexes=list(partitions))
    marker = request.WritableTxnMarker(
        producer_id=producer_id,
        producer_epoch=epoch,
        transaction_result=False,
        coordinator_epoch=coordinator_epoch,
        topics=[topic],
    )
    (answer,) = raw.ask(request(markers=[marker]), 1).markers
    assert answer.producer_id == producer_id
    found = {each.partition_index: each.error_code for each in answer.topics[0].partitions}
    return [found[each] for each in partitions]  # Kafka's are in no order


# ------------------------------------------------------------------------------------------------ who may write


@pytest.mark.parametrize("version", [3, 7, 9, 11])
def test_only_what_was_added(raw: Raw, version: int) -> None:
    producer = Producer(raw)
    not_added = ErrorCode.TRANSACTION_ABORTABLE if version >= 11 else ErrorCode.INVALID_TXN_STATE
    assert producer.produce(0, version) == not_added
    assert producer.add(0) == {(TOPIC, 0): NONE}
    assert producer.produce(0, version) == NONE
    assert producer.produce(0, version) == NONE
    assert producer.produce(1, version) == not_added
    assert producer.end(commit=True).error_code == NONE
    assert producer.state() == "CompleteCommit"
    assert producer.produce(0, version) == not_added


def test_whose_transaction(raw: Raw) -> None:
    producer = Producer(raw)
    assert producer.add(0) == {(TOPIC, 0): NONE}
    assert producer.produce(0, name="nobody") == ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert producer.produce(0, name=None) == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert producer.produce(0, epoch=producer.epoch + 1) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert producer.produce(0) == NONE
    stale = producer.epoch
    producer.init()  # aborts it
    assert producer.epoch > stale
    assert producer.produce(0, epoch=stale) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert producer.state() == "Empty"


def test_partitions_that_are_not_there(raw: Raw) -> None:
    producer = Producer(raw)
    assert producer.add(0, PARTITIONS) == {
        (TOPIC, 0): ErrorCode.OPERATION_NOT_ATTEMPTED,
        (TOPIC, PARTITIONS): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert producer.add(0, topic="nothing") == {("nothing", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
    assert producer.state() == "Empty"


# ------------------------------------------------------------------------------------------------ what readers see


def test_what_is_stable(raw: Raw) -> None:
    start = end_offset(raw, 2, 0)
    aborting, committing = Producer(raw), Producer(raw)
    aborting.add(2)
    committing.add(2)
    assert aborting.produce(2) == committing.produce(2) == aborting.produce(2) == NONE
    assert (end_offset(raw, 2, 0), end_offset(raw, 2, 1)) == (start + 3, start)
    committing.end(commit=True)
    assert (end_offset(raw, 2, 0), end_offset(raw, 2, 1)) == (start + 4, start)
    aborting.end(commit=False)
    assert (end_offset(raw, 2, 0), end_offset(raw, 2, 1)) == (start + 5, start + 5)
    seen = fetch(raw, 2, start, 1)
    assert seen.last_stable_offset == start + 5
    assert [(each.producer_id, each.first_offset) for each in seen.aborted_transactions] == [(aborting.id, start)]
    assert fetch(raw, 2, start, 0).aborted_transactions is None


@pytest.mark.parametrize("commit", [True, False])
def test_markers_to_the_byte(raw: Raw, commit: bool) -> None:
    producer = Producer(raw)
    producer.add(1)
    producer.produce(1)
    at = end_offset(raw, 1, 0)
    producer.end(commit=commit)
    found = list(read_batches(fetch(raw, 1, at, 0).records))
    (marker,) = found[-1:]
    header = marker.header
    assert (header.base_offset, header.last_offset_delta, header.size_bytes) == (at, 0, 78)
    assert header.attributes == TRANSACTIONAL_CONTROL
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (producer.id, producer.epoch, -1)
    (record,) = marker.records()
    assert record.key == (b"\0\0\0\1" if commit else b"\0\0\0\0")
    assert record.value is not None
    assert (record.value[:2], len(record.value)) == (b"\0\0", 6)


def test_markers_of_others(raw: Raw) -> None:
    nobody = 1 << 40
    assert write_markers(raw, nobody, 5, 3, 0, PARTITIONS) == [NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    assert write_markers(raw, nobody, 4, 3, 0) == [ErrorCode.INVALID_PRODUCER_EPOCH]
    assert write_markers(raw, nobody, 5, 2, 0) == [ErrorCode.TRANSACTION_COORDINATOR_FENCED]
    assert write_markers(raw, nobody, 5, 4, 0) == [NONE]


# ------------------------------------------------------------------------------------------------ offsets


def commit_offsets(producer: Producer, group: str, version: int, *, name: str = TOPIC, index: int = 0) -> int:
    request = m.TxnOffsetCommitRequest
    entry = request.TxnOffsetCommitRequestPartition
    partition = entry(partition_index=index, committed_offset=7, committed_metadata="")
    topic = request.TxnOffsetCommitRequestTopic(name=name, partitions=[partition])
    asked = request(
        transactional_id=producer.name,
        group_id=group,
        producer_id=producer.id,
        producer_epoch=producer.epoch,
        topics=[topic],
    )
    answer = until(
        lambda: producer.raw.ask(asked, version).topics[0].partitions[0].error_code,
        lambda code: (
            code
            not in (
                ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
                ErrorCode.CONCURRENT_TRANSACTIONS,
                ErrorCode.NOT_COORDINATOR,
                ErrorCode.COORDINATOR_NOT_AVAILABLE,
            )
        ),
    )
    return int(answer)


def committed(raw: Raw, group: str) -> int:
    asked = m.OffsetFetchRequest.OffsetFetchRequestTopics(name=TOPIC, partition_indexes=[0])
    groups = [m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id=group, topics=[asked])]
    answer = until(
        lambda: raw.ask(m.OffsetFetchRequest(groups=groups, require_stable=True), 8).groups[0].topics[0].partitions[0],
        lambda found: found.error_code != ErrorCode.UNSTABLE_OFFSET_COMMIT,
    )
    return int(answer.committed_offset)


@pytest.mark.parametrize(("commit", "offset"), [(True, 7), (False, -1)])
def test_offsets_within_a_transaction(raw: Raw, commit: bool, offset: int) -> None:
    producer, group = Producer(raw), f"g-{commit}"
    assert commit_offsets(producer, group, 3) == ErrorCode.INVALID_TXN_STATE
    assert commit_offsets(producer, group, 4) == ErrorCode.TRANSACTION_ABORTABLE
    added = m.AddOffsetsToTxnRequest(
        transactional_id=producer.name, producer_id=producer.id, producer_epoch=producer.epoch, group_id=group
    )
    assert raw.ask(added, 3).error_code == NONE
    assert commit_offsets(producer, group, 3) == NONE
    assert commit_offsets(producer, group, 4) == NONE
    producer.end(commit=commit)
    assert committed(raw, group) == offset
    assert commit_offsets(producer, group, 3) == ErrorCode.INVALID_TXN_STATE


# ------------------------------------------------------------------------------------------------ the second version


@pytest.mark.skipif(chosen_kind() == "kafka39", reason="3.9 has no second version of transactions")
def test_partitions_are_added_by_their_leaders(raw: Raw) -> None:
    producer = Producer(raw)
    for commit in (True, False):
        first_epoch = producer.epoch
        assert producer.produce(0, 12) == NONE
        assert producer.produce(1, 12) == NONE
        assert commit_offsets(producer, "g2", 5) == NONE
        assert producer.state() == "Ongoing"
        ended = producer.end(commit, version=5)
        assert (ended.error_code, ended.producer_id, ended.producer_epoch) == (NONE, producer.id, first_epoch + 1)
        assert producer.produce(0, 12) == ErrorCode.INVALID_PRODUCER_EPOCH  # of the transaction that is over
        producer.epoch = ended.producer_epoch
        producer.sequences = [0] * PARTITIONS
    assert committed(raw, "g2") == 7


@pytest.mark.skipif(chosen_kind() == "kafka39", reason="3.9 has no second version of transactions")
def test_offsets_of_what_is_not_there_begin_no_transaction(raw: Raw) -> None:
    producer = Producer(raw)
    for where in ({"name": "nope"}, {"index": PARTITIONS}, {"index": -1}):
        assert commit_offsets(producer, "g3", 5, **where) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION  # type: ignore[arg-type]
    assert producer.state() == "Empty"


def test_the_feature(raw: Raw) -> None:
    answer = raw.ask(m.ApiVersionsRequest(client_software_name="t", client_software_version="1"), 4)
    finalized = {each.name: (each.min_version_level, each.max_version_level) for each in answer.finalized_features}
    supported = {each.name: (each.min_version, each.max_version) for each in answer.supported_features}
    expected = (None, None) if chosen_kind() == "kafka39" else ((2, 2), (0, 2))
    assert (finalized.get("transaction.version"), supported.get("transaction.version")) == expected

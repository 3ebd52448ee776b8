"""The producer against brokers that fail: nothing lost, nothing doubled, nothing out of order."""

from collections.abc import Iterator

import pytest

from cluster.cli.client import ClusterClient, parse_addresses
from cluster.cli.errors import CommandError
from cluster.cli.offsets import TopicPartition
from cluster.cli.partitioner import partition_for_key
from cluster.cli.producer import ACKS_ALL, Producer
from cluster.protocol.api_keys import ApiKey
from pylog.compression import Codec
from pylog.errors import ErrorCode, KafkaError
from pylog.records import Header, batches
from tests.unit.cluster.cli.fake_cluster import PRODUCER_ID, FakeCluster

TP = TopicPartition("t", 0)
NOW_MS = 1_700_000_000_000
VALUES: list[bytes | None] = [b"%04d" % number for number in range(400)]
# About twenty records a batch: four hundred of them go through several rounds of five requests under way.
BATCH_BYTES = 700


class Run:
    """A client, a producer and what it said was acknowledged."""

    def __init__(self, fake: FakeCluster, *, acks: int = ACKS_ALL, idempotent: bool = True, codec: int = 0) -> None:
        self.acknowledged = 0
        self.client = ClusterClient(parse_addresses(fake.bootstrap), timeout_ms=5_000)
        self.producer = Producer(
            self.client,
            "t",
            acks=acks,
            codec=codec,
            idempotent=idempotent,
            batch_bytes=BATCH_BYTES,
            on_acknowledged=self._acknowledge,
        )

    def _acknowledge(self, records: int, size_bytes: int) -> None:
        self.acknowledged += records

    def produce(self, values: list[bytes | None]) -> None:
        for value in values:
            self.producer.add(None, value, (), NOW_MS)
        self.producer.flush()


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with FakeCluster({"t": 1}) as running:
        yield running


def test_records_arrive_in_order(fake: FakeCluster) -> None:
    run = Run(fake)
    run.produce(VALUES)
    assert fake.values(TP) == VALUES
    assert run.acknowledged == len(VALUES)
    assert len(fake.logs[TP]) > 10


def test_batches_carry_producer_id_sequence_and_codec(fake: FakeCluster) -> None:
    Run(fake, codec=Codec.GZIP).produce(VALUES)
    expected = 0
    for data in fake.logs[TP]:
        (batch,) = batches(data)
        assert (batch.header.producer_id, batch.header.base_sequence) == (PRODUCER_ID, expected)
        assert batch.codec is Codec.GZIP
        expected += batch.header.records_count
    assert expected == len(VALUES)


def test_keys_headers_and_tombstones_arrive(fake: FakeCluster) -> None:
    run = Run(fake)
    run.producer.add(b"k", None, (Header("h", b"1"), Header("n", None)), NOW_MS)
    run.producer.flush()
    (batch,) = batches(fake.logs[TP][0])
    (record,) = batch.records()
    assert record == (0, NOW_MS, b"k", None, (Header("h", b"1"), Header("n", None)))


@pytest.mark.parametrize("failures", [1, 3])
def test_a_refused_batch_and_those_behind_it_are_sent_again_in_order(fake: FakeCluster, failures: int) -> None:
    # What comes behind the refused batch is then out of sequence, and refused by the log itself.
    fake.fail(ApiKey.PRODUCE, [ErrorCode.NONE, *[ErrorCode.NOT_ENOUGH_REPLICAS] * failures])
    run = Run(fake)
    run.produce(VALUES)
    assert fake.values(TP) == VALUES
    assert run.acknowledged == len(VALUES)


def test_a_lost_answer_doubles_nothing(fake: FakeCluster) -> None:
    run = Run(fake)
    fake.lose_answers(ApiKey.PRODUCE, 3)
    run.produce(VALUES)
    assert fake.values(TP) == VALUES
    assert run.acknowledged == len(VALUES)


def test_a_leader_that_moves_is_followed() -> None:
    with FakeCluster({"t": 3}, brokers=2) as fake:
        run = Run(fake)
        run.produce(VALUES[:100])
        for partition in range(3):
            fake.move(TopicPartition("t", partition), 1)
        run.produce(VALUES[100:])
        everything = [value for partition in range(3) for value in fake.values(TopicPartition("t", partition))]
        assert sorted(value or b"" for value in everything) == VALUES
        assert run.acknowledged == len(VALUES)


def test_keys_go_where_java_sends_them_and_others_take_turns() -> None:
    with FakeCluster({"t": 4}) as fake:
        run = Run(fake)
        keys = [b"key-%d" % number for number in range(200)]
        for key in keys:
            run.producer.add(key, key, (), NOW_MS)
        run.producer.flush()
        for partition in range(4):
            expected = [key for key in keys if partition_for_key(key, 4) == partition]
            assert fake.values(TopicPartition("t", partition)) == expected
        before = [fake.end(TopicPartition("t", partition)) for partition in range(4)]
        run.produce(VALUES)
        assert all(fake.end(TopicPartition("t", partition)) > before[partition] for partition in range(4))


def test_without_idempotence_there_is_no_producer_id(fake: FakeCluster) -> None:
    Run(fake, acks=1, idempotent=False).produce(VALUES[:5])
    (batch,) = batches(fake.logs[TP][0])
    assert (batch.header.producer_id, batch.header.base_sequence) == (-1, -1)
    assert not fake.count(ApiKey.INIT_PRODUCER_ID)


def test_without_acks_nothing_is_awaited(fake: FakeCluster) -> None:
    fake.brokers[0].handlers[ApiKey.PRODUCE] = lambda request, version: None
    run = Run(fake, acks=0, idempotent=False)
    run.produce(VALUES)
    assert run.acknowledged == len(VALUES)


def test_what_cannot_be_cured_is_raised(fake: FakeCluster) -> None:
    run = Run(fake)
    fake.fail(ApiKey.PRODUCE, [ErrorCode.NONE, ErrorCode.MESSAGE_TOO_LARGE])
    with pytest.raises(KafkaError) as raised:
        run.produce(VALUES)
    assert raised.value.code is ErrorCode.MESSAGE_TOO_LARGE
    assert run.acknowledged == next(batches(fake.logs[TP][0])).header.records_count


def test_a_log_that_lost_its_tail_is_not_papered_over(fake: FakeCluster) -> None:
    run = Run(fake)
    # Refused also when sent alone: the broker does not have what it acknowledged before.
    fake.fail(ApiKey.PRODUCE, [ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER] * 6)
    with pytest.raises(KafkaError) as raised:
        run.produce(VALUES)
    assert raised.value.code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_broker_that_refuses_producer_ids_is_told_how_to_do_without(fake: FakeCluster) -> None:
    fake.fail(ApiKey.INIT_PRODUCER_ID, [ErrorCode.CLUSTER_AUTHORIZATION_FAILED])
    with pytest.raises(CommandError, match="--no-idempotence"):
        Run(fake)

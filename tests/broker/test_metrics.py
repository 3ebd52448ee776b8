"""A broker whose figures are read over HTTP, by Prometheus's own parsers, beside what its clients see."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from cluster.broker.broker import Broker
from cluster.cli.client import ClusterClient, parse_addresses
from cluster.cli.group_lag import partition_lags
from cluster.cli.group_view import describe_groups
from cluster.cli.offsets import TopicPartition, commit_request
from cluster.config import load
from cluster.protocol import messages as m
from tests.broker.batches import batch
from tests.broker.raw import Raw

TIMEOUT_S = 20
GROUP = 'kitchen "1"\\\n'
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Watched:
    """A broker, where its figures are, and a connection to it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        line = broker.ready_line()
        self.port = int(line.split("127.0.0.1:")[1].split()[0])
        self.metrics_port = int(line.split("metrics on http://127.0.0.1:")[1].removesuffix("/metrics"))
        self.raw = Raw(self.port)

    def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=TIMEOUT_S)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        found = answer.status, answer.getheader("Content-Type") or "", answer.read().decode()
        connection.close()
        return found

    def scrape(self) -> Samples:
        status, _, text = self.get("/metrics")
        assert status == 200, text
        return {
            (sample.name, tuple(sample.labels.items())): sample.value
            for family in parse_plain(text)
            for sample in family.samples
        }

    def create(self, name: str, partitions: int) -> None:
        topic = m.CreateTopicsRequest.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
        assert self.raw.ask(m.CreateTopicsRequest(topics=[topic], timeout_ms=10_000), 5).topics[0].error_code == 0

    def client(self) -> ClusterClient:
        return ClusterClient(parse_addresses(f"127.0.0.1:{self.port}"), timeout_ms=TIMEOUT_S * 1000)

    def commit(self, group: str, offsets: dict[TopicPartition, int]) -> None:
        answer = self.raw.ask(commit_request(group, offsets), 8)
        assert all(part.error_code == 0 for topic in answer.topics for part in topic.partitions)


@contextmanager
def watched(directory: Path, **settings: str) -> Iterator[Watched]:
    own = {"log.dirs": str(directory / "data"), "listeners": "PLAINTEXT://127.0.0.1:0"}
    own |= {"pylog.metrics.listener": "127.0.0.1:0", "offsets.topic.num.partitions": "3", "log.retention.ms": "-1"}
    broker = Broker(load(None, own | settings))
    broker.start()
    try:
        found = Watched(broker)
        try:
            yield found
        finally:
            found.raw.close()
    finally:
        broker.stop()


def produce(raw: Raw, topic: str, partition: int, data: bytes) -> int:
    """The error code."""
    part = m.ProduceRequest.PartitionProduceData(index=partition, records=data)
    told = m.ProduceRequest.TopicProduceData(name=topic, partition_data=[part])
    answer = raw.ask(m.ProduceRequest(acks=-1, timeout_ms=10_000, topic_data=[told]), 8)
    code: int = answer.responses[0].partition_responses[0].error_code
    return code


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Topic t has 20 records in partition 0 and 10 in 1; a group has read some of them."""
    with watched(tmp_path_factory.mktemp("metrics")) as running:
        running.create("t", 3)
        now_ms = int(time.time() * 1000)
        ten = [(None, b"v")] * 10
        for partition, age_s in [(0, 100), (0, 50), (1, 30)]:
            data = batch(ten, timestamp=now_ms - age_s * 1000)
            assert produce(running.raw, "t", partition, data) == 0
        running.create("gone", 1)
        assert produce(running.raw, "gone", 0, batch(ten)) == 0
        assert running.raw.ask(m.FindCoordinatorRequest(key=GROUP), 3).error_code == 0
        running.commit(GROUP, {TopicPartition("t", 0): 10, TopicPartition("t", 1): 10, TopicPartition("gone", 0): 3})
        running.commit("", {TopicPartition("t", 0): 25})
        yield running


def test_both_formats_are_what_they_say(broker: Watched) -> None:
    status, kind, text = broker.get("/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    plain = {family.name: family for family in parse_plain(text)}
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    _, kind, text = broker.get("/metrics", Accept=accept)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    families = list(parse_open(text))
    assert [family.name for family in families] == list(plain)
    for family in families:
        assert family.type in ("counter", "gauge", "histogram") and family.documentation.endswith(".")
        assert plain[family.name].type == family.type


def test_what_was_produced(broker: Watched) -> None:
    before = broker.scrape()
    assert before["kafka_server_brokertopicmetrics_messagesin_total", ()] == 40
    where = (("topic", "t"), ("partition", "0"))
    assert before["kafka_log_log_logendoffset", where] == 20
    assert before["kafka_log_log_logstartoffset", where] == 0
    size = sum(path.stat().st_size for path in Path(broker.broker.config.log_dirs[0]).glob("t-0/*.log"))
    assert before["kafka_log_log_size", where] == size > 0
    assert produce(broker.raw, "t", 2, b"nothing of a batch" * 10) != 0
    after = broker.scrape()
    failed = ("kafka_server_brokertopicmetrics_failedproducerequests_total", ())
    assert after[failed] == before[failed] + 1
    assert after["kafka_server_brokertopicmetrics_messagesin_total", ()] == 40
    request = ("kafka_network_requestmetrics_requests_total", (("request", "Produce"),))
    assert after[request] == before[request] + 1
    assert after["pylog_requests_total", ()] == before["pylog_requests_total", ()] + 1


def test_what_went_through_a_topic(tmp_path: Path) -> None:
    topics = "kafka_server_brokertopicmetrics"
    with watched(tmp_path) as running:
        running.create("t", 2)
        running.create("other", 1)
        data = [batch([(None, b"v")] * count) for count in (3, 4)]
        for partition, each in enumerate(data):
            assert produce(running.raw, "t", partition, each) == 0
        assert produce(running.raw, "other", 0, data[0]) == 0
        part = m.FetchRequest.FetchPartition(partition=1, fetch_offset=0, partition_max_bytes=1 << 20)
        fetch = m.FetchRequest(
            max_wait_ms=0, min_bytes=0, topics=[m.FetchRequest.FetchTopic(topic="t", partitions=[part])]
        )
        assert len(running.raw.ask(fetch, 11).responses[0].partitions[0].records) == len(data[1])
        told = running.scrape()
        of_t = (("topic", "t"),)
        assert told[f"{topics}_messagesin_total", of_t] == 7
        assert told[f"{topics}_bytesin_total", of_t] == len(data[0]) + len(data[1])
        assert told[f"{topics}_bytesout_total", of_t] == len(data[1])
        assert told[f"{topics}_bytesout_total", (("topic", "other"),)] == 0
        assert told[f"{topics}_bytesin_total", ()] == len(data[0]) * 2 + len(data[1])
        assert told[f"{topics}_bytesout_total", ()] == len(data[1])
        assert told[f"{topics}_replicationbytesout_total", ()] == 0
        gone = m.DeleteTopicsRequest(topic_names=["t"], timeout_ms=10_000)
        assert running.raw.ask(gone, 3).responses[0].error_code == 0
        left = running.scrape()
        assert (f"{topics}_bytesin_total", of_t) not in left
        assert left[f"{topics}_bytesin_total", ()] == told[f"{topics}_bytesin_total", ()]


def fetch(raw: Raw, topic: str, offset: int, max_wait_ms: int) -> int:
    """How many bytes of records there are."""
    part = m.FetchRequest.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    request = m.FetchRequest(
        max_wait_ms=max_wait_ms, min_bytes=1, topics=[m.FetchRequest.FetchTopic(topic=topic, partitions=[part])]
    )
    return len(raw.ask(request, 11).responses[0].partitions[0].records or b"")


def test_how_long_requests_took(tmp_path: Path) -> None:
    """What was sent is what is told, as Prometheus and as dashboards for Kafka ask for it."""
    with watched(tmp_path) as running:
        running.create("t", 1)
        for _ in range(3):
            assert produce(running.raw, "t", 0, batch([(None, b"v")])) == 0
        assert fetch(running.raw, "t", 0, 0) > 0
        assert fetch(running.raw, "t", 3, 100) == 0
        last = ("pylog_request_seconds_count", (("request", "FetchConsumer"),))
        deadline = time.monotonic() + TIMEOUT_S
        told = running.scrape()
        while told[last] < 2 and time.monotonic() < deadline:
            told = running.scrape()  # the client may have an answer before it is counted

    def of(name: str, request: str, **labels: str) -> float:
        return told[name, (("request", request), *labels.items())]

    for request, count in {"Produce": 3, "FetchConsumer": 2, "CreateTopics": 1}.items():
        assert of("kafka_network_requestmetrics_requests_total", request) == count
        assert of("pylog_request_seconds_count", request) == of("pylog_request_seconds_bucket", request, le="+Inf")
        assert of("pylog_request_seconds_count", request) == count
        assert 0 < of("kafka_network_requestmetrics_totaltimems", request, quantile="0.50") < TIMEOUT_S * 1000
    assert of("kafka_network_requestmetrics_requests_total", "Fetch") == 2
    waited = of("pylog_request_wait_seconds_total", "FetchConsumer")
    assert 0.09 < waited < of("pylog_request_seconds_sum", "FetchConsumer") < TIMEOUT_S
    assert of("pylog_requests_waited_total", "FetchConsumer") == 1
    assert of("pylog_request_own_seconds_count", "FetchConsumer") == 2
    assert of("pylog_request_own_seconds_sum", "FetchConsumer") == pytest.approx(
        of("pylog_request_seconds_sum", "FetchConsumer") - waited
    )
    socket = "kafka_server_socket_server_metrics"
    kinds = {labels[0][1] for name, labels in told if name == "pylog_request_bytes_total"}
    assert sum(of("pylog_request_bytes_total", kind) for kind in kinds) == told[f"{socket}_incoming_byte_total", ()]
    assert sum(of("pylog_response_bytes_total", kind) for kind in kinds) == told[f"{socket}_outgoing_byte_total", ()]
    assert (
        sum(of("kafka_network_requestmetrics_requests_total", kind) for kind in kinds)
        == told["pylog_requests_total", ()]
    )


def test_the_broker_itself(broker: Watched) -> None:
    told = broker.scrape()
    partitions = 3 + 1 + 3  # and those of __consumer_offsets
    for name, value in {
        "kafka_controller_kafkacontroller_activecontrollercount": 1,
        "kafka_controller_kafkacontroller_globalpartitioncount": partitions,
        "kafka_controller_kafkacontroller_globaltopiccount": 3,
        "kafka_controller_kafkacontroller_offlinepartitionscount": 0,
        "kafka_server_replicamanager_leadercount": partitions,
        "kafka_server_replicamanager_partitioncount": partitions,
        "kafka_server_replicamanager_underminisrpartitioncount": 0,
        "kafka_server_replicamanager_underreplicatedpartitions": 0,
        "kafka_server_socket_server_metrics_connection_count": 1,
        "pylog_failures_total": 0,
    }.items():
        assert told[name, ()] == value, name
    assert 0 < told["process_start_time_seconds", ()] <= time.time()
    assert told["process_resident_memory_bytes", ()] > 10_000_000
    assert 0 < told["process_open_fds", ()] < told["process_max_fds", ()]
    assert told["pylog_disk_free_bytes", (("logDirectory", broker.broker.config.log_dirs[0]),)] > 0


def test_groups(broker: Watched) -> None:
    told = broker.scrape()
    assert told["kafka_coordinator_group_groupmetadatamanager_numgroups", ()] == 2
    assert told["kafka_coordinator_group_groupmetadatamanager_numgroupsempty", ()] == 2
    assert told["kafka_coordinator_group_groupmetadatamanager_numoffsets", ()] == 4
    assert told["kafka_server_group_coordinator_metrics_group_count", (("protocol", "classic"),)] == 2
    assert told["pylog_group_members", (("group", GROUP),)] == 0
    assert told["pylog_group_offset_commits_total", ()] == 4


def test_lag_is_what_the_command_says(broker: Watched) -> None:
    told = broker.scrape()
    with broker.client() as client:
        lags = partition_lags(client, describe_groups(client, [GROUP, ""]))
    assert [lag.records for lag in lags[GROUP]] == [7, 10, 0]
    assert [lag.records for lag in lags[""]] == [-5]  # a sum of the metric is one of what is owed
    for group, partitions in lags.items():
        for lag in partitions:
            which = (("group", group), ("topic", lag.partition.topic), ("partition", str(lag.partition.partition)))
            assert told["pylog_group_committed_offset", which] == lag.committed
            assert lag.records is not None and lag.seconds is not None
            assert told["pylog_group_lag_records", which] == max(0, lag.records)
            assert told["pylog_group_lag_seconds", which] == pytest.approx(lag.seconds, abs=TIMEOUT_S)
    behind = told["pylog_group_lag_seconds", (("group", GROUP), ("topic", "t"), ("partition", "0"))]
    assert 50 <= behind < 50 + TIMEOUT_S


def test_a_group_with_a_member(tmp_path: Path) -> None:
    """Whoever writes its commits, the data plane or the coordinator: each counts once."""
    with watched(tmp_path, **{"group.initial.rebalance.delay.ms": "0"}) as running:
        running.create("t", 1)
        assert produce(running.raw, "t", 0, batch([(None, b"v")] * 5)) == 0
        settings = {"bootstrap.servers": f"127.0.0.1:{running.port}", "group.id": "g", "enable.auto.commit": False}
        consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
        consumer.subscribe(["t"])
        for _ in range(5):
            message = consumer.poll(TIMEOUT_S)
            assert message is not None and message.error() is None
            consumer.commit(message, asynchronous=False)
        deadline = time.monotonic() + TIMEOUT_S
        told = running.scrape()
        while told["pylog_group_offset_commits_total", ()] < 5 and time.monotonic() < deadline:
            told = running.scrape()  # the control thread hears after the client of what the data plane wrote
        assert told["pylog_group_offset_commits_total", ()] == 5
        assert told["pylog_group_members", (("group", "g"),)] == 1
        assert told["pylog_group_rebalances_total", (("cause", "joined"),)] == 1
        assert told["kafka_coordinator_group_groupmetadatamanager_numgroupsstable", ()] == 1
        assert told["pylog_group_lag_records", (("group", "g"), ("topic", "t"), ("partition", "0"))] == 0
        consumer.close()


def test_health_and_other_pages(broker: Watched) -> None:
    assert broker.get("/healthz")[::2] == (200, "ok\n")
    assert broker.get("/")[0] == 200
    assert broker.get("/nothing")[0] == 404


def test_a_control_thread_that_is_busy(broker: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, not waited for; Produce goes on."""
    from cluster.broker.metrics import scrape

    monkeypatch.setattr(scrape, "_SNAPSHOT_S", 0.05)
    monkeypatch.setattr(scrape, "_HEALTHY_S", 0.05)
    busy, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        busy.set()
        go_on.wait(TIMEOUT_S)

    broker.broker.loop.post(hold)
    assert busy.wait(TIMEOUT_S)
    try:
        assert broker.get("/healthz")[0] == 503
        status, _, text = broker.get("/metrics")
        assert (status, text) == (503, "the control thread has been busy for 0.05 s\n")
        assert produce(broker.raw, "t", 2, batch([(None, b"v")])) == 0
    finally:
        go_on.set()
    monkeypatch.undo()
    assert broker.scrape()["kafka_log_log_logendoffset", (("topic", "t"), ("partition", "2"))] == 1


def test_a_transaction_that_is_open(tmp_path: Path) -> None:
    settings = {"transaction.state.log.num.partitions": "1"}
    with watched(tmp_path, **settings) as running:
        running.create("t", 1)
        assert running.scrape()["pylog_transaction_oldest_seconds", ()] == 0
        init = m.InitProducerIdRequest(transactional_id="bank", transaction_timeout_ms=60_000)
        assert running.raw.ask(m.FindCoordinatorRequest(key="bank", key_type=1), 3).error_code == 0
        own = running.raw.ask(init, 4)
        assert own.error_code == 0
        add = m.AddPartitionsToTxnRequest(
            v3_and_below_transactional_id="bank",
            v3_and_below_producer_id=own.producer_id,
            v3_and_below_producer_epoch=own.producer_epoch,
            v3_and_below_topics=[m.AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name="t", partitions=[0])],
        )
        answer = running.raw.ask(add, 3)
        assert answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code == 0
        data = batch(producer=(own.producer_id, own.producer_epoch, 0), attributes=0x10)
        part = m.ProduceRequest.PartitionProduceData(index=0, records=data)
        told = m.ProduceRequest.TopicProduceData(name="t", partition_data=[part])
        request = m.ProduceRequest(transactional_id="bank", acks=-1, timeout_ms=10_000, topic_data=[told])
        assert running.raw.ask(request, 8).responses[0].partition_responses[0].error_code == 0
        samples = running.scrape()
        assert samples["pylog_transactional_ids", (("state", "Ongoing"),)] == 1
        assert 0 <= samples["pylog_transaction_oldest_seconds", ()] < TIMEOUT_S
        assert samples["kafka_cluster_partition_laststableoffsetlag", (("topic", "t"), ("partition", "0"))] == 1


def test_nothing_of_it_without_the_setting() -> None:
    probe = (
        "import sys, cluster.cli.server, cluster.broker.broker\n"
        "print([name for name in sys.modules if 'metrics' in name or name in ('http', 'socket')])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    with watched(tmp_path / "one") as running:
        second = {"log.dirs": str(tmp_path / "two"), "listeners": "PLAINTEXT://127.0.0.1:0"}
        second["pylog.metrics.listener"] = f"127.0.0.1:{running.metrics_port}"
        broker = Broker(load(None, second))
        with pytest.raises(
            OSError, match=rf"pylog.metrics.listener: cannot listen on 127.0.0.1:{running.metrics_port}"
        ):
            broker.start()
        broker.stop()

"""Capture what Apache Kafka makes of transactions: its answers step by step, its reads, its files.

    python -m tests.golden.transactions.make PORT DATA_DIR BROKER_PID [OUT]

A broker of its own, started with transaction.partition.verification.enable=false (producer ids are of our choosing
here, so no coordinator knows them), log.retention.ms=-1 and log.index.size.max.bytes=102400; DATA_DIR is its log.dirs.
The broker is stopped in the end: what it leaves on a clean stop is what is kept. Written with Kafka 3.9.1.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tarfile
import threading
import time
import zlib
from pathlib import Path

from cluster.protocol.messages import (
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from tests.golden.transactions.scenario import (
    FETCH_SIZES,
    SETTINGS,
    TIMES,
    TOPICS,
    Answer,
    Delete,
    Mark,
    Produce,
    Read,
    Step,
    batch_of,
    steps_of,
)
from tests.unit.pylog.engine_client import Client

OUT = Path(__file__).parent / "kafka39.tar.gz"
KEPT = (".log", ".index", ".timeindex", ".txnindex", ".snapshot")


class Capture:
    def __init__(self, port: int) -> None:
        self.client = Client(port)

    def create(self) -> None:
        configs = [CreateTopicsRequest.CreatableTopicConfig(name=name, value=value) for name, value in SETTINGS.items()]
        topics = [
            CreateTopicsRequest.CreatableTopic(
                name=topic, num_partitions=1, replication_factor=1, assignments=[], configs=configs
            )
            for topic in TOPICS
        ]
        self.client.send(19, 4, CreateTopicsRequest(topics=topics, timeout_ms=20_000).encode(4))
        answer = self.client.decode(CreateTopicsResponse, 19, 4)
        assert isinstance(answer, CreateTopicsResponse)
        assert [topic.error_code for topic in answer.topics] == [0] * len(TOPICS)
        for topic in TOPICS:
            while self.client.fetch(0, topic, version=11).error_code:
                threading.Event().wait(0.1)

    def take(self, topic: str, step: Step, number: int, base_ms: int) -> Answer:
        error, offset = self.do(topic, step, number, base_ms)
        read = self.client.fetch(0, topic, version=11, isolation=1, partition_max_bytes=1)
        if read.error_code == 1:
            read = self.client.fetch(self.list(topic, -2, 0)[1], topic, version=11, isolation=1, partition_max_bytes=1)
        return Answer(error, offset, read.log_start_offset, read.last_stable_offset, read.high_watermark)

    def do(self, topic: str, step: Step, number: int, base_ms: int) -> tuple[int, int]:
        if isinstance(step, Produce):
            data = batch_of(step, number, base_ms)
            self.client.send_produce({(topic, 0): data}, version=8, acks=-1, transactional_id="any")
            (part,) = self.client.produced(8)
            return part.error_code, part.base_offset
        if isinstance(step, Mark):
            return self.mark(topic, step), -1
        return self.delete(topic, step)

    def mark(self, topic: str, step: Mark) -> int:
        marker = WriteTxnMarkersRequest.WritableTxnMarker(
            producer_id=step.producer_id,
            producer_epoch=step.epoch,
            transaction_result=step.committed,
            topics=[WriteTxnMarkersRequest.WritableTxnMarkerTopic(name=topic, partition_indexes=[0])],
            coordinator_epoch=step.coordinator_epoch,
        )
        self.client.send(27, 1, WriteTxnMarkersRequest(markers=[marker]).encode(1))
        answer = self.client.decode(WriteTxnMarkersResponse, 27, 1)
        assert isinstance(answer, WriteTxnMarkersResponse)
        return answer.markers[0].topics[0].partitions[0].error_code

    def delete(self, topic: str, step: Delete) -> tuple[int, int]:
        part = DeleteRecordsRequest.DeleteRecordsPartition(partition_index=0, offset=step.offset)
        request = DeleteRecordsRequest(
            topics=[DeleteRecordsRequest.DeleteRecordsTopic(name=topic, partitions=[part])], timeout_ms=20_000
        )
        self.client.send(21, 2, request.encode(2))
        answer = self.client.decode(DeleteRecordsResponse, 21, 2)
        assert isinstance(answer, DeleteRecordsResponse)
        (done,) = answer.topics[0].partitions
        return done.error_code, done.low_watermark

    def read(self, topic: str, offset: int, max_bytes: int, isolation: int) -> Read:
        part = self.client.fetch(offset, topic, version=11, isolation=isolation, partition_max_bytes=max_bytes)
        data = part.records or b""
        aborted = part.aborted_transactions
        return Read(
            offset,
            max_bytes,
            isolation,
            part.error_code,
            part.last_stable_offset,
            len(data),
            zlib.crc32(data),
            None if aborted is None else [(txn.producer_id, txn.first_offset) for txn in aborted],
        )

    def list(self, topic: str, timestamp: int, isolation: int) -> tuple[int, int, int]:
        part = ListOffsetsRequest.ListOffsetsPartition(partition_index=0, current_leader_epoch=-1, timestamp=timestamp)
        request = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=isolation,
            topics=[ListOffsetsRequest.ListOffsetsTopic(name=topic, partitions=[part])],
        )
        self.client.send(2, 7, request.encode(7))
        answer = self.client.decode(ListOffsetsResponse, 2, 7)
        assert isinstance(answer, ListOffsetsResponse)
        (found,) = answer.topics[0].partitions
        return found.error_code, found.offset, found.timestamp


def main() -> int:
    port, data, pid = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    capture = Capture(port)
    capture.create()
    base_ms = time.time_ns() // 1_000_000
    archive: dict[str, bytes] = {}
    for topic in TOPICS:
        answers = [capture.take(topic, step, n, base_ms) for n, step in enumerate(steps_of(topic))]
        start, end = answers[-1].log_start, answers[-1].high_watermark
        reads = [
            capture.read(topic, offset, size, isolation)
            for offset in range(max(start - 1, 0), end + 2)
            for size in FETCH_SIZES
            for isolation in (0, 1)
        ]
        lists = [
            (timestamp, isolation, *capture.list(topic, timestamp, isolation))
            for timestamp in (-1, -2, -3, *(base_ms + time for time in TIMES))
            for isolation in (0, 1)
        ]
        said = {"base_ms": base_ms, "answers": answers, "reads": reads, "lists": lists}
        archive[f"{topic}.json"] = json.dumps(said, separators=(",", ":")).encode()
    os.kill(pid, signal.SIGTERM)
    while not (data / ".kafka_cleanshutdown").exists():
        threading.Event().wait(0.1)
    for topic in TOPICS:
        for path in sorted((data / f"{topic}-0").iterdir()):
            if path.suffix in KEPT:
                archive[f"{topic}-0/{path.name}"] = path.read_bytes()
    with tarfile.open(Path(sys.argv[4]) if len(sys.argv) > 4 else OUT, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(archive.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

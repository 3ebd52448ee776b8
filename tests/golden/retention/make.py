"""Capture which segments Apache Kafka lets go, and where it begins new ones, for test_retention_golden.py.

    python -m tests.golden.retention.make PORT DATA_DIR [OUT]

A broker of its own, started with log.retention.check.interval.ms=500, log.initial.task.delay.ms=300 and
log.cleaner.backoff.ms=500; DATA_DIR is its log.dirs. Written with Kafka 3.9.1.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from cluster.protocol.messages import (
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from tests.golden.retention.cases import ALL_KEPT, CASES, Left, batch_of
from tests.unit.pylog.engine_client import Client

OUT = Path(__file__).parent / "kafka39.json"
ROUNDS_S = 5  # ten checks


def create(client: Client) -> None:
    topics = [
        CreateTopicsRequest.CreatableTopic(
            name=topic,
            num_partitions=1,
            replication_factor=1,
            assignments=[],
            configs=[
                CreateTopicsRequest.CreatableTopicConfig(name=name, value=value)
                for name, value in ({"min.cleanable.dirty.ratio": "1"} | ALL_KEPT | case.writing).items()
            ],
        )
        for topic, case in CASES.items()
    ]
    client.send(19, 4, CreateTopicsRequest(topics=topics, timeout_ms=20_000).encode(4))
    answer = client.decode(CreateTopicsResponse, 19, 4)
    assert isinstance(answer, CreateTopicsResponse)
    assert all(topic.error_code == 0 for topic in answer.topics), answer.topics
    for topic in CASES:
        while client.fetch(0, topic, version=11).error_code:
            threading.Event().wait(0.1)


def delete_records(client: Client, topic: str, offset: int) -> int:
    part = DeleteRecordsRequest.DeleteRecordsPartition(partition_index=0, offset=offset)
    request = DeleteRecordsRequest(
        topics=[DeleteRecordsRequest.DeleteRecordsTopic(name=topic, partitions=[part])], timeout_ms=20_000
    )
    client.send(21, 2, request.encode(2))
    answer = client.decode(DeleteRecordsResponse, 21, 2)
    assert isinstance(answer, DeleteRecordsResponse)
    return answer.topics[0].partitions[0].error_code


def configure(client: Client) -> None:
    resources = [
        IncrementalAlterConfigsRequest.AlterConfigsResource(
            resource_type=2,
            resource_name=topic,
            configs=[
                IncrementalAlterConfigsRequest.AlterableConfig(name=name, config_operation=0, value=value)
                for name, value in case.then.items()
            ],
        )
        for topic, case in CASES.items()
        if case.then
    ]
    client.send(44, 1, IncrementalAlterConfigsRequest(resources=resources).encode(1))
    answer = client.decode(IncrementalAlterConfigsResponse, 44, 1)
    assert isinstance(answer, IncrementalAlterConfigsResponse)
    assert all(each.error_code == 0 for each in answer.responses), answer.responses


def main() -> int:
    client, data = Client(int(sys.argv[1])), Path(sys.argv[2])
    create(client)
    now_ms = time.time_ns() // 1_000_000
    errors = dict.fromkeys(CASES, 0)
    for topic, case in CASES.items():
        for number in range(len(case.ages_h)):
            assert client.produce(batch_of(case, number, now_ms), topic, version=8, acks=-1).error_code == 0
        if case.deleted is not None:
            errors[topic] = delete_records(client, topic, case.deleted)
    configure(client)
    threading.Event().wait(ROUNDS_S)
    left = {}
    for topic in CASES:
        start = client.fetch(10_000, topic, version=11)
        assert start.error_code == 1
        end = client.fetch(len(CASES[topic].ages_h), topic, version=11)
        bases = sorted(int(path.name[:20]) for path in (data / f"{topic}-0").glob("*.log"))
        left[topic] = Left(errors[topic], end.log_start_offset, bases)
    lines = ",\n".join(f"{json.dumps(topic)}: {json.dumps(found)}" for topic, found in left.items())
    (Path(sys.argv[3]) if len(sys.argv) > 3 else OUT).write_text(f"{{\n{lines}\n}}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

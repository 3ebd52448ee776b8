"""DescribeLogDirs (KIP-113, KIP-827): which partitions lie in which data directory, and how large they are."""

from __future__ import annotations

import os

from cluster.broker.apis import Handler, Request
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from pylog.errors import ErrorCode
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.broker.broker import Broker


def _describe(broker: Broker, request: Request) -> m.DescribeLogDirsResponse:
    """Asked about topics, only directories and topics that hold some of them are shown in full; null asks for all."""
    message: m.DescribeLogDirsRequest = request.message
    asked: dict[str, set[int]] | None = None if message.topics is None else {}
    for topic in message.topics or []:
        assert asked is not None
        asked.setdefault(topic.topic, set()).update(topic.partitions)
    results = []
    for directory in broker.replicas.directories():
        if not directory.online:
            code = int(ErrorCode.KAFKA_STORAGE_ERROR)
            results.append(m.DescribeLogDirsResponse.DescribeLogDirsResult(error_code=code, log_dir=directory.path))
            continue
        topics: dict[str, list[m.DescribeLogDirsResponse.DescribeLogDirsPartition]] = {}
        for partition in broker.replicas.in_directory(directory.path):
            if asked is not None and partition.index not in asked.get(partition.topic, ()):
                continue
            info = partition.info()
            topics.setdefault(partition.topic, []).append(
                m.DescribeLogDirsResponse.DescribeLogDirsPartition(
                    partition_index=partition.index,
                    partition_size=info.size_bytes,
                    offset_lag=max(0, info.high_watermark - info.log_end_offset),
                )
            )
        space = os.statvfs(directory.path)
        results.append(
            m.DescribeLogDirsResponse.DescribeLogDirsResult(
                log_dir=directory.path,
                topics=[
                    m.DescribeLogDirsResponse.DescribeLogDirsTopic(name=name, partitions=partitions)
                    for name, partitions in topics.items()
                ],
                total_bytes=space.f_frsize * space.f_blocks,
                usable_bytes=space.f_frsize * space.f_bavail,
            )
        )
    return m.DescribeLogDirsResponse(results=results)


def _refuse(request: Request, code: int) -> m.DescribeLogDirsResponse:
    return m.DescribeLogDirsResponse(error_code=code)


HANDLERS = {ApiKey.DESCRIBE_LOG_DIRS: Handler(m.DescribeLogDirsRequest.decode, _describe, _refuse)}

"""The logs of one broker and where they lie: what ReplicaManager asks of a LogManager.

What stays true: a site outlives its processes: logs, checkpointed high watermarks and the state of its two data
directories are there when the next process starts; a failed directory's logs are not touched until it is put right.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pylog.errors import ErrorCode, KafkaError
from pylog.log_owner import LogOwner
from pylog.types import ZERO_TOPIC_ID, TopicPartition
from tests.sim.replica import Info, Replica

if TYPE_CHECKING:
    from tests.sim.world import World

DIRECTORIES = ("/disk/a", "/disk/b")


class Site:
    """A broker's machine."""

    def __init__(self, broker_id: int, world: World) -> None:
        self.broker_id = broker_id
        self.world = world
        self.replicas: dict[TopicPartition, Replica] = {}
        self.failed_directories: set[str] = set()
        self.high_watermarks: dict[TopicPartition, int] = {}

    def create(self, partition: TopicPartition, topic_id: bytes) -> Replica:
        live = [each for each in DIRECTORIES if each not in self.failed_directories]
        if not live:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "no data directory is left")
        where = live[(partition.partition + self.broker_id) % len(live)]
        segment_bytes = 1 << self.world.between(10, 14)
        replica = self.replicas[partition] = Replica(segment_bytes, topic_id, where)
        return replica

    def free(self) -> None:
        for replica in self.replicas.values():
            replica.free()
        self.replicas.clear()


class SimLog:
    """What ReplicaManager, and Leadership through it, look at of a Log."""

    def __init__(self, partition: TopicPartition, native: Replica) -> None:
        self.partition = partition
        self.native = native
        self.directory = native.directory
        self.owner: LogOwner | None = None
        self._guard = threading.RLock()

    @property
    def topic_id(self) -> bytes:
        return self.native.topic_id

    def assign_topic_id(self, topic_id: bytes) -> None:
        if topic_id != ZERO_TOPIC_ID and self.native.topic_id != topic_id:
            raise KafkaError(ErrorCode.INCONSISTENT_TOPIC_ID)

    def info(self) -> Info:
        return self.native.info()

    def host(self, owner: LogOwner) -> None:
        self.owner = owner

    def close(self, clean: bool) -> None:
        assert not clean


class SimLogs:
    """One process's."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._logs = {
            name: SimLog(name, replica)
            for name, replica in site.replicas.items()
            if replica.directory not in site.failed_directories
        }

    def get(self, partition: TopicPartition) -> SimLog | None:
        return self._logs.get(partition)

    def create_all(self, partitions: Iterable[TopicPartition], topic_id: bytes) -> list[SimLog | KafkaError]:
        made: list[SimLog | KafkaError] = []
        for partition in partitions:
            try:
                log = self._logs.get(partition)
                if log is None:
                    log = self._logs[partition] = SimLog(partition, self._site.create(partition, topic_id))
                log.assign_topic_id(topic_id)
                made.append(log)
            except KafkaError as error:
                made.append(error)
        return made

    def delete_all(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            log = self._logs.pop(partition, None)
            if log is not None:
                self._site.replicas.pop(partition).free()

    def truncate(self, offsets: Mapping[TopicPartition, int]) -> None:
        for partition, offset in offsets.items():
            rc = self._logs[partition].native.truncate(offset, fully=False)
            assert rc == 0, rc

    def truncate_fully(self, partition: TopicPartition, offset: int) -> None:
        rc = self._logs[partition].native.truncate(offset, fully=True)
        assert rc == 0, rc

    def live_directories(self) -> list[str]:
        return [each for each in DIRECTORIES if each not in self._site.failed_directories]

    def offline_directories(self) -> list[str]:
        return sorted(self._site.failed_directories)

    def fail(self, directory: str) -> list[SimLog]:
        """The directory is gone; the logs that were in it."""
        self._site.failed_directories.add(directory)
        lost = [log for log in self._logs.values() if log.directory == directory]
        for log in lost:
            del self._logs[log.partition]
        return lost

    def read_high_watermarks(self) -> dict[TopicPartition, int]:
        return {name: offset for name, offset in self._site.high_watermarks.items() if name in self._logs}

    def checkpoint_high_watermarks(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._site.high_watermarks = dict(offsets)

"""Markers of transactions, written to the partitions that this broker leads.

What stays true: a marker is answered once, when it is committed or certainly will not be by this leader; what a group
coordinator has written before the marker is in the log before it, and the coordinator hears of the marker in its place.

Control thread.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.broker.metadata_cache import GROUP_METADATA_TOPIC
from cluster.coordinator.shard import Marker
from pylog._native import BatchBuilder
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from pylog._engine import Upcall

_TRANSACTIONAL_CONTROL: Final = 0x30
_ABORT: Final = b"\0\0\0\0"
_COMMIT: Final = b"\0\0\0\1"

Written = Callable[[ErrorCode], None]


class NewMarker(NamedTuple):
    """`coordinator_epoch`: the leader epoch of the shard whose coordinator writes it."""

    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    commit: bool


class MarkerLog:
    """Tokens of its appends are negative; those of coordinators are not."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._builder = BatchBuilder()
        self._waiting: dict[int, Written] = {}
        self._token = -1
        self._log = Logger(f"TransactionMarkers {broker.broker_id}")

    def write(self, topic: str, index: int, marker: NewMarker, written: Written) -> None:
        """`written`: told how it went, perhaps before this returns."""
        broker = self._broker
        hosted = broker.replicas.find(topic, index)
        if hosted is None:
            written(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            return
        runtime = broker.coordinators.runtime
        is_shard = runtime.is_coordinator_topic(topic)
        if is_shard:
            broker.loop.write_out()
            if topic == GROUP_METADATA_TOPIC:
                broker.coordinators.transactions.verifier.ended(index, marker.producer_id)
        self._token -= 1
        token = self._token
        try:
            done = broker.engine.append(hosted.number, self._batch(marker), token)
        except KafkaError as error:
            written(error.code)
            return
        except OSError as error:
            self._log.error("marker not written", partition=hosted.source.partition, error=error)
            written(ErrorCode.KAFKA_STORAGE_ERROR)
            return
        if is_shard:
            now_ms = broker.now_ms()
            end = Marker(marker.producer_id, marker.commit)
            effects = runtime.marker(topic, index, end, done.last_offset, now_ms)
            if done.committed:
                effects += runtime.committed(topic, index, done.last_offset + 1, now_ms)
            broker.loop.apply(effects)
        if done.committed:
            written(ErrorCode.NONE)
        else:
            self._waiting[token] = written

    def _batch(self, marker: NewMarker) -> bytes:
        builder = self._builder
        builder.reset(0, _TRANSACTIONAL_CONTROL, producer_id=marker.producer_id, producer_epoch=marker.producer_epoch)
        value = b"\0\0" + marker.coordinator_epoch.to_bytes(4, "big", signed=True)
        builder.add(self._broker.now_ms(), _COMMIT if marker.commit else _ABORT, value)
        return builder.finish()

    def committed(self, upcall: Upcall) -> None:
        """A marker of ours is below the high watermark, or we lead its partition no longer."""
        written = self._waiting.pop(upcall.token, None)
        if written is not None:
            written(ErrorCode(upcall.error))

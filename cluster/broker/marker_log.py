"""Markers of transactions, written to the partitions that this broker leads.

What stays true: a marker is answered once, when it is committed or certainly will not be by this leader; it is written
in this turn, with all that the turn writes. What a group coordinator has written before the marker is in the log before
it, and the coordinator hears of the marker in its place.

Control thread.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.broker.metadata_cache import GROUP_METADATA_TOPIC
from cluster.coordinator.shard import Marker
from cluster.effects import Append, Producer, Shard
from pylog._native import BatchBuilder
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.replica_manager import HostedPartition
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
        """`written`: told how it went, perhaps before this returns. Not while effects are being carried out."""
        broker = self._broker
        hosted = broker.replicas.find(topic, index)
        if hosted is None:
            written(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            return
        self._token -= 1
        if broker.coordinators.runtime.is_coordinator_topic(topic):
            self._write_to_shard(hosted, marker, written, self._token)
            return
        self._waiting[self._token] = written
        producer = Producer(marker.producer_id, marker.producer_epoch)
        append = Append(Shard(topic, index), [_record(marker)], self._token, producer, control=True)
        broker.loop.apply((append,))

    def _write_to_shard(self, hosted: HostedPartition, marker: NewMarker, written: Written, token: int) -> None:
        """At once, so that the coordinator hears of it before of anything that is written later."""
        broker = self._broker
        topic, index = hosted.topic, hosted.index
        broker.loop.write_out()
        if topic == GROUP_METADATA_TOPIC:
            broker.coordinators.transactions.verifier.ended(index, marker.producer_id)
        try:
            done = broker.engine.append(hosted.number, self._batch(marker), token)
        except KafkaError as error:
            written(error.code)
            return
        except OSError as error:
            self._log.error("marker not written", partition=hosted.source.partition, error=error)
            written(ErrorCode.KAFKA_STORAGE_ERROR)
            return
        now_ms = broker.now_ms()
        runtime = broker.coordinators.runtime
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
        builder.add(self._broker.now_ms(), *_record(marker))
        return builder.finish()

    def appended(self, token: int, *, committed: bool) -> None:
        """A marker is in the log of its partition."""
        if committed:
            self._waiting.pop(token)(ErrorCode.NONE)

    def failed(self, token: int, error: ErrorCode) -> None:
        """A marker is not."""
        self._waiting.pop(token)(error)

    def committed(self, upcall: Upcall) -> None:
        """A marker of ours is below the high watermark, or we lead its partition no longer."""
        written = self._waiting.pop(upcall.token, None)
        if written is not None:
            written(ErrorCode(upcall.error))


def _record(marker: NewMarker) -> tuple[bytes, bytes]:
    """Its key and value."""
    return _COMMIT if marker.commit else _ABORT, b"\0\0" + marker.coordinator_epoch.to_bytes(4, "big", signed=True)

"""Two clients that keep a broker under load with acks=all, and remember every record that was acknowledged.

Each client is a thread with partitions of its own. Records are numbered per partition; a client goes on numbering
whatever happens to the broker. `acknowledged` grows only in delivery reports, never by assumption.
"""

import asyncio
import threading
import time
from abc import ABC, abstractmethod

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.structs import RecordMetadata  # type: ignore[import-untyped]
from confluent_kafka import KafkaError, Message, Producer, TopicPartition

from tests.support import confluent, records
from tests.support.process import ProcessError

# What a client may have sent and not heard of. Enough to keep batches in flight at every kill.
OUTSTANDING = 5000
DELIVERY_TIMEOUT_S = 60
#: In place of the offset of a record that was acknowledged without one: what came after it was acknowledged with one.
NOT_TOLD = -1


class Load(ABC):
    """A thread that produces until told to stop, and then waits for its last acknowledgements."""

    def __init__(self, bootstrap: str, topic: str, partitions: list[int], *, pause_s: float = 0.0) -> None:
        """pause_s: between a record for each partition and the next ones."""
        self.bootstrap = bootstrap
        self.topic = topic
        self.partitions = partitions
        self._pause_s = pause_s
        self.acknowledged: dict[int, dict[int, int]] = {partition: {} for partition in partitions}
        self.sent = dict.fromkeys(partitions, 0)
        self.failed: list[str] = []
        self._changed = threading.Condition()
        self._count = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name=type(self).__name__, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """No new records; returns when all that were sent are acknowledged or failed."""
        self._stopping.set()
        self._thread.join(DELIVERY_TIMEOUT_S + 10)
        if self._thread.is_alive():
            raise ProcessError(f"{type(self).__name__} does not end: {self.failed[:3]}")

    def wait_acknowledged(self, more: int, timeout_s: float = 30) -> None:
        """Until `more` records were acknowledged from now on."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            goal = self._count + more
            while self._count < goal:
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    name = type(self).__name__
                    raise ProcessError(
                        f"{name}: {goal - self._count} of {more} acknowledgements missing, {self.failed[:3]}"
                    )
                self._changed.wait(min(left, 1))

    def _take(self, partition: int, sequence: int, offset: int) -> None:
        with self._changed:
            self.acknowledged[partition][sequence] = offset
            self._count += 1
            self._changed.notify_all()

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.failed.append(repr(error))
            raise

    @abstractmethod
    def _run(self) -> None: ...


class ConfluentLoad(Load):
    """librdkafka's idempotent producer."""

    def _run(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 1,
                "message.timeout.ms": DELIVERY_TIMEOUT_S * 1000,
                "reconnect.backoff.ms": 10,
                "reconnect.backoff.max.ms": 100,
                "retry.backoff.ms": 20,
                "queue.buffering.max.messages": OUTSTANDING,
                "log_level": 0,
            }
        )
        while not self._stopping.is_set():
            for partition in self.partitions:
                self._produce(producer, partition)
            producer.poll(self._pause_s)
        producer.flush(DELIVERY_TIMEOUT_S)

    def _produce(self, producer: Producer, partition: int) -> None:
        sequence = self.sent[partition]

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                offset = message.offset()  # None: a later batch was acknowledged first, and that vouches for this one
                self._take(partition, sequence, NOT_TOLD if offset is None else offset)
            else:
                self.failed.append(f"{partition}:{sequence}: {error}")

        while not self._stopping.is_set():
            try:
                value = records.value(partition, sequence)
                producer.produce(self.topic, value, partition=partition, on_delivery=delivered)
                self.sent[partition] += 1
                return
            except BufferError:
                producer.poll(0.1)


class AiokafkaLoad(Load):
    """aiokafka's idempotent producer: another implementation of the same promise."""

    def _run(self) -> None:
        asyncio.run(self._story())

    async def _story(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            enable_idempotence=True,
            linger_ms=1,
            request_timeout_ms=DELIVERY_TIMEOUT_S * 1000,
            retry_backoff_ms=20,
            # it knows the brokers that its last metadata name and no others: when all but one were away then, and that
            # one goes before it has asked again, it asks that one for ever
            metadata_max_age_ms=1000,
        )
        async with producer:
            room = asyncio.Semaphore(OUTSTANDING)
            while not self._stopping.is_set():
                for partition in self.partitions:
                    await room.acquire()
                    sequence = self.sent[partition]
                    value = records.value(partition, sequence)
                    future = await producer.send(self.topic, value, partition=partition)
                    self.sent[partition] += 1
                    future.add_done_callback(lambda done, p=partition, s=sequence: self._delivered(room, p, s, done))
                await asyncio.sleep(self._pause_s)
            await producer.flush()

    def _delivered(
        self, room: asyncio.Semaphore, partition: int, sequence: int, done: asyncio.Future[RecordMetadata]
    ) -> None:
        room.release()
        error = done.exception()
        if error is None:
            self._take(partition, sequence, done.result().offset)
        else:
            self.failed.append(f"{partition}:{sequence}: {error!r}")


def check_partition(bootstrap: str, topic: str, partition: int, load: Load) -> None:
    """All was acknowledged in the end: the partition holds exactly the records sent, each at the offset told."""
    sent = load.sent[partition]
    acknowledged = load.acknowledged[partition]
    assert sorted(acknowledged) == list(range(sent))
    last_told = max((sequence for sequence, offset in acknowledged.items() if offset != NOT_TOLD), default=-1)
    unvouched = [sequence for sequence, offset in acknowledged.items() if offset == NOT_TOLD and sequence > last_told]
    assert not unvouched, f"partition {partition}: no offset was told of {unvouched[:5]}, nor of any record after them"
    consumer = confluent.assigned_consumer(bootstrap, topic, partition + 1)
    try:
        consumer.assign([TopicPartition(topic, partition, 0)])
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        assert (low, high) == (0, sent), f"partition {partition} has {high} records of {sent}: lost or doubled"
        sequence = 0
        deadline = time.monotonic() + 60
        while sequence < sent:
            assert time.monotonic() < deadline, f"partition {partition}: {sent - sequence} records did not come"
            for message in confluent.take(consumer, 10_000):
                assert message.value() == records.value(partition, sequence), f"partition {partition} record {sequence}"
                told = acknowledged[sequence]
                assert told in (NOT_TOLD, message.offset()), (
                    f"partition {partition}: {told} was told for {message.offset()}"
                )
                sequence += 1
    finally:
        consumer.close()

"""The coordinator runtime wired to the log: records out as batches, commits in, state loaded from the internal topics.

What stays true: appends of one loop turn to one shard become one batch (or a few, when they are large), in order; a
token hears of its own offsets; a partition is loaded whole before it serves. Control thread.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Hashable, Iterable, Iterator
from struct import Struct

from cluster.broker.metadata_cache import GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC, TopicMetadata
from cluster.coordinator.context import ConsumerConfig, GroupConfig
from cluster.coordinator.group_coordinator import GroupCoordinator
from cluster.coordinator.group_kind import GroupKind
from cluster.coordinator.runtime import AskKey, Runtime, Taken, TimerKey
from cluster.effects import Append, Ask, Effect, Publication, PublishConsumer
from cluster.protocol.errors import DecodeError
from pylog._engine import Appended, Appending, ConsumerTerms
from pylog._native import BatchBuilder, NativeError, batch_rows, read_batch_header
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from cluster.broker.marker_log import MarkerLog
    from cluster.broker.replica_manager import HostedPartition
    from cluster.broker.transactions import Transactions
    from cluster.config import Config
    from cluster.coordinator.group_coordinator import AnyGroup
    from cluster.coordinator.journal import GroupCounts
    from cluster.coordinator.transaction_records import TransactionStored
    from pylog._engine import Upcall
    from pylog._native import BatchHeader

    Row = tuple[int, bytes | None, bytes | None]
    """Offset, key and value."""

#: Records are put into one batch up to this size; it stays below any sensible max.message.bytes of an internal topic.
_BATCH_BYTES: Final = 512 << 10
_RECORD_OVERHEAD: Final = 32
#: One batch of coordinator records never decompresses to more than this.
_LARGEST_BATCH_BYTES: Final = 1 << 30
_CONTROL: Final = 0x20
_TRANSACTIONAL: Final = 0x10
_SIZE: Final = Struct(">i")
_COMMIT_MARKER: Final = b"\0\1"


def new_id() -> str:
    """A random UUID (version 4) in text; the uuid module would cost more to import than a whole group request."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def group_config(config: Config) -> GroupConfig:
    return GroupConfig(
        consumer=ConsumerConfig(
            session_timeout_ms=config.int("group.consumer.session.timeout.ms"),
            min_session_timeout_ms=config.int("group.consumer.min.session.timeout.ms"),
            max_session_timeout_ms=config.int("group.consumer.max.session.timeout.ms"),
            heartbeat_interval_ms=config.int("group.consumer.heartbeat.interval.ms"),
            min_heartbeat_interval_ms=config.int("group.consumer.min.heartbeat.interval.ms"),
            max_heartbeat_interval_ms=config.int("group.consumer.max.heartbeat.interval.ms"),
            assignment_interval_ms=config.int("group.consumer.assignment.interval.ms"),
            max_size=config.int("group.consumer.max.size"),
            assignors=config.list("group.consumer.assignors"),
            migration_policy=config.str("group.consumer.migration.policy"),
            regex_refresh_interval_ms=config.int("group.consumer.regex.refresh.interval.ms"),
        ),
        min_session_timeout_ms=config.int("group.min.session.timeout.ms"),
        max_session_timeout_ms=config.int("group.max.session.timeout.ms"),
        max_size=config.int("group.max.size"),
        initial_rebalance_delay_ms=config.int("group.initial.rebalance.delay.ms"),
        offset_metadata_max_bytes=config.int("offset.metadata.max.bytes"),
        offsets_retention_ms=config.int("offsets.retention.minutes") * 60_000,
        offsets_retention_check_interval_ms=config.int("offsets.retention.check.interval.ms"),
        offsets_commit_timeout_ms=config.int("offsets.commit.timeout.ms"),
        offsets_topic_partitions=config.int("offsets.topic.num.partitions"),
    )


def _is_alone(append: Append) -> bool:
    """Whether it has to have a batch of its own."""
    return append.producer is not None or append.heard is not None


def _key_values(body: bytes) -> list[tuple[bytes, bytes]]:
    """Of UP_OFFSETS: each the size of the key, the key, the size of the value, the value."""
    found = []
    at, end = 0, len(body)
    while at < end:
        value_at = at + 8 + _SIZE.unpack_from(body, at)[0]
        next_at = value_at + _SIZE.unpack_from(body, value_at - 4)[0]
        found.append((body[at + 4 : value_at - 4], body[value_at:next_at]))
        at = next_at
    return found


class _Topics:
    """The metadata cache as coordinators ask it."""

    __slots__ = ("_broker",)

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def partition_count(self, topic: str) -> int:
        known = self._broker.metadata.topics.get(topic)
        return 0 if known is None else known.partition_count

    def topic_id(self, topic: str) -> bytes | None:
        known = self._broker.metadata.topics.get(topic)
        return None if known is None else known.topic_id

    def topic_name(self, topic_id: bytes) -> str | None:
        return self._broker.metadata.topic_name(topic_id)

    def version(self) -> int:
        return self._broker.metadata.version

    def partition_racks(self, topic: str) -> list[list[str]]:
        metadata = self._broker.metadata
        racks = {broker.broker_id: broker.rack for broker in metadata.brokers.values() if broker.rack is not None}
        found: list[list[str]] = [[] for _ in range(metadata.topics[topic].partition_count)]
        for partition in metadata.topics[topic].partitions if racks else ():
            # Each rack once, however many of the replicas are in it.
            found[partition.partition] = sorted({racks[each] for each in partition.replicas if each in racks})
        return found


class _Batch(NamedTuple):
    """Appends that are written as one."""

    hosted: HostedPartition
    run: list[Append]
    data: bytes


class Coordinators:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._builder = BatchBuilder()
        self._loading: dict[tuple[str, int], Iterator[None]] = {}
        self._log = Logger(f"GroupCoordinator {broker.broker_id}")
        self._markers: MarkerLog | None = None
        self._transactions: Transactions | None = None
        self._topics = _Topics(broker)
        config = group_config(broker.config)
        self._group_kind = GroupKind(config, new_id, self._topics, broker.admin.group_overrides, self._heard)
        broker.engine.take_offsets(config.offsets_commit_timeout_ms, config.offset_metadata_max_bytes)
        self.runtime = Runtime([self._group_kind])

    def _heard(self, group_id: str, member_id: str, now_ms: int) -> int | None:
        """When the data plane last answered a heartbeat of a member that was published to it."""
        ago_ms = self._broker.engine.member_heard(group_id, member_id)
        return None if ago_ms is None else now_ms - ago_ms

    @property
    def markers(self) -> MarkerLog:
        if self._markers is None:
            from cluster.broker.marker_log import MarkerLog

            self._markers = MarkerLog(self._broker)
        return self._markers

    @property
    def transactions(self) -> Transactions:
        """Built when first needed: a broker without transactions does not pay for them."""
        if self._transactions is None:
            from cluster.broker.transactions import Transactions, transaction_kind

            self.runtime.host(transaction_kind(self._broker, self._topics))
            self._transactions = Transactions(self._broker, self.runtime, self.markers)
        return self._transactions

    def stop(self) -> None:
        if self._transactions is not None:
            self._transactions.stop()

    # ------------------------------------------------------------------------------------------------- loading

    def load(self, topic: TopicMetadata, *, at_once: bool = True) -> None:
        """Take up the shards of an internal topic that we lead and do not serve yet, replaying their records: before
        this returns, or (at_once False) a buffer a turn, while others are served and requests to these shards are told
        COORDINATOR_LOAD_IN_PROGRESS."""
        if topic.name == TRANSACTION_STATE_TOPIC:
            _ = self.transactions
        if not self.runtime.is_coordinator_topic(topic.name):
            return
        for partition in topic.partitions:
            if partition.leader != self._broker.broker_id:
                continue
            if self.runtime.load_start(topic.name, partition.partition, partition.leader_epoch):
                steps = self._replay(topic.name, partition.partition)
                if at_once:
                    while self._load_on(topic.name, partition.partition, steps):
                        pass
                else:
                    self._load_later(topic.name, partition.partition, steps)

    def _load_later(self, topic: str, index: int, steps: Iterator[None]) -> None:
        """Another buffer with each turn. What was unloaded meanwhile, or is loaded anew, has other steps."""
        key = (topic, index)
        self._loading[key] = steps

        def go_on() -> None:
            if self._loading.get(key) is not steps:
                return
            if self._load_on(topic, index, steps):
                self._broker.loop.post(go_on)
            else:
                self._loading.pop(key, None)

        self._broker.loop.post(go_on)

    def _load_on(self, topic: str, index: int, steps: Iterator[None]) -> bool:
        """One buffer more; False: that was all. A shard whose records cannot be read is not served: its groups get
        NOT_COORDINATOR, the others go on."""
        collects = gc.isenabled()
        gc.disable()  # all that a load makes stays: looking through it again and again would take a fifth of the time
        try:
            next(steps)
            return True
        except StopIteration:
            self._broker.loop.apply(self.runtime.load_done(topic, index, self._broker.now_ms()))
        except (DecodeError, KafkaError, OSError) as error:
            self._log.error("not loaded, its groups are not served", shard=f"{topic}-{index}", why=error)
            self.unload(topic, index)
        except Exception:  # or it would be said to be loading for ever
            self._log.exception("not loaded, its groups are not served", shard=f"{topic}-{index}")
            self.unload(topic, index)
        finally:
            if collects:
                gc.enable()
        return False

    def _replay(self, topic: str, index: int) -> Iterator[None]:
        """Replays to the end of the log: what is in the log of a new leader will be committed, if it is not yet."""
        hosted = self._broker.replicas.leader(topic, index)
        end = hosted.info().log_end_offset
        offset = hosted.source.info().log_start_offset
        prefix = "transaction.state.log" if topic == TRANSACTION_STATE_TOPIC else "offsets"
        chunk_bytes = self._broker.config.int(f"{prefix}.load.buffer.size")
        count = 0
        while offset < end:
            data = hosted.source.read(offset, chunk_bytes, max_offset=end)
            if not data:
                break
            position = 0
            rows: list[Row] = []  # of batches one after another in which there is nothing else to see
            while position < len(data):
                header = read_batch_header(data, position)
                batch = data[position : position + header.size_bytes]
                found = batch_rows(batch, _LARGEST_BATCH_BYTES, header)
                count += len(found)
                if header.attributes & (_CONTROL | _TRANSACTIONAL):
                    self._replay_rows(topic, index, rows)
                    rows = []
                    self._replay_in_transaction(topic, index, found, header)
                else:
                    rows += found
                position += header.size_bytes
                offset = header.base_offset + header.last_offset_delta + 1
            self._replay_rows(topic, index, rows)
            yield
        self.runtime.committed(topic, index, end, self._broker.now_ms())
        if count:
            self._log.info("loaded", shard=f"{topic}-{index}", records=count, end_offset=end)

    def _replay_rows(self, topic: str, index: int, rows: list[Row]) -> None:
        if topic == TRANSACTION_STATE_TOPIC:
            # What was written of a transactional id before its last record changes nothing: it need not be decoded.
            rows = list({row[1]: row for row in rows}.values())
        self.runtime.replay_all(topic, index, rows)

    def _replay_in_transaction(self, topic: str, index: int, rows: list[Row], header: BatchHeader) -> None:
        if not header.attributes & _CONTROL:
            self.runtime.replay_all(topic, index, rows, header.producer_id)
            return
        for _, key, _ in rows:
            commit = key is not None and key[2:4] == _COMMIT_MARKER
            self.runtime.replay_marker(topic, index, header.producer_id, commit=commit)

    # ------------------------------------------------------------------------------------------------- writing

    def append(self, turn: list[list[Append]]) -> None:
        """Write the appends of one turn, those to one shard in as few batches as their size allows, and all at once."""
        loop = self._broker.loop
        batches: list[_Batch] = []
        for appends in turn:
            loop.guard(self._batch_up, appends, batches)
        items = [Appending(hosted.number, data, run[-1].token, run[-1].heard) for hosted, run, data in batches]
        for batch, result in zip(batches, self._broker.engine.append_all(items), strict=True):
            loop.guard(self._written, batch, result)

    def _batch_up(self, appends: list[Append], batches: list[_Batch]) -> None:
        """Appends to one shard, or markers for one partition, as batches."""
        shard = appends[0].shard
        try:
            hosted = self._broker.replicas.leader(shard.topic, shard.partition)
        except KafkaError as error:
            self._failed(appends, error.code)
            return
        run: list[Append] = []
        size = 0
        for append in appends:
            more = sum([len(key) + len(value or b"") + _RECORD_OVERHEAD for key, value in append.records])
            alone = _is_alone(append) or (run and _is_alone(run[-1]))
            if run and (alone or size + more > _BATCH_BYTES):
                batches.append(_Batch(hosted, run, self._batch(run)))
                run, size = [], 0
            run.append(append)
            size += more
        batches.append(_Batch(hosted, run, self._batch(run)))

    def _batch(self, run: list[Append]) -> bytes:
        now_ms = self._broker.now_ms()
        builder = self._builder
        producer = run[0].producer
        if producer is None:
            builder.reset(0, 0)
        else:
            attributes = _TRANSACTIONAL | _CONTROL if run[0].control else _TRANSACTIONAL
            builder.reset(0, attributes, producer_id=producer.producer_id, producer_epoch=producer.epoch)
        for append in run:
            for key, value in append.records:
                builder.add(now_ms, key, value)
        return builder.finish()

    def _written(self, batch: _Batch, result: Appended | KafkaError | NativeError | OSError) -> None:
        hosted, run, _ = batch
        if isinstance(result, KafkaError):
            self._failed(run, result.code)
        elif not isinstance(result, Appended):
            self._log.error("append failed", partition=hosted.source.partition, error=result)
            is_io = isinstance(result, OSError)
            self._failed(run, ErrorCode.KAFKA_STORAGE_ERROR if is_io else ErrorCode.UNKNOWN_SERVER_ERROR)
        elif run[0].control:
            self.markers.appended(run[0].token, committed=result.committed)
        else:
            now_ms = self._broker.now_ms()
            effects: list[Effect] = []
            offset = result.base_offset
            for append in run:
                last = offset + len(append.records) - 1
                effects += self.runtime.appended(append.token, offset, last, now_ms)
                offset = last + 1
            if result.committed:
                effects += self.runtime.committed(hosted.topic, hosted.index, offset, now_ms)
            self._broker.loop.apply(effects)

    def _failed(self, run: Iterable[Append], code: ErrorCode) -> None:
        effects: list[Effect] = []
        for append in run:
            if append.control:
                self.markers.failed(append.token, code)
            else:
                effects += self.runtime.appended(append.token, code, -1, self._broker.now_ms())
        self._broker.loop.apply(effects)

    def committed(self, upcall: Upcall) -> None:
        """The high watermark passed what `append` wrote, or a marker; it covers everything before it too."""
        try:
            hosted = self._broker.replicas.by_number(upcall.partition)
            if hosted is not None and self.runtime.is_coordinator_topic(hosted.topic):
                end = hosted.info().high_watermark
                self._broker.loop.apply(self.runtime.committed(hosted.topic, hosted.index, end, self._broker.now_ms()))
        finally:  # whoever wrote a marker waits for this word, whatever a coordinator makes of it
            if upcall.token < 0:
                self.markers.committed(upcall)

    # ------------------------------------------------------------------------------------------------- members

    def publish(self, publication: Publication) -> None:
        """The data plane may answer heartbeats of these members, and take their offsets if we lead the shard."""
        shard, number = publication.shard, -1
        hosted = None if shard is None else self._broker.replicas.find(shard.topic, shard.partition)
        if hosted is not None:
            number = hosted.number
        engine = self._broker.engine
        if isinstance(publication, PublishConsumer):
            group_id, member_id, instance_id, client_id, host, epoch, interval_ms, topics, since, _ = publication
            terms = ConsumerTerms(epoch, interval_ms, since, number, topics)
            engine.publish_consumer(group_id, (member_id, instance_id, client_id, host), terms)
        else:
            engine.publish_members(publication.group_id, publication.epoch, publication.members, number)

    def taken(self, upcall: Upcall) -> None:
        """The data plane has written offsets of members that were published to it."""
        hosted = self._broker.replicas.by_number(upcall.partition)
        if hosted is not None:
            taken = Taken(_key_values(upcall.body), upcall.offset, upcall.slot, upcall.b)
            self.group_counts.offsets_committed += len(taken.records)
            self._broker.loop.apply(self.runtime.taken(hosted.topic, hosted.index, taken, self._broker.now_ms()))

    # ------------------------------------------------------------------------------------------------- time and topics

    def timer(self, key: Hashable) -> Iterable[Effect]:
        if not isinstance(key, TimerKey):
            self.transactions.timer()
            return ()
        return self.runtime.timer(key, self._broker.now_ms())

    def ask(self, ask: Ask) -> None:
        """What a coordinator wants to know or have done."""
        assert isinstance(ask.key, AskKey)
        if ask.key.shard.topic == TRANSACTION_STATE_TOPIC:
            self.transactions.ask(ask.key, ask.question)
            return
        from cluster.coordinator.consumer_regex import ResolveRegexes

        assert isinstance(ask.question, ResolveRegexes)
        self._resolve(ask.key, ask.question.regexes)

    def _resolve(self, key: AskKey, regexes: tuple[str, ...]) -> None:
        """Find the topics that match patterns of clients, on a thread of its own: how long that takes is theirs."""
        from cluster.coordinator.consumer_regex import Resolved, matching

        metadata, loop = self._broker.metadata, self._broker.loop
        names, version, now_ms = list(metadata.topics), metadata.version, self._broker.now_ms()

        def run() -> None:
            resolved = Resolved(matching(regexes, names), version, now_ms)
            loop.post(lambda: loop.apply(self.runtime.told(key, resolved, self._broker.now_ms())))

        threading.Thread(target=run, name="regexes", daemon=True).start()

    def cancel_ask(self, key: Hashable) -> None:
        if self._transactions is not None:
            self._transactions.cancel_ask(key)

    def all_groups(self) -> list[AnyGroup]:
        """Those that are coordinated here, at this moment."""
        groups: list[AnyGroup] = []
        for machine in self.runtime.machines(GroupKind.topic):
            assert isinstance(machine, GroupCoordinator)
            groups += machine.groups()
        return groups

    @property
    def group_counts(self) -> GroupCounts:
        return self._group_kind.counts

    def all_transactions(self) -> list[TransactionStored]:
        """The transactional ids that are coordinated here, at this moment."""
        if self._transactions is None:
            return []
        from cluster.coordinator.transaction_coordinator import TransactionCoordinator

        found: list[TransactionStored] = []
        for machine in self.runtime.machines(TRANSACTION_STATE_TOPIC):
            assert isinstance(machine, TransactionCoordinator)
            found += machine.stored()
        return found

    def topics_deleted(self, names: Iterable[str]) -> None:
        self._broker.loop.apply(self.runtime.on_topics_deleted(names, self._broker.now_ms()))

    def unload(self, topic: str, partition: int) -> None:
        self._loading.pop((topic, partition), None)
        if self._transactions is not None and topic == GROUP_METADATA_TOPIC:
            self._transactions.verifier.unloaded(partition)
        self._broker.loop.apply(self.runtime.unload(topic, partition))

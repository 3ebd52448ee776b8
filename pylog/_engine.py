"""The engine half of the C module: reactor, hosted partitions, connections, upcalls.

Keeps true: every return code is looked at; an engine is closed once, by `close`, and a closed one raises ValueError
instead of reaching C; the bytes of a request are copied and given back to C before `poll` returns, so nothing borrowed
leaves this file. Logs of hosted partitions stay their `Log` handles' while hosted, and after `remove_partition` are
the caller's alone again.

All methods may be called from any thread, `poll` from one at a time. Methods about a partition raise
UNKNOWN_TOPIC_OR_PARTITION when it is not hosted (any more); `answer`, `skip`, `throttle`, `disconnect` and
`set_principal` do nothing when the connection is gone, for its client is gone too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from struct import Struct

from pylog._native import INT64_MAX, Log, LogSettings, NativeError, Sys, check
from pylog._plog import ffi, lib
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pylog._cleaning import NativeCleaning

UP_REQUEST = 1
UP_CLOSED = 2
UP_COMMITTED = 3
UP_ROLLED = 4
UP_EPOCH = 5
UP_STORAGE_ERROR = 6
UP_ISR = 8
UP_GRANT = 9
UP_ROOM = 10
UP_SYNC_FAILED = 11
UP_DAMAGE = 12
UP_FOLLOW = 13
UP_FETCHER = 14
UP_VERIFY = 15
UP_OFFSETS = 16

ROLE_OFFLINE = 0
ROLE_LEADER = 1
ROLE_FOLLOWER = 2

PRINCIPAL_ANY = (1 << 31) - 1
RESOURCE_ANY = 1
RESOURCE_TOPIC = 2
RESOURCE_GROUP = 3
RESOURCE_CLUSTER = 4
RESOURCE_TRANSACTIONAL_ID = 5
GRANT_READ = 1 << 3
GRANT_WRITE = 1 << 4
GRANT_CLUSTER_ACTION = 1 << 9
GRANT_ALL = GRANT_READ | GRANT_WRITE | GRANT_CLUSTER_ACTION

FETCHER_LOST = 0
FETCHER_CONNECTED = 1
FETCHER_REFUSED = 2

_ADDRESS_BYTES = 46
_UPCALL = Struct("@iiqqqqqqqiiiiqPiPIq")  # plog_upcall
assert _UPCALL.size == ffi.sizeof("plog_upcall")
_GONE = (lib.PLOG_E_CLOSED, lib.PLOG_E_STOPPED)


class EngineConfig(NamedTuple):
    """plog_engine_config; the comments beside its fields in plog.h name Kafka's keys."""

    broker_id: int
    max_request_bytes: int
    send_buffer_bytes: int
    receive_buffer_bytes: int
    connections_max_idle_ms: int
    max_connections: int
    max_connections_per_ip: int
    fetch_max_bytes: int
    fetch_session_slots: int
    disk_threads: int
    send_mode: int
    answer_cache_bytes: int
    replica_lag_time_max_ms: int
    max_upcall_bytes: int


class PartitionState(NamedTuple):
    """plog_partition_state: all that is decided about a hosted partition."""

    role: int
    leader_epoch: int
    leader_id: int
    replicas: Sequence[int]
    isr: Sequence[int]
    min_insync_replicas: int
    max_message_bytes: int
    timestamp_type: int
    timestamp_before_max_ms: int
    timestamp_after_max_ms: int
    compression: int
    compression_level: int
    compacted: bool
    internal: bool
    high_watermark: int
    joining: Sequence[int] = ()


class ConsumerTerms(NamedTuple):
    """plog_consumer_terms. offsets: -1: they are not taken. topics: the number for which this was decided."""

    epoch: int
    heartbeat_interval_ms: int
    commits_since: int
    offsets: int
    topics: int


class FetcherConfig(NamedTuple):
    """plog_fetcher_config; the comments beside its fields in plog.h name Kafka's keys. host: an address or a name."""

    leader_id: int
    host: str
    port: int
    client_id: str
    replica_id: int
    broker_epoch: int
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    partition_max_bytes: int
    backoff_ms: int
    receive_buffer_bytes: int
    connect_timeout_ms: int
    request_timeout_ms: int
    fetch_version: int


class ReplicaInfo(NamedTuple):
    """A replica as its leader sees it; log_end, log_start and lag_ms are -1 while it has not fetched in this epoch."""

    broker_id: int
    in_isr: bool
    joining: bool
    log_end: int
    log_start: int
    lag_ms: int
    broker_epoch: int


class Hosting(NamedTuple):
    """A partition to be hosted. log: taken when it is; None: its directory has failed, everybody is refused."""

    topic: str
    topic_id: bytes
    partition: int
    log: Log | None
    state: PartitionState


class TopicLeaders(NamedTuple):
    """What is told of a topic of the cluster: (index, leader's broker id or -1, leader epoch or -1 for a partition that
    is gone) of some of its partitions; of none: the topic is gone. `topic_id`: 16 bytes, zeros when it has none."""

    topic: str
    topic_id: bytes
    internal: bool
    partitions: Sequence[tuple[int, int, int]]


#: plog_partition_info: of words of 8 bytes the first are its role and epoch, the others its offsets and its size.
_INFO: Final = Struct("@2i5q")
_INFO_WORDS: Final = 6


class EnginePartitionInfo(NamedTuple):
    """A hosted partition as it is now."""

    role: int
    leader_epoch: int
    log_start_offset: int
    log_end_offset: int
    high_watermark: int
    last_stable_offset: int
    size_bytes: int


class PartitionColumns(NamedTuple):
    """Many hosted partitions as they are now, a list of each figure. `roles`: negative when it is not hosted."""

    roles: list[int]
    log_start_offsets: list[int]
    log_end_offsets: list[int]
    high_watermarks: list[int]
    last_stable_offsets: list[int]
    sizes_bytes: list[int]


class Upcall(NamedTuple):
    """What C tells: kind is UP_*; the fields that a kind does not use are -1, 0 or None."""

    kind: int
    error: int
    conn: int
    slot: int
    partition: int
    offset: int
    token: int
    a: int
    b: int
    api_key: int
    api_version: int
    correlation_id: int
    listener_id: int
    received_ms: int
    client_id: bytes | None
    body: bytes
    generation: int


class Appended(NamedTuple):
    """Where a batch of ours lies; committed: the high watermark has passed it, no UP_COMMITTED follows."""

    base_offset: int
    last_offset: int
    committed: bool


class Appending(NamedTuple):
    """A batch to be appended as the leader with acks=all. token: comes back in UP_COMMITTED. heard: only if no offsets
    were taken from there on (UP_OFFSETS), else COORDINATOR_LOAD_IN_PROGRESS; None: whatever was taken."""

    partition: int
    batch: bytes
    token: int
    heard: int | None = None


class Peer(NamedTuple):
    """Both ends of a connection."""

    peer_address: str
    peer_port: int
    local_address: str
    local_port: int


class EngineStats(NamedTuple):
    """Counters since start; those named _now are of this moment."""

    connections_now: int
    connections: int
    requests: int
    produce_requests: int
    fetch_requests: int
    upcalls: int
    cached_answers: int
    heartbeats: int
    offset_commits: int
    bytes_in: int
    bytes_out: int
    records_in: int
    batches_in: int
    failed_produce: int
    failed_fetch: int
    malformed: int
    delayed_now: int
    cold_reads: int
    fetch_sessions_now: int
    buffer_bytes_now: int
    turns: int
    syncs: int
    sync_us: int
    checked_bytes: int
    damaged_batches: int
    produced_bytes: int
    fetched_bytes: int
    replicated_in_bytes: int
    replicated_out_bytes: int


#: The kinds of requests are API keys, for Fetch of clients; and one more.
FOLLOWER_FETCH: Final = 96


class RequestTimes(NamedTuple):
    """Requests of one kind since start: those that came, and the answers that the kernel has by how long they took.

    `total`, `ours`: how many took up to each of `time_bounds_us`, and longer than all, and not up to the one before.
    `ours`: without what they waited for by intention, `waited_ns` in all.
    """

    requests: int
    bytes_in: int
    bytes_out: int
    total_ns: int
    waited_ns: int
    waited: int
    total: list[int]
    ours: list[int]


def time_bounds_us() -> list[int]:
    return [lib.plog_time_bound_us(bucket) for bucket in range(lib.PLOG_TIME_BUCKETS - 1)]


class TopicStats(NamedTuple):
    """What clients have put into a topic's partitions here, and been given, since its first was hosted."""

    records_in: int
    bytes_in: int
    bytes_out: int


def _check_partition(rc: int, partition: int) -> None:
    if rc == lib.PLOG_E_CLOSED:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"partition {partition} is not hosted")
    check(rc)


class Engine:
    """The data plane of one broker."""

    __slots__ = ("_capacity", "_logs", "_pointer", "_sys", "_upcalls")

    def __init__(self, sys: Sys, config: EngineConfig) -> None:
        out = ffi.new("plog_engine **")
        check(lib.plog_engine_open(sys.pointer, ffi.new("plog_engine_config *", config), out))
        self._pointer = out[0]
        self._sys = sys  # its table outlives the engine
        self._logs: dict[int, Log] = {}
        self._capacity = 0
        self._upcalls: Any = None

    @property
    def pointer(self) -> Any:
        if not self._pointer:
            raise ValueError("the engine is closed")
        return self._pointer

    # ------------------------------------------------------------------------------------------------- life

    def start(self) -> None:
        """Start the reactor thread."""
        check(lib.plog_engine_start(self.pointer))

    def stop(self, drain_ms: int) -> None:
        """Stop reading, send for at most drain_ms what is ready, close the connections. Partitions stay hosted."""
        check(lib.plog_engine_stop(self.pointer, drain_ms))

    def close(self, clean: bool = False) -> None:
        """Free everything. Logs that are still hosted are closed, clean or not. Harmless when it is closed."""
        pointer, self._pointer = self._pointer, None
        if not pointer:
            return
        rc = lib.plog_engine_close(pointer, clean)
        for log in self._logs.values():
            log.disown()
        self._logs.clear()
        check(rc)

    def listen(self, address: str, port: int, listener_id: int) -> int:
        """Accept connections on an address in text ("": any) and a port (0: a free one); returns the port."""
        out = ffi.new("int32_t *")
        check(lib.plog_engine_listen(self.pointer, address.encode(), port, listener_id, out), f"{address}:{port}")
        return int(out[0])

    def serve(self, api_key: int, min_version: int, max_version: int) -> None:
        """Which versions of Produce (0) and Fetch (1) are served; a request outside closes its connection."""
        check(lib.plog_engine_serve(self.pointer, api_key, min_version, max_version))

    # ------------------------------------------------------------------------------------------------- partitions

    def add_partition(self, topic: str, topic_id: bytes, index: int, log: Log, state: PartitionState) -> int:
        """Host a partition, whose log nobody else may change from now on; returns its number."""
        (result,) = self.add_partitions([Hosting(topic, topic_id, index, log, state)])
        if isinstance(result, int):
            return result
        raise result

    def add_partitions(self, hostings: Sequence[Hosting]) -> list[int | KafkaError | NativeError | OSError]:
        """Host many partitions, each for itself: for each its number, or why it is not hosted."""
        entries = ffi.new("plog_hosting[]", len(hostings))
        structs = _StateStructs()
        names: dict[str, Any] = {}
        ids: dict[bytes, Any] = {}
        for entry, (topic, topic_id, index, log, state) in zip(entries, hostings, strict=True):
            if topic not in names:
                names[topic] = ffi.new("char[]", topic.encode())
            if topic_id not in ids:
                ids[topic_id] = ffi.from_buffer(topic_id)
            entry.topic = names[topic]
            entry.topic_id = ids[topic_id]
            entry.index = index
            entry.log = ffi.NULL if log is None else log.pointer
            entry.state = structs.of(state)
        lib.plog_engine_add_partitions(self.pointer, entries, len(hostings))
        results: list[int | KafkaError | NativeError | OSError] = []
        for entry, hosting in zip(entries, hostings, strict=True):
            try:
                check(entry.rc, hosting.topic)
            except (KafkaError, NativeError, OSError) as error:
                results.append(error)
                continue
            number = int(entry.partition)
            if hosting.log is not None:
                self._logs[number] = hosting.log
            results.append(number)
        return results

    def publish(self, partition: int, state: PartitionState) -> None:
        """Tell the engine what is true of a partition now; in force when this returns."""
        self.publish_all([(partition, state)])

    def publish_all(self, states: Sequence[tuple[int, PartitionState]]) -> None:
        """The same for many partitions. Raises for the first that is not taken up, when all others are."""
        publications = ffi.new("plog_publication[]", len(states))
        structs = _StateStructs()
        for publication, (partition, state) in zip(publications, states, strict=True):
            publication.partition = partition
            publication.state = structs.of(state)
        lib.plog_engine_publish_all(self.pointer, publications, len(states))
        for publication in publications:
            if publication.rc:
                _check_partition(publication.rc, publication.partition)

    def remove_partition(self, partition: int, error: int) -> Log:
        """Stop hosting: whoever waits gets error. The log is the caller's again."""
        return self.remove_partitions([partition], error)[0]

    def remove_partitions(self, partitions: Sequence[int], error: int) -> list[Log]:
        """The same for many at once; when one is not hosted, it raises after the others are removed."""
        logs = ffi.new("plog_log *[]", len(partitions))
        numbers = ffi.new("int64_t[]", partitions)
        lib.plog_engine_remove_partitions(self.pointer, numbers, len(partitions), error, logs)
        removed = [self._logs.pop(number) for number, log in zip(partitions, logs, strict=True) if log]
        if len(removed) < len(partitions):
            missing = next(number for number, log in zip(partitions, logs, strict=True) if not log)
            _check_partition(lib.PLOG_E_CLOSED, missing)
        return removed

    def take_offline(self, partitions: Sequence[int]) -> list[Log]:
        """Their directory has failed: everybody gets KAFKA_STORAGE_ERROR from now on. Their logs are the caller's
        again; the other methods about a partition do not know them any more, but `forget_offline`."""
        logs = ffi.new("plog_log *[]", len(partitions))
        numbers = ffi.new("int64_t[]", partitions)
        lib.plog_engine_take_offline(self.pointer, numbers, len(partitions), logs)
        return [self._logs.pop(number) for number, log in zip(partitions, logs, strict=True) if log]

    def forget_offline(self, partitions: Sequence[int]) -> None:
        """Stop hosting partitions that have no log."""
        logs = ffi.new("plog_log *[]", len(partitions))
        numbers = ffi.new("int64_t[]", partitions)
        error = int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        lib.plog_engine_remove_partitions(self.pointer, numbers, len(partitions), error, logs)

    def exchange_log(self, partition: int, log: Log, directory: str, most_bytes: int) -> Log | None:
        """Go on with another log, a copy of the partition's, once it is complete and its directory is renamed; returns
        the one that was used before. None: more than most_bytes are missing, of which some were copied."""
        old = ffi.new("plog_log **")
        rc = lib.plog_engine_exchange_log(self.pointer, partition, log.pointer, os.fsencode(directory), most_bytes, old)
        if rc == lib.PLOG_E_AGAIN:
            return None
        if rc < 0:
            check(rc, log.directory)
        _check_partition(rc, partition)
        used, self._logs[partition] = self._logs[partition], log
        log.directory = directory
        return used

    def keep_room(self, directory: str, reserve_bytes: int, reserve_percent: float) -> None:
        """Refuse what clients send to partitions in a data directory when less is left on its disk than the larger of
        the two; both 0: never. UP_ROOM tells when that begins and ends."""
        check(lib.plog_engine_keep_room(self.pointer, os.fsencode(directory), reserve_bytes, reserve_percent))

    def keep_synced(self, directory: str, always: bool) -> None:
        """Answer acks != 0 when the records are on the disk, in partitions of a data directory that are hosted from now
        on; their logs are on the disk when they are hosted. Always, or when as many are not as their flush.messages
        says. UP_SYNC_FAILED tells that the directory is lost."""
        check(lib.plog_engine_keep_synced(self.pointer, os.fsencode(directory), always))

    def partition_info(self, partition: int) -> EnginePartitionInfo:
        out = ffi.new("plog_partition_info *")
        _check_partition(lib.plog_engine_partition_info(self.pointer, partition, out), partition)
        return EnginePartitionInfo(*_INFO.unpack(ffi.buffer(out)))

    def partition_infos(self, partitions: Sequence[int]) -> PartitionColumns:
        """The same of many in one call, and without an object for each."""
        numbers, infos = ffi.new("int64_t[]", partitions), ffi.new("plog_partition_info[]", len(partitions))
        lib.plog_engine_partition_infos(self.pointer, numbers, len(partitions), infos)
        data = memoryview(ffi.buffer(infos)).cast("B")
        words = data.cast("q")
        return PartitionColumns(
            data.cast("i")[:: 2 * _INFO_WORDS].tolist(),
            *[words[column::_INFO_WORDS].tolist() for column in range(1, _INFO_WORDS)],
        )

    def append(self, partition: int, batch: bytes, token: int) -> Appended:
        """Append one batch as the leader with acks=all; UP_COMMITTED with token follows unless `committed`."""
        (result,) = self.append_all([Appending(partition, batch, token)])
        if isinstance(result, Appended):
            return result
        raise result

    def append_all(self, items: Sequence[Appending]) -> list[Appended | KafkaError | NativeError | OSError]:
        """The same for many, in order, each for itself: for each where it lies, or why it was not appended."""
        entries = ffi.new(
            "plog_appending[]",
            [
                (partition, ffi.from_buffer(batch), len(batch), token, INT64_MAX if heard is None else heard)
                for partition, batch, token, heard in items
            ],
        )
        lib.plog_engine_append_all(self.pointer, entries, len(items))
        return [_appended(entry) for entry in entries]

    def append_follower(self, partition: int, batches: bytes, leader_high_watermark: int, leader_log_start: int) -> int:
        """Append what was fetched from the leader, and take over its marks; returns the last offset of the log."""
        last = ffi.new("int64_t *")
        rc = lib.plog_engine_append_follower(
            self.pointer,
            partition,
            ffi.from_buffer(batches),
            len(batches),
            leader_high_watermark,
            leader_log_start,
            last,
        )
        _check_partition(rc, partition)
        return int(last[0])

    def configure_log(self, partition: int, settings: LogSettings) -> None:
        config = ffi.new("plog_log_config *", settings)
        _check_partition(lib.plog_engine_configure_log(self.pointer, partition, config), partition)

    def roll(self, partition: int) -> None:
        _check_partition(lib.plog_engine_roll(self.pointer, partition), partition)

    def truncate(self, partition: int, offset: int, fully: bool) -> None:
        """Cut everything at and above offset; fully: drop everything and start at offset."""
        _check_partition(lib.plog_engine_truncate(self.pointer, partition, offset, fully), partition)

    def delete_records(self, partition: int, offset: int) -> int:
        """Raise the log start to offset (-1: the high watermark); returns the log start. OFFSET_OUT_OF_RANGE."""
        out = ffi.new("int64_t *")
        _check_partition(lib.plog_engine_delete_records(self.pointer, partition, offset, out), partition)
        return int(out[0])

    def delete_segments(self, partition: int, upto: int) -> int:
        """Forget the segments below the active one that end at or below upto; returns how many."""
        out = ffi.new("int32_t *")
        _check_partition(lib.plog_engine_delete_segments(self.pointer, partition, upto, out), partition)
        return int(out[0])

    def expire_producers(self, partition: int, before_ms: int) -> int:
        """Forget producers idle since before_ms; returns how many."""
        out = ffi.new("int32_t *")
        _check_partition(lib.plog_engine_expire_producers(self.pointer, partition, before_ms, out), partition)
        return int(out[0])

    def replace(self, partition: int, cleaning: NativeCleaning) -> None:
        """Put the finished group of a pass of compaction in place. Raises NativeError when the log has changed."""
        _check_partition(lib.plog_engine_replace(self.pointer, partition, cleaning.pointer), partition)

    # ------------------------------------------------------------------------------------------------- upcalls, answers

    def poll(self, timeout_ms: int, capacity: int) -> list[Upcall]:
        """Wait at most timeout_ms (-1: for ever) and take up to capacity upcalls. Empty: time is up, woken, stopped."""
        if capacity > self._capacity:
            self._upcalls = ffi.new("plog_upcall[]", capacity)
            self._capacity = capacity
        out = self._upcalls
        count = ffi.new("int32_t *")
        pointer = self.pointer
        rc = lib.plog_engine_poll(pointer, timeout_ms, out, capacity, count)
        if rc != lib.PLOG_E_STOPPED:
            check(rc)
        return [_take(pointer, out + i) for i in range(count[0])]

    def wake(self) -> None:
        """Let `poll` return."""
        lib.plog_engine_wake(self.pointer)

    def answer(self, conn: int, slot: int, data: bytes, cacheable: bool = False, generation: int = 0) -> None:
        """Answer a request; data begins with the response header. cacheable: C gives it to whoever asks the same."""
        rc = lib.plog_engine_answer(self.pointer, conn, slot, ffi.from_buffer(data), len(data), cacheable, generation)
        if rc not in _GONE:
            check(rc)

    def answer_soon(self, conn: int, slot: int, data: bytes) -> None:
        """The same for one of many: they go out together, at the latest with the next `poll`. The thread that polls."""
        rc = lib.plog_engine_answer_soon(self.pointer, conn, slot, ffi.from_buffer(data), len(data))
        if rc not in _GONE:
            check(rc)

    def verify_transactions(self, on: bool) -> None:
        """Whether records of Produce below version 12 that would begin a transaction are asked about (UP_VERIFY)."""
        lib.plog_engine_verify_transactions(self.pointer, on)

    def verified(self, conn: int, slot: int, errors: Sequence[int]) -> None:
        """Answer an UP_VERIFY: an error code for each of its partitions."""
        rc = lib.plog_engine_verified(self.pointer, conn, slot, ffi.new("int16_t[]", errors), len(errors))
        if rc != lib.PLOG_E_STOPPED:  # then nobody waits
            check(rc)

    def skip(self, conn: int, slot: int) -> None:
        """The request gets no answer."""
        rc = lib.plog_engine_skip(self.pointer, conn, slot)
        if rc not in _GONE:
            check(rc)

    def invalidate(self) -> None:
        """Forget all cached answers."""
        lib.plog_engine_invalidate(self.pointer)

    def peer(self, conn: int) -> Peer:
        """Raises NETWORK_EXCEPTION when the connection is gone."""
        peer = ffi.new("char[]", _ADDRESS_BYTES)
        local = ffi.new("char[]", _ADDRESS_BYTES)
        peer_port = ffi.new("int32_t *")
        local_port = ffi.new("int32_t *")
        rc = lib.plog_engine_peer(self.pointer, conn, peer, peer_port, local, local_port)
        if rc == lib.PLOG_E_CLOSED:
            raise KafkaError(ErrorCode.NETWORK_EXCEPTION, "the connection is gone")
        check(rc)
        return Peer(ffi.string(peer).decode(), peer_port[0], ffi.string(local).decode(), local_port[0])

    def throttle(self, conn: int, ms: int) -> None:
        """Do not read the connection for ms."""
        rc = lib.plog_engine_throttle(self.pointer, conn, ms)
        if rc not in _GONE:
            check(rc)

    def disconnect(self, conn: int) -> None:
        rc = lib.plog_engine_disconnect(self.pointer, conn)
        if rc not in _GONE:
            check(rc)

    # ------------------------------------------------------------------------------------------------- authorization

    def publish_grant(self, principal: int, resource: int, name: bytes, operations: int, generation: int = 0) -> None:
        """What principal may do to a resource (RESOURCE_*): GRANT_* of operations, nothing else.

        name: as UP_GRANT brought it; empty for RESOURCE_CLUSTER and RESOURCE_ANY. generation: of the upcall that this
        answers; ignored when the grants were revoked since; 0: it holds now. With PRINCIPAL_ANY and RESOURCE_ANY it
        holds for everybody and everything, as without an authorizer.
        """
        check(
            lib.plog_engine_publish_grant(
                self.pointer, principal, resource, ffi.from_buffer(name), len(name), operations, generation
            )
        )

    def revoke_grants(self) -> None:
        """Forget all grants: no request that comes after this has returned is served by an old one."""
        check(lib.plog_engine_revoke_grants(self.pointer))

    def set_principal(self, conn: int, principal: int) -> None:
        """The connection is principal's from its next request on; 0: its listener's."""
        rc = lib.plog_engine_set_principal(self.pointer, conn, principal)
        if rc not in _GONE:
            check(rc)

    def set_listener_principal(self, listener_id: int, principal: int) -> None:
        """Whose the connections of a listener are that were given no principal."""
        check(lib.plog_engine_set_listener_principal(self.pointer, listener_id, principal))

    # ------------------------------------------------------------------------------------------- members of groups

    def take_offsets(self, timeout_ms: int, metadata_max_bytes: int) -> None:
        """Take offsets of published members from now on; each answer is given within timeout_ms."""
        check(lib.plog_engine_take_offsets(self.pointer, timeout_ms, metadata_max_bytes))

    def publish_members(
        self, group_id: str, epoch: int, members: Iterable[tuple[str, str | None]], offsets: int = -1
    ) -> None:
        """Heartbeats of these members (id, instance id) that say this epoch find nothing changed: C answers them. It
        takes their offsets too, and writes them to partition `offsets`; -1: it does not."""
        group = group_id.encode()
        packed = b"".join([_string(each) + _string(instance) for each, instance in members])
        check(lib.plog_engine_publish_members(self.pointer, group, len(group), epoch, offsets, packed, len(packed)))

    def publish_consumer(self, group_id: str, who: tuple[str, str | None, str, str], terms: ConsumerTerms) -> None:
        """The same of a member of the consumer protocol: its id, its instance id, and the client id and the address
        that it heartbeats with."""
        group, packed = group_id.encode(), b"".join([_string(each) for each in who])
        told = ffi.new("plog_consumer_terms *", terms)
        check(lib.plog_engine_publish_consumer(self.pointer, group, len(group), packed, len(packed), told))

    def topics_changed(self, topics: int) -> None:
        """Heartbeats of consumers that were published with another number of the topics are upcalls once this has
        returned."""
        check(lib.plog_engine_topics_changed(self.pointer, topics))

    def withdraw_members(self, group_id: str, members: Iterable[str], *, forget: bool) -> None:
        """Their heartbeats and offsets are upcalls again once this has returned. forget: nor is it known when they were
        heard."""
        group, packed = group_id.encode(), b"".join([_string(each) for each in members])
        check(lib.plog_engine_withdraw_members(self.pointer, group, len(group), packed, len(packed), forget))

    def member_heard(self, group_id: str, member_id: str) -> int | None:
        """How many ms ago C last answered a heartbeat of this member; None: it never did."""
        group, member = group_id.encode(), member_id.encode()
        ago = lib.plog_engine_member_heard(self.pointer, group, len(group), member, len(member))
        return None if ago < 0 else int(ago)

    # ------------------------------------------------------------------------------------------------- following

    def open_fetcher(self, config: FetcherConfig) -> int:
        """Ready to fetch from a leader; connects when there is something to follow. Returns its number: the token of
        UP_FOLLOW and UP_FETCHER."""
        host, client_id = ffi.new("char[]", config.host.encode()), ffi.new("char[]", config.client_id.encode())
        fields = config._asdict()
        fields["host"], fields["client_id"] = host, client_id
        out = ffi.new("int64_t *")
        check(lib.plog_engine_open_fetcher(self.pointer, ffi.new("plog_fetcher_config *", fields), out))
        return int(out[0])

    def close_fetcher(self, fetcher: int) -> None:
        """Its partitions are followed no more. Harmless when it is closed."""
        rc = lib.plog_engine_close_fetcher(self.pointer, fetcher)
        if rc != lib.PLOG_E_NOT_FOUND:
            check(rc)

    def configure_fetcher(self, fetcher: int, host: str, port: int, broker_epoch: int) -> None:
        """The leader's address, or our broker epoch, is another now. A new address is connected to at once."""
        check(lib.plog_engine_configure_fetcher(self.pointer, fetcher, host.encode(), port, broker_epoch))

    def follow(self, fetcher: int, partitions: Sequence[int]) -> list[int]:
        """Fetch partitions that are published as followers, from the ends of their logs on, in the leader epochs that
        were published; also those that were paused. Returns those that are not hosted as followers."""
        results = ffi.new("int32_t[]", len(partitions))
        numbers = ffi.new("int64_t[]", partitions)
        check(lib.plog_engine_follow(self.pointer, fetcher, numbers, len(partitions), results))
        refused = []
        for partition, rc in zip(partitions, results, strict=True):
            if rc in (lib.PLOG_E_CLOSED, lib.PLOG_NOT_LEADER_OR_FOLLOWER):
                refused.append(partition)
            else:
                check(rc)
        return refused

    def unfollow(self, partitions: Sequence[int]) -> None:
        """Stop fetching them: nothing is appended by a fetcher once this has returned."""
        lib.plog_engine_unfollow(self.pointer, ffi.new("int64_t[]", partitions), len(partitions))

    def replicas(self, partition: int) -> list[ReplicaInfo]:
        """All replicas of a partition that is led here, its own included. NOT_LEADER_OR_FOLLOWER."""
        (found,) = self.replicas_of([partition])
        if found is None:
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return found

    def replicas_of(self, partitions: Sequence[int]) -> list[list[ReplicaInfo] | None]:
        """The replicas of many partitions, their own included; None for one that is not led here, or not
        hosted any more."""
        capacity = 8
        while True:
            lists = ffi.new("plog_replica_list[]", len(partitions))
            room = ffi.new("plog_replica_info[]", capacity * len(partitions))
            for at, partition in enumerate(partitions):
                lists[at].partition = partition
                lists[at].out = room + at * capacity
                lists[at].capacity = capacity
            lib.plog_engine_replicas_of(self.pointer, lists, len(partitions))
            most = max([each.count for each in lists], default=0)
            if most <= capacity:
                return [_replicas(each) for each in lists]
            capacity = most

    def mark_throttled(self, partitions: Sequence[int], *, leading: bool, following: bool) -> None:
        """Which of the replication rates bind these partitions from now on."""
        sides = leading * lib.PLOG_THROTTLED_LEADING | following * lib.PLOG_THROTTLED_FOLLOWING
        lib.plog_engine_mark_throttled(self.pointer, ffi.new("int64_t[]", partitions), len(partitions), sides)

    def throttle_replication(self, leader_rate: int, follower_rate: int) -> None:
        """Bytes per second that marked partitions may give to followers not in sync, and fetch; -1: no limit."""
        lib.plog_engine_throttle_replication(self.pointer, leader_rate, follower_rate)

    def select_by_rack(self, on: bool) -> None:
        """Send consumers that say their rack to an in-sync replica in it, by the racks of `publish_node`."""
        lib.plog_engine_select_by_rack(self.pointer, on)

    # ------------------------------------------------------------------------------------------------- the rest

    def publish_node(
        self, listener_id: int, broker_id: int, host: str | None, port: int, rack: str | None = None
    ) -> None:
        """A broker's address on a listener, for clients that came to the wrong broker. host None: forget it."""
        check(
            lib.plog_engine_publish_node(
                self.pointer,
                listener_id,
                broker_id,
                ffi.NULL if host is None else host.encode(),
                port,
                ffi.NULL if rack is None else rack.encode(),
            )
        )

    def publish_leaders(self, topics: Sequence[TopicLeaders]) -> None:
        """Who leads partitions, wherever they are: requests for one that is not hosted are answered with its leader.
        Raises for the first topic that is not taken up, when all others are."""
        told = ffi.new("plog_topic_leaders[]", len(topics))
        alive: list[Any] = []
        for each, topic in zip(told, topics, strict=True):
            name, topic_id = ffi.new("char[]", topic.topic.encode()), ffi.new("uint8_t[16]", topic.topic_id)
            indexes = ffi.new("int32_t[]", [index for index, _, _ in topic.partitions])
            leaders = ffi.new("plog_leader[]", [(leader, epoch) for _, leader, epoch in topic.partitions])
            alive += (name, topic_id, indexes, leaders)
            each.topic, each.topic_id, each.indexes, each.leaders = name, topic_id, indexes, leaders
            each.count, each.internal = len(topic.partitions), topic.internal
        lib.plog_engine_publish_leaders(self.pointer, told, len(topics))
        for each in told:
            check(each.rc)

    def stats(self) -> EngineStats:
        out = ffi.new("plog_engine_stats *")
        lib.plog_engine_stats_read(self.pointer, out)
        return EngineStats(*(getattr(out, field) for field in EngineStats._fields))

    def request_times(self) -> dict[int, RequestTimes]:
        """By kind; those of which some came."""
        found = {}
        out = ffi.new("plog_request_times *")
        for kind in range(lib.PLOG_REQUEST_KINDS):
            check(lib.plog_engine_request_times(self.pointer, kind, out))
            if out.requests:
                found[kind] = RequestTimes(
                    out.requests,
                    out.bytes_in,
                    out.bytes_out,
                    out.total_ns,
                    out.waited_ns,
                    out.waited,
                    list(out.total),
                    list(out.ours),
                )
        return found

    def topic_stats(self, partition: int) -> TopicStats:
        """Of the topic of a partition."""
        out = ffi.new("plog_topic_stats *")
        _check_partition(lib.plog_engine_topic_stats(self.pointer, partition, out), partition)
        return TopicStats(out.records_in, out.bytes_in, out.bytes_out)


class _StateStructs:
    """States as C reads them, alive as long as this is. Partitions that share one state, as the many of a topic on one
    node do, share its struct."""

    __slots__ = ("_alive", "_last", "_struct")

    def __init__(self) -> None:
        self._alive: list[Any] = []
        self._last: PartitionState | None = None
        self._struct: Any = None

    def of(self, state: PartitionState) -> Any:
        if state is not self._last:
            self._last = state
            self._struct = self._make(state)
        return self._struct

    def _make(self, state: PartitionState) -> Any:
        replicas = ffi.new("int32_t[]", list(state.replicas))
        isr = ffi.new("int32_t[]", list(state.isr))
        fields = state._asdict()
        fields["replicas"] = replicas
        fields["replicas_count"] = len(state.replicas)
        fields["isr"] = isr
        fields["isr_count"] = len(state.isr)
        joining = ffi.new("int32_t[]", list(state.joining))
        fields["joining"] = joining
        fields["joining_count"] = len(state.joining)
        struct = ffi.new("plog_partition_state *", fields)
        self._alive += (replicas, isr, joining, struct)
        return struct


def _string(text: str | None) -> bytes:
    """In Kafka's encoding with 16 bits of length."""
    if text is None:
        return b"\xff\xff"
    raw = text.encode()
    return len(raw).to_bytes(2, "big", signed=True) + raw


def _replicas(told: Any) -> list[ReplicaInfo] | None:
    if told.rc:
        return None
    return [
        ReplicaInfo(r.broker_id, r.in_isr != 0, r.joining != 0, r.log_end, r.log_start, r.lag_ms, r.broker_epoch)
        for r in told.out[0 : told.count]
    ]


def _appended(entry: Any) -> Appended | KafkaError | NativeError | OSError:
    if entry.rc == 0:
        return Appended(entry.base, entry.last, entry.committed != 0)
    if entry.rc == lib.PLOG_E_AGAIN:
        return KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "offsets were taken meanwhile")
    try:
        _check_partition(entry.rc, entry.partition)
    except (KafkaError, NativeError, OSError) as error:
        return error
    raise AssertionError(entry.rc)


def _take(engine: Any, up: Any) -> Upcall:
    """Copy an upcall out of C, and give its bytes back."""
    client_id = None
    body = b""
    if up.kind in (UP_REQUEST, UP_GRANT, UP_ROOM, UP_SYNC_FAILED, UP_DAMAGE, UP_VERIFY, UP_OFFSETS):
        body = ffi.buffer(up.body, up.body_bytes)[:]
        if up.client_id != ffi.NULL:
            client_id = ffi.buffer(up.client_id, up.client_id_bytes)[:]
        lib.plog_engine_release(engine, up)
    facts = _UPCALL.unpack(ffi.buffer(up))
    return Upcall._make((*facts[:14], client_id, body, facts[18]))

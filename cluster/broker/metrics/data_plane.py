"""Figures of the data plane: what C has counted since the broker started, and the room on the disks.

What stays true: a name of Kafka's is used where Kafka counts the same; what only this broker counts is `pylog_...`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from cluster.broker.metrics.snapshot import Snapshot
from cluster.broker.metrics.text import COUNTER, GAUGE, Family, counter, gauge, labels
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.broker.replica_manager import Directory
    from pylog._engine import EngineStats, TopicStats


def kafka_families(stats: EngineStats, topics_now: Mapping[str, TopicStats]) -> list[Family]:
    """Without a label: of all topics, also of those that are gone."""
    socket = "kafka_server_socket_server_metrics"
    topics = "kafka_server_brokertopicmetrics"
    each = [(labels(("topic", name)), topic) for name, topic in sorted(topics_now.items())]
    return [
        Family(
            f"{topics}_messagesin",
            COUNTER,
            "Records that clients produced.",
            [("", stats.records_in), *((topic, told.records_in) for topic, told in each)],
        ),
        Family(
            f"{topics}_bytesin",
            COUNTER,
            "Bytes of record batches that clients produced.",
            [("", stats.produced_bytes), *((topic, told.bytes_in) for topic, told in each)],
        ),
        Family(
            f"{topics}_bytesout",
            COUNTER,
            "Bytes of record batches that clients fetched.",
            [("", stats.fetched_bytes), *((topic, told.bytes_out) for topic, told in each)],
        ),
        counter(
            f"{topics}_replicationbytesin", "Bytes of record batches fetched from leaders.", stats.replicated_in_bytes
        ),
        counter(
            f"{topics}_replicationbytesout",
            "Bytes of record batches that followers fetched.",
            stats.replicated_out_bytes,
        ),
        counter(
            f"{topics}_failedproducerequests",
            "Produce requests answered with an error for a partition at least.",
            stats.failed_produce,
        ),
        counter(
            f"{topics}_failedfetchrequests",
            "Fetch requests answered with an error for a partition at least.",
            stats.failed_fetch,
        ),
        gauge(f"{socket}_connection_count", "Connections that are open.", stats.connections_now),
        counter(f"{socket}_connection_creation", "Connections that were accepted.", stats.connections),
        counter(f"{socket}_incoming_byte", "Bytes received, from leaders too.", stats.bytes_in),
        counter(f"{socket}_outgoing_byte", "Bytes sent to whoever is connected, followers too.", stats.bytes_out),
        gauge(
            "kafka_server_fetchsessioncache_numincrementalfetchsessions",
            "Incremental fetch sessions that are kept.",
            stats.fetch_sessions_now,
        ),
    ]


def own_families(stats: EngineStats) -> list[Family]:
    return [
        counter("pylog_requests", "Requests of clients and brokers, of every kind.", stats.requests),
        counter("pylog_upcalls", "Requests handed to the control thread.", stats.upcalls),
        counter("pylog_cached_answers", "Requests answered with an answer that was kept.", stats.cached_answers),
        counter("pylog_heartbeats", "Heartbeats answered by the data plane.", stats.heartbeats),
        counter("pylog_malformed_requests", "Connections closed for what is no request.", stats.malformed),
        counter("pylog_batches_in", "Record batches that clients produced.", stats.batches_in),
        gauge("pylog_delayed_requests", "Produce and Fetch requests that wait.", stats.delayed_now),
        counter("pylog_cold_reads", "Reads that had to wait for a disk.", stats.cold_reads),
        gauge("pylog_buffer_bytes", "Buffers held for receiving and sending.", stats.buffer_bytes_now),
        counter("pylog_reactor_turns", "Turns of the reactor.", stats.turns),
        counter("pylog_syncs", "Syncs of group commit.", stats.syncs),
        counter("pylog_sync_seconds", "Time that syncs of group commit took.", stats.sync_us / 1e6),
        counter("pylog_checked_bytes", "Bytes compared with their CRCs before they were sent.", stats.checked_bytes),
        counter("pylog_damaged_batches", "Batches found damaged when they were to be sent.", stats.damaged_batches),
    ]


def control_families(snapshot: Snapshot) -> list[Family]:
    return [
        gauge(
            "pylog_control_wait_seconds",
            "How long this page waited for the control thread to begin with it.",
            round(snapshot.waited_s, 6),
        ),
        counter("pylog_failures", "Requests and tasks that failed by a defect; the log has them.", snapshot.failures),
    ]


def directory_families(directories: Iterable[Directory]) -> list[Family]:
    """`logDirectory` is Kafka's label."""
    sizes: list[tuple[str, int]] = []
    free: list[tuple[str, int]] = []
    offline: list[tuple[str, int]] = []
    for directory in directories:
        where = labels(("logDirectory", directory.path))
        offline.append((where, int(not directory.online)))
        if not directory.online:
            continue
        try:
            disk = os.statvfs(directory.path)
        except OSError:
            continue  # it fails just now: the broker will take it offline when it uses it
        sizes.append((where, disk.f_frsize * disk.f_blocks))
        free.append((where, disk.f_frsize * disk.f_bavail))
    return [
        Family("kafka_log_logmanager_logdirectoryoffline", GAUGE, "1 when a data directory has failed.", offline),
        Family("pylog_disk_size_bytes", GAUGE, "Size of the file system of a data directory.", sizes),
        Family("pylog_disk_free_bytes", GAUGE, "What is left of it for this process.", free),
    ]


def build_family(version: str, broker_id: int, cluster_id: str) -> Family:
    which = labels(("version", version), ("broker_id", str(broker_id)), ("cluster_id", cluster_id))
    return Family("pylog_build_info", GAUGE, "Always 1; its labels say what runs here.", [(which, 1)])

"""Figures of the partitions that a broker hosts and leads, and of the cluster as its controller sees it.

Names are those under which Prometheus's JMX exporter shows the same of Apache Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.broker.metrics.snapshot import Snapshot
from cluster.broker.metrics.text import COUNTER, GAUGE, Family, gauge, labels
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.broker.replica_manager import HostedPartition
    from pylog._engine import Engine, EnginePartitionInfo, TopicStats


class Replica(NamedTuple):
    """A hosted partition at one moment."""

    hosted: HostedPartition
    labels: str
    leads: bool
    replicas: int
    isr: int
    min_isr: int
    info: EnginePartitionInfo


class Labels:
    """Those of partitions, made once: ten thousand on each page are a good part of it. One thread."""

    def __init__(self) -> None:
        self._known: dict[HostedPartition, str] = {}

    def of(self, hosted: Sequence[HostedPartition]) -> list[str]:
        """What is not hosted any more is forgotten."""
        known = self._known
        now = {each: known.get(each) or _labels_of(each) for each in hosted}
        self._known = now
        return list(now.values())


def _labels_of(hosted: HostedPartition) -> str:
    return labels(("topic", hosted.topic), ("partition", str(hosted.index)))


def look_at(engine: Engine, hosted: Iterable[HostedPartition], known: Labels) -> list[Replica]:
    """Those that are still hosted, sorted. Any thread."""
    there = sorted(hosted, key=lambda each: (each.topic, each.index))
    found = []
    infos = engine.partition_infos([each.number for each in there])
    for each, where, info in zip(there, known.of(there), infos, strict=True):
        if info is None:
            continue  # it went meanwhile
        state = each.state
        count = len(state.replicas)
        found.append(
            Replica(each, where, each.leads, count, len(state.isr), min(state.min_insync_replicas, count), info)
        )
    return found


def topics_of(engine: Engine, replicas: Iterable[Replica]) -> dict[str, TopicStats]:
    """What went through each topic that has a partition here."""
    found: dict[str, TopicStats] = {}
    for each in replicas:
        if each.hosted.topic not in found:
            try:
                found[each.hosted.topic] = engine.topic_stats(each.hosted.number)
            except KafkaError:
                continue  # it went meanwhile; another of the topic may not have
    return found


def log_families(replicas: Sequence[Replica]) -> list[Family]:
    where = [each.labels for each in replicas]
    return [
        Family(
            "kafka_log_log_size",
            GAUGE,
            "Bytes of the segments of a partition in this broker.",
            zip(where, [each.info.size_bytes for each in replicas], strict=True),
        ),
        Family(
            "kafka_log_log_logstartoffset",
            GAUGE,
            "Offset of the first record that is kept.",
            zip(where, [each.info.log_start_offset for each in replicas], strict=True),
        ),
        Family(
            "kafka_log_log_logendoffset",
            GAUGE,
            "Offset that the next record will get.",
            zip(where, [each.info.log_end_offset for each in replicas], strict=True),
        ),
    ]


def led_families(replicas: Sequence[Replica]) -> list[Family]:
    """Of the partitions that are led here."""
    led = [each for each in replicas if each.leads]
    where = [each.labels for each in led]
    return [
        Family(
            "kafka_cluster_partition_replicascount",
            GAUGE,
            "Replicas of a partition that is led here.",
            zip(where, [each.replicas for each in led], strict=True),
        ),
        Family(
            "kafka_cluster_partition_insyncreplicascount",
            GAUGE,
            "Those of them in sync.",
            zip(where, [each.isr for each in led], strict=True),
        ),
        Family(
            "kafka_cluster_partition_underreplicated",
            GAUGE,
            "1 when not all of them are in sync.",
            zip(where, [int(each.isr < each.replicas) for each in led], strict=True),
        ),
        Family(
            "kafka_cluster_partition_underminisr",
            GAUGE,
            "1 when fewer are in sync than min.insync.replicas asks for: acks=all is refused.",
            zip(where, [int(each.isr < each.min_isr) for each in led], strict=True),
        ),
        Family(
            "kafka_cluster_partition_laststableoffsetlag",
            GAUGE,
            "Records between the last stable offset and the high watermark: behind transactions that are open.",
            zip(where, [max(0, each.info.high_watermark - each.info.last_stable_offset) for each in led], strict=True),
        ),
    ]


def replica_manager_families(snapshot: Snapshot, replicas: Sequence[Replica]) -> list[Family]:
    led = [each for each in replicas if each.leads]
    offline = sum(not directory.online for directory in snapshot.directories)
    families = [
        gauge("kafka_server_replicamanager_partitioncount", "Partitions hosted here.", len(replicas)),
        gauge("kafka_server_replicamanager_leadercount", "Those of them that are led here.", len(led)),
        gauge(
            "kafka_server_replicamanager_underreplicatedpartitions",
            "Partitions led here that have replicas not in sync.",
            sum(each.isr < each.replicas for each in led),
        ),
        gauge(
            "kafka_server_replicamanager_underminisrpartitioncount",
            "Partitions led here with fewer replicas in sync than min.insync.replicas asks for.",
            sum(each.isr < each.min_isr for each in led),
        ),
        gauge(
            "kafka_server_replicamanager_atminisrpartitioncount",
            "Partitions led here with just as many replicas in sync as min.insync.replicas asks for.",
            sum(each.isr == each.min_isr for each in led),
        ),
        gauge("kafka_log_logmanager_offlinelogdirectorycount", "Data directories that have failed.", offline),
    ]
    if snapshot.isr_changes is not None:
        shrinks, expands = snapshot.isr_changes
        families += [
            Family(
                "kafka_server_replicamanager_isrshrinks", COUNTER, "Times an ISR led here got smaller.", [("", shrinks)]
            ),
            Family(
                "kafka_server_replicamanager_isrexpands", COUNTER, "Times an ISR led here got larger.", [("", expands)]
            ),
        ]
    return families


def controller_families(snapshot: Snapshot) -> list[Family]:
    """As with Kafka all are 0 where the controller is not, so that sums over brokers are right."""
    topics = snapshot.topics if snapshot.is_controller else []
    partitions = [partition for topic in topics for partition in topic.partitions]
    return [
        gauge(
            "kafka_controller_kafkacontroller_activecontrollercount",
            "1 where the controller is, 0 elsewhere.",
            int(snapshot.is_controller),
        ),
        gauge(
            "kafka_controller_kafkacontroller_activebrokercount",
            "Brokers of the cluster, as the controller's broker knows them.",
            snapshot.brokers if snapshot.is_controller else 0,
        ),
        gauge("kafka_controller_kafkacontroller_globaltopiccount", "Topics of the cluster.", len(topics)),
        gauge("kafka_controller_kafkacontroller_globalpartitioncount", "Partitions of the cluster.", len(partitions)),
        gauge(
            "kafka_controller_kafkacontroller_offlinepartitionscount",
            "Partitions of the cluster without a leader.",
            sum(each.leader < 0 for each in partitions),
        ),
        gauge(
            "kafka_controller_kafkacontroller_preferredreplicaimbalancecount",
            "Partitions of the cluster that are not led by their first replica.",
            sum(each.leader != each.replicas[0] for each in partitions if each.replicas),
        ),
    ]

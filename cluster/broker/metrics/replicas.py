"""Figures of the partitions that a broker hosts and leads, and of the cluster as its controller sees it.

Names are those under which Prometheus's JMX exporter shows the same of Apache Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq, lt

from cluster.broker.metrics.snapshot import Snapshot
from cluster.broker.metrics.text import COUNTER, GAUGE, Column, Family, Rows, gauge, labels
from pylog.errors import KafkaError
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from cluster.broker.replica_manager import HostedPartition
    from pylog._engine import Engine, PartitionColumns, PartitionState, TopicStats

Partition: TypeAlias = tuple[str, int]


class Led(NamedTuple):
    """Those that are led here: which of the replicas, and of each figure a column."""

    places: Sequence[int]
    partitions: Sequence[Partition]
    rows: Rows
    replicas: Sequence[int]
    isr: Sequence[int]
    min_isr: Sequence[int]

    def pick(self, column: Sequence[int]) -> Sequence[int]:
        """Theirs of what there is of all replicas."""
        return column if len(self.places) == len(column) else [column[place] for place in self.places]


class Replicas(NamedTuple):
    """Hosted partitions at one moment, sorted; of each figure a column: an object for each would be most of a page."""

    hosted: Sequence[HostedPartition]
    rows: Rows
    now: PartitionColumns
    led: Led


class Hosting:
    """What pages have in common as long as the same partitions are here, in the same states. One thread."""

    def __init__(self) -> None:
        self._asked: Sequence[HostedPartition] = []
        self._states: Sequence[PartitionState] | None = None
        self._order([])
        self._led = _led([], [])

    def _order(self, hosted: Sequence[HostedPartition]) -> None:
        """hosted: sorted."""
        self._hosted = hosted
        self._numbers = [each.number for each in hosted]
        self._labels = [labels(("topic", each.topic), ("partition", str(each.index))) for each in hosted]
        self._rows = Rows(self._labels)
        self._states = None

    def look_at(self, engine: Engine, hosted: Sequence[HostedPartition]) -> Replicas:
        """Those of them that are still hosted. Any thread, but one at a time."""
        if hosted != self._asked:
            self._asked = hosted
            self._order(sorted(hosted, key=lambda each: (each.topic, each.index)))
        now = engine.partition_infos(self._numbers)
        while min(now.roles, default=0) < 0:  # some went meanwhile
            self._order([each for each, role in zip(self._hosted, now.roles, strict=True) if role >= 0])
            now = engine.partition_infos(self._numbers)
        states = [each.state for each in self._hosted]
        if states != self._states:
            self._states = states
            self._led = _led(self._hosted, self._labels)
        return Replicas(self._hosted, self._rows, now, self._led)


def _led(hosted: Sequence[HostedPartition], where: Sequence[str]) -> Led:
    places = [place for place, each in enumerate(hosted) if each.leads]
    led = [hosted[place] for place in places]
    counts = [len(each.state.replicas) for each in led]
    return Led(
        places,
        [(each.topic, each.index) for each in led],
        Rows([where[place] for place in places]),
        counts,
        [len(each.state.isr) for each in led],
        [min(each.state.min_insync_replicas, count) for each, count in zip(led, counts, strict=True)],
    )


def topics_of(engine: Engine, hosted: Sequence[HostedPartition]) -> dict[str, TopicStats]:
    """What went through each topic that has a partition here."""
    found: dict[str, TopicStats] = {}
    for each in hosted:
        if each.topic not in found:
            try:
                found[each.topic] = engine.topic_stats(each.number)
            except KafkaError:
                continue  # it went meanwhile; another of the topic may not have
    return found


def log_families(replicas: Replicas) -> list[Family]:
    def family(name: str, help: str, figures: Sequence[int]) -> Family:
        return Family(name, GAUGE, help, columns=[Column(replicas.rows, figures)])

    now = replicas.now
    return [
        family("kafka_log_log_size", "Bytes of the segments of a partition in this broker.", now.sizes_bytes),
        family("kafka_log_log_logstartoffset", "Offset of the first record that is kept.", now.log_start_offsets),
        family("kafka_log_log_logendoffset", "Offset that the next record will get.", now.log_end_offsets),
    ]


def led_families(replicas: Replicas) -> list[Family]:
    """Of the partitions that are led here."""
    led = replicas.led

    def family(name: str, help: str, figures: Sequence[int]) -> Family:
        return Family(f"kafka_cluster_partition_{name}", GAUGE, help, columns=[Column(led.rows, figures)])

    watermarks, stable = led.pick(replicas.now.high_watermarks), led.pick(replicas.now.last_stable_offsets)
    return [
        family("replicascount", "Replicas of a partition that is led here.", led.replicas),
        family("insyncreplicascount", "Those of them in sync.", led.isr),
        family(
            "underreplicated",
            "1 when not all of them are in sync.",
            [int(isr < count) for isr, count in zip(led.isr, led.replicas, strict=True)],
        ),
        family(
            "underminisr",
            "1 when fewer are in sync than min.insync.replicas asks for: acks=all is refused.",
            [int(isr < least) for isr, least in zip(led.isr, led.min_isr, strict=True)],
        ),
        family(
            "laststableoffsetlag",
            "Records between the last stable offset and the high watermark: behind transactions that are open.",
            [end - offset if end > offset else 0 for end, offset in zip(watermarks, stable, strict=True)],
        ),
    ]


def replica_manager_families(snapshot: Snapshot, replicas: Replicas) -> list[Family]:
    led = replicas.led
    offline = sum(not directory.online for directory in snapshot.directories)
    families = [
        gauge("kafka_server_replicamanager_partitioncount", "Partitions hosted here.", len(replicas.hosted)),
        gauge("kafka_server_replicamanager_leadercount", "Those of them that are led here.", len(led.places)),
        gauge(
            "kafka_server_replicamanager_underreplicatedpartitions",
            "Partitions led here that have replicas not in sync.",
            sum(map(lt, led.isr, led.replicas)),
        ),
        gauge(
            "kafka_server_replicamanager_underminisrpartitioncount",
            "Partitions led here with fewer replicas in sync than min.insync.replicas asks for.",
            sum(map(lt, led.isr, led.min_isr)),
        ),
        gauge(
            "kafka_server_replicamanager_atminisrpartitioncount",
            "Partitions led here with just as many replicas in sync as min.insync.replicas asks for.",
            sum(map(eq, led.isr, led.min_isr)),
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

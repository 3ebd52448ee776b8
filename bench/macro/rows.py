"""The rows of the comparison: what load each one is, which figure is compared, and the ratio it should reach.

`target` is how many times better than Kafka we mean to be (Kafka's figure over ours, or ours over Kafka's for rates).
"""

from typing import NamedTuple

MIB = 1 << 20


class LoadRow(NamedTuple):
    """A load of bench/macro/load.c. `fill_bytes`: the topic holds so much before it starts."""

    name: str
    mode: str
    figure: str  # "us/request" or "s/GB": broker CPU for it
    target: float
    connections: int = 1
    inflight: int = 1
    record_bytes: int = 100
    batch_bytes: int = 1
    fetch_bytes: int = MIB
    fill_bytes: int = 0
    volume_bytes: int = 0  # 0: the run ends with its time
    urgent: bool = False  # the driver runs before everybody else, as far as it may: its own waits are not the broker's

    def arguments(self) -> list[str]:
        return [
            "--connections", str(self.connections), "--inflight", str(self.inflight),
            "--record-bytes", str(self.record_bytes), "--batch-bytes", str(self.batch_bytes),
            "--fetch-bytes", str(self.fetch_bytes), "--urgent", str(int(self.urgent)),
        ]  # fmt: skip


class ProducerRow(NamedTuple):
    """librdkafka producing as fast as it can (bench/macro/rdkafka.c), each producer into a partition of its own.

    The figure is records a second of wall time. Client and broker share the machine: where all of its CPU is used, no
    broker can be better by more than (client + Kafka) / (client + ours). These parts are printed beside the ratio.
    `settings` are librdkafka's; what is not in there keeps its default.
    """

    name: str
    target: float
    record_bytes: int
    records: int  # of each producer
    producers: int = 1
    settings: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        settings = [word for setting in self.settings for word in ("--set", setting)]
        return [
            "--producers", str(self.producers), "--records", str(self.records),
            "--record-bytes", str(self.record_bytes), *settings,
        ]  # fmt: skip


LOADS = (
    LoadRow("one-record 1 connection", "produce", "us/request", 6),
    LoadRow("one-record 64 connections", "produce", "us/request", 6, connections=64),
    LoadRow("one-record 1 connection 5 in flight", "produce", "us/request", 15, inflight=5),
    LoadRow("one-record 64 connections 5 in flight", "produce", "us/request", 15, connections=64, inflight=5),
    LoadRow("produce 16 KB of 100 B", "produce", "s/GB", 8, inflight=5, batch_bytes=16384, volume_bytes=256 * MIB),
    LoadRow("produce 64 KB", "produce", "s/GB", 4, 1, 5, 1024, 65536, volume_bytes=256 * MIB),
    LoadRow("produce 1 MB", "produce", "s/GB", 4, 1, 3, 1024, 1000_000, volume_bytes=256 * MIB),
    LoadRow(
        "produce 1 MB 4 connections 3 in flight", "produce", "s/GB", 4, 4, 3, 1024, 1000_000, volume_bytes=256 * MIB
    ),
    LoadRow("produce 1 MB of 100 B", "produce", "s/GB", 4, 1, 3, 100, 1000_000, volume_bytes=256 * MIB),
    LoadRow("fetch 1 MB 1 connection", "fetch", "s/GB", 2, 1, 1, 1024, 65536, fill_bytes=512 * MIB),
    LoadRow("fetch 1 MB 4 connections", "fetch", "s/GB", 2, 4, 1, 1024, 65536, fill_bytes=512 * MIB),
    LoadRow("fetch 16 KB of 100 B", "fetch", "s/GB", 2, 4, 1, 100, 16384, fetch_bytes=65536, fill_bytes=256 * MIB),
    LoadRow("tail 1000 records/s to 8 readers", "tail", "us/request", 2, 9),
    LoadRow("ApiVersions 1 connection", "apiversions", "us/request", 5),
    LoadRow("ApiVersions 64 connections", "apiversions", "us/request", 5, connections=64),
    LoadRow("Metadata 1 connection", "metadata", "us/request", 5),
    LoadRow("Metadata 64 connections", "metadata", "us/request", 5, connections=64),
)

# librdkafka's defaults: acks=all, no idempotence, up to 5 ms of waiting for a batch of 1 MB or 10,000 records. Who
# produces at full speed fills every batch, so both brokers get the same requests. The last row has batches of 16 KB,
# where the Java client closes one: there the number of requests is what costs, and the broker is the limit.
PRODUCERS = (
    ProducerRow("librdkafka 1 KB", 3, 1024, 500_000),
    ProducerRow("librdkafka 100 B linger 5 ms", 1.3, 100, 2_000_000, settings=("linger.ms=5",)),
    ProducerRow(
        "librdkafka 100 B linger 5 ms three producers", 1.3, 100, 1_000_000, producers=3, settings=("linger.ms=5",)
    ),
    ProducerRow("librdkafka 1 KB in batches of 16 KB", 3, 1024, 200_000, settings=("batch.size=16384",)),
)

START = "start to first answer"
IDLE_MEMORY = "idle memory"
IDLE_CPU = "idle CPU"
RECOVERY = "kill -9 with 1 GB, to the first fetch"
COMPACTION = "compaction of a million records"
COMPACTION_TARGET = 3.0

# Absolute targets beside the ratios: (unit, at most).
ABSOLUTE = {START: ("ms", 60.0), IDLE_MEMORY: ("MB", 24.0), IDLE_CPU: ("%", 0.1), RECOVERY: ("ms", 300.0)}

ALL = [*ABSOLUTE, *(row.name for row in LOADS), *(row.name for row in PRODUCERS), COMPACTION]

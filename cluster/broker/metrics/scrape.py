"""The pages of a broker: /metrics for Prometheus, /healthz for whoever restarts what does not answer.

What stays true: the control thread only lets itself be looked at (`snapshot.py`); whatever takes long is done on the
endpoint's thread. When the control thread does not come to it in time the answer is 503, never an old page.
"""

from __future__ import annotations

import threading
import time

from cluster.broker.metrics import coordination, data_plane, replicas, snapshot
from cluster.broker.metrics.endpoint import Endpoint, Page, plain
from cluster.broker.metrics.lag import Lag, Lags
from cluster.broker.metrics.leaders import Elsewhere, Here, Leader
from cluster.broker.metrics.process import process_families
from cluster.broker.metrics.replicas import Hosting, Partition, Replicas
from cluster.broker.metrics.requests import Recent, request_families
from cluster.broker.metrics.text import OPEN_METRICS_TYPE, PLAIN_TYPE, Family, write
from pylog import __version__
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.broker.broker import Broker

_SNAPSHOT_S: Final = 5.0
_HEALTHY_S: Final = 2.0


class Metrics:
    """`port`: where it listens; asked for port 0, the one it was given."""

    def __init__(self, broker: Broker, host: str, port: int) -> None:
        """Listen. Raises OSError."""
        self._broker = broker
        self._lags = Lags()
        self._recent = Recent()
        self._hosting = Hosting()
        self._endpoint = Endpoint(host, port, self._page)
        self.port = self._endpoint.port
        self.start = self._endpoint.start
        self.stop = self._endpoint.stop

    def _page(self, path: str, accept: str) -> Page:
        if path == "/metrics":
            return self._metrics(open_metrics="application/openmetrics-text" in accept)
        if path == "/healthz":
            return self._health()
        return plain(200 if path == "/" else 404, "/metrics\n/healthz\n")

    def _health(self) -> Page:
        """Whether the control thread comes to what it is asked. Produce and Fetch are served without it."""
        answered = threading.Event()
        self._broker.loop.post(answered.set)
        if answered.wait(_HEALTHY_S):
            return plain(200, "ok\n")
        return plain(503, f"the control thread has been busy for {_HEALTHY_S:g} s\n")

    def _metrics(self, *, open_metrics: bool) -> Page:
        try:
            seen = snapshot.take(self._broker, _SNAPSHOT_S)
        except TimeoutError as error:
            return plain(503, f"{error}\n")
        body = write(self._families(seen), open_metrics=open_metrics)
        return Page(200, OPEN_METRICS_TYPE if open_metrics else PLAIN_TYPE, body)

    def _families(self, seen: snapshot.Snapshot) -> list[Family]:
        broker = self._broker
        stats = broker.engine.stats()
        times = broker.engine.request_times()
        hosted = self._hosting.look_at(broker.engine, seen.hosted)
        families = [
            data_plane.build_family(__version__, broker.broker_id, broker.admin.cluster_id),
            *process_families(),
            *data_plane.kafka_families(stats, replicas.topics_of(broker.engine, hosted.hosted)),
            *request_families(times),
            self._recent.family(times, time.monotonic()),
            *data_plane.own_families(stats),
            *data_plane.control_families(seen),
            *data_plane.directory_families(seen.directories),
            *replicas.replica_manager_families(seen, hosted),
            *replicas.controller_families(seen),
            *coordination.group_families(seen.groups),
            *coordination.transaction_families(seen),
            *coordination.lag_families(self._group_lags(seen, hosted)),
            *replicas.log_families(hosted),
            *replicas.led_families(hosted),
        ]
        if seen.group_totals is not None:
            families += coordination.total_families(seen.group_totals)
        return families

    def _group_lags(self, seen: snapshot.Snapshot, hosted: Replicas) -> list[Lag]:
        """Of partitions wherever they are led; other brokers are asked at most for what the groups of this one read."""
        elsewhere: dict[int, Leader] = {}
        leaders: dict[Partition, Leader] = dict.fromkeys(hosted.led.partitions, Here(hosted))
        member = self._broker.member
        if member is not None:
            read = {topic for group in seen.groups for topic, _ in group.committed}
            for topic in seen.topics:
                for partition in topic.partitions if topic.name in read else ():
                    if partition.leader < 0 or partition.leader == self._broker.broker_id:
                        continue
                    if partition.leader not in elsewhere and (address := member.address_of(partition.leader)):
                        elsewhere[partition.leader] = Elsewhere(*address, f"broker-{self._broker.broker_id}-metrics")
                    if partition.leader in elsewhere:
                        leaders[topic.name, partition.partition] = elsewhere[partition.leader]
        try:
            return self._lags.of(seen.groups, leaders)
        finally:
            for each in elsewhere.values():
                each.close()

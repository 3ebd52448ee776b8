"""One partition on real engines that replicate it over loopback, driven by IsrKeeper and Replicator as a broker drives
them; the controller is played.

    cluster = LiveCluster(tmp_path, nodes=3)
    cluster.decide(leader=1)            everybody hears of it; `to` says who does
    cluster.append(1, "a", "b")         on what node 1 believes to lead
    cluster.nodes[3].stop(); cluster.nodes[3].start()

What stays true: what a node's control loop owns is touched on its thread only; whatever fails there fails the test in
`close`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from cluster.broker.isr_keeper import TIMER, IsrKeeper, OnAnswer, PublishedIsr
from cluster.broker.leader_offsets import OffsetAnswer, OffsetQuestion
from cluster.broker.loop import Loop
from cluster.broker.replicator import FetcherAddress, Followed, Replicator
from cluster.effects import Append, Ask, Effect, Publication, Reply
from cluster.protocol import messages as m
from cluster.replication.follower import LATEST
from cluster.replication.isr import LedPartition
from cluster.replication.truncation import EpochEnd, OwnLog
from pylog._engine import (
    FETCHER_CONNECTED,
    GRANT_ALL,
    PRINCIPAL_ANY,
    RESOURCE_ANY,
    ROLE_FOLLOWER,
    ROLE_LEADER,
    UP_FETCHER,
    UP_FOLLOW,
    UP_ISR,
    Engine,
    EngineConfig,
    EnginePartitionInfo,
    FetcherConfig,
    PartitionState,
    ReplicaInfo,
    Upcall,
)
from pylog._native import INT64_MAX, Log, LogSettings, Sys
from pylog.errors import ErrorCode
from pylog.records import NewRecord, RecordBatchBuilder, batches
from pylog.types import TopicPartition

PARTITION = TopicPartition("orders", 0)
TOPIC_ID = b"o" * 16
LAG_MS = 400
BACKOFF_MS = 50
TIMEOUT_S = 20.0
WALL_MS = 1_790_000_000_000
FETCH = 1
SETTINGS = LogSettings(1 << 30, INT64_MAX, 0, 1 << 20, 4096, INT64_MAX, False, 1)
T = TypeVar("T")


class Decision:
    """What the controller has decided."""

    def __init__(self, leader: int, leader_epoch: int, isr: tuple[int, ...], partition_epoch: int) -> None:
        self.leader = leader
        self.leader_epoch = leader_epoch
        self.isr = isr
        self.partition_epoch = partition_epoch


class LiveNode:
    """A broker with the partition. `start` and `stop` as often as wanted: the log stays in its directory."""

    def __init__(self, broker_id: int, cluster: LiveCluster, directory: Path) -> None:
        self.id = broker_id
        self.up = False
        self.port = 0
        self.high_watermark = 0
        self._cluster = cluster
        self._directory = directory
        directory.mkdir()

    # ------------------------------------------------------------------------------------------------- life

    def start(self) -> None:
        sys = Sys()
        self.engine = Engine(sys, _engine_config(self.id))
        self.engine.serve(FETCH, 4, 17)
        self.engine.publish_grant(PRINCIPAL_ANY, RESOURCE_ANY, b"", GRANT_ALL)
        self.port = self.engine.listen("127.0.0.1", self.port, 1)
        bases = sorted(int(path.stem) for path in self._directory.glob("*.log"))
        self.log, _ = Log.open(
            sys,
            str(self._directory),
            SETTINGS,
            bases,
            log_start=bases[0] if bases else 0,
            recovery_point=0,
            clean=False,
            epochs=None,
            now_ms=WALL_MS,
        )
        replicas = tuple(self._cluster.nodes)
        self.state = _state(role=ROLE_FOLLOWER, replicas=replicas, high_watermark=self.high_watermark)
        self.number = self.engine.add_partition(PARTITION.topic, TOPIC_ID, 0, self.log, self.state)
        self.loop = Loop(self.engine, self, _now_ms)
        self.keeper = IsrKeeper(
            self.id,
            LAG_MS,
            send=self._cluster.alter_partition,
            publish=self._publish_isrs,
            replicas=self._replicas,
            may_join=lambda broker_id: self._cluster.nodes[broker_id].up,
            broker_epoch=lambda: self.id,
            now_ms=_now_ms,
            timers=self.loop.timers,
            post=self.loop.post,
        )
        self.replicator = Replicator(
            self.id,
            self.engine,
            fetchers=1,
            backoff_ms=BACKOFF_MS,
            addresses=lambda broker_id: ("127.0.0.1", self._cluster.nodes[broker_id].port),
            logs=lambda _: self,
            open_fetcher=self._open_fetcher,
            configure_fetcher=lambda fetcher, to: self.engine.configure_fetcher(fetcher, to.host, to.port, self.id),
            log_failed=lambda _, error: self._cluster.failures.append(error),
            leaders=lambda: self._cluster,
            now_ms=_now_ms,
            timers=self.loop.timers,
            post=self.loop.post,
        )
        self.engine.start()
        self._thread = threading.Thread(target=self.loop.run, name=f"control-{self.id}")
        self._thread.start()
        self.up = True

    def stop(self) -> None:
        if not self.up:
            return
        self.up = False
        self.do(self.replicator.close)
        self.loop.stop()
        self._thread.join()
        self.engine.stop(0)
        self.high_watermark = self.info().high_watermark
        self.engine.close(clean=True)
        if self.loop.failures:
            self._cluster.failures.append(AssertionError(f"node {self.id}: {self.loop.failures} tasks failed"))

    def do(self, task: Callable[[], T]) -> T:
        """Run it on the control thread; what it returned."""
        done = threading.Event()
        results: list[T] = []

        def run() -> None:
            try:
                results.append(task())
            finally:
                done.set()

        self.loop.post(run)
        assert done.wait(TIMEOUT_S), "the control thread does not answer"
        return results[0]

    def take_up(self, decision: Decision) -> None:
        """LeaderAndIsr."""
        self.replicator.stop([PARTITION])
        self.keeper.cease(PARTITION)
        leads = decision.leader == self.id
        self._publish(
            self.state._replace(
                role=ROLE_LEADER if leads else ROLE_FOLLOWER,
                leader_epoch=decision.leader_epoch,
                leader_id=decision.leader,
                isr=decision.isr,
                joining=(),
            )
        )
        if leads:
            epochs = decision.leader_epoch, decision.partition_epoch
            self.keeper.lead(LedPartition(PARTITION, TOPIC_ID, *epochs, decision.isr))
        else:
            self.replicator.follow({PARTITION: Followed(decision.leader, decision.leader_epoch, self.number)})

    # ------------------------------------------------------------------------------------------------- asking

    def info(self) -> EnginePartitionInfo:
        return self.engine.partition_info(self.number)

    def bytes(self) -> bytes:
        """All that its log holds."""
        info = self.info()
        data, offset = b"", info.log_start_offset
        while offset < info.log_end_offset:
            read = self.log.read(offset, info.log_end_offset, 1 << 20, True)
            offset = [each.next_offset for each in batches(read)][-1]
            data += read
        return data

    def by_offset(self) -> dict[int, str]:
        return {
            record.offset: str(record.value, "ascii")
            for each in batches(self.bytes())
            for record in each.records()
            if record.value
        }

    def values(self) -> list[str]:
        return [
            str(record.value, "ascii") for each in batches(self.bytes()) for record in each.records() if record.value
        ]

    # ------------------------------------------------------------------------------------------------- the data plane

    def upcall(self, upcall: Upcall) -> None:
        if upcall.kind == UP_ISR:
            self.keeper.upcall(PARTITION, upcall.a, upcall.b == 1)
        elif upcall.kind == UP_FETCHER:
            self.replicator.told_fetcher(upcall.token, upcall.a == FETCHER_CONNECTED, f"error {upcall.error}")
        elif upcall.kind == UP_FOLLOW:
            paused = upcall.error == 0 or upcall.a == 1
            diverging = EpochEnd(upcall.a, upcall.b)
            self.replicator.told_partition(upcall.partition, upcall.token, upcall.slot, upcall.error, paused, diverging)

    def publish(self, publication: Publication) -> None:
        raise AssertionError("no group lives here")

    def timer(self, key: Hashable) -> Sequence[Effect]:
        if key == TIMER:
            self.keeper.timer()
        else:
            assert self.replicator.timer(key)
        return ()

    def reply(self, reply: Reply) -> None:
        raise AssertionError("nobody asks")

    def append(self, turn: list[list[Append]]) -> None:
        raise AssertionError("nobody appends")

    def ask(self, ask: Ask) -> None:
        raise AssertionError("nobody asks the world")

    def cancel_ask(self, key: Hashable) -> None:
        raise AssertionError("nobody asks the world")

    def _publish(self, state: PartitionState) -> None:
        self.state = state
        self.engine.publish(self.number, state)

    def _publish_isrs(self, isrs: Sequence[tuple[TopicPartition, PublishedIsr]]) -> None:
        for _, isr in isrs:
            self._publish(self.state._replace(isr=isr.isr, joining=isr.joining))

    def _replicas(self, partitions: Sequence[TopicPartition]) -> list[list[ReplicaInfo]]:
        return [found or [] for found in self.engine.replicas_of([self.number] * len(partitions))]

    def _open_fetcher(self, address: FetcherAddress) -> int:
        return self.engine.open_fetcher(
            FetcherConfig(
                leader_id=address.leader,
                host=address.host,
                port=address.port,
                client_id=address.client_id,
                replica_id=self.id,
                broker_epoch=self.id,
                max_wait_ms=100,
                min_bytes=1,
                max_bytes=10 << 20,
                partition_max_bytes=1 << 20,
                backoff_ms=BACKOFF_MS,
                receive_buffer_bytes=-1,
                connect_timeout_ms=5_000,
                request_timeout_ms=5_000,
                fetch_version=17,
            )
        )

    # ------------------------------------------------------------------------------------------------- the log

    def own(self) -> OwnLog:
        info = self.info()
        return OwnLog(info.log_end_offset, info.high_watermark, self.log.info().latest_epoch)

    def epoch_end(self, epoch: int) -> EpochEnd:
        return EpochEnd(*self.log.end_offset_for_epoch(epoch))

    def truncate(self, offset: int) -> None:
        self.engine.truncate(self.number, offset, False)

    def truncate_fully(self, offset: int) -> None:
        self.engine.truncate(self.number, offset, True)


class LiveCluster:
    """The nodes by id, from 1 on, and their controller."""

    def __init__(self, directory: Path, nodes: int) -> None:
        self.failures: list[Exception] = []
        self.decision = Decision(1, -1, tuple(range(1, nodes + 1)), -1)
        self._guard = threading.Lock()
        self.nodes: dict[int, LiveNode] = {}
        for broker_id in range(1, nodes + 1):
            self.nodes[broker_id] = LiveNode(broker_id, self, directory / f"node-{broker_id}")
        for node in self.nodes.values():
            node.start()

    def close(self) -> None:
        for node in self.nodes.values():
            node.stop()
        assert not self.failures, self.failures

    def decide(self, leader: int, isr: tuple[int, ...] | None = None, to: Sequence[int] | None = None) -> None:
        """Another leader epoch. isr: uncleanly, or with others gone; otherwise the leader is in sync, or soon is: on a
        busy machine it may be behind for a moment. `to`: who hears of it now; the others by `tell`."""
        if isr is None:
            self.wait(lambda: self._decide_if(leader))
        else:
            with self._guard:
                self._decide(leader, isr)
        self.tell(*(self.nodes if to is None else to))

    def elect(self, choose: Callable[[list[int]], int]) -> bool:
        """Another leader epoch for whom `choose` takes from those in sync that are up; they are the ISR. Nobody is told
        yet. False: there is nobody."""
        with self._guard:
            candidates = [each for each in self.decision.isr if self.nodes[each].up]
            if candidates:
                self._decide(choose(candidates), tuple(candidates))
            return bool(candidates)

    def _decide_if(self, leader: int) -> bool:
        with self._guard:
            if leader in self.decision.isr:
                self._decide(leader, self.decision.isr)
                return True
            return False

    def _decide(self, leader: int, isr: tuple[int, ...]) -> None:
        old = self.decision
        self.decision = Decision(leader, old.leader_epoch + 1, isr, old.partition_epoch + 1)

    def tell(self, *nodes: int) -> None:
        for each in nodes:
            node = self.nodes[each]
            if node.up:
                node.do(partial(node.take_up, self.decision))

    def append(self, broker_id: int, *values: str) -> None:
        node = self.nodes[broker_id]
        for value in values:
            node.engine.append(node.number, batch(value), 0)

    def replicated(self, *nodes: int) -> None:
        """Wait until these have the same end, with all of it committed."""
        self.wait(lambda: len({(self._info(each)) for each in nodes}) == 1 and self._is_committed(nodes[0]))

    def _info(self, broker_id: int) -> tuple[int, int]:
        info = self.nodes[broker_id].info()
        return info.log_end_offset, info.high_watermark

    def _is_committed(self, broker_id: int) -> bool:
        end, high_watermark = self._info(broker_id)
        return end == high_watermark

    @staticmethod
    def wait(what: Callable[[], bool]) -> None:
        """Until it holds; looked at again and again, within the time limit."""
        deadline = time.monotonic() + TIMEOUT_S
        pause = threading.Event()
        while not what():
            assert time.monotonic() < deadline, "it did not come to be"
            pause.wait(0.005)

    # As the controller, and as leaders that are asked for offsets; any thread -----------------------------------------

    def alter_partition(self, request: m.AlterPartitionRequest, on_answer: OnAnswer) -> None:
        asked = request.topics[0].partitions[0]
        with self._guard:
            now = self.decision
            error = ErrorCode.NONE
            isr = tuple(each.broker_id for each in asked.new_isr_with_epochs)
            if asked.leader_epoch < now.leader_epoch:
                error = ErrorCode.FENCED_LEADER_EPOCH
            elif asked.partition_epoch < now.partition_epoch:
                error = ErrorCode.INVALID_UPDATE_VERSION
            elif not all(self.nodes[each].up for each in isr):
                error = ErrorCode.INELIGIBLE_REPLICA
            else:
                now = self.decision = Decision(now.leader, now.leader_epoch, isr, now.partition_epoch + 1)
        said = m.AlterPartitionResponse
        told = said.PartitionData(
            partition_index=0,
            error_code=int(error),
            leader_id=now.leader,
            leader_epoch=now.leader_epoch,
            isr=list(now.isr),
            partition_epoch=now.partition_epoch,
        )
        on_answer(said(topics=[said.TopicData(topic_id=TOPIC_ID, partitions=[told])]))

    def ask(self, question: OffsetQuestion, on_answer: Callable[[OffsetAnswer], None]) -> None:
        leader = next(node for node in self.nodes.values() if node.port == question.port)
        info = leader.info()
        on_answer(OffsetAnswer(0, info.log_end_offset if question.timestamp == LATEST else info.log_start_offset))


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def batch(value: str) -> bytes:
    return RecordBatchBuilder().build([NewRecord(WALL_MS, None, value.encode())])


def _state(role: int, replicas: Sequence[int], high_watermark: int) -> PartitionState:
    return PartitionState(
        role=role,
        leader_epoch=-1,
        leader_id=-1,
        replicas=replicas,
        isr=(),
        min_insync_replicas=1,
        max_message_bytes=1 << 20,
        timestamp_type=0,
        timestamp_before_max_ms=INT64_MAX,
        timestamp_after_max_ms=INT64_MAX,
        compression=-1,
        compression_level=-(1 << 31),
        compacted=False,
        internal=False,
        high_watermark=high_watermark,
    )


def _engine_config(broker_id: int) -> EngineConfig:
    return EngineConfig(
        broker_id=broker_id,
        max_request_bytes=1 << 20,
        send_buffer_bytes=-1,
        receive_buffer_bytes=-1,
        connections_max_idle_ms=-1,
        max_connections=100,
        max_connections_per_ip=100,
        fetch_max_bytes=55 << 20,
        fetch_session_slots=100,
        disk_threads=1,
        send_mode=0,
        answer_cache_bytes=0,
        replica_lag_time_max_ms=LAG_MS,
        max_upcall_bytes=1 << 20,
    )

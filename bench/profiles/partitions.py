"""python -m bench.profiles.partitions: what many partitions cost: to create, ask about, append to, start with, delete.

--partitions N,...   numbers of partitions (1000)
--topics             N topics of one partition, instead of one topic of N
--rounds N           how often all of it is done; the best counts, for what disturbs a machine only adds (3)
--directory DIR      where the data go; /dev/shm leaves the file system out
--descriptors N      the broker's hard limit of descriptors (the usual one)
--record             append starts to bench/history/partitions.jsonl

Beware: ext4 without a journal takes up to a millisecond for each new file while many were deleted in the last minutes.

A client sends one request and waits: one CreateTopics, one Metadata, one DeleteTopics for all, a Produce of one record
for each 100 partitions. A start is one after a clean stop, from exec to the ready line; the first one without a record.
CPU is the broker's, per partition as the wall time is.
"""

import argparse
import json
import os
import re
import resource
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench import machine
from bench.profiles.startup import resident_mb
from cluster.protocol import messages as m
from cluster.protocol.headers import request_header_version, response_header_version
from pylog._native import BatchBuilder
from tests.support.brokers import PylogBroker

TIMEOUT_S = 300
OPENING_TARGET_MS = 0.1  # of each log, after a clean stop
SETTINGS = {"log.segment.delete.delay.ms": "0", "auto.create.topics.enable": "false"}
METADATA_VERSION = 12
PRODUCE_VERSION = 7
PRODUCE_PARTITIONS = 100


class Cost(NamedTuple):
    """Seconds of wall time and of the broker's CPU."""

    wall: float
    cpu: float


class Client:
    """One blocking connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)

    def ask(self, request: Any, version: int) -> bytes:
        """The answer as it came, so that no time goes into reading it."""
        key = request.api_key
        header = struct.pack(">hhih", key, version, 1, -1)
        frame = header + (b"\0" if request_header_version(key, version) >= 2 else b"") + request.encode(version)
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)
        (size,) = struct.unpack(">i", self._receive(4))
        return self._receive(size)

    def _receive(self, size: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < size:
            piece = self._socket.recv(size - len(pieces))
            if not piece:
                raise ConnectionResetError("the broker closed the connection")
            pieces += piece
        return bytes(pieces)

    def close(self) -> None:
        self._socket.close()


def decoded(request: Any, version: int, answer: bytes) -> Any:
    response = getattr(m, type(request).__name__.removesuffix("Request") + "Response")
    return response.decode(answer, version, 5 if response_header_version(request.api_key, version) >= 1 else 4)


class Lap:
    """A broker of its own, and what each step of its life costs."""

    def __init__(self, directory: Path, partitions: int, topics: bool) -> None:
        self._partitions = partitions
        self._names = [f"topic-{i}" for i in range(partitions)] if topics else ["topic"]
        self._broker = PylogBroker(directory, SETTINGS)
        self.costs: dict[str, Cost] = {}
        self.megabytes: dict[str, float] = {}
        self.descriptors: dict[str, int] = {}
        self.opened_ms: dict[str, int] = {}

    def run(self) -> None:
        with self._broker.start():
            each = self._partitions // len(self._names)
            entry = m.CreateTopicsRequest.CreatableTopic
            asked = [entry(name=name, num_partitions=each, replication_factor=1) for name in self._names]
            self._look("empty")
            answer = self._ask("create", m.CreateTopicsRequest(topics=asked, timeout_ms=TIMEOUT_S * 1000), 5)
            assert all(topic.error_code == 0 for topic in answer.topics)
            self._metadata("metadata")
            self._look("created")
            self._timed("stop", lambda: self._broker.process.stop(TIMEOUT_S), cpu=False)
            self._timed("start", self._broker.start, cpu=True, new=True)
            self._look("started")
            self._note_opening("start")
            self._metadata("metadata again")
            self._append("append")
            self._look("appended")
            self._append("append again")
            self._timed("stop again", lambda: self._broker.process.stop(TIMEOUT_S), cpu=False)
            self._timed("start again", self._broker.start, cpu=True, new=True)
            self._look("restarted")
            self._note_opening("start again")
            gone = m.DeleteTopicsRequest(topic_names=self._names, timeout_ms=TIMEOUT_S * 1000)
            answer = self._ask("delete", gone, 4)
            assert all(topic.error_code == 0 for topic in answer.responses)
            self._broker.stop()

    def _metadata(self, step: str) -> None:
        answer = self._ask(step, m.MetadataRequest(topics=None), METADATA_VERSION)
        found = sum(len(topic.partitions) for topic in answer.topics)
        assert found == self._partitions, f"{found} of {self._partitions} partitions"

    def _look(self, when: str) -> None:
        self.megabytes[when] = resident_mb(self._broker.pid)
        self.descriptors[when] = len(os.listdir(f"/proc/{self._broker.pid}/fd"))

    def _note_opening(self, step: str) -> None:
        """What the broker says of its last start: how long all logs took, without the rest of the start."""
        told = re.findall(r"logs loaded .* elapsed_ms=(\d+)", self._broker.log.read_text())
        self.opened_ms[step] = int(told[-1])

    def _append(self, step: str) -> None:
        """One record of 100 bytes to each partition."""
        builder = BatchBuilder()
        builder.reset(0, 0)
        builder.add(int(time.time() * 1000), None, b"x" * 100)
        batch = builder.finish()
        builder.close()
        data = m.ProduceRequest.PartitionProduceData
        each = self._partitions // len(self._names)
        all_of_them = [(name, index) for name in self._names for index in range(each)]
        requests = []
        for at in range(0, len(all_of_them), PRODUCE_PARTITIONS):
            topics: dict[str, list[Any]] = {}
            for name, index in all_of_them[at : at + PRODUCE_PARTITIONS]:
                topics.setdefault(name, []).append(data(index=index, records=batch))
            topic_data = [m.ProduceRequest.TopicProduceData(name=n, partition_data=p) for n, p in topics.items()]
            requests.append(
                m.ProduceRequest(transactional_id=None, acks=1, timeout_ms=TIMEOUT_S * 1000, topic_data=topic_data)
            )
        client = Client(self._broker.port)
        answers = self._timed(step, lambda: [client.ask(request, PRODUCE_VERSION) for request in requests])
        client.close()
        for request, answer in zip(requests, answers, strict=True):
            topics_told = decoded(request, PRODUCE_VERSION, answer).responses
            failed = {p.error_code for topic in topics_told for p in topic.partition_responses} - {0}
            assert not failed, f"errors {failed}"

    def _ask(self, step: str, request: Any, version: int) -> Any:
        client = Client(self._broker.port)
        answer = self._timed(step, lambda: client.ask(request, version))
        client.close()
        return decoded(request, version, answer)

    def _timed(self, step: str, action: Callable[[], Any], cpu: bool = True, new: bool = False) -> Any:
        before = self._cpu() if cpu and not new else 0.0
        began = time.monotonic()
        result = action()
        wall = time.monotonic() - began
        self.costs[step] = Cost(wall, self._cpu() - before if cpu else float("nan"))
        return result

    def _cpu(self) -> float:
        return time.clock_gettime(~self._broker.pid << 3 | 2)  # the process's clock, see clock_getcpuclockid


def show(partitions: int, laps: list[Lap]) -> None:
    for step in laps[0].costs:
        wall = min(lap.costs[step].wall for lap in laps)
        cpu = min(lap.costs[step].cpu for lap in laps)
        per_ms = (1000 * wall / partitions, 1000 * cpu / partitions)
        print(
            f"{partitions:>6} {step:<15} wall {wall * 1000:8.1f} ms {per_ms[0]:7.4f} each"
            f"   cpu {cpu * 1000:8.1f} ms {per_ms[1]:7.4f} each",
            flush=True,
        )
    for step in laps[0].opened_ms:
        opened = min(lap.opened_ms[step] for lap in laps)
        print(f"{partitions:>6} logs opened, {step:<11} {opened:8.1f} ms {opened / partitions:7.4f} each")
    for when in ("created", "started", "appended", "restarted"):
        grown = min(lap.megabytes[when] - lap.megabytes["empty"] for lap in laps)
        descriptors = max(lap.descriptors[when] for lap in laps)
        print(
            f"{partitions:>6} resident, {when:<9} {grown:6.1f} MB above an empty broker"
            f" {grown * 1000 / partitions:6.2f} KB each   {descriptors:>6} descriptors"
        )


def record(partitions: int, laps: list[Lap]) -> None:
    """The best start of each kind, in ms a log: opening alone (target 0.1), and all of the start."""
    about = {"date": time.strftime("%Y-%m-%d %H:%M"), "commit": machine.commit(), **machine.describe()}
    with (machine.ROOT / "bench" / "history" / "partitions.jsonl").open("a") as history:
        for step in laps[0].opened_ms:
            opening = min(lap.opened_ms[step] for lap in laps) / partitions
            figures = {
                "row": f"{partitions} logs: {step}",
                "unit": "ms a log",
                "target": OPENING_TARGET_MS,
                "opening": opening,
                "met": opening <= OPENING_TARGET_MS,
                "start": min(lap.costs[step].wall for lap in laps) * 1000 / partitions,
            }
            history.write(json.dumps({**about, **figures}) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profiles.partitions")
    parser.add_argument("--partitions", default="1000")
    parser.add_argument("--topics", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory")
    parser.add_argument("--descriptors", type=int)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, options.descriptors), options.descriptors))
    with tempfile.TemporaryDirectory(prefix="pylog-partitions-", dir=options.directory) as directory:
        for partitions in map(int, options.partitions.split(",")):
            laps = []
            for number in range(options.rounds):
                lap = Lap(Path(directory) / f"{partitions}-{number}", partitions, options.topics)
                lap.run()
                laps.append(lap)
            show(partitions, laps)
            if options.record:
                record(partitions, laps)
    return 0


if __name__ == "__main__":
    sys.exit(main())

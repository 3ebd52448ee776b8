"""The rows that are not a steady load: starting, being idle, coming back after kill -9."""

import struct
import time

from bench.macro.rows import LoadRow
from bench.macro.side import Side
from tests.support import wire

GIB = 1 << 30
IDLE_S = 10.0
ANSWER_TIMEOUT_S = 120.0


def start_ms(side: Side) -> float:
    """From exec to the first answered ApiVersions, with what the broker keeps on disk in place. It runs afterwards."""
    if side.broker.running():
        side.broker.stop()
    process = side.broker.launch()
    seconds = wire.seconds_to_first_answer(side.broker.port, since=process.started_at, timeout_s=ANSWER_TIMEOUT_S)
    side.broker.wait_ready()
    return seconds * 1000


def idle(side: Side) -> tuple[float, float]:
    """(resident megabytes, percent of one CPU) of a broker that nobody asks anything."""
    time.sleep(2)  # sleep: what a start leaves to be done is not idleness
    before = side.cpu_seconds()
    time.sleep(IDLE_S)  # sleep: idleness is what is measured
    return side.memory_bytes() / 1e6, (side.cpu_seconds() - before) / IDLE_S * 100


def recovery_ms(side: Side) -> float:
    """From exec to the first fetch that brings records, after kill -9 with a gigabyte in one partition."""
    row = LoadRow("fill", "produce", "s/GB", 1, 1, 4, 1024, 65536)
    with side.topic() as topic:
        side.fill(topic, row, GIB)
        side.broker.kill()
        process = side.broker.launch()
        while fetched_bytes(side.broker.port, topic) == 0:
            if time.monotonic() - process.started_at > ANSWER_TIMEOUT_S:
                raise RuntimeError(f"{side.name}: no fetch was answered within {ANSWER_TIMEOUT_S} s")
        seconds = time.monotonic() - process.started_at
        side.broker.wait_ready()
    return seconds * 1000


def fetched_bytes(port: int, topic: str) -> int:
    """Bytes of records a Fetch (version 11) from offset 0 brings; 0 while the broker or the partition is not there."""
    name = struct.pack(">h", len(topic)) + topic.encode()
    partition = struct.pack(">iiqqi", 0, -1, 0, -1, 65536)
    head = struct.pack(">iiiibii", -1, 100, 1, 65536, 0, 0, -1)
    body = head + struct.pack(">i", 1) + name + struct.pack(">i", 1) + partition + struct.pack(">ih", 0, 0)
    try:
        with wire.Connection(port, timeout_s=10) as connection:
            answer = connection.ask(1, 11, body)
    except OSError:
        return 0
    (error,) = struct.unpack_from(">h", answer, 4)
    if error != 0:
        return 0
    at = 14 + len(name) + 4
    error, aborted = struct.unpack_from(">4xh24xi", answer, at)
    at += 34 + max(aborted, 0) * 16 + 4
    (size,) = struct.unpack_from(">i", answer, at)
    return int(size) if error == 0 else 0

"""Transactional producers, as bytes: each transaction adds a partition, writes one record, and commits."""

import struct
import time

from bench.coordination.swarm import Line, Swarm, byte_string, string
from pylog._native import BatchBuilder, crc32c

_PRODUCE, _COORDINATOR, _INIT, _ADD, _END = 0, 10, 22, 24, 26
_RETRIABLE = (14, 15, 16, 51)  # loading, not available, not coordinator, concurrent transactions
_BACKOFF_S = 0.002
_ATTRIBUTES, _CRC, _PRODUCER = 21, 17, 43  # positions in a batch
_TRANSACTIONAL = 0x10


class Producer:
    """`step`: what its line waits for."""

    def __init__(self, line: Line, topic: str, partition: int, name: str) -> None:
        self.line = line
        self.step = ""
        self._name = name
        self._topic = topic
        self._partition = partition
        self._producer_id = -1
        self._epoch = -1
        self._sequence = 0
        self._builder = BatchBuilder()

    def ask(self, step: str) -> None:
        """init, add, write, or end."""
        self.step = step
        if step == "init":
            self.line.send(_INIT, 0, string(self._name) + struct.pack(">i", 60_000))
        elif step == "add":
            part = struct.pack(">i", 1) + string(self._topic) + struct.pack(">ii", 1, self._partition)
            self.line.send(_ADD, 0, self._who() + part)
        elif step == "write":
            head = string(self._name) + struct.pack(">hii", -1, 30_000, 1) + string(self._topic)
            self.line.send(_PRODUCE, 5, head + struct.pack(">ii", 1, self._partition) + byte_string(self._batch()))
        else:
            self.line.send(_END, 0, self._who() + b"\1")

    def take(self) -> int:
        """The error in the answer."""
        answer = self.line.answer
        if self.step == "init":
            error, self._producer_id, self._epoch = struct.unpack_from(">4xhqh", answer)
        elif self.step == "end":
            (error,) = struct.unpack_from(">4xh", answer)
        elif self.step == "add":
            (error,) = struct.unpack_from(">h", answer, len(answer) - 2)
        else:
            (error,) = struct.unpack_from(">h", answer, 4 + 2 + len(self._topic) + 4 + 4)
            self._sequence += 0 if error else 1
        if error and error not in _RETRIABLE:
            raise RuntimeError(f"{self.step} of a transaction was answered with error {error}")
        return int(error)

    def _who(self) -> bytes:
        return string(self._name) + struct.pack(">qh", self._producer_id, self._epoch)

    def _batch(self) -> bytes:
        self._builder.reset(0, 0)
        self._builder.add(int(time.time() * 1000), None, b"x" * 100)
        batch = bytearray(self._builder.finish())
        (attributes,) = struct.unpack_from(">h", batch, _ATTRIBUTES)
        struct.pack_into(">h", batch, _ATTRIBUTES, attributes | _TRANSACTIONAL)
        struct.pack_into(">qhi", batch, _PRODUCER, self._producer_id, self._epoch, self._sequence)
        struct.pack_into(">I", batch, _CRC, crc32c(bytes(batch[_ATTRIBUTES:])))
        return bytes(batch)


class Producers:
    """One partition each of a topic."""

    def __init__(self, port: int, topic: str, count: int, name: str) -> None:
        self._swarm = Swarm(port, count)
        self._settle(name)
        self._producers = [Producer(line, topic, line.number, f"{name}-{line.number}") for line in self._swarm.lines]
        self._go("init", ("init",), 0)

    def run(self, seconds: float) -> int:
        """Transactions committed in this time; all are ended."""
        return self._go("add", ("add", "write", "end"), seconds)

    def close(self) -> None:
        self._swarm.close()

    def _go(self, first: str, steps: tuple[str, ...], seconds: float) -> int:
        """All producers go through the steps, again and again until the time is over; how often."""
        until = time.monotonic() + seconds
        running = len(self._producers)
        count = 0
        later: list[tuple[float, Producer]] = []
        for producer in self._producers:
            producer.ask(first)
        while running:
            for line in self._swarm.arrived(_BACKOFF_S if later else 1.0):
                producer = self._producers[line.number]
                if producer.take():
                    later.append((time.monotonic() + _BACKOFF_S, producer))
                elif producer.step != steps[-1]:
                    producer.ask(steps[steps.index(producer.step) + 1])
                else:
                    count += 1
                    if time.monotonic() < until:
                        producer.ask(first)
                    else:
                        running -= 1
            now = time.monotonic()
            for _, producer in [each for each in later if each[0] <= now]:
                producer.ask(producer.step)
            later = [each for each in later if each[0] > now]
            if now > until + 60:
                raise TimeoutError(f"{running} producers do not come to an end of {steps}")
        return count

    def _settle(self, name: str) -> None:
        """Until the coordinator of transactions is there."""
        deadline = time.monotonic() + 60
        line = self._swarm.lines[0]
        while True:
            line.send(_COORDINATOR, 1, string(name) + b"\1")
            self._swarm.wait([line])
            if struct.unpack_from(">4xh", line.answer)[0] == 0:
                return
            if time.monotonic() > deadline:
                raise TimeoutError("no transaction coordinator within 60 s")
            time.sleep(0.05)  # sleep: as a client backs off

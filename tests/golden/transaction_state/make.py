"""Capture what Apache Kafka answers to the commands of plain.txt (and bumping.txt), and the records it leaves.

    python -m tests.golden.transaction_state.make PORT plain|bumping LOG_DIR OUT

A fresh broker of its own: transaction.state.log.num.partitions=1, offsets.topic.num.partitions=5,
transaction.abort.timed.out.transaction.cleanup.interval.ms=100. LOG_DIR is its __transaction_state-0. What is written:
one line of JSON per command ({"say", "told"}), then one per record ({"offset", "key", "value"}, hexadecimal), but not
of those that only use up epochs. plain is from Kafka 3.9.1 with ZooKeeper, bumping from 4.3.1.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.golden.consumer_offsets.make import records
from tests.golden.transaction_state.script import LAST_EPOCH, Script
from tests.unit.pylog.engine_client import Client

HERE = Path(__file__).parent
Response = TypeVar("Response", bound=Message)
PATIENCE_S = 30
_LOOK_AGAIN_S = 0.05


class Kafka:
    def __init__(self, port: int) -> None:
        self.client = Client(port)

    def ask(self, request: Message, version: int, kind: type[Response]) -> Response:
        key = type(request).api_key
        self.client.send(key, version, request.encode(version))
        answer = self.client.decode(kind, key, version)
        assert isinstance(answer, kind)
        return answer

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(_LOOK_AGAIN_S)  # sleep: Kafka does not tell when

    def exhaust(self, init: Callable[[], tuple[int, int]], transactional_id: str) -> None:
        while init()[1] < LAST_EPOCH:
            pass

    def prepare(self) -> None:
        topics = [
            m.CreateTopicsRequest.CreatableTopic(name=name, num_partitions=count, replication_factor=1)
            for name, count in (("t", 4), ("u", 2))
        ]
        created = self.ask(m.CreateTopicsRequest(topics=topics, timeout_ms=10_000), 5, m.CreateTopicsResponse)
        assert {each.error_code for each in created.topics} <= {0, ErrorCode.TOPIC_ALREADY_EXISTS}
        for key_type in (0, 1):
            request = m.FindCoordinatorRequest(key="g", key_type=key_type)
            self.until(lambda request=request: not self.ask(request, 2, m.FindCoordinatorResponse).error_code)  # type: ignore[misc]
        loading = (ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        end = m.EndTxnRequest(transactional_id="none", producer_id=0, producer_epoch=0, committed=True)
        self.until(lambda: ErrorCode(self.ask(end, 3, m.EndTxnResponse).error_code) not in loading)
        # Producer ids come from the controller, in blocks: the first who asks has to wait.
        some = m.InitProducerIdRequest(transactional_id=None)
        self.until(lambda: not self.ask(some, 4, m.InitProducerIdResponse).error_code)


def commands(name: str) -> list[str]:
    lines = (HERE / f"{name}.txt").read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def main(port: int, name: str, log_dir: Path, out: Path) -> None:
    kafka = Kafka(port)
    kafka.prepare()
    script = Script(kafka)
    lines: list[dict[str, object]] = []
    for command in commands(name):
        lines.append({"say": command, "told": script.say(command)})
        print(f"{command:40} {lines[-1]['told']}", flush=True)
    found: list[dict[str, object]] = []
    for path in sorted(log_dir.glob("*.log")):
        for offset, _, _, key, value in records(path.read_bytes()):
            entry = {"offset": offset, "key": key.hex(), "value": None if value is None else value.hex()}
            found.append(entry)
    kept = without_used_up(found)
    out.write_text("".join(json.dumps(each, separators=(",", ":")) + "\n" for each in lines + kept), "utf-8")


def without_used_up(found: list[dict[str, object]]) -> list[dict[str, object]]:
    """Of the producer ids whose epochs were used up: not what came between the first epoch and the last."""
    values = [
        m.TransactionLogValue.decode(bytes.fromhex(str(each["value"])), int(str(each["value"])[:4], 16), 2)
        for each in found
    ]
    empty = [value.transaction_status == 0 for value in values]
    used_up = {
        value.producer_id
        for value, is_empty in zip(values, empty, strict=True)
        if is_empty and value.producer_epoch == LAST_EPOCH
    }
    return [
        entry
        for entry, value, is_empty in zip(found, values, empty, strict=True)
        if not (is_empty and value.producer_id in used_up and 0 < value.producer_epoch < LAST_EPOCH)
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))

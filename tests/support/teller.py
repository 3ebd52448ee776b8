"""A teller: reads orders in the tellers' group, books them, and commits entries and offsets in one transaction.

    python -m tests.support.teller BOOTSTRAP NAME LIFE SEED

NAME is its transactional id. What stays true: an entry is only written in a transaction together with the offset of
its order; after an abort it goes on from where the group is. Now and then it aborts what it has written, on purpose.
Runs until it is killed. Fenced by a newer teller of its name, or by the coordinator after a long stall, it ends with
the exit code FENCED; anything else that it cannot go on after is an error that it ends with.

librdkafka 2.16 may never come back from sending offsets, whatever broker it talks to: it waits for the coordinator that
it remembers without a time limit (its issue 5456), also when it has let go of that broker meanwhile (5511). It lets go
of all of them when none is up, to begin anew from its bootstrap servers: any kill of an only broker has it wait for one
that it does not try to reach any more. So it is told not to begin anew; if it hangs all the same, for a broker that has
left the metadata, the teller ends by SIGALRM.
"""

import contextlib
import faulthandler
import random
import signal
import sys
import time
from collections.abc import Callable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.support.books import ENTRIES, GROUP, ORDERS, Order, Transaction, book

FENCED = 3
SESSION_TIMEOUT_MS = 2000
TRANSACTION_TIMEOUT_MS = 4000
_CALL_S = 5.0
_HANGS_S = 8
_GIVE_UP_S = 120.0
_BATCH = 8
_VOID = 0.15
_FENCED_CODES = (
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.FENCED_INSTANCE_ID,
)


class Teller:
    """One life of a teller."""

    def __init__(self, bootstrap: str, name: str, life: int, seed: int) -> None:
        self._name = name
        self._life = life
        self._number = 0
        self._chance = random.Random(f"{seed} {name} {life}")
        self._taken: list[Message] = []
        common = {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "retry.backoff.ms": 50,
            "topic.metadata.refresh.fast.interval.ms": 50,
            "metadata.recovery.strategy": "none",  # or it hangs: see above
            "log_level": 3,
        }
        self._producer = Producer(
            {**common, "transactional.id": name, "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS, "linger.ms": 0}
        )
        self._consumer = Consumer(
            {
                **common,
                "group.id": GROUP,
                "client.id": name,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "session.timeout.ms": SESSION_TIMEOUT_MS,
                "heartbeat.interval.ms": 200,
                "fetch.wait.max.ms": 50,
                "fetch.error.backoff.ms": 50,
            }
        )

    def run(self) -> None:
        _insist(self._producer.init_transactions)
        self._consumer.subscribe([ORDERS], on_assign=self._moved, on_revoke=self._moved, on_lost=self._moved)
        while True:
            self._take()
            if self._taken:
                self._book(self._taken)
                self._taken.clear()

    def tell(self) -> None:
        assignment = self._consumer.assignment()
        print(f"position {self._consumer.position(assignment)}", flush=True)
        try:
            print(f"committed {self._consumer.committed(assignment, _CALL_S)}", flush=True)
        except KafkaException as failed:
            print(f"committed offsets cannot be had: {failed}", flush=True)

    def _moved(self, _: Consumer, __: list[TopicPartition]) -> None:
        """Another generation: what was taken in the last one is somebody else's now."""
        self._taken.clear()

    def _take(self) -> None:
        """Some orders, in one generation. Poll one by one: each poll may tell of another generation."""
        message = self._consumer.poll(0.1)
        while message is not None:
            error = message.error()
            if error is None:
                self._taken.append(message)
            elif not error.retriable() and error.code() not in _PASSING:
                raise KafkaException(error)
            if len(self._taken) >= _BATCH:
                return
            message = self._consumer.poll(0)

    def _book(self, messages: list[Message]) -> None:
        self._number += 1
        void = self._chance.random() < _VOID
        orders = [Order.decode(message.value() or b"") for message in messages]
        self._producer.begin_transaction()
        try:
            for entry in book(orders, Transaction(self._name, self._life, self._number), void):
                self._producer.produce(ENTRIES, entry.encode(), partition=entry.partition)
            if not void or self._chance.random() < 0.5:
                self._send_offsets(messages)
            if not void:
                _insist(self._producer.commit_transaction)
                return
            self._producer.flush(_CALL_S)
        except KafkaException as failed:
            if not _error(failed).txn_requires_abort():
                raise
        _insist(self._producer.abort_transaction)
        self._rewind()

    def _send_offsets(self, messages: list[Message]) -> None:
        positions: dict[int, int] = {}
        for message in messages:
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            positions[partition] = offset + 1
        offsets = [TopicPartition(ORDERS, partition, offset) for partition, offset in positions.items()]
        metadata = self._consumer.consumer_group_metadata()
        _insist(lambda timeout: self._producer.send_offsets_to_transaction(offsets, metadata, timeout))

    def _rewind(self) -> None:
        """To what the group has committed. A partition that is taken away meanwhile need not be rewound."""
        assignment = self._consumer.assignment()
        found: list[TopicPartition] = []
        _insist(lambda timeout: found.extend(self._consumer.committed(assignment, timeout)))
        for position in found:
            if position.offset < 0:
                position.offset = OFFSET_BEGINNING
            try:
                self._consumer.seek(position)
            except KafkaException as failed:
                if _error(failed).code() not in (KafkaError._UNKNOWN_PARTITION, KafkaError._STATE):
                    raise


# What a consumer is told of and gets over by itself.
_PASSING = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._MAX_POLL_EXCEEDED)


def _error(failed: KafkaException) -> KafkaError:
    error = failed.args[0]
    assert isinstance(error, KafkaError)
    return error


def _insist(call: Callable[[float], object]) -> None:
    """Until it is done: a call that ran out of time, or may be made again, is made again."""
    deadline = time.monotonic() + _GIVE_UP_S
    while True:
        try:
            signal.alarm(_HANGS_S)
            call(_CALL_S)
            return
        except KafkaException as failed:
            error = _error(failed)
            again = error.retriable() or error.code() in (KafkaError._TIMED_OUT, *_PASSING)
            if not again or error.txn_requires_abort():
                raise
            print(f"once more after {error}", flush=True)
            if time.monotonic() > deadline:
                raise
        finally:
            signal.alarm(0)


def main() -> int:
    bootstrap, name, life, seed = sys.argv[1:]
    try:
        teller = Teller(bootstrap, name, int(life), int(seed))
        # what it is at, when its bank waits too long: the stack at once, the rest when it is in Python
        signal.signal(signal.SIGUSR1, lambda *_: teller.tell())
        faulthandler.register(signal.SIGUSR1, chain=True)
        teller.run()
    except KafkaException as failed:
        print(f"{name} life {life}: {failed}", flush=True)
        if _error(failed).code() in _FENCED_CODES:
            return FENCED
        raise
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())

"""Members of one consumer group that read everything a Load writes, and complain of anything they should not see.

What stays true of whatever they read, or `complaints` says where it was not:
- within an assignment offsets follow one another, none twice and none left out;
- an assignment begins at a committed offset: no lower than any that was acknowledged before it, no higher than any
  that was asked for;
- the record at an offset is the one that the load has written there: its sequence number is the offset.

They commit as they read and wait for no commit, but for the one before: librdkafka's synchronous commit has no end as
long as its coordinator is not to be reached (2.16: a request that times out before it was sent is tried again, and that
does not count), and who waits in it takes no part in a rebalance. Two at a time may be applied in either order.
"""

import threading
import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.support import records
from tests.support.process import ProcessError

_BATCH = 1000
_POLL_S = 0.2
_COMMIT_AT_FIRST_S = 60.0
#: What a consumer is told that has lost its place: the log does not have the offset, or no offset is committed.
_LOST = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION)


class Readers:
    """`members` consumers in threads of their own."""

    def __init__(self, bootstrap: str, topic: str, partitions: list[int], group: str, members: int = 2) -> None:
        self.complaints: list[str] = []
        self.next = dict.fromkeys(partitions, 0)
        """By partition, where the reading has come to."""
        self._settings = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "socket.timeout.ms": 6000,
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 50,
            "reconnect.backoff.max.ms": 100,
            "log_level": 0,
        }
        self._topic = topic
        self._committed = dict.fromkeys(partitions, 0)
        self._asked = dict.fromkeys(partitions, 0)
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._members = [threading.Thread(target=self._run, name=f"reader {n}", daemon=True) for n in range(members)]

    def start(self) -> None:
        """Whoever has no committed offset is lost, so there are some before the first of them begins."""
        commits = _Commits(self._topic)
        consumer = Consumer({**self._settings, "on_commit": commits.heard})
        deadline = time.monotonic() + _COMMIT_AT_FIRST_S
        try:
            while commits.acknowledged.keys() != self.next.keys():
                commits.send(consumer, dict.fromkeys(self.next, 0))
                consumer.poll(_POLL_S)
                if time.monotonic() > deadline:
                    raise ProcessError("the first offsets cannot be committed")
        finally:
            consumer.close()
        for each in self._members:
            each.start()

    def wait(self, goal: dict[int, int], timeout_s: float = 60) -> None:
        """Until they have read up to these offsets."""
        with self._changed:

            def there() -> bool:
                return bool(self.complaints) or all(self.next[partition] >= end for partition, end in goal.items())

            if not self._changed.wait_for(there, timeout_s):
                raise ProcessError(f"after {timeout_s} s read up to {self.next} of {goal}")
        assert not self.complaints, self.complaints[:5]

    def finish(self) -> None:
        self._stopping.set()
        for each in self._members:
            each.join(30)
        assert not any(each.is_alive() for each in self._members), "a reader does not end"
        assert not self.complaints, self.complaints[:5]

    # ------------------------------------------------------------------------------------------------- a member

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:
            self._complain(f"{threading.current_thread().name}: {error!r}")
            raise

    def _read(self) -> None:
        expected: dict[int, int | None] = {}
        floor: dict[int, int] = {}

        def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
            with self._changed:
                for each in partitions:
                    expected[each.partition] = None
                    floor[each.partition] = self._committed[each.partition]

        def revoked(_: Consumer, partitions: list[TopicPartition]) -> None:
            for each in partitions:
                expected.pop(each.partition, None)
                ends.pop(each.partition, None)

        ends: dict[int, int] = {}  # of what was read and is not committed yet
        commits = _Commits(self._topic)
        consumer = Consumer({**self._settings, "on_commit": commits.heard})
        consumer.subscribe([self._topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
        try:
            while not self._stopping.is_set():
                for message in consumer.consume(_BATCH, _POLL_S):
                    error = message.error()
                    if error is not None:
                        if error.code() in _LOST:
                            self._complain(f"{message.partition()}:{message.offset()}: {error}")
                        continue
                    partition, offset = message.partition() or 0, message.offset() or 0
                    self._check(partition, offset, message.value(), expected.get(partition), floor.get(partition, 0))
                    expected[partition] = ends[partition] = offset + 1
                self._take_in(commits)
                if ends and not commits.under_way:
                    self._ask(ends)
                    commits.send(consumer, ends)
                    ends.clear()
        finally:
            consumer.close()

    def _check(self, partition: int, offset: int, value: bytes | None, expected: int | None, floor: int) -> None:
        with self._changed:
            if expected is None and not floor <= offset <= self._asked[partition]:
                self._complain(f"{partition}: begins at {offset}, committed {floor} to {self._asked[partition]}")
            if expected is not None and offset != expected:
                self._complain(f"{partition}: {offset} comes in place of {expected}")
            if value != records.value(partition, offset):
                self._complain(f"{partition}:{offset}: {value!r}")
            self.next[partition] = max(self.next[partition], offset + 1)
            self._changed.notify_all()

    def _ask(self, ends: dict[int, int]) -> None:
        """What is about to be committed may hold from now on; it does when it is acknowledged."""
        with self._changed:
            for partition, end in ends.items():
                self._asked[partition] = max(self._asked[partition], end)

    def _take_in(self, commits: "_Commits") -> None:
        with self._changed:
            for partition, end in commits.acknowledged.items():
                self._committed[partition] = max(self._committed[partition], end)

    def _complain(self, what: str) -> None:
        with self._changed:
            self.complaints.append(what)
            self._changed.notify_all()


class _Commits:
    """Of one consumer, one at a time. `acknowledged`: by partition, the last offset that is committed for certain."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self.under_way = False
        self.acknowledged: dict[int, int] = {}

    def send(self, consumer: Consumer, ends: dict[int, int]) -> None:
        """Nothing while the last one is under way. What becomes of it `heard` is told, while the consumer is polled."""
        if not self.under_way:
            self.under_way = True
            offsets = [TopicPartition(self._topic, partition, end) for partition, end in ends.items()]
            consumer.commit(offsets=offsets, asynchronous=True)

    def heard(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self.under_way = False
        if error is None:
            self.acknowledged |= {each.partition: each.offset for each in partitions if each.error is None}

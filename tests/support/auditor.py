"""Reads the bank's entries as they become readable, and finds fault at once.

An audit asks every partition for its last stable offset and reads up to there, twice: once as a reader of committed
records, and once all that was written. What has to hold below these offsets, whatever is under way:

 - a transaction is visible as a whole or not at all, in all partitions alike; if so, with every entry;
 - the balances after all whole transactions have the sum that the bank began with;
 - nothing visible is void (its teller aborted it), none comes twice, and the orders of a partition are booked in order;
 - a last stable offset never goes back.

An entry above the last stable offset of its partition is not decided yet: its transaction's marker may be on the way,
or an older transaction is open: a transaction of which a part is there counts for the sums when all of it is below.
"""

import threading
import time
from collections import Counter, defaultdict

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # not in its __all__

from tests.support import confluent
from tests.support.books import ACCOUNTS, ENTRIES, PARTITIONS, Entry, Transaction
from tests.support.process import ProcessError

BALANCE = 1000
_ASK_S = 2.0
_POLL_S = 0.02
_READ_S = 120.0


class Auditor:
    """A thread that audits all the time. `fault` is what it found, and then it ends; else `booked` grows."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._visible = _Reader(bootstrap, "read_committed")
        self._written = _Reader(bootstrap, "read_uncommitted")
        self.fault: str | None = None
        self.audits = 0
        self.voids = 0
        self.booked: set[int] = set()
        self.balances = [BALANCE] * ACCOUNTS
        self._traces: dict[Transaction, _Trace] = defaultdict(_Trace)
        self._ends = [0] * PARTITIONS
        self._order_seen: dict[tuple[int, int, bool], int] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name="auditor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Ends after the audit that it is at."""
        self._stopping.set()
        self._thread.join(60)
        assert self.fault is None, self.fault
        assert not self._thread.is_alive(), "the auditor does not end"

    def wait(self, booked: int, timeout_s: float) -> bool:
        """Whether that many orders are booked. AssertionError when an audit fails."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while len(self.booked) < booked and self.fault is None:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
        assert self.fault is None, self.fault
        return len(self.booked) >= booked

    def wait_audits(self, more: int, timeout_s: float) -> None:
        """So many whole audits from now on."""
        deadline = time.monotonic() + timeout_s
        goal = self.audits + more
        with self._changed:
            while self.audits < goal and self.fault is None:
                if time.monotonic() > deadline:
                    raise ProcessError(f"{goal - self.audits} audits are missing, the last went to {self._ends}")
                self._changed.wait(0.1)
        assert self.fault is None, self.fault

    def in_part(self) -> list[Transaction]:
        """Transactions that are visible, and are not whole yet."""
        return sorted(key for key, trace in self._traces.items() if trace.visible.total() not in (0, trace.size))

    def state(self) -> str:
        """What it is at, when nothing is booked for too long."""
        return (
            f"audit {self.audits}, last stable offsets {self._ends}, committed records are read up to "
            f"{self._visible.reached}, all up to {self._written.reached}, visible in part: {self.in_part()}"
        )

    # ------------------------------------------------------------------------------------------------- the thread

    def _guarded(self) -> None:
        admin = None
        try:
            while not self._stopping.is_set():
                # one that has heard of a leader epoch may ask with it for ever (librdkafka 2.16)
                admin = admin or AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})
                ends = _ends(admin)
                if ends is None:
                    admin = None
                else:
                    self._audit(ends)
        except BaseException as error:
            self.fault = f"audit {self.audits}: {error!r}"
        finally:
            self._visible.close()
            self._written.close()
            with self._changed:
                self._changed.notify_all()

    def _audit(self, ends: list[int]) -> None:
        for partition, (last, end) in enumerate(zip(self._ends, ends, strict=True)):
            assert end >= last, f"the last stable offset of partition {partition} went from {last} to {end}"
        self._ends = ends
        touched: set[Transaction] = set()
        for partition, entry in self._written.read(ends, self._stopping):
            assert entry.partition == partition, f"{entry} in partition {partition}"
            self._traces[entry.transaction].write(entry)
            self.voids += entry.void
            touched.add(entry.transaction)
        for partition, entry in self._visible.read(ends, self._stopping):
            self._check_order(partition, entry)
            self._traces[entry.transaction].see(entry)
            touched.add(entry.transaction)
        if self._stopping.is_set():
            return
        for transaction in touched:
            trace = self._traces[transaction]
            trace.check(transaction)
            if trace.visible.total() == trace.size:
                self._close(trace)
        total = sum(self.balances)
        assert total == ACCOUNTS * BALANCE, f"the sum is {total}"
        with self._changed:
            self.audits += 1
            self._changed.notify_all()

    def _check_order(self, partition: int, entry: Entry) -> None:
        line = (partition, entry.order % PARTITIONS, entry.change < 0)
        last = self._order_seen.get(line, -1)
        assert entry.order > last, f"order {entry.order} after {last} in partition {partition}: {entry}"
        self._order_seen[line] = entry.order

    def _close(self, trace: "_Trace") -> None:
        for entry in trace.entries:
            self.balances[entry.account] += entry.change
        with self._changed:
            self.booked |= {entry.order for entry in trace.entries}
            self._changed.notify_all()
        trace.entries.clear()


class _Trace:
    """What there is of one transaction below the last stable offsets, by partition. size: how many entries it has."""

    __slots__ = ("entries", "shape", "size", "visible", "written")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.shape: tuple[int, ...] = ()
        self.size = 0
        self.visible: Counter[int] = Counter()
        self.written: Counter[int] = Counter()

    def write(self, entry: Entry) -> None:
        self.shape, self.size = entry.shape, sum(entry.shape)
        self.written[entry.partition] += 1

    def see(self, entry: Entry) -> None:
        assert not entry.void, f"{entry} was aborted, and is visible"
        self.visible[entry.partition] += 1
        self.entries.append(entry)

    def check(self, transaction: Transaction) -> None:
        if not self.visible:
            return
        assert self.visible == self.written, f"{transaction} is torn: {self.visible} of {self.written} are visible"
        for partition, count in self.visible.items():
            due = self.shape[partition]
            assert count == due, f"{transaction} has {count} entries of {due} in partition {partition}"


class _Reader:
    """All entries of all partitions, from their start, as they can be read at an isolation level."""

    def __init__(self, bootstrap: str, isolation_level: str) -> None:
        config: dict[str, str | int | bool] = {
            "isolation.level": isolation_level,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "fetch.error.backoff.ms": 20,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "topic.metadata.refresh.fast.interval.ms": 50,
            "log_level": 0,
        }
        self._consumer: Consumer = confluent.assigned_consumer(bootstrap, ENTRIES, PARTITIONS, **config)
        self.reached = [0] * PARTITIONS
        self._unread: list[list[Message]] = [[] for _ in range(PARTITIONS)]

    def close(self) -> None:
        self._consumer.close()

    def read(self, ends: list[int], stopping: threading.Event) -> list[tuple[int, Entry]]:
        """What was not read below these offsets, with its partition. Less when told to stop."""
        deadline = time.monotonic() + _READ_S
        while any(reached < end for reached, end in zip(self.reached, ends, strict=True)):
            if stopping.is_set():
                return []
            assert time.monotonic() < deadline, f"cannot be read up to {ends}, only to {self.reached}"
            message = self._consumer.poll(_POLL_S)
            if message is not None:
                self._take(message)
        found = []
        for partition, end in enumerate(ends):
            unread = self._unread[partition]
            found += [(partition, Entry.decode(each.value() or b"")) for each in unread if (each.offset() or 0) < end]
            self._unread[partition] = [each for each in unread if (each.offset() or 0) >= end]
        return found

    def _take(self, message: Message) -> None:
        """An entry, or word that there is nothing else to read up to an offset: markers and aborted entries."""
        partition, offset, error = message.partition(), message.offset(), message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            assert error.retriable() or error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT), error
            return
        assert partition is not None and offset is not None
        reached = self.reached[partition]
        if error is None:
            assert offset >= reached, f"partition {partition}: {offset} after {reached}"
            self._unread[partition].append(message)
            offset += 1
        self.reached[partition] = max(reached, offset)


def _ends(admin: AdminClient) -> list[int] | None:
    """The last stable offset of every partition. None while a broker is away: that the tellers go on is bounded
    elsewhere."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    partitions = [TopicPartition(ENTRIES, partition) for partition in range(PARTITIONS)]
    asked = admin.list_offsets(
        dict.fromkeys(partitions, latest), isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_ASK_S
    )
    ends = [-1] * PARTITIONS
    for each, future in asked.items():
        try:
            ends[each.partition] = future.result().offset
        except KafkaException:
            return None
    return ends if min(ends) >= 0 else None

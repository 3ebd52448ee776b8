"""A bank under way: orders, tellers that book them exactly once, an auditor, and what strikes them.

    with Bank(broker, seed=7) as bank:
        bank.stage(lambda: bank.kill_teller())
        bank.close()

What stays true: orders come in stages, and a strike falls while orders of its stage are not booked; a stage ends when
they all are. A teller that was fenced or hangs, and none that ended otherwise, is replaced by its next life.

`python -m tests.support.bank --minutes 10 --seed 7 [--brokers 3]` strikes at random.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, Self

from confluent_kafka import Producer

from tests.support import brokers, confluent, wire, zookeeper
from tests.support.auditor import Auditor
from tests.support.books import ACCOUNTS, ENTRIES, GROUP, ORDERS, PARTITIONS, Order
from tests.support.cluster import Cluster
from tests.support.process import ProcessError, ServerProcess
from tests.support.teller import FENCED

SETTINGS = {
    "transaction.state.log.num.partitions": "3",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "auto.create.topics.enable": "false",
}
TELLERS = ("ann", "bob", "cid")
_STAGE = 120
_STRIKE_AFTER = 20
_STAGE_S = 120.0
_TEND_S = 0.2
_CALL_S = 10.0


class Office(Protocol):
    """Where the bank's brokers are: one broker or a cluster."""

    @property
    def bootstrap(self) -> str: ...


class Bank:
    """Needs the topics `orders` and `entries`, with PARTITIONS partitions each, and nobody else there."""

    def __init__(self, office: Office, directory: Path, seed: int) -> None:
        self._office = office
        self._directory = directory
        self._seed = seed
        self.chance = random.Random(seed)
        self.ordered = 0
        self.auditor = Auditor(office.bootstrap)
        self._lives = dict.fromkeys(TELLERS, 0)
        self._tellers: dict[str, ServerProcess] = {}
        self._orders = Producer({"bootstrap.servers": office.bootstrap, "enable.idempotence": True, "log_level": 0})

    def __enter__(self) -> Self:
        self.auditor.start()
        for name in TELLERS:
            self.start_teller(name)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._tellers.values():
            each.kill()
        with contextlib.suppress(AssertionError):  # it was told before, or there is a worse one under way
            self.auditor.finish()

    # ------------------------------------------------------------------------------------------------- tellers

    def start_teller(self, name: str) -> None:
        self._lives[name] += 1
        command = [sys.executable, "-m", "tests.support.teller", self._office.bootstrap, name]
        command += [str(self._lives[name]), str(self._seed)]
        self._tellers[name] = ServerProcess(command, log=self._directory / f"{name}.log")

    def kill_teller(self, name: str) -> None:
        """In the midst of a transaction, most likely. Its next life starts at once."""
        self._tellers[name].kill()
        self.start_teller(name)

    @contextlib.contextmanager
    def without_teller(self, name: str) -> Iterator[None]:
        """Killed, and the others do its work."""
        self._tellers.pop(name).kill()
        yield
        self.start_teller(name)

    @contextlib.contextmanager
    def stalled_teller(self, name: str) -> Iterator[None]:
        """It wakes up with a transaction at hand whose orders others have booked meanwhile."""
        os.kill(self._tellers[name].pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._tellers[name].pid, signal.SIGCONT)

    def replace_teller(self, name: str) -> None:
        """The next life starts while this one works: it must be fenced. Without work it would not hear of it."""
        old = self._tellers[name]
        self.start_teller(name)
        deadline = time.monotonic() + _STAGE_S
        while old.running() and time.monotonic() < deadline:
            self.order(2 * PARTITIONS)
            self.wait_booked(self.ordered)
        code = old.wait(_CALL_S)
        if code != FENCED:
            raise ProcessError(f"{name} ended with {code}, and was to be fenced:\n" + "\n".join(old.lines))

    def _tend(self) -> None:
        for name, each in self._tellers.items():
            if not each.running():
                code = each.wait()
                if code not in (FENCED, -signal.SIGALRM):
                    raise ProcessError(f"{name} ended with {code}:\n" + "\n".join(each.lines))
                self.start_teller(name)

    def _stacks(self) -> str:
        told = []
        for name, each in self._tellers.items():
            os.kill(each.pid, signal.SIGUSR1)
            with contextlib.suppress(ProcessError):
                each.wait_line("^committed", _CALL_S)
            told += [f"{name}:", *each.lines]
        return "\n".join(told)

    # ------------------------------------------------------------------------------------------------- orders

    def order(self, count: int) -> None:
        for number in range(self.ordered, self.ordered + count):
            debtor, creditor = self.chance.sample(range(ACCOUNTS), 2)
            order = Order(number, debtor, creditor, self.chance.randint(1, 100))
            self._orders.produce(ORDERS, order.encode(), partition=order.partition)
        self.ordered += count
        left = self._orders.flush(_STAGE_S)
        if left:
            raise ProcessError(f"{left} orders are not acknowledged")

    def wait_booked(self, count: int) -> None:
        deadline = time.monotonic() + _STAGE_S
        while not self.auditor.wait(count, _TEND_S):
            self._tend()
            if time.monotonic() > deadline:
                missing = sorted(set(range(count)) - self.auditor.booked)
                raise ProcessError(
                    f"{len(missing)} of {count} orders are not booked: {missing[:10]}; "
                    f"{self.auditor.state()}; the tellers are at\n{self._stacks()}"
                )

    def stage(self, strike: Callable[[], object] = lambda: None) -> None:
        """Orders, the strike in their midst, and all are booked."""
        booked = self.ordered
        self.order(_STAGE)
        self.wait_booked(booked + _STRIKE_AFTER)
        strike()
        self.wait_booked(self.ordered)

    def close(self) -> None:
        """Every order is booked, once, and whole."""
        self.wait_booked(self.ordered)
        self.auditor.wait_audits(2, _STAGE_S)
        assert self.auditor.in_part() == []
        assert self.auditor.booked == set(range(self.ordered))
        self.auditor.finish()
        assert self.auditor.voids > 0, "no teller aborted anything"


class Strikes:
    """What can befall a bank. Each returns when all live again, its orders perhaps not booked."""

    def __init__(self, bank: Bank, named: dict[str, Callable[[], object]]) -> None:
        """named: what can befall its brokers."""
        chance = bank.chance
        self._bank = bank
        self.all: dict[str, Callable[[], object]] = {
            **named,
            "kill a teller": lambda: bank.kill_teller(chance.choice(TELLERS)),
            "replace a teller": lambda: bank.replace_teller(chance.choice(TELLERS)),
            "without a teller": self.without_teller,
            "stall a teller": self.stall_teller,
        }

    def without_teller(self) -> None:
        bank = self._bank
        with bank.without_teller(bank.chance.choice(TELLERS)):
            bank.wait_booked(bank.ordered)

    def stall_teller(self) -> None:
        bank = self._bank
        with bank.stalled_teller(bank.chance.choice(TELLERS)):
            bank.wait_booked(bank.ordered)


def create_topics(bootstrap: str, replicas: int = 1) -> None:
    for name in (ORDERS, ENTRIES):
        confluent.create_topic(bootstrap, name, PARTITIONS, replicas=replicas)


class OneBroker:
    """A bank on one broker, of the kind that the tests are run with."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._broker = brokers.new_broker(directory / "broker", SETTINGS)
        self.bank = Bank(self._broker, directory, seed)

    def __enter__(self) -> Self:
        self._broker.start()
        create_topics(self._broker.bootstrap)
        self.bank.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.bank.__exit__()
        self._broker.close()

    def strikes(self) -> Strikes:
        return Strikes(self.bank, {"kill the broker": self._kill, "restart the broker": self._restart})

    def _kill(self) -> None:
        self._broker.kill()
        self._broker.start()

    def _restart(self) -> None:
        self._broker.stop()
        self._broker.start()


class ThreeBrokers:
    """A bank on a cluster, with three replicas of everything."""

    def __init__(self, directory: Path, connect: str, seed: int) -> None:
        kind = "kafka39" if brokers.chosen_kind() == "kafka39" else "pylog"
        factor = {"transaction.state.log.replication.factor": "3", "transaction.state.log.min.isr": "2"}
        self._cluster = Cluster(directory, connect, (kind,) * 3, {**SETTINGS, **factor})
        self._stack = contextlib.ExitStack()
        self._directory = directory
        self._seed = seed

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._cluster.close)
            self._cluster.start()
            create_topics(self._cluster.bootstrap, replicas=3)
            self.bank = stack.enter_context(Bank(self._cluster, self._directory, self._seed))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def strikes(self) -> Strikes:
        named: dict[str, Callable[[], object]] = {
            "kill a transaction coordinator": lambda: self._without(self._coordinator(wire.TRANSACTION), kill=True),
            "kill the group coordinator": lambda: self._without(self._coordinator(wire.GROUP), kill=True),
            "kill the leader of entries": lambda: self._without(self._leader(), kill=True),
            "stop a transaction coordinator": lambda: self._without(self._coordinator(wire.TRANSACTION), kill=False),
        }
        return Strikes(self.bank, named)

    def _coordinator(self, kind: int) -> int:
        name = GROUP if kind == wire.GROUP else self.bank.chance.choice(TELLERS)
        return self._cluster.coordinator(name, kind)

    def _leader(self) -> int:
        return self._cluster.leader(ENTRIES, self.bank.chance.randrange(PARTITIONS))

    def _without(self, broker_id: int, *, kill: bool) -> None:
        """The others go on without it; it comes back with its data and is in sync again."""
        broker = self._cluster[broker_id]
        if kill:
            broker.kill()
        else:
            broker.stop()
        self.bank.wait_booked(self.bank.ordered)
        broker.start()
        for topic in (ENTRIES, "__transaction_state", "__consumer_offsets"):
            self._cluster.wait_in_sync(topic)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.support.bank", description="Strikes at random; every sum is right.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    words = parser.parse_args()
    print(f"seed {words.seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="pylog-bank-"))
    deadline = time.monotonic() + words.minutes * 60
    try:
        with contextlib.ExitStack() as stack:
            office: OneBroker | ThreeBrokers
            if words.brokers == 1:
                office = stack.enter_context(OneBroker(directory, words.seed))
            else:
                connect = stack.enter_context(zookeeper.running(directory / "zookeeper")).fresh()
                office = stack.enter_context(ThreeBrokers(directory, connect, words.seed))
            strikes = office.strikes().all
            while time.monotonic() < deadline:
                name = office.bank.chance.choice(sorted(strikes))
                began = time.monotonic()
                print(f"{name}: ", end="", flush=True)
                office.bank.stage(strikes[name])
                print(f"{time.monotonic() - began:.1f} s", flush=True)
            office.bank.close()
            print(f"{office.bank.ordered} orders booked once, {office.bank.auditor.audits} audits found no fault")
    except (AssertionError, ProcessError) as error:
        print(f"\nseed {words.seed}: {error}\nlogs are in {directory}", flush=True)
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The controller's thread when the tree fails it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import pytest

from cluster.broker.controller_store import ControllerStore
from cluster.broker.controller_thread import ControllerThread
from cluster.controller.events import AllocateProducerIdsReceived, Event, SessionExpired, SessionStarted
from cluster.controller.settings import Settings
from cluster.controller.steps import ReadProducerIdBlock, Step, StoreUnavailable
from cluster.metadata import paths
from cluster.metadata.memory import MemoryStore, MemoryTree
from cluster.metadata.startup import prepare_tree, register_broker
from cluster.metadata.store import ConnectionLoss, NoNode, StoreError
from cluster.metadata.store import SessionExpired as Over
from cluster.model import EndPoint
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.support.ports import free_port

WAIT_S = 10


class Failing(ControllerStore):
    """Not one step comes through."""

    error: type[StoreError]

    def carry_out(self, step: Step) -> object:
        try:
            raise self.error("/controller")
        except StoreError as error:
            raise StoreUnavailable(str(error)) from error


class Broken(ControllerStore):
    """A step fails in a way that nobody thought of, but only after the election."""

    def carry_out(self, step: Step) -> object:
        if isinstance(step, ReadProducerIdBlock):
            raise NoNode("/latest_producer_id_block")
        return super().carry_out(step)


def test_a_request_whose_step_fails_is_answered_before_the_next_event() -> None:
    """And another term begins from the tree: of this one nobody knows how far it came."""
    tree = MemoryTree(lambda: 0)
    answers: queue.Queue[object] = queue.Queue()
    thread = ControllerThread(Settings(1), lambda: 0, lambda _, answer: answers.put(answer), 1000, lambda: None)
    store = Broken(tree.connect(), 1, lambda: 0, lambda: b"", thread.post)
    member = tree.connect()
    prepare_tree(member, "cluster")
    here = paths.BrokerRegistration((EndPoint("PLAINTEXT", "127.0.0.1", free_port(), "PLAINTEXT"),), None, 0)
    epoch = register_broker(member, 1, here)
    thread.start(store)
    thread.post(AllocateProducerIdsReceived("asker", m.AllocateProducerIdsRequest(broker_id=1, broker_epoch=epoch)))
    answer = answers.get(timeout=WAIT_S)
    assert isinstance(answer, m.AllocateProducerIdsResponse)
    assert answer.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
    thread.stop()
    assert thread.failures == 1


@pytest.mark.parametrize(("error", "ends"), [(ConnectionLoss, True), (Over, False)])
def test_a_session_that_is_of_no_use_is_to_end(error: type[StoreError], ends: bool) -> None:
    """Or the office would be held by a broker that does not know of it. One that is over needs nobody to end it."""
    failed: queue.Queue[str] = queue.Queue()
    tree = MemoryTree(lambda: 0)
    thread = ControllerThread(Settings(1), lambda: 0, lambda *_: None, 1000, lambda: failed.put("session"))
    store = Failing(tree.connect(), 1, lambda: 0, lambda: b"", thread.post)
    store.error = error
    thread.start(store)
    thread.stop()
    assert failed.qsize() == int(ends)
    assert not thread.machine.is_active
    assert thread.failures == 0


class Held(ControllerStore):
    """What a step found is told when the test lets it go."""

    def __init__(self, session: MemoryStore, post: Callable[[Event], None]) -> None:
        super().__init__(session, 1, lambda: 0, lambda: b"", post)
        self.reached, self.released = threading.Event(), threading.Event()

    def carry_out(self, step: Step) -> object:
        found = super().carry_out(step)
        self.reached.set()
        assert self.released.wait(WAIT_S)
        return found


def test_what_was_begun_in_the_old_session_wins_no_election_with_the_new_one() -> None:
    """It would resign when it hears that the old one is over, and nobody else could be elected."""
    tree = MemoryTree(lambda: 0)
    prepare_tree(tree.connect(), "cluster")
    here = paths.BrokerRegistration((EndPoint("PLAINTEXT", "127.0.0.1", free_port(), "PLAINTEXT"),), None, 0)
    answers: queue.Queue[object] = queue.Queue()
    thread = ControllerThread(Settings(1), lambda: 0, lambda _, answer: answers.put(answer), 1000, lambda: None)
    old = tree.connect()
    held = Held(old, thread.post)
    register_broker(old, 1, here)
    thread.start(held)
    assert held.reached.wait(WAIT_S)
    old.close()
    new = tree.connect()
    epoch = register_broker(new, 1, here)
    thread.post(SessionExpired())
    thread.use(ControllerStore(new, 1, lambda: 0, lambda: b"", thread.post))
    thread.post(SessionStarted())
    held.released.set()
    thread.post(AllocateProducerIdsReceived("asker", m.AllocateProducerIdsRequest(broker_id=1, broker_epoch=epoch)))
    answer = answers.get(timeout=WAIT_S)
    assert isinstance(answer, m.AllocateProducerIdsResponse)
    assert answer.error_code == ErrorCode.NONE
    assert thread.machine.is_active
    thread.stop()
    assert thread.failures == 0

"""The controller's thread when the tree fails it."""

from __future__ import annotations

import queue

import pytest

from cluster.broker.controller_store import ControllerStore
from cluster.broker.controller_thread import ControllerThread
from cluster.controller.settings import Settings
from cluster.controller.steps import Step, StoreUnavailable
from cluster.metadata.memory import MemoryTree
from cluster.metadata.store import ConnectionLoss, SessionExpired, StoreError

WAIT_S = 10


class Failing(ControllerStore):
    """Not one step comes through."""

    error: type[StoreError]

    def carry_out(self, step: Step) -> object:
        try:
            raise self.error("/controller")
        except StoreError as error:
            raise StoreUnavailable(str(error)) from error


@pytest.mark.parametrize(("error", "ends"), [(ConnectionLoss, True), (SessionExpired, False)])
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

"""Nobody waits for what does not come: a request that can be given no answer ends with its connection."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from cluster.broker.apis import Apis, Handler, Held, OverdueKey, ReplyTo, Request
from cluster.broker.handlers.controller import Asked
from cluster.broker.transactions import Transactions
from cluster.broker.waits import WaitKey, Waits
from cluster.coordinator.questions import NewProducerId
from cluster.coordinator.runtime import AskKey
from cluster.effects import Shard
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.served import SERVED
from pylog.errors import ErrorCode

CONN = 7
TO = ReplyTo(CONN, 0, 1, int(ApiKey.HEARTBEAT), 4, 0)


class Played:
    """A broker with an engine that remembers whom it has answered and whose connection it has closed."""

    def __init__(self) -> None:
        self.broker_id, self.served = 1, SERVED
        self.member: SimpleNamespace | None = None
        self.answered: list[int] = []
        self.closed: list[int] = []
        engine = SimpleNamespace(
            answer=lambda conn, *_: self.answered.append(conn), disconnect=lambda conn: self.closed.append(conn)
        )
        self.apis = Apis(self, engine)  # type: ignore[arg-type]
        self.waits = Waits(lambda _: None)
        self.loop = SimpleNamespace(post=lambda task: task())

    def joined(self) -> Played:
        return self

    def now_ms(self) -> int:
        return 0

    def ended(self) -> None:
        """It ended with its connection, and was counted."""
        assert (self.answered, self.closed, self.apis.failures) == ([], [CONN], 1)


def broken(*_: object) -> None:
    raise RuntimeError("a defect")


def test_an_answer_that_cannot_be_encoded() -> None:
    played = Played()
    played.apis.reply(TO, m.HeartbeatResponse(error_code=1 << 40))
    played.ended()


def test_a_request_that_fails_before_its_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played()
    monkeypatch.setattr("cluster.broker.apis._family", broken)
    upcall = SimpleNamespace(
        conn=CONN, slot=0, api_key=int(ApiKey.HEARTBEAT), api_version=4, correlation_id=1, generation=0
    )
    played.apis.handle(upcall)  # type: ignore[arg-type]
    played.ended()


def test_a_refusal_that_fails() -> None:
    played = Played()
    handler = SimpleNamespace(serve=broken, refuse=broken)
    request = Request(TO, 4, None, 0, None)
    played.apis.ending(CONN, lambda: played.apis.serve(handler, request))  # type: ignore[arg-type]
    assert (played.answered, played.closed) == ([], [CONN])


def test_an_answer_of_the_controller_that_cannot_be_put_in_words() -> None:
    played = Played()
    Asked(TO, broken).answered(played, None)  # type: ignore[arg-type]
    played.ended()


def test_an_answer_that_was_held_and_comes_too_late() -> None:
    played = Played()
    played.apis.give(TO, Held(m.HeartbeatResponse(), lambda: ["all"], 1000, broken))
    assert (played.answered, played.closed) == ([], [])
    played.waits.expired(WaitKey(1))
    played.ended()


def test_a_producer_id_that_cannot_be_had() -> None:
    """Not even for a reason that anybody thought of: the coordinator hears of it, and refuses who waits."""
    told: list[tuple[object, object]] = []
    loop = SimpleNamespace(soon=lambda task: task(), apply=lambda effects: None)
    broker = SimpleNamespace(broker_id=1, loop=loop, now_ms=lambda: 0, producer_ids=SimpleNamespace(next=broken))
    runtime = SimpleNamespace(told=lambda key, answer, _: told.append((key, answer)))
    transactions = Transactions(broker, runtime, None)  # type: ignore[arg-type]
    key = AskKey(Shard("__transaction_state", 0), "id")
    transactions.ask(key, NewProducerId("id"))
    assert told == [(key, ErrorCode.UNKNOWN_SERVER_ERROR)]


class Slow(Played):
    """Of a cluster whose tree does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.member = SimpleNamespace(when_told=lambda serve: serve(), on_tree=lambda task: self.tasks.append(task))
        self.tasks: list[Callable[[], None]] = []
        self.timers: list[tuple[object, int]] = []
        self.loop.timers = SimpleNamespace(set=lambda *timer: self.timers.append(timer))
        self.config = SimpleNamespace(int=lambda key: {"request.timeout.ms": 30_000}[key])
        self.served_names: list[str] = []

    def ask(self) -> OverdueKey:
        """CreateTopics; returns the timer that was set for it."""

        def serve(*_: object) -> m.CreateTopicsResponse:
            self.served_names.append("created")
            return m.CreateTopicsResponse()

        def refuse(request: Request, code: int) -> m.CreateTopicsResponse:
            assert code == ErrorCode.REQUEST_TIMED_OUT
            return m.CreateTopicsResponse()

        to = ReplyTo(CONN, 0, 1, int(ApiKey.CREATE_TOPICS), 7, 0)
        handler = Handler(m.CreateTopicsRequest.decode, serve, refuse, tree=True)
        self.apis._begin(handler, Request(to, 7, None, 0, m.CreateTopicsRequest()))
        ((key, deadline_ms),) = self.timers
        assert isinstance(key, OverdueKey)
        assert deadline_ms == 30_000
        return key


def test_a_request_that_waits_for_the_tree_is_refused_in_the_end_and_not_begun_any_more() -> None:
    slow = Slow()
    key = slow.ask()
    slow.apis.overdue(key)
    assert slow.answered == [CONN]
    slow.tasks.pop()()
    assert (slow.answered, slow.served_names) == ([CONN], [])


def test_a_request_that_was_answered_is_not_refused() -> None:
    slow = Slow()
    key = slow.ask()
    slow.tasks.pop()()
    slow.apis.overdue(key)
    assert (slow.answered, slow.served_names) == ([CONN], ["created"])


def test_what_can_be_answered_is() -> None:
    played = Played()
    played.apis.reply(TO, m.HeartbeatResponse())
    Asked(TO, lambda result: m.HeartbeatResponse()).answered(played, None)  # type: ignore[arg-type]
    assert (played.answered, played.closed, played.apis.failures) == ([CONN, CONN], [], 0)

"""Drives one broker's controller as ControllerThread does, step by step in virtual time.

What stays true: an event is handled to its end before the next begins, but between two steps on the tree anything may
happen elsewhere: a pause, a crash, another controller; requests to a broker go one at a time and in order, again and
again until they are answered or the channel is stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from cluster.broker.controller_store import ControllerStore
from cluster.controller.controller import Controller
from cluster.controller.events import Answered, Event, SessionExpired, SessionStarted, Startup, TimerFired
from cluster.controller.settings import Settings
from cluster.controller.steps import ControllerMoved, Run, Send, StartChannel, Step, StopChannel, StoreUnavailable
from cluster.effects import CancelTimer, Note, Reply, SetTimer
from cluster.model import Broker
from cluster.protocol.message import Message
from tests.sim.network import Answer
from tests.sim.world import US_PER_MS

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker
    from tests.sim.ensemble import Session

_TIMEOUT_MS = 1_000
_BACKOFF_MS = 100


def through_bytes(message: Message, version: int) -> Message:
    return type(message).decode(message.encode(version), version)


class Channel:
    """ControllerChannel, in virtual time."""

    def __init__(self, host: ControllerHost, broker: Broker) -> None:
        self._host = host
        self._broker_id = int(broker.id)
        self._port = broker.endpoints[0].port
        self._queue: deque[tuple[int, Message]] = deque()
        self._under_way = False
        self._stopped = False

    def send(self, version: int, message: Message) -> None:
        self._queue.append((version, message))
        self._next()

    def stop(self) -> None:
        self._stopped = True
        self._queue.clear()

    def _next(self) -> None:
        if self._queue and not self._under_way and not self._stopped:
            self._under_way = True
            self._ask(*self._queue.popleft())

    def _ask(self, version: int, message: Message) -> None:
        if self._stopped:
            return
        broker = self._host.broker

        def serve(answer: Answer) -> None:
            there = broker.cluster.broker_at(self._port)
            there.serve_controller(version, through_bytes(message, version), answer)

        def then(answer: object) -> None:
            if self._stopped:
                return
            if answer is None:
                broker.world.after(_BACKOFF_MS * US_PER_MS, broker.process, self._ask, version, message)
                return
            assert isinstance(answer, Message)
            self._under_way = False
            self._host.post(Answered(self._broker_id, message, through_bytes(answer, version)))
            self._next()

        broker.cluster.network.request(broker.broker_id, broker.process, self._port, serve, then, _TIMEOUT_MS)


class ControllerHost:
    def __init__(self, broker: SimBroker, settings: Settings) -> None:
        self.broker = broker
        self.machine = Controller(settings)
        self._session: Session
        self._store: ControllerStore
        self._given: tuple[Session, ControllerStore]
        self._events: deque[Event] = deque()
        self._busy = False
        self._channels: dict[int, Channel] = {}
        self._timers: dict[Hashable, int] = {}
        self._timers_made = 0

    def use(self, session: Session) -> None:
        """From its SessionStarted on, as in a broker; or its Startup."""
        broker = self.broker
        store = ControllerStore(session, broker.broker_id, broker.now_ms, broker.cluster.new_topic_id, self.post)
        self._given = (session, store)

    def post(self, event: Event) -> None:
        if type(event) is SessionExpired:
            self._events.appendleft(event)
        else:
            self._events.append(event)
        if not self._busy:
            self._busy = True
            self.broker.world.after(0, self.broker.process, self._next)

    def _next(self) -> None:
        if not self._events:
            self._busy = False
            return
        event = self._events.popleft()
        if isinstance(event, (Startup, SessionStarted)):
            self._session, self._store = self._given
        world = self.broker.world
        if world.traced:
            world.say(f"controller {self.broker.broker_id}", type(event).__name__)
        self._go_on(self.machine.handle(event, self.broker.now_ms()), None, None)

    def _go_on(self, run: Run[None], result: object, failure: Exception | None) -> None:
        """Up to the next step that has to do with the tree."""
        while True:
            try:
                step = run.send(result) if failure is None else run.throw(failure)
            except StopIteration:
                self._next_later()
                return
            result, failure = None, None
            if not self._carry_out(step):
                world = self.broker.world
                world.after(world.between(200, 2_500), self.broker.process, self._on_tree, run, step)
                return

    def _next_later(self) -> None:
        self.broker.world.after(10, self.broker.process, self._next)

    def _on_tree(self, run: Run[None], step: Step) -> None:
        session = self._session
        if not session.reachable and not session.closed:
            self.broker.world.after(50 * US_PER_MS, self.broker.process, self._on_tree, run, step)
            return
        result: object = None
        failure: Exception | None = None
        try:
            result = self._store.carry_out(step)
        except (ControllerMoved, StoreUnavailable) as error:
            failure = error
        world = self.broker.world
        if world.traced:
            shown = repr(failure) if failure is not None else repr(result)
            world.say(f"controller {self.broker.broker_id}", repr(step)[:300], "→", shown[:200])
        world.after(world.between(100, 1_000), self.broker.process, self._go_on, run, result, failure)

    def _carry_out(self, step: Step) -> bool:
        """False: it is about the tree."""
        broker = self.broker
        if isinstance(step, Send):
            if step.broker_id in self._channels:
                self._channels[step.broker_id].send(step.version, step.message)
        elif isinstance(step, StartChannel):
            assert int(step.broker.id) not in self._channels, f"a second channel to {step.broker.id}"
            self._channels[int(step.broker.id)] = Channel(self, step.broker)
        elif isinstance(step, StopChannel):
            channel = self._channels.pop(step.broker_id, None)
            if channel is not None:
                channel.stop()
        elif isinstance(step, SetTimer):
            self._timers_made += 1
            self._timers[step.key] = self._timers_made
            broker.world.at_clock(step.deadline_ms, broker.process, self._timer, step.key, self._timers_made)
        elif isinstance(step, CancelTimer):
            self._timers.pop(step.key, None)
        elif isinstance(step, Reply):
            reply: Callable[[object], None] = step.reply_to  # type: ignore[assignment]
            reply(step.message)
        elif isinstance(step, Note):
            if broker.world.traced:
                broker.world.say(f"controller {broker.broker_id}", step.message, step.fields)
        else:
            return False
        return True

    def _timer(self, key: Hashable, number: int) -> None:
        if self._timers.get(key) == number:
            del self._timers[key]
            self.post(TimerFired(key))

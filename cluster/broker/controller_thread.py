"""The thread that drives the controller: events in, one at a time, and the steps of each carried out.

What stays true: an event is handled to its end before the next begins; a step that fails is thrown into the machine,
which then forgets what it knows if another controller was elected or the session is over; after an exception that
nobody expected it has given up its office, so that another broker (or this one) begins afresh.
A machine that had to forget its term while the session lives still holds the office in the tree, so that session is to
end. Every broker of a cluster has this thread; where it is not the controller it waits for /controller to go.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Hashable

from cluster.broker.controller_channel import Channel
from cluster.broker.controller_store import ControllerStore
from cluster.controller import steps
from cluster.controller.controller import Controller
from cluster.controller.events import Answered, Event, SessionExpired, SessionStarted, ShuttingDown, Startup, TimerFired
from cluster.controller.settings import Settings
from cluster.effects import CancelTimer, Note, Reply, SetTimer
from cluster.metadata.store import SessionExpired as Over
from cluster.model import Broker, EndPoint
from cluster.protocol.message import Message
from pylog.logger import Logger
from pylog.typed import Final

_JOIN_S: Final = 5.0
_CHANNEL_END_S: Final = 0.2  # one that waits for an answer ends with the process


class ControllerThread:
    """`reply`: where answers to requests go; `session_failed`: the tree cannot be used, though the session is not over.
    Both are called on this thread."""

    def __init__(
        self,
        settings: Settings,
        now_ms: Callable[[], int],
        reply: Callable[[Hashable, object], None],
        socket_timeout_ms: int,
        session_failed: Callable[[], None],
    ) -> None:
        self.machine = Controller(settings)
        self._settings = settings
        self._now_ms = now_ms
        self._reply = reply
        self._socket_timeout_ms = socket_timeout_ms
        self._session_failed = session_failed
        self._store: ControllerStore | None = None
        self._next_store: ControllerStore | None = None  # of the session whose SessionStarted is still to come
        self._channels: dict[int, Channel] = {}
        self._events: deque[Event] = deque()
        self._timers: list[tuple[int, int, Hashable]] = []
        self._timer_of: dict[Hashable, tuple[int, int]] = {}
        self._timers_made = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._log = Logger(f"Controller id={settings.broker_id}")
        self.failures = 0
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)

    # ------------------------------------------------------------------------------------------------- any thread

    def start(self, store: ControllerStore) -> None:
        self._store = self._next_store = store
        self.post(Startup())
        self._thread.start()

    def use(self, store: ControllerStore) -> None:
        """A new session's store, before its SessionStarted is posted. It is used from that event on: what is being done
        for the old session must not win an election with this one, for it would resign next and hold the office."""
        self._next_store = store

    def post(self, event: Event) -> None:
        with self._wake:
            if type(event) is SessionExpired:  # nothing of the old session is worth an election more
                self._events.appendleft(event)
            else:
                self._events.append(event)
            self._wake.notify()

    def stop(self) -> None:
        """End when what is queued is handled: requests among it get their answers."""
        self.post(ShuttingDown())
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        channels = list(self._channels.values())
        for channel in channels:
            channel.stop()
        for channel in channels:
            channel.ended(_CHANNEL_END_S)

    # ------------------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        while True:
            event = self._next()
            if event is None:
                return
            try:
                self._handle(event)
            except Exception:  # the thread outlives a single event; the traceback is in the log, the failure counted
                self.failures += 1
                self._log.exception("event failed", which=type(event).__name__)

    def _next(self) -> Event | None:
        with self._wake:
            while True:
                if self._events:
                    return self._events.popleft()
                if self._stopping:
                    return None
                deadline = self._next_timer_ms()
                wait_s = None if deadline is None else (deadline - self._now_ms()) / 1000
                if wait_s is not None and wait_s <= 0:
                    return TimerFired(self._take_timer())
                self._wake.wait(wait_s)

    def _handle(self, event: Event) -> None:
        if type(event) is SessionStarted:
            self._store = self._next_store
        run = self.machine.handle(event, self._now_ms())
        result: object = None
        failure: Exception | None = None
        useless = False
        while True:
            try:
                step = run.send(result) if failure is None else run.throw(failure)
            except StopIteration:
                break
            result, failure = None, None
            try:
                result = self._carry_out(step)
            except Exception as error:  # the machine's to say what follows: that it gives up, if nobody expected it
                failure = error
                useless |= isinstance(error, steps.StoreUnavailable) and not isinstance(error.__cause__, Over)
        if useless:
            self._session_failed()

    # ------------------------------------------------------------------------------------------------- steps

    def _carry_out(self, step: steps.Step) -> object:
        if isinstance(step, steps.Send):
            channel = self._channels.get(step.broker_id)
            if channel is not None:
                channel.send(step.version, step.message)
        elif isinstance(step, steps.StartChannel):
            self._start_channel(step.broker)
        elif isinstance(step, steps.StopChannel):
            stopped = self._channels.pop(step.broker_id, None)
            if stopped is not None:
                stopped.stop()
        elif isinstance(step, Reply):
            self._reply(step.reply_to, step.message)
        elif isinstance(step, SetTimer):
            self._timers_made += 1
            self._timer_of[step.key] = (step.deadline_ms, self._timers_made)
            heapq.heappush(self._timers, (step.deadline_ms, self._timers_made, step.key))
        elif isinstance(step, CancelTimer):
            self._timer_of.pop(step.key, None)
        elif isinstance(step, Note):
            log = Logger(step.subject)
            (log.warn if step.warning else log.info)(step.message, **dict(step.fields))
        else:
            assert self._store is not None
            return self._store.carry_out(step)
        return None

    def _start_channel(self, broker: Broker) -> None:
        end = self._endpoint(broker)
        self._channels[int(broker.id)] = Channel(
            end.host, end.port, broker, self._settings.broker_id, self._socket_timeout_ms, self._answered
        )

    def _endpoint(self, broker: Broker) -> EndPoint:
        """Where brokers reach it; one that lacks our listener is tried at its first address, and said to be missing."""
        for end in broker.endpoints:
            if end.listener == self._settings.inter_broker_listener:
                return end
        self._log.error("broker lacks the inter-broker listener", broker=broker.id)
        return broker.endpoints[0]

    def _answered(self, broker_id: int, message: Message, response: Message) -> None:
        self.post(Answered(broker_id, message, response))

    # ------------------------------------------------------------------------------------------------- timers

    def _next_timer_ms(self) -> int | None:
        while self._timers and self._timer_of.get(self._timers[0][2]) != self._timers[0][:2]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _take_timer(self) -> Hashable:
        key = heapq.heappop(self._timers)[2]
        del self._timer_of[key]
        return key

"""The controller of a cluster: events in, steps out, as Kafka's does it with ZooKeeper.

What stays true: at most one broker acts as the controller (every write carries the fence of its election), and knows
what it knows for one term; what is done for an event is done, or the term is over, before the next event is looked at.
Every request gets one answer, whatever happens. A machine that fails in a way nobody thought of gives up its office, so
that another election begins from the tree, and then raises what it met.

One thread drives `handle`, one event at a time.
"""

from __future__ import annotations

from cluster.controller.events import (
    AllocateProducerIdsReceived,
    AlterPartitionReceived,
    ControlledShutdownReceived,
    ControllerChanged,
    ElectLeadersReceived,
    Event,
    LeadersElected,
    ListReassignmentsReceived,
    Outcome,
    PartitionResults,
    ReassignmentsListed,
    ReassignReceived,
    Request,
    SessionExpired,
    SessionStarted,
    SettingsChanged,
    ShuttingDown,
    Startup,
)
from cluster.controller.settings import Settings
from cluster.controller.steps import (
    ControllerMoved,
    GiveUpController,
    Run,
    StoreUnavailable,
    elect_controller,
    read_controller,
)
from cluster.controller.term import Term
from cluster.effects import Note, Reply
from cluster.model import NO_BROKER
from cluster.protocol.messages import AllocateProducerIdsResponse, AlterPartitionResponse, ControlledShutdownResponse
from pylog.errors import ErrorCode


class Controller:
    """`settings`: what holds at first; SettingsChanged replaces it."""

    __slots__ = ("_owed", "_settings", "active_id", "term")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._owed: Request | None = None  # the request that has no answer yet
        self.active_id = int(NO_BROKER)
        """Who is the controller, as far as this broker has heard; -1: nobody."""
        self.term: Term | None = None
        """While this broker is."""

    @property
    def is_active(self) -> bool:
        return self.term is not None

    def handle(self, event: Event, now_ms: int) -> Run[None]:
        """`now_ms`: on the clock of the timers."""
        yield from self._refuse(ErrorCode.UNKNOWN_SERVER_ERROR)  # owed by a run that was dropped in the middle
        run = self._handle(event, now_ms)
        while True:
            try:
                return (yield from run)
            except ControllerMoved:
                yield Note("Controller", "Another broker was elected", (("event", type(event).__name__),))
                yield from self._refuse(ErrorCode.NOT_CONTROLLER)
                yield from self._resign()
                run = self._find_controller(now_ms)
            except StoreUnavailable:
                yield from self._refuse(ErrorCode.NOT_CONTROLLER)
                yield from self._resign()
                return None
            except Exception as error:
                fields = (("event", type(event).__name__), ("error", repr(error)))
                yield Note("Controller", "Gives up its office", fields, warning=True)
                yield from self._refuse(ErrorCode.UNKNOWN_SERVER_ERROR)
                yield from self._give_up()
                raise

    def _handle(self, event: Event, now_ms: int) -> Run[None]:
        term = self.term
        if isinstance(event, Request):
            self._owed = event
            if term is None:
                yield from self._refuse(ErrorCode.NOT_CONTROLLER)
            else:
                answer = yield from term.answer(event)
                self._owed = None
                yield Reply(event.reply_to, answer)
                yield from term.go_on()
        elif isinstance(event, Startup | SessionStarted | ControllerChanged):
            yield from self._find_controller(now_ms)
        elif isinstance(event, SessionExpired | ShuttingDown):
            yield from self._resign()
        elif isinstance(event, SettingsChanged):
            self._settings = event.settings
            if term is not None:
                yield from term.change_settings(event.settings, now_ms)
        elif term is not None:
            yield from term.handle(event, now_ms)

    # ------------------------------------------------------------------ elections

    def _find_controller(self, now_ms: int) -> Run[None]:
        """Resign if somebody else is, be elected if nobody is."""
        while True:
            self.active_id = yield from read_controller()
            if self.active_id != self._settings.broker_id:
                yield from self._end_term()
            if self.active_id != NO_BROKER:
                return
            elected = yield from elect_controller()
            if elected is not None:
                break
        self.active_id = self._settings.broker_id
        self.term = Term(self._settings, elected)
        yield Note("Controller", "Elected", (("epoch", elected.epoch),))
        yield from self.term.begin(now_ms)

    def _resign(self) -> Run[None]:
        self.active_id = int(NO_BROKER)
        yield from self._end_term()

    def _end_term(self) -> Run[None]:
        term, self.term = self.term, None
        if term is not None:
            yield from term.end()

    def _give_up(self) -> Run[None]:
        term = self.term
        yield from self._resign()
        if term is not None:
            try:
                yield GiveUpController(term.image.fence)
            except (ControllerMoved, StoreUnavailable):
                yield Note("Controller", "The office was lost already")

    # ------------------------------------------------------------------ answers without knowledge

    def _refuse(self, error: ErrorCode) -> Run[None]:
        owed, self._owed = self._owed, None
        if owed is not None:
            yield Reply(owed.reply_to, refusal(owed, error))


def refusal(request: Request, error: ErrorCode) -> object:
    """The answer to a request that cannot be dealt with."""
    if isinstance(request, AlterPartitionReceived):
        return AlterPartitionResponse(error_code=int(error))
    if isinstance(request, ControlledShutdownReceived):
        moved = error == ErrorCode.NOT_CONTROLLER
        return ControlledShutdownResponse(error_code=int(ErrorCode.STALE_CONTROLLER_EPOCH if moved else error))
    if isinstance(request, AllocateProducerIdsReceived):
        return AllocateProducerIdsResponse(error_code=int(error))
    if isinstance(request, ReassignReceived):
        return PartitionResults(Outcome(error), {})
    if isinstance(request, ListReassignmentsReceived):
        return ReassignmentsListed(Outcome(error), {})
    assert isinstance(request, ElectLeadersReceived)
    failed = {} if request.partitions is None else dict.fromkeys(request.partitions, Outcome(error))
    return LeadersElected(Outcome(error), {}, failed)

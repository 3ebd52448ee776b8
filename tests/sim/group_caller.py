"""A client of a group coordinator and the network between them: what is asked is lost, late, or there twice.

What stays true: one request at a time is waited for. A connection has requests and answers in their order, and when an
answer is lost so are those behind it. Who loses patience asks again on another connection, and with the old one goes
whatever is still on its way there.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.coordinator.context import RequestContext
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.sim.group_host import GroupHost
from tests.sim.world import Process, World

US_PER_MS = 1_000
SESSION_MS = 6_000
REBALANCE_MS = 9_000
PATIENCE_MS = 4_000
_RETRY_MS = 100

#: Whoever hears these asks again, perhaps somebody else.
OF_A_MOVE = {
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT,
}

Answered = Callable[[Message], None]


class Caller:
    """`life`: of the group, when what was heard last was said."""

    def __init__(self, name: str, world: World, host: GroupHost, loss: float) -> None:
        self.name = name
        self.process = Process(name)
        self.loss = loss
        self.life = 0
        self._world = world
        self._host = host
        self._connection = 0
        self._arrives_us = 0
        self._hears_us = 0
        self._deaf = -1  # the connection that has lost an answer
        self._waiting = 0  # the request whose answer counts

    def _ask(self, request: Message, version: int, then: Answered, patience_ms: int = PATIENCE_MS) -> None:
        world = self._world
        self._waiting += 1
        self._send(request, version, then, self._waiting)
        world.after(
            patience_ms * US_PER_MS, self.process, self._impatient, self._waiting, request, version, then, patience_ms
        )

    def _send(self, request: Message, version: int, then: Answered, number: int) -> None:
        """Lost, late, or there twice: the second copy comes right behind the first, whose answer nobody hears. Whoever
        heartbeats in the consumer protocol does not send the same again, but all about himself."""
        world = self._world
        ctx = RequestContext(None, type(request).api_key, version, self.name, "127.0.0.1")
        connection = self._connection

        def arrive(heard: Callable[[Message], None]) -> None:
            if connection == self._connection:
                if world.traced:
                    world.say(self.name, "asks", request)
                self._host.request(ctx, request, heard)

        def answer(response: Message) -> None:
            life = self._host.life
            if world.chance(self.loss):
                self._deaf = connection
            elif self._deaf != connection:
                self._hears_us = max(self._hears_us, world.now_us + world.between(100, 3_000))
                world.after(self._hears_us - world.now_us, self.process, self._answered, number, then, response, life)

        is_twice = world.chance(self.loss) and not isinstance(request, m.ConsumerGroupHeartbeatRequest)
        for heard in [_unheard, answer] if is_twice else [answer]:
            if not world.chance(self.loss):
                self._arrives_us = max(self._arrives_us, world.now_us + world.between(100, 3_000))
                world.after(self._arrives_us - world.now_us, None, arrive, heard)

    def _answered(self, number: int, then: Answered, response: Message, life: int) -> None:
        if number == self._waiting:
            self.life = life
            self._waiting += 1
            if self._world.traced:
                self._world.say(self.name, "hears", response)
            then(response)

    def _impatient(self, number: int, request: Message, version: int, then: Answered, patience_ms: int) -> None:
        if number == self._waiting:
            self._connection += 1
            self._ask(request, version, then, patience_ms)

    def _later(self, what: Callable[[], None], ms: int = _RETRY_MS) -> None:
        self._world.after(ms * US_PER_MS, self.process, what)


def _unheard(_: Message) -> None:
    """The answer to the first of two copies."""

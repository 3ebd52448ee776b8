"""The network: requests and their answers between numbered places.

What stays true: a request is one delivery and one answer, each with its own delay, so that those of different
connections overtake one another, while whoever has one connection and waits for each answer keeps his order; a link is
cut one way; what is lost is noticed by a timeout, a process that is not there at once. A request that was given up may
be served all the same. A paused process is there: what arrives waits for it.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.world import US_PER_MS, Process, World

#: The place of the ensemble; brokers have their ids, clients numbers from 100 on.
ENSEMBLE = 0
ADMIN = 99

Answer = Callable[[object], None]
Serve = Callable[[Answer], None]


class Network:
    def __init__(self, world: World) -> None:
        self._world = world
        self.cut: set[tuple[int, int]] = set()
        self.loss = 0.0
        self.slow = 0.0
        """How often a message takes some hundred milliseconds."""
        self.places: dict[int, Process] = {}

    def reaches(self, source: int, target: int) -> bool:
        return (source, target) not in self.cut

    def _delay_us(self) -> int:
        world = self._world
        if self.slow and world.chance(self.slow):
            return world.between(20, 700) * US_PER_MS
        return world.between(100, 2_500)

    def _passes(self, source: int, target: int) -> bool:
        return (source, target) not in self.cut and not (self.loss and self._world.chance(self.loss))

    def request(
        self,
        source: int,
        caller: Process,
        target: int,
        serve: Serve,
        then: Callable[[object], None],
        timeout_ms: int,
    ) -> None:
        """Have `serve` happen at the target; `then` happens at the caller, once: with the answer, or with None."""
        world = self._world
        there = self.places.get(target)
        settled = False

        def settle(result: object) -> None:
            nonlocal settled
            if not settled:
                settled = True
                then(result)

        def answer(result: object) -> None:
            if self._passes(target, source):
                world.after(self._delay_us(), caller, settle, result)

        if there is None or not there.alive:
            if self._passes(source, target) and self._passes(target, source):
                world.after(self._delay_us(), caller, settle, None)  # connection refused
                return
        elif self._passes(source, target):
            world.after(self._delay_us(), there, serve, answer)
        world.after(timeout_ms * US_PER_MS, caller, settle, None)

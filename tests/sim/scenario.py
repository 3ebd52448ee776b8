"""What happens to a cluster in a run: clients at work, administrators, and misfortunes, all drawn from the seed; then
peace, in which everything has to come to rest.

What stays true: of the brokers most are up most of the time, so that something is decided; after `FAULTS_MS` nothing
goes wrong any more, and within `REST_MS` the cluster is whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cluster.controller import events
from cluster.model import LeaderAndIsr
from cluster.protocol.messages import ControlledShutdownRequest, ControlledShutdownResponse
from pylog.types import TopicPartition
from tests.sim.broker import SimBroker
from tests.sim.clients import Client, Consumer, Producer
from tests.sim.cluster import SimCluster
from tests.sim.data_plane import ACKS_ALL
from tests.sim.logs import DIRECTORIES
from tests.sim.network import ADMIN, ENSEMBLE, Answer
from tests.sim.replica import KEEP_ALL, KEEP_NONE, KEEP_SOME
from tests.sim.world import US_PER_MS, Violation, World

START_MS = 1_500
REST_MS = 60_000
_LOOK_MS = 250
_FIRST_CLIENT = 100


class Weights(NamedTuple):
    """How often what happens, against one another."""

    kill: int = 6
    power: int = 0
    pause: int = 4
    cut: int = 6
    one_way: int = 4
    cut_ensemble: int = 4
    expire: int = 3
    fail_controller: int = 3
    stop: int = 3
    fail_directory: int = 0
    noise: int = 3
    ambush: int = 4
    create: int = 2
    delete: int = 0
    grow: int = 0
    reassign: int = 0
    elect: int = 2


PROFILES = (
    Weights(),
    Weights(kill=4, pause=6, expire=6, fail_controller=8),
    Weights(power=6, kill=3),
    Weights(create=4, delete=4, grow=3, reassign=6, elect=4),
    Weights(create=2, delete=2, reassign=10, fail_controller=6, stop=6),
    Weights(fail_directory=5, reassign=3, delete=2, create=2),
    Weights(power=4, fail_directory=2, delete=2, create=3, grow=2, reassign=4, fail_controller=4, stop=4, elect=4),
)


class Scenario:
    def __init__(self, seed: int, *, steps: int = 25, traced: bool = False) -> None:
        self.world = World(seed, traced)
        world = self.world
        self.weights = PROFILES[world.between(0, len(PROFILES) - 1)]
        brokers = world.random.choice((3, 3, 3, 4, 5))
        self.cluster = SimCluster(world, brokers)
        self._steps = steps
        self._clients: list[Client] = []
        self._topics_made = 0
        self._peace = False
        self._awaited = 0
        self._unclean = world.chance(0.2)
        self._ambushes: set[str] = set()
        self.cluster.checkers.after_state.append(self._state_changed)

    # ------------------------------------------------------------------ a run

    def run(self) -> None:
        """Raises Violation."""
        try:
            self._run()
        finally:
            self.cluster.close()

    def _run(self) -> None:
        world, cluster = self.world, self.cluster
        for broker_id in cluster.sites:
            world.after(world.between(0, 500) * US_PER_MS, None, self._start, broker_id)
        world.run_until(START_MS * US_PER_MS)
        for _ in range(world.between(1, 2)):
            self._create()
        for _ in range(self._steps):
            world.run_until(world.now_us + world.between(50, 1_200) * US_PER_MS)
            self._misfortune()
        self._make_peace()
        self._come_to_rest()
        cluster.checkers.all_is_there()

    def _come_to_rest(self) -> None:
        world = self.world
        end_us = world.now_us + REST_MS * US_PER_MS
        why: str | None = "not looked at"
        while world.now_us < end_us:
            world.run_until(world.now_us + _LOOK_MS * US_PER_MS)
            why = self.cluster.checkers.unsettled()
            if why is None:
                return
        raise Violation(f"no rest after {REST_MS} ms: {why}")

    def _make_peace(self) -> None:
        self._peace = True
        world, cluster = self.world, self.cluster
        world.say("world", "makes peace")
        network = cluster.network
        network.cut.clear()
        network.loss = network.slow = cluster.ensemble.loss = 0.0
        for broker_id, site in cluster.sites.items():
            if cluster.is_up(broker_id) and site.failed_directories:
                cluster.kill(broker_id, KEEP_ALL)
            site.failed_directories.clear()
            if not cluster.is_up(broker_id):
                cluster.start(broker_id)
            elif cluster.lives[broker_id].process.paused:
                world.resume(cluster.lives[broker_id].process)
        for client in self._clients:
            client.stop()

    # ------------------------------------------------------------------ misfortunes

    def _misfortune(self) -> None:
        weights = self.weights._asdict()
        name = self.world.random.choices(list(weights), list(weights.values()))[0]
        what: Callable[[], None] = getattr(self, f"_{name}")
        what()

    def _later(self, low_ms: int, high_ms: int, what: Callable[..., None], *arguments: object) -> None:
        """Unless there is peace by then, which has done it."""

        def unless_peace() -> None:
            if not self._peace:
                what(*arguments)

        self.world.after(self.world.between(low_ms, high_ms) * US_PER_MS, None, unless_peace)

    def _some(self) -> SimBroker | None:
        """A broker that runs, while most do."""
        lives = [life for life in self.cluster.lives.values() if life.process.alive and not life.process.paused]
        if not lives or (len(lives) * 2 <= len(self.cluster.sites) and not self.world.chance(0.15)):
            return None
        return lives[self.world.between(0, len(lives) - 1)]

    def _start(self, broker_id: int) -> None:
        if not self.cluster.is_up(broker_id):
            self.cluster.start(broker_id)

    def _kill(self) -> None:
        life = self._some()
        if life is not None:
            self.cluster.kill(life.broker_id, KEEP_ALL)
            self._later(100, 8_000, self._start, life.broker_id)

    def _power(self) -> None:
        life = self._some()
        if life is not None:
            self.cluster.kill(life.broker_id, self.world.random.choice((KEEP_NONE, KEEP_SOME, KEEP_SOME)))
            self._later(500, 8_000, self._start, life.broker_id)

    def _pause(self) -> None:
        life = self._some()
        if life is not None:
            self.world.say(life.process.name, "is paused")
            self.world.pause(life.process)
            self._later(100, 7_000, self._resume, life)

    def _resume(self, life: SimBroker) -> None:
        if life.process.paused:
            self.world.say(life.process.name, "goes on")
            self.world.resume(life.process)

    def _fail_controller(self) -> None:
        life = self.cluster.controller()
        if life is None or life.process.paused:
            return
        if self.world.chance(0.5):
            self.cluster.kill(life.broker_id, KEEP_ALL)
            self._later(100, 6_000, self._start, life.broker_id)
        else:
            self.world.say(life.process.name, "the controller is paused")
            self.world.pause(life.process)
            self._later(2_000, 7_000, self._resume, life)

    def _cut(self) -> None:
        life = self._some()
        if life is not None:
            links = [(life.broker_id, each) for each in self.cluster.sites if each != life.broker_id]
            self._cut_links([*links, *((there, here) for here, there in links)])

    def _one_way(self) -> None:
        ids = self.world.random.sample(list(self.cluster.sites), 2)
        self._cut_links([(ids[0], ids[1])])

    def _cut_ensemble(self) -> None:
        life = self._some()
        if life is not None:
            self._cut_links([(life.broker_id, ENSEMBLE)])

    def _cut_links(self, links: list[tuple[int, int]]) -> None:
        self.world.say("network", "cut", links)
        self.cluster.network.cut.update(links)
        self._later(200, 6_000, self._heal, links)

    def _heal(self, links: list[tuple[int, int]]) -> None:
        self.world.say("network", "healed", links)
        self.cluster.network.cut.difference_update(links)

    def _ambush(self) -> None:
        """To the next that is elected or joins an ISR: those concerned do not hear of it."""
        self._ambushes.add(self.world.random.choice(("joined", "elected")))

    def _state_changed(self, name: TopicPartition, before: LeaderAndIsr | None, state: LeaderAndIsr) -> None:
        """The controller has just written it, and told nobody."""
        controller = self.cluster.controller()
        if not self._ambushes or self._peace or before is None or controller is None:
            return
        joined = sorted(set(state.isr) - set(before.isr))
        kind = "joined" if joined else "elected" if state.leader != before.leader else ""
        deaf = before.leader
        if kind not in self._ambushes or deaf in (-1, controller.broker_id):
            return
        self._ambushes.remove(kind)
        self.world.say("world", "ambushes", name, kind, state)
        self._cut_links([(controller.broker_id, deaf)])
        for broker_id in joined:
            life = self.cluster.lives[broker_id]
            if life.process.alive and not life.process.paused:
                self.world.pause(life.process)
                self._later(500, 5_000, self._resume, life)

    def _expire(self) -> None:
        life = self._some()
        if life is not None:
            life.store.expire()

    def _noise(self) -> None:
        """The network loses and delays, the ensemble's answers get lost, for a while."""
        world, cluster = self.world, self.cluster
        cluster.network.loss = world.random.choice((0.0, 0.01, 0.1))
        cluster.network.slow = world.random.choice((0.0, 0.02, 0.2))
        cluster.ensemble.loss = world.random.choice((0.0, 0.05, 0.3))
        self._later(500, 5_000, self._silence)

    def _silence(self) -> None:
        self.cluster.network.loss = self.cluster.network.slow = self.cluster.ensemble.loss = 0.0

    def _fail_directory(self) -> None:
        life = self._some()
        if life is None or life.site.failed_directories or life.broker_epoch < 0:
            return
        directory = self.world.random.choice(DIRECTORIES)
        self.world.say(life.process.name, "loses directory", directory)
        life.fail_directory(directory)
        self._later(2_000, 8_000, self._repair, life.broker_id)

    def _repair(self, broker_id: int) -> None:
        """With a restart, as Kafka needs."""
        if self.cluster.is_up(broker_id):
            self.cluster.kill(broker_id, KEEP_ALL)
        self.cluster.sites[broker_id].failed_directories.clear()
        self._start(broker_id)

    # ------------------------------------------------------------------ administrators

    def _stop(self) -> None:
        """Controlled shutdown: leadership is handed over first, if the controller can be had."""
        life = self._some()
        if life is None or life.stopping:
            return
        life.stopping = True
        self._ask_to_go(life, 3)

    def _ask_to_go(self, life: SimBroker, attempts: int) -> None:
        if not life.process.alive:
            return
        world, cluster = self.world, self.cluster
        controller_id = life.metadata.controller_id
        if not attempts or self._peace or controller_id not in cluster.lives:
            self._gone(life)
            return

        def serve(answer: Answer) -> None:
            request = ControlledShutdownRequest(broker_id=life.broker_id, broker_epoch=life.broker_epoch)
            cluster.broker_at(controller_id).controller.post(events.ControlledShutdownReceived(answer, request))

        def then(answer: object) -> None:
            if isinstance(answer, ControlledShutdownResponse) and not (
                answer.error_code or answer.remaining_partitions
            ):
                self._gone(life)
            else:
                world.after(300 * US_PER_MS, life.process, self._ask_to_go, life, attempts - 1)

        cluster.network.request(life.broker_id, life.process, controller_id, serve, then, 1_500)

    def _gone(self, life: SimBroker) -> None:
        if not life.process.alive:
            return
        self.cluster.stop(life.broker_id)
        if self._peace:
            self.cluster.start(life.broker_id)
        self._later(100, 4_000, self._start, life.broker_id)

    def _replicas(self) -> list[int]:
        ids = list(self.cluster.sites)
        count = self.world.random.choice((2, 3, 3)) if len(ids) > 2 else 2
        return self.world.random.sample(ids, count)

    def _create(self) -> None:
        """One that there was before, now and then."""
        world, cluster = self.world, self.cluster
        if len(cluster.topics()) >= 4:
            return
        self._topics_made += 1
        topic = f"t{self._topics_made if world.chance(0.5) else world.between(1, self._topics_made)}"
        if topic in cluster.topics() or cluster.is_deleting(topic):
            return
        settings = {"min.insync.replicas": world.random.choice(("1", "2", "2"))}
        if self._unclean and world.chance(0.5):
            settings["unclean.leader.election.enable"] = "true"
        partitions = [self._replicas() for _ in range(world.between(1, 3))]
        cluster.create(topic, partitions, settings)
        for index in range(len(partitions)):
            self._serve(TopicPartition(topic, index))

    def _serve(self, name: TopicPartition) -> None:
        """Somebody writes, somebody reads."""
        world = self.world
        acks = ACKS_ALL if world.chance(0.7) else 1
        place = _FIRST_CLIENT + len(self._clients)
        pace_ms = world.random.choice((60, 150, 400))
        self._clients.append(Producer(self.cluster, place, name, acks=acks, pace_ms=pace_ms))
        if world.chance(0.5):
            self._clients.append(Consumer(self.cluster, place + 1, name))

    def _chosen(self) -> str | None:
        topics = [each for each in self.cluster.topics() if not self.cluster.is_deleting(each)]
        return self.world.random.choice(topics) if topics else None

    def _delete(self) -> None:
        topic = self._chosen()
        if topic is not None and len(self.cluster.topics()) > 1:
            self.cluster.delete(topic)

    def _grow(self) -> None:
        topic = self._chosen()
        if topic is None or self._awaited:
            return
        partitions = self.cluster.description(topic).partitions
        if len(partitions) < 5 and not any(each.is_reassigning for each in partitions):
            self.cluster.grow(topic, self._replicas())
            self._serve(TopicPartition(topic, len(partitions)))

    def _to_controller(self, make: Callable[[Answer], events.Event], then: Callable[[object], None]) -> None:
        life = self.cluster.controller()
        if life is None:
            return
        self._awaited += 1

        def settled(answer: object) -> None:
            self._awaited -= 1
            then(answer)

        def serve(answer: Answer) -> None:
            life.controller.post(make(answer))

        process = self.cluster.network.places[ADMIN]
        self.cluster.network.request(ADMIN, process, life.broker_id, serve, settled, 5_000)

    def _reassign(self) -> None:
        topic = self._chosen()
        if topic is None:
            return
        count = len(self.cluster.description(topic).partitions)
        name = TopicPartition(topic, self.world.between(0, count - 1))
        target = None if self.world.chance(0.2) else tuple(self._replicas())
        self.world.say("admin", "reassigns", name, target)
        self._to_controller(
            lambda answer: events.ReassignReceived(answer, {name: target}),
            lambda answer: self.world.say("admin", "reassignment:", answer),
        )

    def _elect(self) -> None:
        topic = self._chosen()
        if topic is None:
            return
        unclean = self._unclean and self.world.chance(0.3)
        description = self.cluster.description(topic)
        names = [TopicPartition(topic, index) for index in range(len(description.partitions))]
        if unclean:
            for name in names:
                self.cluster.checkers.allow_unclean(name, description.topic_id)
        kind = events.UNCLEAN if unclean else events.PREFERRED
        self.world.say("admin", "elects", names, kind)
        self._to_controller(
            lambda answer: events.ElectLeadersReceived(answer, names, kind),
            lambda answer: self.world.say("admin", "election:", answer),
        )

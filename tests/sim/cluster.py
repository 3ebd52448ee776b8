"""A cluster and all around it, made from a seed.

Real: the controllers (cluster/controller, through cluster/broker/controller_store.py on cluster/metadata/memory.py),
Leadership, Replication with IsrKeeper, Replicator and cluster/replication, ReplicaManager, MetadataCache, the handlers
of the controller's requests, and of csrc the partitions with their logs on the disks of tests/c/disk_model.c.
Played: time, network, sessions, threads, and of csrc what moves bytes over sockets (produce, fetch, fetcher).
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.metadata import paths, startup
from cluster.metadata.store import NodeExists, NoNode
from cluster.metadata.writes import operations
from cluster.model import PartitionAssignment, PutConfig, PutTopic, TopicDescription
from pylog.types import TopicPartition
from tests.sim.broker import SimBroker
from tests.sim.checkers import Checkers
from tests.sim.ensemble import Ensemble
from tests.sim.logs import Site
from tests.sim.network import ADMIN, Network
from tests.sim.replica import KEEP_ALL
from tests.sim.world import Process, World

_PARTITIONS_MAX = 10


class SimCluster:
    def __init__(self, world: World, brokers: int) -> None:
        self.world = world
        self.network = Network(world)
        self.ensemble = Ensemble(world, self.network)
        startup.prepare_tree(self.ensemble.admin, "BqAbZzJcRyCV7ufzNcp56A")
        self._topic_ids = 0
        self._producer_ids = 0
        self.lives: dict[int, SimBroker] = {}
        self.sites = {broker_id: Site(broker_id, world) for broker_id in range(1, brokers + 1)}
        self.checkers = Checkers(self)
        self.network.places[ADMIN] = Process("admin")

    def close(self) -> None:
        for site in self.sites.values():
            site.free()

    def new_topic_id(self) -> bytes:
        self._topic_ids += 1
        return self._topic_ids.to_bytes(16, "big")

    def new_producer_id(self) -> int:
        self._producer_ids += 1
        return 1000 + self._producer_ids

    def broker_at(self, place: int) -> SimBroker:
        """Who serves there; asked only from what happens to him."""
        return self.lives[place]

    # ------------------------------------------------------------------ lives of brokers

    def start(self, broker_id: int) -> None:
        world = self.world
        drift = world.between(-2_000, 2_000)
        process = Process(f"broker {broker_id}", world.between(0, 1_000_000), drift)
        world.say(process.name, "starts")
        self.lives[broker_id] = SimBroker(self, self.sites[broker_id], process)

    def is_up(self, broker_id: int) -> bool:
        life = self.lives.get(broker_id)
        return life is not None and life.process.alive

    def kill(self, broker_id: int, survivors: int) -> None:
        """kill -9, or with survivors other than KEEP_ALL the power."""
        life = self.lives[broker_id]
        life.process.alive = False
        self.world.say(life.process.name, "dies", "with its machine" if survivors != KEEP_ALL else "")
        site = self.sites[broker_id]
        for name, replica in site.replicas.items():
            before = replica.info().log_end
            replica.crash(survivors, self.world.between(1, 1 << 30))
            after = replica.info().log_end
            if after < before:
                self.world.say(life.process.name, "loses", name, f"{after}..{before}")
                self.checkers.lost_bytes(broker_id, name, replica.topic_id, before, after)
            if survivors != KEEP_ALL and replica.has_hole():
                self.world.say(life.process.name, "has a hole in", name)
                self.checkers.fork(name, replica.topic_id)

    def stop(self, broker_id: int) -> None:
        """In order: everything is flushed, the session ends."""
        life = self.lives[broker_id]
        self.world.say(life.process.name, "stops")
        life.process.alive = False
        life.replicas.checkpoint_high_watermarks()
        site = self.sites[broker_id]
        for replica in site.replicas.values():
            replica.flush()
            replica.crash(KEEP_ALL, 1)
        life.store.close()

    # ------------------------------------------------------------------ what administrators do

    def controller(self) -> SimBroker | None:
        try:
            node = paths.ControllerNode.decode(self.ensemble.admin.get(paths.CONTROLLER)[0])
        except NoNode:
            return None
        life = self.lives.get(node.broker_id)
        return life if life is not None and life.process.alive else None

    def topics(self) -> list[str]:
        return self.ensemble.admin.children(paths.TOPICS)

    def description(self, topic: str) -> TopicDescription:
        return paths.decode_topic(topic, self.ensemble.admin.get(paths.topic(topic))[0])

    def is_deleting(self, topic: str) -> bool:
        return self.ensemble.admin.exists(paths.delete_topic(topic)) is not None

    def create(self, topic: str, replicas: Sequence[Sequence[int]], settings: dict[str, str]) -> None:
        admin = self.ensemble.admin
        description = TopicDescription(
            topic, self.new_topic_id(), tuple(PartitionAssignment(tuple(each)) for each in replicas)
        )
        self.world.say("admin", "creates", topic, replicas, settings)
        if settings.get("unclean.leader.election.enable") == "true":
            for index in range(_PARTITIONS_MAX):
                self.checkers.allow_unclean(TopicPartition(topic, index), description.topic_id)
        admin.multi(operations([PutConfig("topics", topic, settings, is_new=True, announce=False)]))
        admin.create(paths.topic(topic), paths.encode_topic(description))

    def grow(self, topic: str, replicas: Sequence[int]) -> None:
        description = self.description(topic)
        more = (*description.partitions, PartitionAssignment(tuple(replicas)))
        self.world.say("admin", "grows", topic, replicas)
        self.ensemble.admin.multi(operations([PutTopic(description._replace(partitions=more), is_new=False)]))

    def delete(self, topic: str) -> None:
        self.world.say("admin", "deletes", topic)
        try:
            self.ensemble.admin.create(paths.delete_topic(topic))
        except NodeExists:
            pass

"""A controller's context on a tree in memory, and plans carried out on both."""

from collections.abc import Iterable, Sequence

from cluster.config import Config
from cluster.config.broker_config import Layers
from cluster.controller.context import ControllerContext
from cluster.controller.topics import TopicPlan
from cluster.metadata import paths, startup
from cluster.metadata.memory import MemoryStore, MemoryTree
from cluster.metadata.reader import read_cluster
from cluster.metadata.writes import operations
from cluster.model import EndPoint, WriteGroup
from pylog.types import TopicPartition

CLUSTER_ID = "BqAbZzJcRyCV7ufzNcp56A"


def configure(**settings: str) -> Config:
    """A broker's configuration; `_` stands for `.`."""
    texts = {name.replace("_", "."): value for name, value in settings.items()}
    return Config(Layers({}, {}, texts, {}))


class Cluster:
    """A tree as brokers 1… left it at their start, the first being the controller."""

    def __init__(self, *racks: str | None) -> None:
        self.tree = MemoryTree(lambda: 1_795_345_304_076)
        self.stores: dict[int, MemoryStore] = {}
        self.store = self.tree.connect()
        for number, rack in enumerate(racks or (None,), 1):
            store = self.stores[number] = self.store if number == 1 else self.tree.connect()
            startup.prepare_tree(store, CLUSTER_ID)
            endpoints = (EndPoint("PLAINTEXT", "127.0.0.1", 17_090 + number, "PLAINTEXT"),)
            startup.register_broker(store, number, paths.BrokerRegistration(endpoints, rack, 1_795_345_304_076))
            if number == 1:
                _, self.fence = startup.become_controller(store, number, 1_795_345_304_360)
                startup.tidy_up(store)
        self.context = self.read()

    def read(self) -> ControllerContext:
        return ControllerContext(read_cluster(self.store))

    def write(self, groups: Iterable[WriteGroup], *, fenced: bool = True) -> None:
        for group in groups:
            self.store.multi(operations(group, self.fence if fenced else None))

    def carry_out(self, plan: TopicPlan) -> None:
        """What the broker does with a plan."""
        self.write(plan.groups)
        self.context.put_topic(plan.description)
        self.context.put_config("topics", plan.description.name, plan.settings)
        for index, state in plan.states.items():
            self.context.put_state(TopicPartition(plan.description.name, index), state._replace(version=0))

    def agrees_with_the_tree(self) -> bool:
        fresh = self.read()
        return all(getattr(fresh, name) == getattr(self.context, name) for name in ControllerContext.__slots__)


def replicas(plan: TopicPlan) -> Sequence[tuple[int, ...]]:
    return [partition.replicas for partition in plan.description.partitions]

"""Facts about a cluster: brokers, topics, partitions and who leads them. Values only; nothing here does anything.

What stays true: a fact is immutable and changed by making another (`_replace`); a replica list is in the order of
preference, its first broker being the preferred leader; an ISR is never empty once a partition has had a leader.
"""

from __future__ import annotations

from pylog.facts import NamedTuple
from pylog.typed import NewType
from pylog.types import LeaderEpoch, TopicPartition

BrokerId = NewType("BrokerId", int)
ControllerEpoch = NewType("ControllerEpoch", int)
BrokerEpoch = NewType("BrokerEpoch", int)
"""The zxid at which a broker registered: a broker that comes back has a higher one."""

NO_BROKER = BrokerId(-1)
NO_BROKER_EPOCH = BrokerEpoch(-1)
FIRST_LEADER_EPOCH = LeaderEpoch(0)


class EndPoint(NamedTuple):
    """An address of a broker. `host` is empty where clients are told the address by which they came."""

    listener: str
    host: str
    port: int
    protocol: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.listener}://{host}:{self.port}"


class Broker(NamedTuple):
    """A registered broker."""

    id: BrokerId
    endpoints: tuple[EndPoint, ...]
    rack: str | None = None
    epoch: BrokerEpoch = NO_BROKER_EPOCH


class PartitionAssignment(NamedTuple):
    """Where the replicas of a partition are. During a reassignment `replicas` holds old and new ones; `adding` and
    `removing` say which."""

    replicas: tuple[int, ...]
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()

    @property
    def is_reassigning(self) -> bool:
        return bool(self.adding or self.removing)

    @property
    def target(self) -> tuple[int, ...]:
        """The replicas once the reassignment is over."""
        return tuple(broker for broker in self.replicas if broker not in self.removing)

    @property
    def origin(self) -> tuple[int, ...]:
        """The replicas before it began."""
        return tuple(broker for broker in self.replicas if broker not in self.adding)


class LeaderAndIsr(NamedTuple):
    """The state of a partition. `version`: of its znode, for the next conditional write; -1 when it has none yet.
    `recovering`: its leader was not in sync when it was elected, and has not said since that it has recovered."""

    leader: int
    leader_epoch: int
    isr: tuple[int, ...]
    controller_epoch: int
    version: int = -1
    recovering: bool = False


class TopicDescription(NamedTuple):
    """A topic: `partitions` is dense, index 0 first. `topic_id` is all zero for a topic without one."""

    name: str
    topic_id: bytes
    partitions: tuple[PartitionAssignment, ...]


class ClusterFacts(NamedTuple):
    """Everything the tree says about a cluster at one moment. Configurations are by entity name; `broker_configs` has
    an entry "<default>" for what holds for all brokers."""

    cluster_id: str
    controller_epoch: int
    brokers: dict[int, Broker]
    topics: dict[str, TopicDescription]
    states: dict[TopicPartition, LeaderAndIsr]
    topic_configs: dict[str, dict[str, str]]
    broker_configs: dict[str, dict[str, str]]
    deleting: frozenset[str]


# ------------------------------------------------------------------------------------------------ what to write down
# A decision says what shall be true; the metadata layer knows at which path and in which bytes.


class PutTopic(NamedTuple):
    """A topic's partitions and replicas. `is_new`: it must not be there yet; else it must."""

    description: TopicDescription
    is_new: bool


class PutPartitionState(NamedTuple):
    """Who leads. `state.version` is what the state has now (the write fails if it has another); -1: it has none yet."""

    topic: str
    partition: int
    state: LeaderAndIsr


class PutConfig(NamedTuple):
    """All settings of an entity. `kind`: topics, brokers, users, clients, ips. `announce`: tell all brokers to look."""

    kind: str
    entity: str
    settings: dict[str, str]
    is_new: bool
    announce: bool


class MarkTopicDeleted(NamedTuple):
    """The topic is to go; a controller that finds the mark finishes the job."""

    topic: str


Write = PutTopic | PutPartitionState | PutConfig | MarkTopicDeleted
WriteGroup = tuple[Write, ...]
"""Written together or not at all."""

"""What the controller asks of the world, one step at a time, and what it is told.

The machine is straight-line code: `Controller.handle(event, now_ms)` is a generator that yields steps; its driver
carries each one out and sends the result back in. What stays true: a step is a plain fact, in the words of
`cluster.model`, never in znodes; every step that writes carries the fence (the znode version of /controller_epoch at
this controller's election) and writes nothing once another controller was elected; a step that reads sets the watch it
names, whose event is posted once per firing, and reading again sets it again (a driver has at most one watch per path).

A step that is not done is answered by throwing one of these into the generator:

    ControllerMoved    the fence did not hold: another controller was elected. The machine forgets all it knows.
    StoreUnavailable   the session with the store is over. What was asked may have been done or not. The machine forgets
                       all it knows; a SessionStarted tells it to try again.

A driver holds its breath through a lost connection and asks again; what it asked before may then have been done, so
that it sees its own write as a conflict: the machine reads again and finds it.

The functions below yield a step and give its result a type: `states = yield from read_states(partitions)`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence

from cluster.effects import CancelTimer, Note, Reply, SetTimer
from cluster.model import Broker, LeaderAndIsr, TopicDescription
from cluster.protocol.message import Message
from pylog.facts import NamedTuple
from pylog.typed import TypeAlias, TypeVar, cast
from pylog.types import TopicPartition


class ControllerMoved(Exception):
    """Another controller was elected: the fence of a write did not hold."""


class StoreUnavailable(Exception):
    """The session with the store is over."""


# ------------------------------------------------------------------------------------------------ who is the controller


class ReadController(NamedTuple):
    """→ int: the id in /controller, or -1. Watches that it comes, changes or goes (exists): ControllerChanged."""


class ElectController(NamedTuple):
    """Try to become the controller: create /controller and raise /controller_epoch in one transaction, or find by the
    ephemeral owner that an earlier try did. → Elected, or None when somebody else is or was faster."""


class Elected(NamedTuple):
    """`fence`: the znode version of /controller_epoch, which every later write checks."""

    epoch: int
    fence: int


class GiveUpController(NamedTuple):
    """Delete /controller, if the fence still holds, so that another election follows. → None, ControllerMoved too."""

    fence: int


class SetUpFeatures(NamedTuple):
    """Make /feature say whether features are enabled (inter-broker protocol 2.7 and later), keeping those that are
    there when they are. → None"""

    fence: int
    enabled: bool


# ------------------------------------------------------------------------------------------------ reading


class ReadBrokers(NamedTuple):
    """→ dict[int, Broker]: all that are registered. Watches the list (BrokersChanged) and the data of each
    (BrokerModified)."""


class ReadBroker(NamedTuple):
    """→ Broker | None. Watches its data: BrokerModified."""

    broker_id: int


class ReadTopicNames(NamedTuple):
    """→ list[str]. Watches the list: TopicsChanged."""


class ReadTopics(NamedTuple):
    """→ dict[str, TopicDescription]; topics that are not there are left out. Watches the data of each:
    PartitionsChanged."""

    names: Sequence[str]


class ReadStates(NamedTuple):
    """→ dict[TopicPartition, LeaderAndIsr], `version` as the znode has it; partitions without a state are left out."""

    partitions: Sequence[TopicPartition]


class ReadTopicConfigs(NamedTuple):
    """→ dict[str, dict[str, str]]: what these topics override; a topic without any has an empty one."""

    topics: Sequence[str]


class ReadDeletions(NamedTuple):
    """→ list[str]: topics marked in /admin/delete_topics. Watches the list: DeletionsChanged."""


class ReadIsrChanges(NamedTuple):
    """→ Notices of TopicPartition. Watches the list: IsrChangesNoticed."""


class ReadLogDirEvents(NamedTuple):
    """→ Notices of broker ids. Watches the list: LogDirEventsNoticed."""


class Notices(NamedTuple):
    """Sequential notification nodes: their names, in order, and what they say together. One that cannot be read counts
    among the names and says nothing."""

    names: tuple[str, ...]
    partitions: tuple[TopicPartition, ...] = ()
    broker_ids: tuple[int, ...] = ()


class ReadReassignments(NamedTuple):
    """→ dict[TopicPartition, tuple[int, ...]]: what /admin/reassign_partitions asks for, or None without that node.
    Watches that it comes (exists): ReassignmentsRequested."""


class ReadPreferredElection(NamedTuple):
    """→ tuple[TopicPartition, ...]: what /admin/preferred_replica_election asks for, or None without that node.
    Watches that it comes (exists): PreferredElectionRequested."""


class ReadProducerIdBlock(NamedTuple):
    """→ ProducerIdBlockRead."""


class ProducerIdBlockRead(NamedTuple):
    """`next_id`: the first id no broker was ever given. `version`: of the znode, for the conditional write."""

    next_id: int
    version: int


# ------------------------------------------------------------------------------------------------ writing


class CreateStates(NamedTuple):
    """First states of new partitions, with the nodes above them where those are missing. Each is created or not on its
    own. → StatesWritten; one that is there already is a conflict."""

    fence: int
    states: Mapping[TopicPartition, LeaderAndIsr]


class WriteStates(NamedTuple):
    """Each is written or not on its own, if its znode has the version `state.version`. → StatesWritten"""

    fence: int
    states: Mapping[TopicPartition, LeaderAndIsr]


class StatesWritten(NamedTuple):
    """What became of each state: `versions` of those that stand in the tree now; `conflicts`, whose znode has another
    version than expected; `failed`, with a reason for the log (no such node, for example)."""

    versions: dict[TopicPartition, int]
    conflicts: list[TopicPartition]
    failed: dict[TopicPartition, str]


class WriteTopic(NamedTuple):
    """Replace the partitions and replicas of a topic that is there. → bool: whether it is."""

    fence: int
    description: TopicDescription


class GiveTopicIds(NamedTuple):
    """Write an id never used before into each of these topics. → dict[str, bytes]; a topic that went is left out."""

    fence: int
    descriptions: Sequence[TopicDescription]


class RemoveTopic(NamedTuple):
    """Take away every trace of a deleted topic, in this order: its partitions' nodes, itself, its configuration, its
    mark in /admin/delete_topics. What is missing is passed over. → None"""

    fence: int
    name: str


class RemoveDeletionMarks(NamedTuple):
    """Of topics that are not deleted after all. → None"""

    fence: int
    names: Sequence[str]


class RemoveIsrChanges(NamedTuple):
    """What was dealt with. → None"""

    fence: int
    names: Sequence[str]


class RemoveLogDirEvents(NamedTuple):
    """What was dealt with. → None"""

    fence: int
    names: Sequence[str]


class WriteReassignments(NamedTuple):
    """Make /admin/reassign_partitions ask for this; with nothing to ask for it is deleted. → None"""

    fence: int
    reassignments: Mapping[TopicPartition, tuple[int, ...]]


class RemovePreferredElection(NamedTuple):
    """Delete /admin/preferred_replica_election if it is there. → None"""

    fence: int


class WriteProducerIdBlock(NamedTuple):
    """The ids from `first` to `last`, both included, belong to a broker. → bool: False when the znode has another
    version than `version` and nothing was written."""

    broker_id: int
    first: int
    last: int
    version: int


# ------------------------------------------------------------------------------------------------ brokers


class StartChannel(NamedTuple):
    """Open an ordered queue of requests to this broker. There is none to its id when this is asked. → None"""

    broker: Broker


class StopChannel(NamedTuple):
    """Forget the queue and what is still in it; whatever is answered later is dropped. → None"""

    broker_id: int


class Send(NamedTuple):
    """Queue a request; its answer comes as the event Answered, unless the channel is stopped before. → None

    One message may be in several steps: nobody changes it once it is here.
    """

    broker_id: int
    version: int
    message: Message


Step: TypeAlias = (
    ReadController | ElectController | GiveUpController | SetUpFeatures
    | ReadBrokers | ReadBroker | ReadTopicNames | ReadTopics | ReadStates | ReadTopicConfigs | ReadDeletions
    | ReadIsrChanges | ReadLogDirEvents | ReadReassignments | ReadPreferredElection | ReadProducerIdBlock
    | CreateStates | WriteStates | WriteTopic | GiveTopicIds | RemoveTopic | RemoveDeletionMarks | RemoveIsrChanges
    | RemoveLogDirEvents | WriteReassignments | RemovePreferredElection | WriteProducerIdBlock
    | StartChannel | StopChannel | Send
    | Reply | SetTimer | CancelTimer | Note
)  # fmt: skip
"""Reply, SetTimer, CancelTimer and Note are those of `cluster.effects`: their result is None, and a timer that is due
comes as the event TimerFired."""

T = TypeVar("T")
Run: TypeAlias = Generator[Step, object, T]
"""A piece of the machine: yields steps, is sent their results, returns a T."""


# ------------------------------------------------------------------------------------------------ steps and results


def read_controller() -> Run[int]:
    return cast("int", (yield ReadController()))


def elect_controller() -> Run[Elected | None]:
    return cast("Elected | None", (yield ElectController()))


def read_brokers() -> Run[dict[int, Broker]]:
    return cast("dict[int, Broker]", (yield ReadBrokers()))


def read_broker(broker_id: int) -> Run[Broker | None]:
    return cast("Broker | None", (yield ReadBroker(broker_id)))


def read_topic_names() -> Run[list[str]]:
    return cast("list[str]", (yield ReadTopicNames()))


def read_topics(names: Sequence[str]) -> Run[dict[str, TopicDescription]]:
    """Asks nothing when there is nothing to ask for; so do the others that take a list."""
    return cast("dict[str, TopicDescription]", (yield ReadTopics(names))) if names else {}


def read_states(partitions: Sequence[TopicPartition]) -> Run[dict[TopicPartition, LeaderAndIsr]]:
    return cast("dict[TopicPartition, LeaderAndIsr]", (yield ReadStates(partitions))) if partitions else {}


def read_topic_configs(topics: Iterable[str]) -> Run[dict[str, dict[str, str]]]:
    names = sorted(set(topics))
    return cast("dict[str, dict[str, str]]", (yield ReadTopicConfigs(names))) if names else {}


def read_deletions() -> Run[list[str]]:
    return cast("list[str]", (yield ReadDeletions()))


def read_isr_changes() -> Run[Notices]:
    return cast("Notices", (yield ReadIsrChanges()))


def read_log_dir_events() -> Run[Notices]:
    return cast("Notices", (yield ReadLogDirEvents()))


def read_reassignments() -> Run[dict[TopicPartition, tuple[int, ...]] | None]:
    return cast("dict[TopicPartition, tuple[int, ...]] | None", (yield ReadReassignments()))


def read_preferred_election() -> Run[tuple[TopicPartition, ...] | None]:
    return cast("tuple[TopicPartition, ...] | None", (yield ReadPreferredElection()))


def read_producer_id_block() -> Run[ProducerIdBlockRead]:
    return cast("ProducerIdBlockRead", (yield ReadProducerIdBlock()))


def create_states(fence: int, states: Mapping[TopicPartition, LeaderAndIsr]) -> Run[StatesWritten]:
    return cast("StatesWritten", (yield CreateStates(fence, states))) if states else StatesWritten({}, [], {})


def write_states(fence: int, states: Mapping[TopicPartition, LeaderAndIsr]) -> Run[StatesWritten]:
    return cast("StatesWritten", (yield WriteStates(fence, states))) if states else StatesWritten({}, [], {})


def write_topic(fence: int, description: TopicDescription) -> Run[bool]:
    return cast("bool", (yield WriteTopic(fence, description)))


def give_topic_ids(fence: int, descriptions: Sequence[TopicDescription]) -> Run[dict[str, bytes]]:
    return cast("dict[str, bytes]", (yield GiveTopicIds(fence, descriptions))) if descriptions else {}


def write_producer_id_block(broker_id: int, first: int, last: int, version: int) -> Run[bool]:
    return cast("bool", (yield WriteProducerIdBlock(broker_id, first, last, version)))

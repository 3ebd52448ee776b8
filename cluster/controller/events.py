"""What the controller hears: a fired watch, an answer of a broker, a timer, a request that was handed over.

What stays true: an event is a plain fact and says only that something happened; what is now so the machine reads
itself. Events are handled one at a time, in the order in which they came. An event that a broker gets which is not the
controller does nothing but answer its request (NOT_CONTROLLER), or take part in an election.

`reply_to` is what came in with a request, untouched; each request gets exactly one Reply, whose `message` is said here.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from cluster.controller.settings import Settings
from cluster.model import PartitionAssignment
from cluster.protocol.message import Message
from cluster.protocol.messages import (
    AllocateProducerIdsRequest,
    AlterPartitionRequest,
    ControlledShutdownRequest,
)
from pylog.errors import ErrorCode
from pylog.facts import NamedTuple
from pylog.typed import TypeAlias
from pylog.types import TopicPartition

# ------------------------------------------------------------------------------------------------ elections


class Startup(NamedTuple):
    """The broker is registered and may be elected. The first event of a process."""


class SessionStarted(NamedTuple):
    """After SessionExpired: the broker is registered again and may be elected."""


class SessionExpired(NamedTuple):
    """Neither this broker's registration nor its /controller is there any more."""


class ControllerChanged(NamedTuple):
    """/controller came, changed or went."""


class ShuttingDown(NamedTuple):
    """The broker stops. The last event of a process."""


# ------------------------------------------------------------------------------------------------ watches


class BrokersChanged(NamedTuple):
    """A broker registered, went, or both."""


class BrokerModified(NamedTuple):
    """What a registered broker says of itself changed."""

    broker_id: int


class TopicsChanged(NamedTuple):
    """A topic came or went."""


class PartitionsChanged(NamedTuple):
    """A topic's partitions or replicas were written."""

    topic: str


class DeletionsChanged(NamedTuple):
    """A topic was marked to be deleted, or a mark went."""


class IsrChangesNoticed(NamedTuple):
    """Leaders that write their states themselves (inter-broker protocol before 2.7) did."""


class LogDirEventsNoticed(NamedTuple):
    """Log directories of brokers failed."""


class ReassignmentsRequested(NamedTuple):
    """/admin/reassign_partitions came: an old tool wants replicas moved."""


class PreferredElectionRequested(NamedTuple):
    """/admin/preferred_replica_election came: an old tool wants preferred replicas to lead."""


# ------------------------------------------------------------------------------------------------ configuration


class UncleanElectionEnabled(NamedTuple):
    """unclean.leader.election.enable became true: of one topic, or (None) by default."""

    topic: str | None = None


class SettingsChanged(NamedTuple):
    """The broker's configuration changed."""

    settings: Settings


# ------------------------------------------------------------------------------------------------ brokers, timers


class Answered(NamedTuple):
    """A broker answered what a Send step sent. `message`: that request, the object itself."""

    broker_id: int
    message: Message
    response: Message


class TimerFired(NamedTuple):
    """The key of a SetTimer step is due. Its timer is gone."""

    key: Hashable


# ------------------------------------------------------------------------------------------------ requests


class AlterPartitionReceived(NamedTuple):
    """Reply: AlterPartitionResponse, to be encoded in `version`."""

    reply_to: Hashable
    version: int
    request: AlterPartitionRequest


class ControlledShutdownReceived(NamedTuple):
    """Reply: ControlledShutdownResponse."""

    reply_to: Hashable
    request: ControlledShutdownRequest


class AllocateProducerIdsReceived(NamedTuple):
    """Reply: AllocateProducerIdsResponse."""

    reply_to: Hashable
    request: AllocateProducerIdsRequest


class ReassignReceived(NamedTuple):
    """AlterPartitionReassignments. `targets`: None cancels what is under way. Reply: PartitionResults."""

    reply_to: Hashable
    targets: Mapping[TopicPartition, tuple[int, ...] | None]


class ListReassignmentsReceived(NamedTuple):
    """`partitions`: None asks for all. Reply: ReassignmentsListed."""

    reply_to: Hashable
    partitions: Sequence[TopicPartition] | None


PREFERRED, UNCLEAN = range(2)
"""Types of an election, as ElectLeaders numbers them."""


class ElectLeadersReceived(NamedTuple):
    """`partitions`: None asks for all (version 0 of the API and admin tools). Reply: LeadersElected."""

    reply_to: Hashable
    partitions: Sequence[TopicPartition] | None
    election_type: int


Request: TypeAlias = (
    AlterPartitionReceived | ControlledShutdownReceived | AllocateProducerIdsReceived | ReassignReceived
    | ListReassignmentsReceived | ElectLeadersReceived
)  # fmt: skip

Event: TypeAlias = (
    Startup | SessionStarted | SessionExpired | ControllerChanged | ShuttingDown
    | BrokersChanged | BrokerModified | TopicsChanged | PartitionsChanged | DeletionsChanged | IsrChangesNoticed
    | LogDirEventsNoticed | ReassignmentsRequested | PreferredElectionRequested
    | UncleanElectionEnabled | SettingsChanged | Answered | TimerFired | Request
)  # fmt: skip


# ------------------------------------------------------------------------------------------------ answers


class Outcome(NamedTuple):
    """What became of one partition, or of the whole request: NONE, or an error and what to tell the client."""

    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


class PartitionResults(NamedTuple):
    """`outcome`: of the request (NOT_CONTROLLER); then `partitions` is empty. Else each partition has its own."""

    outcome: Outcome
    partitions: dict[TopicPartition, Outcome]


class ReassignmentsListed(NamedTuple):
    """Partitions that are being reassigned."""

    outcome: Outcome
    partitions: dict[TopicPartition, PartitionAssignment]


class LeadersElected(NamedTuple):
    """`leaders`: who was elected, where somebody was; a client is answered when the brokers know. `failed`: all others,
    ELECTION_NOT_NEEDED among them."""

    outcome: Outcome
    leaders: dict[TopicPartition, int]
    failed: dict[TopicPartition, Outcome]

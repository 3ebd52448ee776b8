"""Topics made, grown and deleted: what is refused, and what is to be written otherwise.

What stays true: checks come in Kafka's order and with Kafka's code and words, except that an assignment to brokers
which are not there is refused, as Kafka 4 does (3.9 would make a topic that nobody serves). A topic's description and
configuration are written together with its first partitions; a creation that was cut short is finished by
`partitions.settle`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.config import Config, ConfigError
from cluster.controller.assignment import assign_replicas, start_index_to_grow
from cluster.controller.context import ControllerContext
from cluster.controller.election import initial_state
from cluster.model import (
    LeaderAndIsr,
    MarkTopicDeleted,
    PartitionAssignment,
    PutConfig,
    PutPartitionState,
    PutTopic,
    TopicDescription,
    Write,
    WriteGroup,
)
from pylog.config import validate_overrides
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple

MAX_NAME_LENGTH = 249
_NAME_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-")
_STATES_PER_GROUP = 200
_NOT_CONSECUTIVE = "partitions should be a consecutive 0-based integer sequence"


class NewTopic(NamedTuple):
    """What a client asks for; -1 stands for the broker's default. `assignment`: replicas by partition."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    assignment: Mapping[int, Sequence[int]] = {}
    settings: Mapping[str, str | None] = {}


class TopicPlan(NamedTuple):
    """`states`: of the new partitions, by index; a partition without a live replica has none. `settings`: what the
    topic overrides."""

    description: TopicDescription
    states: dict[int, LeaderAndIsr]
    settings: dict[str, str]
    groups: tuple[WriteGroup, ...]


def plan_creation(
    context: ControllerContext, config: Config, new: NewTopic, *, topic_id: bytes, start_index: int
) -> TopicPlan:
    """`topic_id`: 16 bytes never used before; `start_index`: chance. Raises KafkaError."""
    name = new.name
    _check_absent(context, name)
    settings = _settings(new)
    if new.assignment and (new.partitions != -1 or new.replication_factor != -1):
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            "Both numPartitions or replicationFactor and replicasAssignments were set. "
            "Both cannot be used at the same time.",
        )
    if new.assignment:
        check_name(name)
        check_collisions(context, name)
        _check_shape(new.assignment)
        replicas = []
    else:
        replicas = assign_replicas(
            context.live_brokers(),
            partitions=config.int("num.partitions") if new.partitions == -1 else new.partitions,
            replication_factor=(
                config.int("default.replication.factor") if new.replication_factor == -1 else new.replication_factor
            ),
            start_index=start_index,
        )
        check_name(name)
        check_collisions(context, name)
    try:
        validate_overrides(settings, config.log_config)
    except ConfigError as error:
        raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from error
    if new.assignment:
        replicas = _check_assignment(context, new.assignment)
    description = TopicDescription(name, topic_id, tuple(map(PartitionAssignment, replicas)))
    head: list[Write] = [
        PutConfig("topics", name, settings, is_new=name not in context.topic_configs, announce=False),
        PutTopic(description, is_new=True),
    ]
    return _with_states(context, description, 0, settings, head)


def plan_growth(
    context: ControllerContext, name: str, count: int, assignments: Sequence[Sequence[int]] | None
) -> TopicPlan:
    """More partitions, `count` in all. `assignments`: the replicas of each new one, or None. Raises KafkaError."""
    old = context.topics.get(name)
    if old is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")
    if name in context.deleting:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, "The topic is queued for deletion.")
    if any(partition.is_reassigning for partition in old.partitions):
        raise KafkaError(
            ErrorCode.REASSIGNMENT_IN_PROGRESS, f"A partition reassignment is in progress for the topic '{name}'."
        )
    old_count = len(old.partitions)
    if count < old_count:
        raise KafkaError(
            ErrorCode.INVALID_PARTITIONS,
            f"Topic currently has {old_count} partitions, which is higher than the requested {count}.",
        )
    if count == old_count:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, f"Topic already has {old_count} partitions.")
    first = old.partitions[0].replicas
    if assignments is None:
        brokers = context.live_brokers()
        replicas = assign_replicas(
            brokers,
            partitions=count - old_count,
            replication_factor=len(first),
            start_index=start_index_to_grow(brokers, first[0]),
            first_partition=old_count,
        )
    else:
        replicas = _check_growth(context, assignments, old_count, count, len(first))
    description = old._replace(partitions=old.partitions + tuple(map(PartitionAssignment, replicas)))
    head: list[Write] = [PutTopic(description, is_new=False)]
    return _with_states(context, description, old_count, context.topic_configs.get(name, {}), head)


def plan_deletion(context: ControllerContext, config: Config, name: str) -> tuple[WriteGroup, ...]:
    """The mark; once the replicas' logs are gone the tree forgets the topic. Nothing to write when it is marked
    already. Raises KafkaError."""
    if name not in context.topics:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if not config.bool("delete.topic.enable"):
        raise KafkaError(ErrorCode.TOPIC_DELETION_DISABLED, "Topic deletion is disabled.")
    return () if name in context.deleting else ((MarkTopicDeleted(name),),)


# ------------------------------------------------------------------------------------------------ names


def check_name(name: str) -> None:
    """Raises KafkaError for what cannot be the name of a topic."""
    if not name:
        reason = "the empty string is not allowed"
    elif name in (".", ".."):
        reason = f"'{name}' is not allowed"
    elif len(name) > MAX_NAME_LENGTH:
        reason = f"the length of '{name}' is longer than the max allowed length {MAX_NAME_LENGTH}"
    elif not _NAME_CHARACTERS.issuperset(name):
        reason = f"'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    else:
        return
    raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {reason}")


def check_collisions(context: ControllerContext, name: str) -> None:
    """Names that differ only in `.` and `_` would be one in the names of metrics."""
    if "." not in name and "_" not in name:
        return
    plain = name.replace(".", "_")
    others = sorted(other for other in context.topics if other.replace(".", "_") == plain)
    if others:
        raise KafkaError(
            ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topics: {', '.join(others)}"
        )


def _check_absent(context: ControllerContext, name: str) -> None:
    if name in context.deleting:
        raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' is marked for deletion.")
    if name in context.topics:
        raise KafkaError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")


# ------------------------------------------------------------------------------------------------ settings, assignments


def _settings(new: NewTopic) -> dict[str, str]:
    nulls = [key for key, value in new.settings.items() if value is None]
    if nulls:
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(nulls)}")
    return {key: value for key, value in new.settings.items() if value is not None}


def _refuse_assignment(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)


def _check_shape(assignment: Mapping[int, Sequence[int]]) -> None:
    """What Kafka 3.9 looks at, before it looks at the settings: a negative partition goes unnoticed."""
    if len({len(replicas) for replicas in assignment.values()}) != 1:
        raise _refuse_assignment("All partitions should have the same number of replicas")
    if any(len(set(replicas)) < len(replicas) for replicas in assignment.values()):
        shown = ", ".join(
            f"{index} -> ArrayBuffer({', '.join(map(str, replicas))})" for index, replicas in sorted(assignment.items())
        )
        raise _refuse_assignment(f"Duplicate replica assignment found: HashMap({shown})")
    count = len(assignment)
    if sum(index for index in assignment if index >= 0) != count * (count - 1) // 2:
        raise _refuse_assignment(_NOT_CONSECUTIVE)


def _check_assignment(context: ControllerContext, assignment: Mapping[int, Sequence[int]]) -> list[tuple[int, ...]]:
    if sorted(assignment) != list(range(len(assignment))):
        raise _refuse_assignment(_NOT_CONSECUTIVE)
    for index in sorted(assignment):
        if not assignment[index]:
            raise _refuse_assignment("The manual partition assignment includes an empty replica list.")
        for replica in assignment[index]:
            if replica not in context.brokers:
                raise _refuse_assignment(
                    f"The manual partition assignment includes broker {replica}, but no such broker is registered."
                )
    return [tuple(assignment[index]) for index in range(len(assignment))]


def _check_growth(
    context: ControllerContext,
    assignments: Sequence[Sequence[int]],
    old_count: int,
    count: int,
    replication_factor: int,
) -> list[tuple[int, ...]]:
    unknown = [str(replica) for replicas in assignments for replica in replicas if replica not in context.brokers]
    if unknown:
        raise _refuse_assignment(f"Unknown broker(s) in replica assignment: {', '.join(dict.fromkeys(unknown))}.")
    if len(assignments) != count - old_count:
        raise _refuse_assignment(
            f"Increasing the number of partitions by {count - old_count} but {len(assignments)} assignments provided."
        )
    for index, replicas in enumerate(assignments, old_count):
        if not replicas:
            raise _refuse_assignment(f"Cannot have replication factor of 0 for partition id {index}.")
        if len(set(replicas)) < len(replicas):
            shown = ", ".join(map(str, replicas))
            raise _refuse_assignment(
                f"Duplicate brokers not allowed in replica assignment: {shown} for partition id {index}."
            )
    others = [
        (index, len(replicas))
        for index, replicas in enumerate(assignments, old_count)
        if len(replicas) != replication_factor
    ]
    if others:
        indices, factors = (", ".join(str(each[i]) for each in others) for i in (0, 1))
        raise _refuse_assignment(
            f"Inconsistent replication factor between partitions, partition 0 has {replication_factor} "
            f"while partitions [{indices}] have replication factors [{factors}], respectively."
        )
    return [tuple(replicas) for replicas in assignments]


def _with_states(
    context: ControllerContext, description: TopicDescription, first: int, settings: dict[str, str], head: list[Write]
) -> TopicPlan:
    """The plan with the states of the partitions from `first` on, in groups of a size that any store takes."""
    states = {}
    for index, partition in enumerate(description.partitions[first:], first):
        state = initial_state(partition.replicas, context.brokers, context.epoch)
        if state is not None:
            states[index] = state
    puts: list[Write] = [PutPartitionState(description.name, index, state) for index, state in states.items()]
    groups = [(*head, *puts[:_STATES_PER_GROUP])]
    groups += [
        tuple(puts[at : at + _STATES_PER_GROUP]) for at in range(_STATES_PER_GROUP, len(puts), _STATES_PER_GROUP)
    ]
    return TopicPlan(description, states, settings, tuple(groups))

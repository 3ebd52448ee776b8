"""Speaks the commands of the controller transcripts to a cluster in memory, and tells its controllers' steps in words.

    start BROKER... | kill BROKER | expire BROKER | move BROKER PORT | shutdown BROKER [EPOCH]
    mute BROKER | unmute BROKER         whether it answers the controller
    die-before BROKER STEP [N]          its process dies before the N-th step of that kind
    create TOPIC REPLICAS... [KEY=VALUE]   REPLICAS: 1,2,3 for each partition
    no-id TOPIC REPLICAS...             the same without an id
    first-state TOPIC-N LEADER ISR      somebody writes it before the controller does
    usurp TOPIC REPLICAS...             another controller is elected while this one hears of a new topic
    grow TOPIC REPLICAS... | delete TOPIC... | config TOPIC KEY=VALUE
    isr BROKER TOPIC-N ISR [leader-epoch= partition-epoch= broker-epoch= version= topic-id= recovering]
    write TOPIC-N ISR                   the leader writes its state itself and leaves a notice, as old ones do
    reassign TOPIC-N REPLICAS ... | cancel TOPIC-N... | list
    old-reassign TOPIC-N REPLICAS ...   by /admin/reassign_partitions
    elect preferred|unclean [TOPIC-N...] | old-elect TOPIC-N...
    unclean [TOPIC]                     it is enabled, by default or by the topic
    fail-logs BROKER TOPIC-N... | ids BROKER [EPOCH]
    advance MS | states | marks | notices

What is read is not told. A request to several brokers is told once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster.controller import events
from cluster.controller.events import PREFERRED, UNCLEAN, LeadersElected, Outcome, PartitionResults, ReassignmentsListed
from cluster.controller.settings import Settings, parse_protocol
from cluster.controller.steps import (
    CreateStates,
    GiveTopicIds,
    GiveUpController,
    RemoveDeletionMarks,
    RemoveIsrChanges,
    RemoveLogDirEvents,
    RemovePreferredElection,
    RemoveTopic,
    Send,
    StartChannel,
    Step,
    StopChannel,
    WriteProducerIdBlock,
    WriteReassignments,
    WriteStates,
    WriteTopic,
)
from cluster.effects import CancelTimer, Note, SetTimer
from cluster.metadata import paths
from cluster.metadata.startup import become_controller
from cluster.model import LeaderAndIsr, PartitionAssignment, PutConfig
from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from pylog.types import TopicPartition, topic_partition
from tests.support.controller_driver import Cluster, Seen


class ControllerScript:
    def __init__(self) -> None:
        self.cluster = Cluster()

    def say(self, command: str) -> list[str]:
        verb, *words = command.split()
        answer = getattr(self, "do_" + verb.replace("-", "_"))(*words)
        self.cluster.run()
        lines = _merged(self.cluster.seen)
        self.cluster.seen.clear()
        return [*lines, *(answer or [])] or ["nothing"]

    # Brokers ------------------------------------------------------------------------------------------------------

    def do_protocol(self, version: str) -> None:
        self.cluster.settings = Settings(0, protocol=parse_protocol(version))

    def do_start(self, *brokers: str) -> None:
        for broker in brokers:
            self.cluster.start(int(broker))

    def do_kill(self, broker: str) -> None:
        self.cluster.kill(int(broker))

    def do_expire(self, broker: str) -> None:
        self.cluster.expire(int(broker))

    def do_move(self, broker: str, port: str) -> None:
        self.cluster.move(int(broker), int(port))

    def do_mute(self, broker: str) -> None:
        self.cluster.nodes[int(broker)].answers = False

    def do_unmute(self, broker: str) -> None:
        self.cluster.nodes[int(broker)].answers = True

    def do_die_before(self, broker: str, step: str, count: str = "1") -> None:
        left = int(count)

        def dies(broker_id: int, at: Step) -> bool:
            nonlocal left
            left -= broker_id == int(broker) and type(at).__name__ == step
            return left == 0

        self.cluster.interrupt = dies

    def do_shutdown(self, broker: str, epoch: str | None = None) -> list[str]:
        answer = self.cluster.shut_down(int(broker), None if epoch is None else int(epoch))
        left = " ".join(f"{each.topic_name}-{each.partition_index}" for each in answer.remaining_partitions)
        return [f"answer {ErrorCode(answer.error_code).name} still leads: {left or 'nothing'}"]

    def do_fail_logs(self, broker: str, *partitions: str) -> None:
        self.cluster.fail_logs(int(broker), _partitions(partitions))

    def do_advance(self, ms: str) -> None:
        self.cluster.advance(int(ms))

    # Topics -------------------------------------------------------------------------------------------------------

    def do_create(self, topic: str, *words: str) -> None:
        settings = dict(word.split("=", 1) for word in words if "=" in word)
        self.cluster.create(topic, [_ids(word) for word in words if "=" not in word], **settings)

    def do_no_id(self, topic: str, *replicas: str) -> None:
        self.cluster.create(topic, [_ids(word) for word in replicas], with_id=False)

    def do_first_state(self, name: str, leader: str, isr: str) -> None:
        partition = _partition(name)
        state = LeaderAndIsr(int(leader), 0, _ids(isr), 1)
        for path in (paths.partitions(partition.topic), paths.partition(*partition)):
            if self.cluster.admin.exists(path) is None:
                self.cluster.admin.create(path)
        self.cluster.admin.create(paths.partition_state(*partition), paths.encode_partition_state(state))

    def do_usurp(self, topic: str, *replicas: str) -> None:
        self.do_create(topic, *replicas)
        self.cluster.admin.delete(paths.CONTROLLER)
        become_controller(self.cluster.admin, 99, 0)

    def do_grow(self, topic: str, *replicas: str) -> None:
        self.cluster.grow(topic, [_ids(word) for word in replicas])

    def do_delete(self, *topics: str) -> None:
        self.cluster.delete(*topics)

    def do_config(self, topic: str, *words: str) -> None:
        settings = dict(word.split("=", 1) for word in words)
        self.cluster.write(PutConfig("topics", topic, settings, is_new=False, announce=True))

    # Who leads ----------------------------------------------------------------------------------------------------

    def do_isr(self, broker: str, partition: str, isr: str, *words: str) -> list[str]:
        asked = dict(word.partition("=")[::2] for word in words)
        numbers = {key.replace("-", "_"): int(asked[key]) for key in asked if key.endswith("epoch") or key == "version"}
        topic_id = int(asked["topic-id"]).to_bytes(16, "big") if "topic-id" in asked else None
        answer = self.cluster.alter_partition(
            int(broker),
            {_partition(partition): _ids(isr)},
            version=numbers.pop("version", 3),
            broker_epoch=numbers.pop("broker_epoch", None),
            leader_epoch=numbers.pop("leader_epoch", None),
            partition_epoch=numbers.pop("partition_epoch", None),
            topic_id=topic_id,
            recovering="recovering" in asked,
        )
        if answer is None:
            return ["no answer"]
        if answer.error_code:
            return [f"answer {ErrorCode(answer.error_code).name}"]
        (data,) = answer.topics[0].partitions
        if data.error_code:
            return [f"answer {partition} {ErrorCode(data.error_code).name}"]
        recovering = " recovering" if data.leader_recovery_state else ""
        return [
            f"answer {partition} leader={data.leader_id} epoch={data.leader_epoch} isr={_listed(data.isr)} "
            f"version={data.partition_epoch}{recovering}"
        ]

    def do_write(self, name: str, isr: str) -> None:
        partition = _partition(name)
        state = self.cluster.facts().states[partition]._replace(isr=tuple(_ids(isr)))
        self.cluster.admin.set(paths.partition_state(*partition), paths.encode_partition_state(state))
        notice = paths.IsrChange((tuple(partition),)).encode()
        self.cluster.admin.create(paths.ISR_CHANGE_PREFIX, notice, sequential=True)

    def do_reassign(self, *words: str) -> list[str]:
        return self._reassign({_partition(name): _ids(to) for name, to in zip(words[::2], words[1::2], strict=True)})

    def do_cancel(self, *names: str) -> list[str]:
        return self._reassign(dict.fromkeys(_partitions(names)))

    def _reassign(self, targets: Mapping[TopicPartition, tuple[int, ...] | None]) -> list[str]:
        answer = self.cluster.ask(lambda reply_to: events.ReassignReceived(reply_to, targets))
        if answer is None:
            return ["no answer"]
        assert isinstance(answer, PartitionResults)
        return _outcomes(answer.outcome, answer.partitions)

    def do_list(self, *names: str) -> list[str]:
        asked = _partitions(names) or None
        answer = self.cluster.ask(lambda reply_to: events.ListReassignmentsReceived(reply_to, asked))
        assert isinstance(answer, ReassignmentsListed)
        listed = [f"answer {partition} {_assignment(moving)}" for partition, moving in answer.partitions.items()]
        return listed or ["answer nothing"]

    def do_old_reassign(self, *words: str) -> None:
        moves = tuple((*_partition(name), tuple(_ids(to))) for name, to in zip(words[::2], words[1::2], strict=True))
        self.cluster.admin.create(paths.REASSIGN_PARTITIONS, paths.ReassignPartitions(moves).encode())

    def do_elect(self, how: str, *names: str) -> list[str]:
        asked = _partitions(names) or None
        election_type = {"preferred": PREFERRED, "unclean": UNCLEAN}[how]
        answer = self.cluster.ask(lambda reply_to: events.ElectLeadersReceived(reply_to, asked, election_type))
        assert isinstance(answer, LeadersElected)
        leaders = [f"answer {partition} leader={leader}" for partition, leader in answer.leaders.items()]
        return [*leaders, *_outcomes(answer.outcome, answer.failed)]

    def do_old_elect(self, *names: str) -> None:
        asked = paths.PreferredElection(tuple((each.topic, each.partition) for each in _partitions(names)))
        self.cluster.admin.create(paths.PREFERRED_REPLICA_ELECTION, asked.encode())

    def do_unclean(self, topic: str | None = None) -> None:
        node = self.cluster.controller()
        if topic is not None:
            self.do_config(topic, "unclean.leader.election.enable=true")
            node.queue.append(events.UncleanElectionEnabled(topic))
        else:
            settings = self.cluster.settings._replace(broker_id=node.broker_id, unclean_by_default=True)
            node.queue.append(events.SettingsChanged(settings))

    def do_ids(self, broker: str, epoch: str | None = None) -> list[str]:
        facts = self.cluster.facts()
        known = facts.brokers[int(broker)].epoch if int(broker) in facts.brokers else 0
        request = m.AllocateProducerIdsRequest(
            broker_id=int(broker), broker_epoch=known if epoch is None else int(epoch)
        )
        answer = self.cluster.ask(lambda reply_to: events.AllocateProducerIdsReceived(reply_to, request))
        assert isinstance(answer, m.AllocateProducerIdsResponse)
        if answer.error_code:
            return [f"answer {ErrorCode(answer.error_code).name}"]
        return [f"answer ids {answer.producer_id_start} and {answer.producer_id_len - 1} more"]

    # What stands in the tree --------------------------------------------------------------------------------------

    def do_states(self) -> list[str]:
        facts = self.cluster.facts()
        return [
            f"{TopicPartition(topic.name, index)} {_assignment(part)} "
            + _state(facts.states.get(TopicPartition(topic.name, index)))
            for topic in facts.topics.values()
            for index, part in enumerate(topic.partitions)
        ]

    def do_marks(self) -> list[str]:
        return [f"marked {' '.join(sorted(self.cluster.facts().deleting)) or 'nothing'}"]


# Words into facts -------------------------------------------------------------------------------------------------


def _ids(word: str) -> tuple[int, ...]:
    return tuple(int(each) for each in word.split(",")) if word != "-" else ()


def _partition(name: str) -> TopicPartition:
    found = topic_partition(name)
    assert found is not None, name
    return found


def _partitions(names: Iterable[str]) -> list[TopicPartition]:
    return [_partition(name) for name in names]


# Facts into words -------------------------------------------------------------------------------------------------


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers)) or "-"


def _assignment(assignment: PartitionAssignment) -> str:
    parts = [f"replicas={_listed(assignment.replicas)}"]
    parts += [f"adding={_listed(assignment.adding)}"] if assignment.adding else []
    parts += [f"removing={_listed(assignment.removing)}"] if assignment.removing else []
    return " ".join(parts)


def _state(state: LeaderAndIsr | None) -> str:
    if state is None:
        return "no state"
    version = f" version={state.version}" if state.version >= 0 else ""
    recovering = " recovering" if state.recovering else ""
    return (
        f"leader={state.leader} epoch={state.leader_epoch} isr={_listed(state.isr)} "
        f"controller={state.controller_epoch}{version}{recovering}"
    )


def _outcomes(of_request: Outcome, of_partitions: Mapping[TopicPartition, Outcome]) -> list[str]:
    if of_request.error:
        return [f"answer {of_request.error.name}"]
    return [
        f"answer {partition} {outcome.error.name}" + (f": {outcome.message}" if outcome.message else "")
        for partition, outcome in of_partitions.items()
    ]


def _merged(seen: Iterable[Seen]) -> list[str]:
    """Sends of the same to several brokers, one after the other, become one."""
    told: list[tuple[str, list[int], list[str]]] = []
    for broker_id, step, at_ms in seen:
        if isinstance(step, Send):
            lines = [f"{type(step.message).__name__.removesuffix('Request')} v{step.version}", *_message(step.message)]
            if told and told[-1][0] == f"{broker_id} sends" and told[-1][2] == lines:
                told[-1][1].append(step.broker_id)
            else:
                told.append((f"{broker_id} sends", [step.broker_id], lines))
        else:
            told += [(f"{broker_id} {line}", [], []) for line in _step(step, at_ms)]
    out: list[str] = []
    for head, brokers, lines in told:
        out.append(f"{head} {_listed(brokers)} {lines[0]}" if lines else head)
        out += [f"    {line}" for line in lines[1:]]
    return out


def _message(message: Message) -> list[str]:
    if isinstance(message, m.LeaderAndIsrRequest):
        return [
            f"{topic.topic_name}-{each.partition_index} leader={each.leader} epoch={each.leader_epoch} "
            f"isr={_listed(each.isr)} version={each.partition_epoch} "
            + _assignment(
                PartitionAssignment(tuple(each.replicas), tuple(each.adding_replicas), tuple(each.removing_replicas))
            )
            + (" new" if each.is_new else "")
            + (" recovering" if each.leader_recovery_state else "")
            for topic in message.topic_states
            for each in topic.partition_states
        ]
    if isinstance(message, m.UpdateMetadataRequest):
        return [
            f"alive={_listed(each.id for each in message.live_brokers)}",
            *(
                f"{topic.topic_name}-{each.partition_index} leader={each.leader} epoch={each.leader_epoch} "
                f"isr={_listed(each.isr)}"
                + (f" offline={_listed(each.offline_replicas)}" * bool(each.offline_replicas))
                for topic in message.topic_states
                for each in topic.partition_states
            ),
        ]
    assert isinstance(message, m.StopReplicaRequest)
    return [
        f"{topic.topic_name}-{each.partition_index} epoch={each.leader_epoch}" + " delete" * each.delete_partition
        for topic in message.topic_states
        for each in topic.partition_states
    ]


def _offline(replicas: Iterable[int]) -> str:
    listed = _listed(replicas)
    return "" if listed == "-" else f" offline={listed}"


def _step(step: Step, at_ms: int) -> list[str]:
    if isinstance(step, CreateStates):
        return [f"creates {partition} {_state(state)}" for partition, state in step.states.items()]
    if isinstance(step, WriteStates):
        return [f"writes {partition} {_state(state)}" for partition, state in step.states.items()]
    if isinstance(step, WriteTopic):
        parts = [f"{index}: {_assignment(part)}" for index, part in enumerate(step.description.partitions)]
        return [f"writes topic {step.description.name} {'; '.join(parts)}"]
    if isinstance(step, GiveTopicIds):
        return [f"gives an id to {' '.join(each.name for each in step.descriptions)}"]
    if isinstance(step, RemoveTopic):
        return [f"removes topic {step.name}"]
    if isinstance(step, RemoveDeletionMarks):
        return [f"removes marks of {' '.join(step.names)}"]
    if isinstance(step, RemoveIsrChanges | RemoveLogDirEvents):
        return [f"removes {' '.join(step.names)}"] if step.names else []
    if isinstance(step, WriteReassignments):
        asked = [f"{partition} {_listed(to)}" for partition, to in step.reassignments.items()]
        return [f"writes reassign_partitions {'; '.join(asked) or 'away'}"]
    if isinstance(step, RemovePreferredElection):
        return ["removes preferred_replica_election"]
    if isinstance(step, WriteProducerIdBlock):
        return [f"gives broker {step.broker_id} the ids {step.first} to {step.last} version={step.version}"]
    if isinstance(step, GiveUpController):
        return ["gives up /controller"]
    if isinstance(step, StartChannel):
        (address,) = step.broker.endpoints
        return [f"opens a channel to {step.broker.id} at {address.host}:{address.port}"]
    if isinstance(step, StopChannel):
        return [f"closes the channel to {step.broker_id}"]
    if isinstance(step, SetTimer):
        return [f"timer {step.key} +{step.deadline_ms - at_ms}"]
    if isinstance(step, CancelTimer):
        return [f"cancels {step.key}"]
    if isinstance(step, Note):
        fields = "".join(f" {name}={value}" for name, value in step.fields)
        return [f"{'warns' if step.warning else 'log'}: {step.message}{fields}"]
    return []  # what is read, elected, set up or answered is seen by its consequences

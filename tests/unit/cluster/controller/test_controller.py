"""The controller when it is none, when it fails, when there is much to do. Its ordinary days are in the transcripts."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import pytest

from cluster.controller import events, steps
from cluster.controller.events import (
    Answered,
    Event,
    LeadersElected,
    Outcome,
    PartitionResults,
    ReassignmentsListed,
    SettingsChanged,
    ShuttingDown,
    TopicsChanged,
)
from cluster.controller.image import PartitionState
from cluster.controller.settings import Settings
from cluster.controller.steps import (
    ControllerMoved,
    CreateStates,
    GiveUpController,
    ReadStates,
    Send,
    StartChannel,
    Step,
    StopChannel,
    StoreUnavailable,
    WriteStates,
)
from cluster.controller.term import BALANCE
from cluster.effects import CancelTimer, Note, SetTimer
from cluster.metadata import paths
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from pylog.types import TopicPartition
from tests.support.controller_driver import Cluster

ORDERS = TopicPartition("orders", 0)

ASKED: list[tuple[Callable[[Hashable], Event], object]] = [
    (
        lambda to: events.AlterPartitionReceived(to, 3, m.AlterPartitionRequest()),
        m.AlterPartitionResponse(error_code=int(ErrorCode.NOT_CONTROLLER)),
    ),
    (
        lambda to: events.ControlledShutdownReceived(to, m.ControlledShutdownRequest(broker_id=1)),
        m.ControlledShutdownResponse(error_code=int(ErrorCode.STALE_CONTROLLER_EPOCH)),
    ),
    (
        lambda to: events.AllocateProducerIdsReceived(to, m.AllocateProducerIdsRequest(broker_id=1)),
        m.AllocateProducerIdsResponse(error_code=int(ErrorCode.NOT_CONTROLLER)),
    ),
    (
        lambda to: events.ReassignReceived(to, {ORDERS: (1,)}),
        PartitionResults(Outcome(ErrorCode.NOT_CONTROLLER), {}),
    ),
    (
        lambda to: events.ListReassignmentsReceived(to, None),
        ReassignmentsListed(Outcome(ErrorCode.NOT_CONTROLLER), {}),
    ),
    (
        lambda to: events.ElectLeadersReceived(to, [ORDERS], events.PREFERRED),
        LeadersElected(Outcome(ErrorCode.NOT_CONTROLLER), {}, {ORDERS: Outcome(ErrorCode.NOT_CONTROLLER)}),
    ),
]
NAMES = ["alter-partition", "controlled-shutdown", "producer-ids", "reassign", "list", "elect"]


def started(*brokers: int, settings: Settings | None = None) -> Cluster:
    cluster = Cluster(settings)
    for broker in brokers:
        cluster.start(broker)
    cluster.run()
    return cluster


def taken(cluster: Cluster, *kinds: type) -> list[Step]:
    """The steps of these kinds since the last time."""
    found = [each.step for each in cluster.seen if isinstance(each.step, kinds)]
    cluster.seen.clear()
    return found


def instead(cluster: Cluster, broker: int, kind: type, outcome: object) -> None:
    """The broker's next step of this kind is not done: it raises that, or has that result."""
    node = cluster.nodes[broker]
    ordinary = node.carry_out

    def carry_out(step: Step) -> object:
        if not isinstance(step, kind):
            return ordinary(step)
        node.carry_out = ordinary  # type: ignore[method-assign]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    node.carry_out = carry_out  # type: ignore[method-assign]


def shrink(cluster: Cluster) -> Callable[[Hashable], Event]:
    """Broker 1, which leads, wants to be alone in sync for orders-0."""
    facts = cluster.facts()
    member = m.AlterPartitionRequest.BrokerState(broker_id=1)
    data = m.AlterPartitionRequest.PartitionData(new_isr_with_epochs=[member])
    topic = m.AlterPartitionRequest.TopicData(topic_id=facts.topics["orders"].topic_id, partitions=[data])
    request = m.AlterPartitionRequest(broker_id=1, broker_epoch=facts.brokers[1].epoch, topics=[topic])
    return lambda to: events.AlterPartitionReceived(to, 3, request)


# ------------------------------------------------------------------------------------------------ not the controller


@pytest.mark.parametrize(("make", "answer"), ASKED, ids=NAMES)
def test_another_broker_says_that_it_is_not_the_controller(make: Callable[[Hashable], Event], answer: object) -> None:
    cluster = started(1, 2)
    assert cluster.ask(make, 2) == answer


def test_another_broker_does_nothing() -> None:
    cluster = started(1, 2)
    cluster.seen.clear()
    for event in (TopicsChanged(), events.BrokersChanged(), events.TimerFired(BALANCE), events.DeletionsChanged()):
        cluster.nodes[2].queue.append(event)
    cluster.run()
    assert not cluster.seen


# ------------------------------------------------------------------------------------------------ the end of a term


def test_a_controller_that_was_replaced_says_so_and_knows_nothing_more() -> None:
    cluster = started(1, 2)
    cluster.create("orders", [(1, 2)])
    cluster.run()
    taken(cluster)
    instead(cluster, 1, WriteStates, ControllerMoved())
    answer = cluster.ask(shrink(cluster), 1)
    assert answer == m.AlterPartitionResponse(error_code=int(ErrorCode.NOT_CONTROLLER))
    assert not cluster.nodes[1].machine.is_active
    assert taken(cluster, StopChannel, CancelTimer) == [StopChannel(1), StopChannel(2), CancelTimer(BALANCE)]


def test_a_session_that_ends_in_the_middle() -> None:
    cluster = started(1, 2)
    cluster.create("orders", [(1, 2)])
    cluster.run()
    instead(cluster, 1, WriteStates, StoreUnavailable())
    answer = cluster.ask(shrink(cluster), 1)
    assert answer == m.AlterPartitionResponse(error_code=int(ErrorCode.NOT_CONTROLLER))
    machine = cluster.nodes[1].machine
    assert not machine.is_active and machine.active_id == -1
    cluster.kill(1)
    cluster.run()
    assert cluster.nodes[2].machine.is_active and cluster.facts().controller_epoch == 2


def test_a_session_that_ends_while_the_return_of_a_broker_is_told() -> None:
    """The channel to that one is stopped with the others, though it is in no image just then."""
    cluster = started(1, 2)
    cluster.create("orders", [(2, 1)])
    cluster.run()
    taken(cluster)
    instead(cluster, 1, WriteStates, StoreUnavailable())
    cluster.expire(2)
    cluster.run()
    channels = taken(cluster, StartChannel, StopChannel)
    assert [type(step) for step in channels] == [StopChannel, StartChannel, StopChannel, StopChannel]
    assert channels[2:] == [StopChannel(1), StopChannel(2)]
    assert not cluster.nodes[1].channels


def test_a_machine_that_fails_gives_up_and_another_begins_from_the_tree() -> None:
    cluster = started(1, 2)
    cluster.create("orders", [(1, 2)])
    cluster.run()
    taken(cluster)
    instead(cluster, 1, WriteStates, "no result of this step")
    with pytest.raises(AttributeError):
        cluster.ask(shrink(cluster), 1)
    assert cluster.replies[1] == m.AlterPartitionResponse(error_code=int(ErrorCode.UNKNOWN_SERVER_ERROR))
    assert taken(cluster, GiveUpController) == [GiveUpController(1)]
    cluster.run()
    assert [node.machine.is_active for node in cluster.nodes.values()].count(True) == 1
    assert cluster.facts().controller_epoch == 2


def test_a_machine_that_fails_after_it_was_replaced() -> None:
    cluster = started(1, 2)
    instead(cluster, 1, steps.ReadTopicNames, ["a topic", None])
    cluster.nodes[1].queue.append(TopicsChanged())
    cluster.admin.set(paths.CONTROLLER_EPOCH, b"7")
    with pytest.raises(TypeError):
        cluster.run()
    assert not cluster.nodes[1].machine.is_active
    assert cluster.admin.exists(paths.CONTROLLER) is not None, "it is not its own any more"


def test_a_step_that_cannot_be_done_at_all() -> None:
    """The driver drops the run; the request it was for is answered with whatever comes next."""
    cluster = started(1)
    cluster.create("orders", [(1,)])
    cluster.run()
    node = cluster.nodes[1]
    request = m.AllocateProducerIdsRequest(broker_id=1, broker_epoch=cluster.facts().brokers[1].epoch)
    run = node.machine.handle(events.AllocateProducerIdsReceived("asked", request), 0)
    assert next(run) == steps.ReadProducerIdBlock()
    node.queue.append(events.SessionExpired())
    cluster.run()
    assert cluster.replies["asked"] == m.AllocateProducerIdsResponse(error_code=int(ErrorCode.UNKNOWN_SERVER_ERROR))
    assert not node.machine.is_active


def test_a_controller_that_stops() -> None:
    cluster = started(1, 2)
    taken(cluster)
    cluster.nodes[1].queue.append(ShuttingDown())
    cluster.run()
    assert taken(cluster, StopChannel, CancelTimer) == [StopChannel(1), StopChannel(2), CancelTimer(BALANCE)]


def test_a_node_of_an_earlier_session_is_waited_for() -> None:
    """A broker that restarts finds /controller with its own id, made by the session that it had before."""
    cluster = Cluster()
    old = cluster.tree.connect()
    old.create(paths.CONTROLLER, paths.ControllerNode(1, 0).encode(), ephemeral=True)
    node = cluster.start(1)
    cluster.run()
    assert not node.machine.is_active and node.machine.active_id == 1
    old.close()
    cluster.run()
    assert node.machine.is_active


# ------------------------------------------------------------------------------------------------ others who write


def test_a_write_whose_answer_was_lost_counts_as_done() -> None:
    cluster = started(1, 2)
    cluster.create("orders", [(1, 2)])
    cluster.run()
    state = cluster.facts().states[ORDERS]
    done = state._replace(isr=(1,))
    cluster.admin.set(paths.partition_state(*ORDERS), paths.encode_partition_state(done))
    answer = cluster.ask(shrink(cluster), 1)
    assert isinstance(answer, m.AlterPartitionResponse)
    (data,) = answer.topics[0].partitions
    assert (data.error_code, data.isr, data.partition_epoch) == (0, [1], 1)


def test_a_state_that_somebody_else_wrote() -> None:
    cluster = started(1, 2, 3)
    cluster.create("orders", [(1, 2, 3)])
    cluster.run()
    state = cluster.facts().states[ORDERS]
    other = state._replace(isr=(1, 3))
    cluster.admin.set(paths.partition_state(*ORDERS), paths.encode_partition_state(other))
    answer = cluster.ask(shrink(cluster), 1)
    assert isinstance(answer, m.AlterPartitionResponse)
    assert answer.topics[0].partitions[0].error_code == ErrorCode.INVALID_UPDATE_VERSION
    cluster.admin.set(paths.partition_state(*ORDERS), paths.encode_partition_state(other))
    taken(cluster)
    cluster.kill(3)
    cluster.run()
    first, read, second = taken(cluster, WriteStates, ReadStates)
    assert isinstance(first, WriteStates) and isinstance(read, ReadStates) and isinstance(second, WriteStates)
    assert first.states[ORDERS].version == 1 and second.states[ORDERS].version == 2
    assert cluster.facts().states[ORDERS].isr == (1,)


def test_a_state_of_a_newer_controller_is_left_alone() -> None:
    cluster = started(1, 2)
    cluster.create("orders", [(1, 2)])
    cluster.run()
    newer = cluster.facts().states[ORDERS]._replace(controller_epoch=9)
    cluster.admin.set(paths.partition_state(*ORDERS), paths.encode_partition_state(newer))
    cluster.kill(2)
    cluster.run()
    assert cluster.facts().states[ORDERS] == newer._replace(version=1)


# ------------------------------------------------------------------------------------------------ answers, settings


def test_answers_of_an_earlier_life_say_nothing() -> None:
    cluster = started(1, 2)
    cluster.create("orders", [(2, 1)])
    cluster.run()
    sent = next(
        step
        for step in taken(cluster, Send)
        if isinstance(step, Send) and step.broker_id == 2 and isinstance(step.message, m.LeaderAndIsrRequest)
    )
    failed = m.LeaderAndIsrResponse.LeaderAndIsrPartitionError(
        partition_index=0, error_code=int(ErrorCode.KAFKA_STORAGE_ERROR)
    )
    topic_id = cluster.facts().topics["orders"].topic_id
    answer = m.LeaderAndIsrResponse(
        topics=[m.LeaderAndIsrResponse.LeaderAndIsrTopicError(topic_id=topic_id, partition_errors=[failed])]
    )
    cluster.expire(2)
    cluster.run()
    before = cluster.facts().states[ORDERS]
    cluster.nodes[1].queue.append(Answered(2, sent.message, answer))
    cluster.run()
    assert cluster.facts().states[ORDERS] == before
    term = cluster.nodes[1].machine.term
    assert term is not None and not term.image.offline_dirs


def test_a_broker_that_refuses_a_request_is_written_to_the_log() -> None:
    cluster = started(1)
    (sent,) = taken(cluster, Send)
    assert isinstance(sent, Send)
    refused = m.UpdateMetadataResponse(error_code=int(ErrorCode.STALE_CONTROLLER_EPOCH))
    cluster.nodes[1].queue.append(Answered(1, sent.message, refused))
    cluster.run()
    (note,) = taken(cluster, Note)
    assert isinstance(note, Note) and note.warning and ("error", "STALE_CONTROLLER_EPOCH") in note.fields


def test_balance_is_switched() -> None:
    cluster = started(1, settings=Settings(0, balance=False))
    assert not taken(cluster, SetTimer)
    node = cluster.nodes[1]
    node.queue.append(SettingsChanged(Settings(1, balance=True)))
    cluster.run()
    assert taken(cluster, SetTimer) == [SetTimer(BALANCE, 5_000)]
    node.queue.append(SettingsChanged(Settings(1, balance=False)))
    cluster.run()
    assert taken(cluster, CancelTimer) == [CancelTimer(BALANCE)]


def test_deletion_is_disabled() -> None:
    cluster = started(1, settings=Settings(0, delete_topics=False))
    cluster.create("orders", [(1,)])
    cluster.delete("orders")
    cluster.run()
    assert not cluster.facts().deleting and "orders" in cluster.facts().topics
    cluster.kill(1)
    cluster.delete("orders")
    cluster.start(1)
    cluster.run()
    assert not cluster.facts().deleting and "orders" in cluster.facts().topics


def test_a_topic_that_somebody_took_out_of_the_tree() -> None:
    cluster = started(1)
    cluster.create("orders", [(1,)])
    cluster.run()
    for path in (paths.partition_state(*ORDERS), paths.partition(*ORDERS), paths.partitions("orders")):
        cluster.admin.delete(path)
    cluster.admin.delete(paths.topic("orders"))
    cluster.run()
    term = cluster.nodes[1].machine.term
    assert term is not None and not term.image.topics and not term.image.partition_states
    cluster.admin.delete(paths.config("topics", "orders"))
    cluster.create("orders", [(1,)])
    cluster.run()
    assert cluster.facts().states[ORDERS].leader == 1
    assert term.image.partition_states == {ORDERS: PartitionState.ONLINE}


# ------------------------------------------------------------------------------------------------ much to do


def test_a_thousand_partitions_are_one_write() -> None:
    """What a controller asks of the store and of brokers does not grow with the number of partitions."""
    cluster = started(1, 2, 3)
    taken(cluster)
    cluster.create("many", [(1 + index % 3, 1 + (index + 1) % 3, 1 + (index + 2) % 3) for index in range(1000)])
    cluster.run()
    assert len(taken(cluster, CreateStates, WriteStates, ReadStates, Send)) == 1 + 2 * 3
    cluster.kill(3)
    cluster.run()
    assert len(taken(cluster, CreateStates, WriteStates, ReadStates, Send)) == 2 + 2 * 2 * 2
    cluster.kill(1)
    cluster.run()
    done = taken(cluster, CreateStates, WriteStates, ReadStates, Send)
    assert len([step for step in done if not isinstance(step, Send)]) == 3
    assert {state.leader for state in cluster.facts().states.values()} == {2}


def test_nobody_reads_what_is_known() -> None:
    """States are read again only by controllers of brokers that write them themselves."""
    cluster = started(1, 2, settings=Settings(0, protocol=(2, 6, 0)))
    cluster.create("orders", [(1, 2)], with_id=False)
    cluster.run()
    taken(cluster)
    cluster.kill(2)
    cluster.run()
    assert taken(cluster, ReadStates) == [ReadStates([ORDERS])]

"""Whatever happens to a cluster, in whichever order: what is always true of its states, and that all gets well again.

After every event: a partition has one leader in an epoch, its leader is in sync, who is in sync has a replica, epochs
and versions rise, one broker is the controller and knows what stands in the tree. At the end, when all brokers are back
and all replicas have caught up: every partition is led, nothing is left half done, every broker was told what is true.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.controller import events, steps
from cluster.controller.settings import Settings
from cluster.controller.steps import Step
from cluster.effects import Note, Reply
from cluster.metadata import paths
from cluster.metadata.store import NodeExists
from cluster.model import LeaderAndIsr
from cluster.protocol import messages as m
from pylog.types import TopicPartition
from tests.support.controller_driver import Cluster

BROKERS = (1, 2, 3, 4)
TOPICS = ("a", "b", "c")
brokers = st.sampled_from(BROKERS)
topics = st.sampled_from(TOPICS)
replicas = st.lists(brokers, min_size=1, max_size=3, unique=True)
numbers = st.integers(0, 10)
_SILENT = (Note, Reply, steps.ReadStates, steps.ReadController, steps.ReadBrokers)


class ControllerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster()
        self.leaders: dict[tuple[int, int, int], int] = {}
        self.newest: dict[tuple[int, int], LeaderAndIsr] = {}
        self.lost_requests = False

    @initialize(count=st.integers(1, 4), old=st.booleans())
    def first(self, count: int, old: bool) -> None:
        """`old`: brokers of protocol 2.6, whose leaders write their states themselves."""
        if old:
            self.cluster.settings = Settings(0, protocol=(2, 6, 0))
        for broker in BROKERS[:count]:
            self.cluster.start(broker)
        self.cluster.run()

    # What may happen ----------------------------------------------------------------------------------------------

    def up(self) -> list[int]:
        return [node.broker_id for node in self.cluster.nodes.values() if node.is_up]

    def partitions(self) -> list[TopicPartition]:
        return sorted(self.cluster.facts().states)

    @rule(broker=brokers)
    def start(self, broker: int) -> None:
        if broker not in self.up():
            self.cluster.start(broker)
        self.cluster.run()

    @precondition(lambda self: self.up())
    @rule(number=numbers)
    def kill(self, number: int) -> None:
        up = self.up()
        self.lost_requests = True
        self.cluster.kill(up[number % len(up)])
        self.cluster.run()

    @precondition(lambda self: self.up())
    @rule(number=numbers)
    def expire(self, number: int) -> None:
        up = self.up()
        self.lost_requests = True
        self.cluster.expire(up[number % len(up)])
        self.cluster.run()

    @rule(broker=brokers, answers=st.booleans())
    def mute(self, broker: int, answers: bool) -> None:
        if broker in self.cluster.nodes:
            self.cluster.nodes[broker].answers = answers
        self.cluster.run()

    @rule(count=st.integers(1, 40))
    def die_soon(self, count: int) -> None:
        """A controller's broker dies before its n-th step that anybody could notice."""
        left = count
        self.lost_requests = True

        def dies(_: int, step: Step) -> bool:
            nonlocal left
            left -= not isinstance(step, _SILENT)
            return left <= 0

        self.cluster.interrupt = dies

    @rule(topic=topics, assignment=st.lists(replicas, min_size=1, max_size=3), unclean=st.booleans())
    def create(self, topic: str, assignment: list[list[int]], unclean: bool) -> None:
        if topic not in self.cluster.facts().topics and topic not in self.cluster.facts().deleting:
            key = "unclean.leader.election.enable"
            self.cluster.create(topic, assignment, **({key: "true"} if unclean else {}))
        self.cluster.run()

    @rule(topic=topics, assignment=replicas)
    def grow(self, topic: str, assignment: list[int]) -> None:
        if topic in self.cluster.facts().topics:
            self.cluster.grow(topic, [assignment])
        self.cluster.run()

    @rule(topic=topics)
    def delete(self, topic: str) -> None:
        self.cluster.delete(topic)
        self.cluster.run()

    @precondition(lambda self: self.has_controller() and self.partitions())
    @rule(number=numbers, other=brokers, joins=st.booleans())
    def change_isr(self, number: int, other: int, joins: bool) -> None:
        """Asked for by the leader, if there is one and it lives."""
        partitions = self.partitions()
        partition = partitions[number % len(partitions)]
        facts = self.cluster.facts()
        state = facts.states[partition]
        if state.leader not in self.up():
            return
        assignment = facts.topics[partition.topic].partitions[partition.partition]
        isr = [each for each in state.isr if each != other or each == state.leader]
        if joins and other in assignment.replicas and other in self.up():
            isr = [*isr, *([other] if other not in isr else [])]
        self.ask_for_isr(partition, isr)

    def ask_for_isr(self, partition: TopicPartition, isr: list[int]) -> None:
        state = self.cluster.facts().states[partition]
        if self.cluster.settings.has_alter_partition:
            self.cluster.alter_partition(state.leader, {partition: isr})
        elif tuple(isr) != state.isr:
            data = paths.encode_partition_state(state._replace(isr=tuple(isr)))
            self.cluster.admin.set(paths.partition_state(*partition), data)
            notice = paths.IsrChange((tuple(partition),)).encode()
            self.cluster.admin.create(paths.ISR_CHANGE_PREFIX, notice, sequential=True)
            self.cluster.run()

    @precondition(lambda self: self.has_controller() and self.partitions())
    @rule(number=numbers, wanted=st.none() | replicas)
    def reassign(self, number: int, wanted: list[int] | None) -> None:
        partitions = self.partitions()
        partition = partitions[number % len(partitions)]
        to = None if wanted is None else tuple(wanted)
        self.cluster.ask(lambda reply_to: events.ReassignReceived(reply_to, {partition: to}))

    @precondition(lambda self: self.partitions())
    @rule(number=numbers, wanted=replicas)
    def reassign_by_znode(self, number: int, wanted: list[int]) -> None:
        partitions = self.partitions()
        asked = paths.ReassignPartitions(((*partitions[number % len(partitions)], tuple(wanted)),))
        try:
            self.cluster.admin.create(paths.REASSIGN_PARTITIONS, asked.encode())
        except NodeExists:
            pass
        self.cluster.run()

    @precondition(lambda self: self.has_controller())
    @rule(election_type=st.sampled_from([events.PREFERRED, events.UNCLEAN]))
    def elect(self, election_type: int) -> None:
        self.cluster.ask(lambda reply_to: events.ElectLeadersReceived(reply_to, None, election_type))

    @precondition(lambda self: self.has_controller())
    @rule(number=numbers)
    def shut_down(self, number: int) -> None:
        up = self.up()
        broker = up[number % len(up)]
        request = m.ControlledShutdownRequest(broker_id=broker, broker_epoch=self.cluster.facts().brokers[broker].epoch)
        self.cluster.ask(lambda reply_to: events.ControlledShutdownReceived(reply_to, request))

    @precondition(lambda self: self.up() and self.partitions())
    @rule(number=numbers, other=numbers)
    def fail_logs(self, number: int, other: int) -> None:
        up, partitions = self.up(), self.partitions()
        self.cluster.fail_logs(up[number % len(up)], [partitions[other % len(partitions)]])
        self.cluster.run()

    @rule()
    def wait(self) -> None:
        self.cluster.advance(300_000)
        self.cluster.run()

    # What stays true ----------------------------------------------------------------------------------------------

    def has_controller(self) -> bool:
        return self.cluster.admin.exists(paths.CONTROLLER) is not None and bool(self.up())

    @invariant()
    def states_are_sound(self) -> None:
        facts = self.cluster.facts()
        for partition, state in facts.states.items():
            topic = facts.topics[partition.topic]
            of = (self.cluster.admin.get(paths.topic(partition.topic))[1].czxid, partition.partition)
            assert state.isr and len(set(state.isr)) == len(state.isr), (partition, state)
            assert set(state.isr) <= set(topic.partitions[partition.partition].replicas), (partition, state)
            assert state.leader == -1 or state.leader in state.isr, (partition, state)
            if state.leader != -1:
                assert self.leaders.setdefault((*of, state.leader_epoch), state.leader) == state.leader
            before = self.newest.get(of)
            if before is not None and before != state:
                assert state.leader_epoch >= before.leader_epoch, (partition, before, state)
                assert state.controller_epoch >= before.controller_epoch, (partition, before, state)
                assert state.version > before.version, (partition, before, state)
            self.newest[of] = state

    @invariant()
    def one_controller_knows_the_tree(self) -> None:
        active = [node for node in self.cluster.nodes.values() if node.is_up and node.machine.is_active]
        assert len(active) == bool(self.up())
        facts = self.cluster.facts()
        for node in active:
            assert node.machine.term is not None
            image = node.machine.term.image
            assert node is self.cluster.controller() and image.epoch == facts.controller_epoch
            assert {each: _plain(state) for each, state in image.leadership.items()} == {
                each: _plain(state) for each, state in facts.states.items()
            }
            assert {name: image.describe_topic(name) for name in image.topics} == facts.topics
            assert image.deleting == facts.deleting

    # All gets well again ------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        cluster = self.cluster
        cluster.interrupt = None
        for node in cluster.nodes.values():
            node.answers = True
        cluster.run()
        for broker in BROKERS:
            node = cluster.nodes.get(broker)
            if node is not None and node.is_up and (node.failed_logs or self.is_shutting_down(broker)):
                cluster.kill(broker)
                cluster.run()
            if broker not in self.up():
                cluster.start(broker)
                cluster.run()
        self.catch_up()
        self.states_are_sound()
        self.one_controller_knows_the_tree()
        facts = cluster.facts()
        assert not facts.deleting
        for partition, state in facts.states.items():
            assignment = facts.topics[partition.topic].partitions[partition.partition]
            assert not assignment.is_reassigning, (partition, assignment)
            assert state.leader in assignment.replicas and set(state.isr) == set(assignment.replicas), partition
        assert set(facts.states) == {
            TopicPartition(topic.name, index)
            for topic in facts.topics.values()
            for index in range(len(topic.partitions))
        }
        for broker in BROKERS:
            self.was_told(broker)

    def is_shutting_down(self, broker: int) -> bool:
        term = self.cluster.controller().machine.term
        return term is not None and broker not in term.image.live

    def catch_up(self) -> None:
        """Every leader lets all replicas into its ISR; a reassignment goes on at that."""
        for partition in self.partitions():
            facts = self.cluster.facts()
            if partition not in facts.states:  # its deletion waited for nothing but another one's reassignment
                continue
            state = facts.states[partition]
            assert state.leader != -1, (partition, state)
            members = facts.topics[partition.topic].partitions[partition.partition].replicas
            missing = [each for each in members if each not in state.isr]
            self.ask_for_isr(partition, [*state.isr, *missing])

    def was_told(self, broker: int) -> None:
        """The last word it had about each partition, and about each replica of its own."""
        facts = self.cluster.facts()
        metadata: dict[TopicPartition, tuple[int, int, list[int]]] = {}
        hosted: dict[TopicPartition, tuple[int, int]] = {}
        for message in self.cluster.nodes[broker].told:
            if isinstance(message, m.UpdateMetadataRequest):
                for topic in message.topic_states:
                    for each in topic.partition_states:
                        partition = TopicPartition(topic.topic_name, each.partition_index)
                        metadata[partition] = (each.leader, each.leader_epoch, each.isr)
                        if each.leader == -2:
                            del metadata[partition]
            elif isinstance(message, m.LeaderAndIsrRequest):
                for asked in message.topic_states:
                    for told in asked.partition_states:
                        hosted[TopicPartition(asked.topic_name, told.partition_index)] = (
                            told.leader,
                            told.leader_epoch,
                        )
            elif isinstance(message, m.StopReplicaRequest):
                for stopped in message.topic_states:
                    for one in stopped.partition_states:
                        hosted.pop(TopicPartition(stopped.topic_name, one.partition_index), None)
        assert metadata == {
            each: (state.leader, state.leader_epoch, list(state.isr)) for each, state in facts.states.items()
        }
        own = {
            each: (state.leader, state.leader_epoch)
            for each, state in facts.states.items()
            if broker in facts.topics[each.topic].partitions[each.partition].replicas
        }
        assert own.items() <= hosted.items()
        # As with Kafka, nobody repeats a StopReplica that was lost with the controller, or with the broker's session.
        assert hosted == own or self.lost_requests


def _plain(state: LeaderAndIsr) -> LeaderAndIsr:
    """Without the epoch of the controller that wrote it, which the image does not keep where it left a state alone."""
    return state._replace(controller_epoch=0)


TestControllerMachine = ControllerMachine.TestCase
TestControllerMachine.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)

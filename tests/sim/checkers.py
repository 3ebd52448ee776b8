"""What always holds, whatever happens: one function for each invariant, asked after every event that may touch it.

What stays true here: `committed` says of each partition what anybody has ever seen below a high watermark, batch by
batch; what may be lost is taken out of it only for a reason that Kafka 3.9 allows, which is written down:
- an unclean election, where the topic or an administrator allows it;
- the only replica in sync lost bytes that were not flushed when its machine went (KIP-966 is of later versions);
- the machine of one in sync went and came back while the controller failed over, so that nobody noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cluster.metadata import paths
from cluster.metadata.store import NoNode
from cluster.model import LeaderAndIsr, PartitionAssignment
from pylog._engine import ROLE_LEADER, PartitionState
from pylog.types import TopicPartition
from tests.sim.replica import Batch, Replica
from tests.sim.world import Process, Violation

if TYPE_CHECKING:
    from tests.sim.broker import SimBroker
    from tests.sim.cluster import SimCluster


FAR = 1 << 62


class Known(NamedTuple):
    """A partition of one incarnation of a topic."""

    name: TopicPartition
    topic_id: bytes


class Lost(NamedTuple):
    """A replica that lost what was not flushed: where it ended then and before, and who was the controller."""

    end: int
    had: int
    controller_epoch: int


class History:
    """What is known of one partition."""

    __slots__ = (
        "acked",
        "committed",
        "excused_epoch",
        "excused_from",
        "forked",
        "leaders",
        "state",
        "unclean_allowed",
        "watermark",
    )

    def __init__(self) -> None:
        self.committed: dict[int, Batch] = {}  # by base offset
        self.acked: dict[int, int] = {}  # base offset → crc, of acks=all
        self.leaders: dict[int, int] = {}  # leader epoch → broker
        self.state: LeaderAndIsr | None = None
        self.watermark: dict[tuple[int, Process], int] = {}  # leader epoch, and which life of its leader → the highest
        self.unclean_allowed = False
        self.excused_from = FAR  # what is lost from here on, of epochs before the next, was lost for a reason
        self.excused_epoch = -1
        self.forked = False
        """Nobody can tell any more where logs part, with Kafka neither: see `fork`."""

    def is_excused(self, offset: int, epoch: int) -> bool:
        return offset >= self.excused_from and epoch < self.excused_epoch


class Checkers:
    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._touched: dict[tuple[int, TopicPartition], tuple[SimBroker, Replica]] = {}
        self._took_up: list[tuple[SimBroker, TopicPartition, Replica, PartitionState]] = []
        self._zxid = 0
        self._controller_epoch = 0
        self._topics: dict[str, tuple[bytes, tuple[PartitionAssignment, ...]]] = {}
        self.histories: dict[Known, History] = {}
        self.lost_suffix: dict[tuple[int, Known], Lost] = {}  # by broker
        self.numbered: set[int] = set()
        """CRCs of batches that have a sequence: each of them once in a log, however often it was sent."""
        self.losses = 0
        self.forks = 0
        self.elections = 0
        self.after_state: list[Callable[[TopicPartition, LeaderAndIsr | None, LeaderAndIsr], None]] = []
        """Told of each state that the tree has for a partition, and of the one before."""
        cluster.world.after_event.append(self.after_event)

    # ------------------------------------------------------------------ what is told

    def history(self, name: TopicPartition, topic_id: bytes) -> History:
        known = Known(name, topic_id)
        found = self.histories.get(known)
        if found is None:
            found = self.histories[known] = History()
        return found

    def touched(self, broker: SimBroker, name: TopicPartition, replica: Replica) -> None:
        """Its log or its high watermark may be another."""
        self._touched[broker.broker_id, name] = (broker, replica)

    def took_up(self, broker: SimBroker, name: TopicPartition, replica: Replica, state: PartitionState) -> None:
        """It leads or follows in another leader epoch."""
        self._took_up.append((broker, name, replica, state))

    def acknowledged(self, name: TopicPartition, topic_id: bytes, base_offset: int, epoch: int, crc: int) -> None:
        """With acks=all, by the leader of this epoch."""
        history = self.history(name, topic_id)
        if history.forked or history.is_excused(base_offset, epoch):
            return
        history.acked[base_offset] = crc
        known = history.committed.get(base_offset)
        if known is not None and known.crc != crc:
            self._fail(f"{name}: acknowledged at {base_offset}, where another batch is committed")

    def lost_bytes(self, broker_id: int, name: TopicPartition, topic_id: bytes, had: int, end: int) -> None:
        """A machine went, and its log ends here now."""
        key = (broker_id, Known(name, topic_id))
        known = self.lost_suffix.get(key)
        if known is None or end < known.end:
            epoch = self._controller_epoch if known is None else known.controller_epoch
            self.lost_suffix[key] = Lost(end, had if known is None else max(had, known.had), epoch)

    def fork(self, name: TopicPartition, topic_id: bytes) -> None:
        """A leader lost bytes and leads on in its epoch, for no controller has noticed; or a machine lost bytes in the
        middle of a log, of a segment that was full but not yet flushed, and kept what came later. The epochs of records
        do not tell then who has what; Kafka 3.9 has no more."""
        self.forks += 1
        self.history(name, topic_id).forked = True

    def served(self, broker: SimBroker, name: TopicPartition, asked_epoch: int, own_epoch: int) -> None:
        """A leader has answered a follower's fetch, and counts it."""
        if asked_epoch != own_epoch:
            self._fail(f"{name}: {broker.broker_id} in epoch {own_epoch} served a fetch of epoch {asked_epoch}")

    def allow_unclean(self, name: TopicPartition, topic_id: bytes) -> None:
        self.history(name, topic_id).unclean_allowed = True

    def _fail(self, what: str) -> None:
        raise Violation(what)

    # ------------------------------------------------------------------ after every event

    def after_event(self) -> None:
        zxid = self._cluster.ensemble.zxid()
        if zxid != self._zxid:
            self._check_tree()
            self._zxid = zxid
        if self._took_up:
            took_up, self._took_up = self._took_up, []
            for each in took_up:
                self._check_new_epoch(*each)
        if self._touched:
            touched, self._touched = self._touched, {}
            for (_, name), (broker, replica) in touched.items():
                if broker.process.alive and name in broker.site.replicas and broker.site.replicas[name] is replica:
                    self._check_replica(broker, name, replica)

    # ------------------------------------------------------------------ the tree

    def _check_tree(self) -> None:
        tree = self._cluster.ensemble.admin
        nodes = tree._tree._nodes
        for path in [path for path, node in nodes.items() if node.mzxid > self._zxid]:
            if path == paths.CONTROLLER_EPOCH:
                self._controller_epoch_rises(paths.decode_controller_epoch(nodes[path].data))
            elif path.startswith(f"{paths.TOPICS}/") and path.count("/") == 3:
                self._topic_written(path.rpartition("/")[2], nodes[path].data)
        for path in [path for path, node in nodes.items() if node.mzxid > self._zxid and path.endswith("/state")]:
            parts = path.split("/")
            state = paths.decode_partition_state(nodes[path].data, nodes[path].version)
            self._state_written(TopicPartition(parts[3], int(parts[5])), state)

    def _controller_epoch_rises(self, epoch: int) -> None:
        if epoch <= self._controller_epoch:
            self._fail(f"controller epoch {epoch} after {self._controller_epoch}")
        self._controller_epoch = epoch

    def _topic_written(self, name: str, data: bytes | None) -> None:
        topic = paths.decode_topic(name, data)
        before = self._topics.get(name)
        if before is not None and before[0] == topic.topic_id and len(topic.partitions) < len(before[1]):
            self._fail(f"{name} lost partitions")
        self._topics[name] = (topic.topic_id, topic.partitions)

    def _state_written(self, name: TopicPartition, state: LeaderAndIsr) -> None:
        topic_id, partitions = self._topics[name.topic]
        history = self.history(name, topic_id)
        before, history.state = history.state, state
        self._world.say("tree", str(name), f"leader {state.leader} epoch {state.leader_epoch} isr {state.isr}")
        self._isr_is_of_replicas(name, before, state, partitions[name.partition])
        self._state_rises(name, before, state)
        if before is not None:
            self._leader_was_in_sync(name, history, before, state)
        self._note_last_replica(name, topic_id, history, state)
        for each in self.after_state:
            each(name, before, state)

    def _isr_is_of_replicas(
        self, name: TopicPartition, before: LeaderAndIsr | None, state: LeaderAndIsr, assignment: PartitionAssignment
    ) -> None:
        """Those whose reassignment is cancelled leave one after another, as Kafka's controller has them."""
        if not state.isr or len(set(state.isr)) != len(state.isr):
            self._fail(f"{name}: ISR {state.isr}")
        others = set(state.isr) - set(assignment.replicas)
        others_before = set() if before is None else set(before.isr) - set(assignment.replicas)
        if others and not others < others_before:
            self._fail(f"{name}: ISR {state.isr} of replicas {assignment.replicas}")
        if state.leader not in (-1, *state.isr):
            self._fail(f"{name}: leader {state.leader} is not in ISR {state.isr}")

    def _state_rises(self, name: TopicPartition, before: LeaderAndIsr | None, state: LeaderAndIsr) -> None:
        if before is None:
            return
        if state.version <= before.version or state.leader_epoch < before.leader_epoch:
            self._fail(f"{name}: {state} after {before}")
        if state.controller_epoch < before.controller_epoch:
            self._fail(f"{name}: written by an older controller: {state} after {before}")
        if state.leader != before.leader and state.leader_epoch == before.leader_epoch:
            self._fail(f"{name}: another leader in the same epoch: {state} after {before}")
        self.elections += state.leader != before.leader

    def _leader_was_in_sync(
        self, name: TopicPartition, history: History, before: LeaderAndIsr, state: LeaderAndIsr
    ) -> None:
        if state.leader in (-1, before.leader) or state.leader in before.isr:
            return
        if not history.unclean_allowed:
            self._fail(f"{name}: unclean election: {state} after {before}")
        self._world.say("checkers", "unclean election of", name, state)
        self._excuse(history, 0, state.leader_epoch)

    def _note_last_replica(self, name: TopicPartition, topic_id: bytes, history: History, state: LeaderAndIsr) -> None:
        """Whoever is alone in sync and has lost what was not flushed has lost it for all."""
        if len(state.isr) == 1:
            lost = self.lost_suffix.get((state.isr[0], Known(name, topic_id)))
            if lost is not None:
                self._world.say("checkers", "lost with the machine of the last replica:", name, "from", lost.end)
                self._excuse(history, lost.end, state.leader_epoch)

    def _excuse(self, history: History, start: int, epoch: int) -> None:
        """What is above is forgotten until a leader of this epoch or a later one commits it anew."""
        self.losses += 1
        history.excused_from = min(start, history.excused_from)
        history.excused_epoch = epoch
        for base in [base for base, batch in history.committed.items() if batch.last_offset >= start]:
            del history.committed[base]
        for base in [base for base in history.acked if base >= start]:
            del history.acked[base]
        for site in self._cluster.sites.values():
            for replica in site.replicas.values():
                replica.checked_end = 0

    # ------------------------------------------------------------------ leaders and followers

    def _check_new_epoch(
        self, broker: SimBroker, name: TopicPartition, replica: Replica, state: PartitionState
    ) -> None:
        if state.role != ROLE_LEADER:
            return
        history = self.history(name, replica.topic_id)
        if history.forked:
            return
        other = history.leaders.setdefault(state.leader_epoch, broker.broker_id)
        if other != broker.broker_id:
            self._fail(f"{name}: {other} and {broker.broker_id} lead in epoch {state.leader_epoch}")
        known = history.state
        if known is None or known.leader_epoch != state.leader_epoch:
            return
        lost = self.lost_suffix.pop((broker.broker_id, Known(name, replica.topic_id)), None)
        if lost is not None and lost.controller_epoch != self._controller_epoch:
            self._world.say("checkers", "went and came back unnoticed:", name, broker.broker_id, lost)
            self.fork(name, replica.topic_id)
            return
        self._has_all_acknowledged(broker, name, replica, history)

    def _has_all_acknowledged(
        self, broker: SimBroker, name: TopicPartition, replica: Replica, history: History
    ) -> None:
        """The newest leader has what was acknowledged with acks=all."""
        info = replica.info()
        found = {each.base_offset: each for each in replica.batches(info.log_start, info.log_end)}
        for base, crc in history.acked.items():
            if base >= info.log_start and (base not in found or found[base].crc != crc):
                self._fail(
                    f"{name}: {broker.broker_id} leads in epoch {info.leader_epoch} without the record at {base}"
                )

    def _check_replica(self, broker: SimBroker, name: TopicPartition, replica: Replica) -> None:
        info = replica.info()
        history = self.history(name, replica.topic_id)
        if history.forked:
            return
        if not info.log_start <= info.high_watermark <= info.log_end:
            self._fail(f"{name} on {broker.broker_id}: {info}")
        if info.role == ROLE_LEADER:
            self._watermark_rises(name, history, (info.leader_epoch, broker.process), info.high_watermark)
            self._isr_has_what_is_committed(replica, name, history, info.leader_epoch, info.high_watermark)
        self._agrees_with_committed(broker, name, replica, history, info.log_start, info.high_watermark)
        key = (broker.broker_id, Known(name, replica.topic_id))
        if key in self.lost_suffix and history.state is not None and broker.broker_id not in history.state.isr:
            del self.lost_suffix[key]  # it is on its way back, like anybody

    def _watermark_rises(
        self, name: TopicPartition, history: History, leader: tuple[int, Process], high_watermark: int
    ) -> None:
        """While one leads. After a restart in the same epoch it begins with what was checkpointed, as with Kafka."""
        before = history.watermark.get(leader, 0)
        if high_watermark < before:
            self._fail(f"{name}: high watermark {high_watermark} after {before} in epoch {leader[0]}")
        history.watermark[leader] = high_watermark

    def _isr_has_what_is_committed(
        self, leader: Replica, name: TopicPartition, history: History, epoch: int, high_watermark: int
    ) -> None:
        """Whoever leads, or believes to in an older epoch: everybody whom the tree has in sync has all that is below
        its high watermark. But for those whom a reassignment takes away, once the leader is told of replicas without
        them: that is before they leave the ISR, and it does not wait for them from then on, as with Kafka."""
        state = history.state
        if state is None or state.leader_epoch < epoch:
            return
        for broker_id in state.isr:
            if broker_id not in leader.told_replicas:
                continue
            replica = self._cluster.sites[broker_id].replicas.get(name)
            if replica is None or replica.directory in self._cluster.sites[broker_id].failed_directories:
                continue
            key = (broker_id, Known(name, replica.topic_id))
            end = replica.info().log_end
            if key in self.lost_suffix and end >= self.lost_suffix[key].had:
                del self.lost_suffix[key]
            if end < high_watermark and key not in self.lost_suffix and not history.is_excused(end, epoch - 1):
                self._fail(f"{name}: {high_watermark} is committed, {broker_id} in ISR {state.isr} ends at {end}")

    def _agrees_with_committed(
        self,
        broker: SimBroker,
        name: TopicPartition,
        replica: Replica,
        history: History,
        log_start: int,
        high_watermark: int,
    ) -> None:
        """Any two replicas have the same below both high watermarks: what was ever seen there."""
        start = max(log_start, min(replica.checked_end, high_watermark))
        if broker.data_plane.role(name) != ROLE_LEADER:
            high_watermark = min(high_watermark, history.excused_from)  # it may not have been cut yet
        if start >= high_watermark:
            return
        for batch in replica.batches(start, high_watermark):
            if history.is_excused(batch.base_offset, replica.info().leader_epoch):
                return  # a leader that has not heard yet
            if batch.last_offset >= high_watermark:
                break
            known = history.committed.setdefault(batch.base_offset, batch)
            if known != batch:
                self._fail(f"{name}: {broker.broker_id} has {batch} where {known} is committed")
        replica.checked_end = high_watermark

    # ------------------------------------------------------------------ consumers

    def consumed(self, name: TopicPartition, topic_id: bytes, batch: Batch, start: int) -> None:
        """What a consumer has read is what is committed there."""
        history = self.history(name, topic_id)
        known = history.committed.get(batch.base_offset)
        if history.forked or history.is_excused(batch.base_offset, batch.leader_epoch) or batch.base_offset < start:
            return
        if known is not None and known != batch:
            self._fail(f"{name}: a consumer read {batch} where {known} is committed")

    def out_of_range(self, name: TopicPartition, topic_id: bytes, offset: int) -> None:
        """A consumer that has read up to here was told that there is no such place."""
        history = self.history(name, topic_id)
        if not history.forked and offset <= history.excused_from:
            self._fail(f"{name}: a consumer at {offset} is out of range")

    # ------------------------------------------------------------------ in the end

    def unsettled(self) -> str | None:
        """Why the cluster is not at rest; None: it is."""
        cluster = self._cluster
        tree = cluster.ensemble.admin
        try:
            controller = paths.ControllerNode.decode(tree.get(paths.CONTROLLER)[0]).broker_id
        except NoNode:
            return "nobody is the controller"
        active = [
            each for each, life in cluster.lives.items() if life.process.alive and life.controller.machine.is_active
        ]
        if active != [controller]:
            return f"{controller} is the controller, {active} act as one"
        if tree.children(paths.DELETE_TOPICS):
            return f"not deleted: {tree.children(paths.DELETE_TOPICS)}"
        for topic in tree.children(paths.TOPICS):
            description = paths.decode_topic(topic, tree.get(paths.topic(topic))[0])
            for index, assignment in enumerate(description.partitions):
                name = TopicPartition(topic, index)
                if self.history(name, description.topic_id).forked:
                    continue
                why = self._partition_unsettled(name, description.topic_id, assignment)
                if why is not None:
                    return f"{topic}-{index}: {why}"
        return None

    def _partition_unsettled(
        self, name: TopicPartition, topic_id: bytes, assignment: PartitionAssignment
    ) -> str | None:
        cluster = self._cluster
        if assignment.is_reassigning:
            return f"still reassigned: {assignment}"
        try:
            state = paths.decode_partition_state(cluster.ensemble.admin.get(paths.partition_state(*name))[0], 0)
        except NoNode:
            return "it has no state"
        if state.leader < 0 or set(state.isr) != set(assignment.replicas):
            return f"{state} of {assignment.replicas}"
        led = cluster.sites[state.leader].replicas.get(name)
        if led is None:
            return f"{state}, and the leader has no log"
        leader = led.info()
        if leader.role != ROLE_LEADER or leader.leader_epoch != state.leader_epoch:
            return f"{state}, but {leader}"
        for broker_id in assignment.replicas:
            replica = cluster.sites[broker_id].replicas.get(name)
            if replica is None or replica.topic_id != topic_id:
                return f"{broker_id} has no log"
            info = replica.info()
            if (info.log_end, info.high_watermark) != (leader.log_end, leader.log_end):
                return f"{broker_id} has {info}, the leader {leader}"
        for broker_id, life in cluster.lives.items():
            shown = life.metadata.partition(*name)
            if shown is None or (shown.leader, shown.leader_epoch) != (state.leader, state.leader_epoch):
                return f"{broker_id} shows {shown}, not {state}"
        return None

    def all_is_there(self) -> None:
        """At the end, on the leader of each partition: what was acknowledged, and what consumers saw."""
        cluster = self._cluster
        tree = cluster.ensemble.admin
        for topic in tree.children(paths.TOPICS):
            description = paths.decode_topic(topic, tree.get(paths.topic(topic))[0])
            for index in range(len(description.partitions)):
                name = TopicPartition(topic, index)
                history = self.history(name, description.topic_id)
                assert history.state is not None
                if history.forked:
                    continue
                leader = cluster.lives[history.state.leader]
                replica = cluster.sites[history.state.leader].replicas[name]
                self._has_all_acknowledged(leader, name, replica, history)
                start = replica.info().log_start
                batches = replica.batches(start, replica.info().log_end)
                self._nothing_is_there_twice(name, batches)
                found = {each.base_offset: each for each in batches}
                for base, batch in history.committed.items():
                    if base >= start and found.get(base) != batch:
                        self._fail(f"{name}: {batch} was committed, {found.get(base)} is there")

    def _nothing_is_there_twice(self, name: TopicPartition, batches: Sequence[Batch]) -> None:
        """Of what idempotent producers sent, whoever led in between."""
        at: dict[int, int] = {}
        for batch in batches:
            if batch.crc in self.numbered and at.setdefault(batch.crc, batch.base_offset) != batch.base_offset:
                self._fail(f"{name}: an idempotent producer's batch is at {at[batch.crc]} and at {batch.base_offset}")

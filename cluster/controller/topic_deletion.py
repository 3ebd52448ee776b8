"""Topics on their way out.

What stays true: a topic whose mark is in the tree goes, sooner or later: its replicas go offline, are told to delete
their logs, and when all of them have said that they did, the tree forgets it. While a replica of it is not online, or
one of its partitions is being reassigned, it waits; it goes on when the broker is back or the reassignment is over.
Brokers stop to serve it when its deletion begins."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.controller.batch import RequestBatch
from cluster.controller.image import Image, PartitionState, Replicas, ReplicaState
from cluster.controller.partition_states import PartitionStates
from cluster.controller.replica_states import ReplicaStates
from cluster.controller.steps import RemoveDeletionMarks, RemoveTopic, Run
from cluster.effects import Note


class TopicDeletion:
    __slots__ = ("_batch", "_image", "_partitions", "_replicas")

    def __init__(self, image: Image, batch: RequestBatch, partitions: PartitionStates, replicas: ReplicaStates) -> None:
        self._image = image
        self._batch = batch
        self._partitions = partitions
        self._replicas = replicas

    def begin(self, marked: Iterable[str]) -> Run[None]:
        """After an election: these are marked. Nothing is done yet; `resume` does."""
        image = self._image
        marks = set(marked)
        if not image.settings.delete_topics:
            yield from self._unmark(marks)
            return
        for topic in sorted(marks - image.topics.keys()):  # a deletion that was cut short at its end
            yield RemoveTopic(image.fence, topic)
        image.deleting = marks & image.topics.keys()
        waiting = {partition.topic for partition in image.reassigning}
        for topic in image.deleting:
            if topic in waiting or any(self._split(topic)[1].values()):
                image.undeletable.add(topic)

    def enqueue(self, marked: Iterable[str]) -> Run[None]:
        """These are marked now, some of them since before. Marks of topics that are not there are taken away."""
        image = self._image
        marks = set(marked)
        strangers = marks - image.topics.keys()
        if not image.settings.delete_topics:
            strangers = marks
        yield from self._unmark(strangers)
        new = marks - strangers - image.deleting
        if new:
            image.deleting |= new
            self.hold({partition.topic for partition in image.reassigning} & new)
            yield from self.resume(new)

    def hold(self, topics: Iterable[str]) -> None:
        """They wait, as far as they are marked."""
        self._image.undeletable |= self._image.deleting.intersection(topics)

    def resume_for(self, topics: Iterable[str]) -> Run[None]:
        """A broker is back, or a reassignment over: those go on that have no (other) reassignment to wait for."""
        image = self._image
        ready = image.deleting.intersection(topics) - {partition.topic for partition in image.reassigning}
        if ready:
            image.undeletable -= ready
            yield from self.resume(ready)

    def failed(self, replicas: Replicas) -> Run[None]:
        """Replicas that could not be deleted now: their broker went, or said so."""
        of_marked = self._of_marked(replicas)
        if of_marked:
            yield from self._replicas.move(of_marked, ReplicaState.DELETION_INELIGIBLE)
            self.hold(_topics(of_marked))
            yield from self.resume(_topics(of_marked))

    def completed(self, replicas: Replicas) -> Run[None]:
        """Replicas whose broker says that they are gone."""
        of_marked = self._of_marked(replicas)
        yield from self._replicas.move(of_marked, ReplicaState.DELETION_SUCCESSFUL)
        yield from self.resume(_topics(of_marked))

    def resume(self, topics: Iterable[str]) -> Run[None]:
        """Something changed for these: finish those without replicas, begin those that need not wait (any more)."""
        image = self._image
        again: Replicas = {}
        ready: list[str] = []
        for topic in sorted(topics):
            if image.are_all_in(topic, ReplicaState.DELETION_SUCCESSFUL):
                yield from self._complete(topic)
            elif not image.is_any_in(topic, ReplicaState.DELETION_STARTED):
                for broker_id, partitions in image.replicas_in(topic, ReplicaState.DELETION_INELIGIBLE).items():
                    again.setdefault(broker_id, []).extend(partitions)
                if topic not in image.undeletable:
                    ready.append(topic)
        if again:
            yield from self._replicas.move(again, ReplicaState.OFFLINE)
        if ready:
            yield from self._delete(ready)

    # ------------------------------------------------------------------ in steps

    def _unmark(self, topics: set[str]) -> Run[None]:
        if topics:
            names = sorted(topics)
            yield Note(
                "Controller", "Topics are not deleted: they are not there, or it is disabled", (("topics", names),)
            )
            yield RemoveDeletionMarks(self._image.fence, names)

    def _of_marked(self, replicas: Replicas) -> Replicas:
        found: Replicas = {}
        for broker_id, partitions in replicas.items():
            there = [partition for partition in partitions if partition.topic in self._image.deleting]
            if there:
                found[broker_id] = there
        return found

    def _split(self, topic: str) -> tuple[Replicas, Replicas]:
        """The topic's replicas: online, and not."""
        image = self._image
        online: Replicas = {}
        offline: Replicas = {}
        for broker_id, partitions in image.replicas_of(image.topics[topic]).items():
            for partition in partitions:
                chosen = online if image.is_online(broker_id, partition) else offline
                chosen.setdefault(broker_id, []).append(partition)
        return online, offline

    def _delete(self, topics: list[str]) -> Run[None]:
        image = self._image
        unseen = [topic for topic in topics if topic not in image.deletion_begun]
        partitions = image.partitions_of(unseen)
        yield from self._partitions.move(partitions, PartitionState.OFFLINE)
        yield from self._partitions.move(partitions, PartitionState.NON_EXISTENT)
        image.deletion_begun.update(unseen)
        yield Note("Controller", "Topics are being deleted", (("topics", topics),))
        self._batch.add_update_metadata(image.brokers, image.partitions_of(topics))
        yield from self._batch.send()
        dead: Replicas = {}
        going: Replicas = {}
        for topic in topics:
            online, offline = self._split(topic)
            deleted = image.replicas_in(topic, ReplicaState.DELETION_SUCCESSFUL)
            for broker_id, there in online.items():
                gone = set(deleted.get(broker_id, ()))
                going.setdefault(broker_id, []).extend(each for each in there if each not in gone)
            for broker_id, there in offline.items():
                dead.setdefault(broker_id, []).extend(there)
            if offline:
                image.undeletable.add(topic)
        yield from self._replicas.move(dead, ReplicaState.DELETION_INELIGIBLE)
        yield from self._replicas.move(going, ReplicaState.OFFLINE)
        yield from self._replicas.move(going, ReplicaState.DELETION_STARTED)

    def _complete(self, topic: str) -> Run[None]:
        image = self._image
        yield from self._replicas.move(
            image.replicas_in(topic, ReplicaState.DELETION_SUCCESSFUL), ReplicaState.NON_EXISTENT
        )
        yield RemoveTopic(image.fence, topic)
        image.remove_topic(topic)
        yield Note("Controller", "Topic is deleted", (("topic", topic),))


def _topics(replicas: Replicas) -> set[str]:
    return {partition.topic for partitions in replicas.values() for partition in partitions}

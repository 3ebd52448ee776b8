"""A consumer in the simulator, whatever protocol its group speaks: where it begins to read, and what it commits.

What stays true: it has one request out at a time. It reads from what is committed, and commits what it has read before
it asks for anything else; whatever it is told or acknowledged stands in the books.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from cluster.protocol import messages as m
from cluster.protocol.message import Message
from tests.sim.group_caller import Caller
from tests.sim.group_host import TOPIC, GroupHost
from tests.sim.world import Violation, World

HEARTBEAT_MS = 1_500


class Books:
    """What all members were told. `owners`: by life of the group, epoch or generation, and partition; `acknowledged`:
    by partition, the newest commit that was answered. `aborted`: transactions."""

    def __init__(self) -> None:
        self.owners: dict[tuple[int, int, int], str] = {}
        self.acknowledged: dict[int, int] = {}
        self.aborted: set[str] = set()

    def owns(self, who: str, life: int, epoch: int, partitions: list[int]) -> None:
        for partition in partitions:
            owner = self.owners.setdefault((life, epoch, partition), who)
            if owner != who:
                raise Violation(f"{TOPIC}-{partition} in generation {epoch} is both {owner}'s and {who}'s")

    def commits(self, partition: int, offset: int) -> None:
        self.acknowledged[partition] = max(self.acknowledged.get(partition, 0), offset)

    def reads(self, who: str, partition: int, offset: int, transaction: str, acknowledged: int) -> None:
        """`acknowledged`: when it asked. `transaction`: in which the offset says that it was committed."""
        if transaction in self.aborted:
            raise Violation(f"{who} is told {offset} of {TOPIC}-{partition}, of the aborted transaction {transaction}")
        if offset < acknowledged:
            raise Violation(f"{who} is told {offset} of {TOPIC}-{partition}, where {acknowledged} was acknowledged")


class Consumer(Caller, ABC):
    """One life of a process. `instance`: its group.instance.id; another life may have had it before. `epoch`: its
    generation or member epoch; below 1: it has none. `positions`: by partition that it owns."""

    fetch_version: ClassVar[int]
    commit_version: ClassVar[int]

    def __init__(
        self, name: str, world: World, host: GroupHost, books: Books, instance: str | None, loss: float
    ) -> None:
        super().__init__(name, world, host, loss)
        self.instance = instance
        self.epoch = 0
        self.positions: dict[int, int] = {}
        self.is_fenced = False
        self._books = books

    @property
    @abstractmethod
    def member_id(self) -> str: ...

    @property
    @abstractmethod
    def is_settled(self) -> bool:
        """It has what it is to have, as far as it knows."""

    @abstractmethod
    def leave(self) -> None:
        """It stops, as one does that is told to; nobody waits for the answer."""

    @abstractmethod
    def _beat(self) -> None: ...

    @abstractmethod
    def _refused(self, code: int) -> None: ...

    @abstractmethod
    def _cannot_fetch(self, code: int, again: Callable[[], None]) -> None: ...

    @abstractmethod
    def _cannot_commit(self, code: int, again: Callable[[], None], then: Callable[[], None]) -> None: ...

    def _asked_of(self, topics: list[m.OffsetFetchRequest.OffsetFetchRequestTopics]) -> m.OffsetFetchRequest:
        group = m.OffsetFetchRequest.OffsetFetchRequestGroup(group_id="g", topics=topics)
        return m.OffsetFetchRequest(groups=[group], require_stable=True)

    def _owns(self, partitions: list[int]) -> None:
        self._world.say(self.name, "owns", self.epoch, partitions)
        self._books.owns(self.instance or self.name, self.life, self.epoch, partitions)

    def _stop(self) -> None:
        self._world.say(self.name, "leaves")
        self.positions.clear()
        self.process.alive = False

    # Offsets ------------------------------------------------------------------------------------------------------

    def _fetch(self, partitions: list[int], then: Callable[[], None]) -> None:
        """Where to begin with these."""
        asked = m.OffsetFetchRequest.OffsetFetchRequestTopics(name=TOPIC, partition_indexes=partitions)
        before = dict(self._books.acknowledged)

        def fetched(answer: Message) -> None:
            assert isinstance(answer, m.OffsetFetchResponse)
            found = [each for topic in answer.groups[0].topics for each in topic.partitions]
            codes = {answer.groups[0].error_code, *(each.error_code for each in found)} - {0}
            if codes:
                self._cannot_fetch(codes.pop(), lambda: self._fetch(partitions, then))
                return
            for each in found:
                offset = max(each.committed_offset, 0)
                told = before.get(each.partition_index, 0)
                self._books.reads(self.name, each.partition_index, offset, each.metadata or "", told)
                self.positions[each.partition_index] = offset
            then()

        self._ask(self._asked_of([asked] if partitions else []), self.fetch_version, fetched)

    def _read(self) -> None:
        """Some records more of each partition; then they are committed."""
        for partition in self.positions:
            self.positions[partition] += self._world.between(0, 5)
        if self.positions:
            self._commit(dict(self.positions), self._beat)
        else:
            self._beat()

    def _commit(self, offsets: dict[int, int], then: Callable[[], None]) -> None:
        entry = m.OffsetCommitRequest.OffsetCommitRequestPartition
        topic = m.OffsetCommitRequest.OffsetCommitRequestTopic(
            name=TOPIC,
            partitions=[entry(partition_index=each, committed_offset=offset) for each, offset in offsets.items()],
        )
        request = m.OffsetCommitRequest(
            group_id="g",
            generation_id_or_member_epoch=self.epoch,
            member_id=self.member_id,
            group_instance_id=self.instance,
            topics=[topic],
        )

        def committed(answer: Message) -> None:
            assert isinstance(answer, m.OffsetCommitResponse)
            code = answer.topics[0].partitions[0].error_code
            if code:
                self._cannot_commit(code, lambda: self._commit(offsets, then), then)
                return
            for partition, offset in offsets.items():
                self._books.commits(partition, offset)
            then()

        self._ask(request, self.commit_version, committed)

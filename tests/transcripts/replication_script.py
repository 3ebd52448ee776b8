"""Speaks the commands of the replication transcripts to a leader and a follower, and tells what they ask of the world.

As the broker 1, of topic partitions orders-N, with a controller:

    lead N ISR [epoch=E/P]         the controller says so: leader epoch E (5), partition epoch P (7)
    behind N BROKER... | caught-up N BROKER...   what the data plane tells of one turn; the others have everything
    silent N BROKER...             they have not fetched since we lead, and are told to be behind
    cease N | alive BROKER | dead BROKER
    answer [CODE [N...]]           the controller makes the change, or says the error of all, or of some
    refuse CODE | no-answer        of the whole request

As a follower:

    log N END HIGH-WATERMARK [EPOCH@START...]
    follow N LEADER EPOCH | stop N
    diverging N EPOCH@END | out-of-range N | fenced N | passing N CODE
    told OFFSET | not-told CODE    the leader, about the offset it was asked for
    broker ID [HOST:PORT]          where it is; without: nobody knows

Both: advance MS. Partition N of a follower is the data plane's number 70 + N.
"""

from __future__ import annotations

from cluster.broker.isr_keeper import PublishedIsr
from cluster.broker.leader_offsets import OffsetAnswer
from cluster.broker.replicator import Followed
from cluster.replication.follower import LATEST
from cluster.replication.isr import LedPartition
from cluster.replication.truncation import EpochEnd
from pylog.errors import ErrorCode
from pylog.types import TopicPartition
from tests.support.follower_world import NONE, FollowerWorld, PlayedLog
from tests.support.leader_world import BEHIND, IDS, LeaderWorld, Replica

NUMBER = 70
FETCHER = 1


class ReplicationScript:
    def __init__(self) -> None:
        self.leader = LeaderWorld()
        self.follower = FollowerWorld()
        self.follower.logs.clear()
        self.asked_before = 0
        self.questions_before = 0
        self.epochs: dict[str, int] = {}

    def say(self, command: str) -> list[str]:
        verb, *words = command.split()
        getattr(self, "do_" + verb.replace("-", "_"))(*words)
        self.leader.turn()
        self.follower.turn()
        return [*self.tell_leader(), *self.tell_follower()] or ["nothing"]

    # What a leader hears ----------------------------------------------------------------------------------------------

    def do_lead(self, index: str, isr: str, epochs: str = "epoch=5/7") -> None:
        leader_epoch, partition_epoch = map(int, epochs.removeprefix("epoch=").split("/"))
        partition = orders(index)
        state = LedPartition(partition, IDS["orders"], leader_epoch, partition_epoch, numbers(isr))
        published = self.leader.keeper.lead(state)
        if published is not None:
            self.leader.published.append((partition, published))

    def do_cease(self, index: str) -> None:
        self.leader.keeper.cease(orders(index))

    def do_behind(self, index: str, *brokers: str) -> None:
        self.tell(index, *(Replica(int(each), log_end=0, lag_ms=BEHIND) for each in brokers))

    def do_silent(self, index: str, *brokers: str) -> None:
        self.tell(index, *(Replica(int(each), log_end=-1, lag_ms=-1) for each in brokers))
        for each in brokers:
            self.leader.keeper.upcall(orders(index), int(each), False)

    def do_caught_up(self, index: str, *brokers: str) -> None:
        self.tell(index, *(Replica(int(each), joining=1) for each in brokers))

    def tell(self, index: str, *replicas: Replica) -> None:
        self.leader.tell(orders(index), *replicas)

    def do_alive(self, broker: str) -> None:
        self.leader.alive.add(int(broker))
        self.leader.keeper.brokers_changed()

    def do_dead(self, broker: str) -> None:
        self.leader.alive.discard(int(broker))
        self.leader.keeper.brokers_changed()

    def do_answer(self, code: str = "NONE", *indexes: str) -> None:
        self.leader.answer(error=int(ErrorCode[code]), of={int(each) for each in indexes} or None)

    def do_refuse(self, code: str) -> None:
        self.leader.answer(top=int(ErrorCode[code]))

    def do_no_answer(self) -> None:
        self.leader.answer(silence=True)

    # What a follower hears --------------------------------------------------------------------------------------------

    def do_log(self, index: str, end: str, high_watermark: str, *epochs: str) -> None:
        begun = [(epoch_end(each).epoch, epoch_end(each).end_offset) for each in epochs]
        self.follower.logs[orders(index)] = PlayedLog(int(end), int(high_watermark), begun)

    def do_follow(self, index: str, leader: str, leader_epoch: str) -> None:
        self.epochs[index] = int(leader_epoch)
        wanted = Followed(int(leader), int(leader_epoch), NUMBER + int(index))
        self.follower.replicator.follow({orders(index): wanted})

    def do_stop(self, index: str) -> None:
        self.follower.replicator.stop([orders(index)])

    def do_diverging(self, index: str, where: str) -> None:
        self.told(index, 0, epoch_end(where))

    def do_out_of_range(self, index: str) -> None:
        self.told(index, int(ErrorCode.OFFSET_OUT_OF_RANGE))

    def do_fenced(self, index: str) -> None:
        self.told(index, int(ErrorCode.FENCED_LEADER_EPOCH))

    def do_passing(self, index: str, code: str) -> None:
        self.told(index, int(ErrorCode[code]), paused=False)

    def told(self, index: str, error: int, diverging: EpochEnd = NONE, paused: bool = True) -> None:
        """By the fetcher that has it, in the leader epoch in which it has it."""
        number = NUMBER + int(index)
        fetcher = self.follower.fetching.get(number, FETCHER)
        if paused:
            self.follower.fetching.pop(number, None)
        epoch = self.epochs[index]
        self.follower.replicator.told_partition(number, fetcher, epoch, error, paused, diverging)

    def do_told(self, offset: str) -> None:
        self.answer(OffsetAnswer(0, int(offset)))

    def do_not_told(self, code: str) -> None:
        self.answer(OffsetAnswer(int(ErrorCode[code]), -1))

    def answer(self, answer: OffsetAnswer) -> None:
        _, on_answer = self.follower.questions.pop()
        self.questions_before = len(self.follower.questions)
        on_answer(answer)

    def do_broker(self, broker: str, place: str = "") -> None:
        self.follower.places.pop(int(broker), None)
        if place:
            host, port = place.split(":")
            self.follower.places[int(broker)] = (host, int(port))
        self.follower.replicator.brokers_changed()

    def do_advance(self, ms: str) -> None:
        self.leader.turn(int(ms))
        self.follower.turn(int(ms))

    # What they do about it --------------------------------------------------------------------------------------------

    def tell_leader(self) -> list[str]:
        lines = [f"publish {partition}: {isr_text(isr)}" for partition, isr in self.leader.published]
        self.leader.published.clear()
        if self.leader.sent > self.asked_before:
            self.asked_before = self.leader.sent
            asked = self.leader.asked()
            lines.append("ask " + ", ".join(f"{each}: {comma(isr)}" for each, isr in asked.items()))
        return lines

    def tell_follower(self) -> list[str]:
        lines = []
        for partition, log in self.follower.logs.items():
            lines += [f"{change} {partition}" for change in log.changes]
            log.changes.clear()
        for question, _ in self.follower.questions[self.questions_before :]:
            kind = "end" if question.timestamp == LATEST else "start"
            lines.append(f"ask {question.host}:{question.port} for the {kind} of {question.partition}")
        self.questions_before = len(self.follower.questions)
        return lines + self.follower.heard()


def orders(index: str) -> TopicPartition:
    return TopicPartition("orders", int(index))


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(","))


def comma(isr: tuple[int, ...]) -> str:
    return ",".join(map(str, isr))


def isr_text(isr: PublishedIsr) -> str:
    return f"isr {comma(isr.isr)}" + (f" joining {comma(isr.joining)}" if isr.joining else "")


def epoch_end(text: str) -> EpochEnd:
    epoch, _, offset = text.partition("@")
    return EpochEnd(int(epoch), int(offset))

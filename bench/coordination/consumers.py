"""Members of groups of the consumer protocol (KIP-848), as bytes: heartbeats, and commits with a member epoch.

What stays true: a member asks again at once as long as something is to be told or done, as a client does, and not when
its interval is over: what is measured is the coordinator, not the interval. It says all when it joins, and then what
has changed since it last said it, as Java's consumer and librdkafka do.
"""

import itertools
import os
import struct
import time

from bench.coordination.groups import expect
from bench.coordination.swarm import PATIENCE_S, Line, Swarm

_COMMIT, _HEARTBEAT = 8, 68
_COMMIT_VERSION, _HEARTBEAT_VERSION = 9, 1
_REBALANCE_MS = 120_000
_LEAVING_EPOCH = -1
_NULL = b"\0"
_NOTHING_NEW = struct.pack(">bbi", 0, 0, -1) + _NULL * 3  # instance, rack, timeout; topics, regex, assignor
_UNCHANGED = _NOTHING_NEW + _NULL * 2  # partitions, tags
_UUID_BYTES = 16
_rounds = itertools.count(1)

Owned = dict[bytes, tuple[int, ...]]
"""Partitions by topic id."""


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def _string(text: str) -> bytes:
    data = text.encode()
    return _varint(len(data) + 1) + data


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def take(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def varint(self) -> int:
        shift = number = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def bytes(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def skip_string(self) -> None:
        self.bytes(max(0, self.varint() - 1))


class Consumer:
    """`settled`: it has what it was told to have, and the coordinator knows."""

    def __init__(self, line: Line, group: str, topic: str) -> None:
        self.line = line
        self.group = group
        self.member_id = f"{group}-{line.number}"
        self.epoch = 0
        self.owned: Owned = {}
        self.settled = False
        self._told: Owned = {}  # what it has said that it owns
        self._topic = topic

    def share(self) -> int:
        return sum(map(len, self.owned.values()))

    def _who(self) -> bytes:
        return _string(self.group) + _string(self.member_id) + struct.pack(">i", self.epoch)

    def heartbeat(self) -> None:
        body = self.steady_body()
        if self.epoch == 0:
            subscription = struct.pack(">bbi", 0, 0, _REBALANCE_MS) + _varint(2) + _string(self._topic) + _NULL * 2
            body = self._who() + subscription + _varint(1) + _NULL
        elif self.owned != self._told:
            body = self._who() + _NOTHING_NEW + _varint(len(self.owned) + 1)
            for topic_id, partitions in self.owned.items():
                body += topic_id + _varint(len(partitions) + 1) + struct.pack(f">{len(partitions)}i", *partitions)
                body += _NULL
            body += _NULL
        self._told = self.owned
        self.line.send(_HEARTBEAT, _HEARTBEAT_VERSION, body, flexible=True)

    def steady_body(self) -> bytes:
        """Of a heartbeat that says nothing but that it lives."""
        return self._who() + _UNCHANGED

    def leave(self) -> None:
        self.epoch, self.owned = _LEAVING_EPOCH, {}
        self.line.send(_HEARTBEAT, _HEARTBEAT_VERSION, self.steady_body(), flexible=True)

    def heard(self) -> None:
        told = _Reader(self.line.answer, 1)
        told.take(">i")
        expect(told.take(">h"), 0, "ConsumerGroupHeartbeat")
        told.skip_string()
        told.skip_string()
        epoch = told.take(">i")
        told.take(">i")
        owned = self.owned if told.take(">b") < 0 else _assignment(told)
        self.settled = self.epoch == epoch and self.owned == owned and bool(owned)
        self.epoch, self.owned = epoch, owned

    def commit_body(self, topic: str, partition: int, offset: int) -> bytes:
        entry = struct.pack(">iqi", partition, offset, -1) + _string("") + _NULL
        topics = _varint(2) + _string(topic) + _varint(2) + entry + _NULL
        who = _string(self.group) + struct.pack(">i", self.epoch) + _string(self.member_id)
        return who + _NULL + topics + _NULL


def _assignment(told: _Reader) -> Owned:
    owned: Owned = {}
    for _ in range(told.varint() - 1):
        topic_id = told.bytes(_UUID_BYTES)
        owned[topic_id] = tuple(told.take(">i") for _ in range(told.varint() - 1))
        told.varint()
    return owned


def form(swarm: Swarm, topic: str, partitions: int, groups: int, each: int) -> list[Consumer]:
    """New groups on a topic, all members of which join at once; each has its share of the partitions afterwards."""
    shares = (partitions // each, -(-partitions // each))
    name = f"c{os.getpid()}-{next(_rounds)}"  # groups of an earlier process still have their members
    members = [Consumer(line, f"{name}-{line.number // each}", topic) for line in swarm.lines[: groups * each]]
    unsettled = members
    deadline = time.monotonic() + PATIENCE_S
    while unsettled:
        for member in unsettled:
            member.heartbeat()
        swarm.wait(member.line for member in unsettled)
        for member in unsettled:
            member.heard()
        moving = [member for member in unsettled if not member.settled or member.share() not in shares]
        unsettled = moving or (members if len(unsettled) < len(members) else [])  # all of them hear the last epoch
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(unsettled)} members have not found their partitions within {PATIENCE_S:.0f} s")
    return members


def heartbeats(swarm: Swarm, members: list[Consumer], count: int) -> None:
    def check(answer: bytes) -> None:
        expect(struct.unpack_from(">5xh", answer)[0], 0, "ConsumerGroupHeartbeat")

    bodies = [member.steady_body() for member in members]
    swarm.pump(_HEARTBEAT, _HEARTBEAT_VERSION, bodies, count, check, flexible=True)


def commits(swarm: Swarm, members: list[Consumer], topic: str, count: int) -> None:
    def check(answer: bytes) -> None:
        expect(struct.unpack_from(">h", answer, len(answer) - 5)[0], 0, "OffsetCommit")

    bodies = [member.commit_body(topic, member.line.number % 10, member.line.number) for member in members]
    swarm.pump(_COMMIT, _COMMIT_VERSION, bodies, count, check, flexible=True)


def rebalance(swarm: Swarm, members: list[Consumer], newcomer: Consumer) -> float:
    """Seconds until a newcomer and all the others have what they are to have and are in one epoch."""
    start = time.monotonic()
    _move_on(swarm, [*members, newcomer], max(member.epoch for member in members))
    return time.monotonic() - start


def part(swarm: Swarm, members: list[Consumer], leaver: Consumer) -> float:
    """The same for those who stay when somebody leaves."""
    start = time.monotonic()
    leaver.leave()
    swarm.wait([leaver.line])
    leaver.heard()
    _move_on(swarm, members, max(member.epoch for member in members))
    return time.monotonic() - start


def _move_on(swarm: Swarm, everybody: list[Consumer], before: int) -> None:
    """To one later epoch, all of them, who ask in turns: nobody is in another's way who has nothing to say."""
    deadline = time.monotonic() + PATIENCE_S
    while not all(each.settled and each.epoch == everybody[-1].epoch > before for each in everybody):
        for each in everybody:
            each.heartbeat()
        swarm.wait(each.line for each in everybody)
        for each in everybody:
            each.heard()
        if time.monotonic() > deadline:
            raise TimeoutError(f"no common epoch within {PATIENCE_S:.0f} s")


def admit(swarm: Swarm, members: list[Consumer], newcomer: Consumer) -> float:
    """Seconds until a newcomer has a partition that one of them had. All heartbeat without pause."""
    everybody = {member.line.number: member for member in (*members, newcomer)}
    start = time.monotonic()
    for member in everybody.values():
        member.heartbeat()
    while not newcomer.settled:
        for line in swarm.arrived(1.0):
            member = everybody[line.number]
            member.heard()
            member.heartbeat()
        if time.monotonic() - start > PATIENCE_S:
            raise TimeoutError(f"nothing for the newcomer within {PATIENCE_S:.0f} s")
    seconds = time.monotonic() - start
    swarm.wait(line for number, line in enumerate(swarm.lines) if number in everybody)
    return seconds

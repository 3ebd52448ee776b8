"""Members of classic groups, as bytes: join, sync, heartbeat, commit; versions with the classic header."""

import itertools
import os
import struct
import time
from collections.abc import Callable

from bench.coordination.swarm import Line, Swarm, byte_string, string

_COMMIT, _FETCH, _COORDINATOR, _JOIN, _HEARTBEAT, _SYNC = 8, 9, 10, 11, 12, 14
_COMMIT_VERSION, _FETCH_VERSION, _JOIN_VERSION, _HEARTBEAT_VERSION, _SYNC_VERSION = 3, 3, 2, 1, 1
_SESSION_MS = 120_000
_REBALANCE_IN_PROGRESS, _LOADING, _NOT_COORDINATOR, _NOT_AVAILABLE = 27, 14, 16, 15
_SUBSCRIPTION = struct.pack(">hi", 0, 1) + string("none") + struct.pack(">i", -1)
_rounds = itertools.count(1)


class Member:
    """`joined`: from a JoinGroup answer."""

    def __init__(self, line: Line, group: str) -> None:
        self.line = line
        self.group = group
        self.member_id = ""
        self.generation = -1
        self.leads = False

    def join(self) -> None:
        body = string(self.group) + struct.pack(">ii", _SESSION_MS, _SESSION_MS) + string(self.member_id)
        body += string("consumer") + struct.pack(">i", 1) + string("range") + byte_string(_SUBSCRIPTION)
        self.line.send(_JOIN, _JOIN_VERSION, body)

    def joined(self) -> None:
        answer = self.line.answer
        error, self.generation, size = struct.unpack_from(">4xhih", answer)
        expect(error, 0, "JoinGroup")
        at = 12 + size
        (size,) = struct.unpack_from(">h", answer, at)
        leader = answer[at + 2 : at + 2 + size]
        at += 2 + size
        (size,) = struct.unpack_from(">h", answer, at)
        member_id = answer[at + 2 : at + 2 + size]
        self.member_id = member_id.decode()
        self.leads = leader == member_id

    def who(self) -> bytes:
        return string(self.group) + struct.pack(">i", self.generation) + string(self.member_id)

    def sync(self, assigned: list["Member"]) -> None:
        """`assigned`: for the leader, everybody of the group."""
        parts = [string(member.member_id) + byte_string(b"\0" * 16) for member in assigned]
        self.line.send(_SYNC, _SYNC_VERSION, self.who() + struct.pack(">i", len(parts)) + b"".join(parts))

    def synced(self) -> None:
        expect(struct.unpack_from(">4xh", self.line.answer)[0], 0, "SyncGroup")

    def heartbeat(self) -> None:
        self.line.send(_HEARTBEAT, _HEARTBEAT_VERSION, self.who())

    def rebalancing(self) -> bool:
        (error,) = struct.unpack_from(">4xh", self.line.answer)
        if error != _REBALANCE_IN_PROGRESS:
            expect(error, 0, "Heartbeat")
        return bool(error)

    def commit_body(self, topic: str, partition: int, offset: int) -> bytes:
        entry = struct.pack(">iq", partition, offset) + string("")
        return self.who() + struct.pack(">qi", -1, 1) + string(topic) + struct.pack(">i", 1) + entry


def expect(error: int, wanted: int, what: str) -> None:
    if error != wanted:
        raise RuntimeError(f"{what} was answered with error {error}")


def settled(port: int) -> None:
    """Until the coordinator of groups serves."""
    with_one = Swarm(port, 1)
    try:
        deadline = time.monotonic() + 60
        while True:
            (answer,) = with_one.ask_all(_COORDINATOR, 0, [string("any")])
            if struct.unpack_from(">h", answer)[0] == 0:
                return
            if time.monotonic() > deadline:
                raise TimeoutError("no group coordinator within 60 s")
            time.sleep(0.05)  # sleep: as a client backs off
    finally:
        with_one.close()


def form(swarm: Swarm, groups: int, each: int) -> list[Member]:
    """New groups, all members of which join at once and are in their first generation afterwards."""
    name = f"g{os.getpid()}-{next(_rounds)}"  # groups of an earlier process still have its members, until these expire
    members = [Member(line, f"{name}-{line.number // each}") for line in swarm.lines[: groups * each]]
    for member in members:
        member.join()
    swarm.wait(member.line for member in members)
    for member in members:
        member.joined()
    _sync(swarm, members, each)
    return members


def _sync(swarm: Swarm, members: list[Member], each: int) -> None:
    for start in range(0, len(members), each):
        group = members[start : start + each]
        for member in group:
            member.sync(group if member.leads else [])
    swarm.wait(member.line for member in members)
    for member in members:
        member.synced()


def heartbeats(swarm: Swarm, members: list[Member], count: int) -> None:
    def check(answer: bytes) -> None:
        expect(struct.unpack_from(">4xh", answer)[0], 0, "Heartbeat")

    swarm.pump(_HEARTBEAT, _HEARTBEAT_VERSION, [member.who() for member in members], count, check)


def commits(swarm: Swarm, members: list[Member], topic: str, count: int) -> None:
    def check(answer: bytes) -> None:
        expect(struct.unpack_from(">h", answer, len(answer) - 2)[0], 0, "OffsetCommit")

    bodies = [member.commit_body(topic, member.line.number % 10, member.line.number) for member in members]
    swarm.pump(_COMMIT, _COMMIT_VERSION, bodies, count, check)


def rebalance(swarm: Swarm, members: list[Member], newcomer: Member | None) -> float:
    """Seconds until all members, and a newcomer, are in the next generation. They heartbeat without pause, and join
    when they hear of the rebalance. Without a newcomer the first of them joins again, as one whose topics changed."""
    everybody = members + ([newcomer] if newcomer is not None else [])
    by_line = {member.line.number: member for member in everybody}
    state = dict.fromkeys(by_line, "heartbeat")
    start = time.monotonic()
    first = newcomer if newcomer is not None else next(member for member in members if member.leads)
    first.join()
    state[first.line.number] = "join"
    for member in everybody:
        if member is not first:
            member.heartbeat()
    left = len(everybody)
    while left:
        for line in swarm.arrived(1.0):
            member = by_line[line.number]
            if state[line.number] == "heartbeat":
                if member.rebalancing():
                    member.join()
                    state[line.number] = "join"
                else:
                    member.heartbeat()
            elif state[line.number] == "join":
                member.joined()
                member.sync(everybody if member.leads else [])
                state[line.number] = "sync"
            else:
                member.synced()
                left -= 1
        if time.monotonic() - start > 60:
            raise TimeoutError(f"{left} members are not in the next generation after 60 s")
    return time.monotonic() - start


def store_offsets(swarm: Swarm, topic: str, partitions: int, count: int) -> str:
    """So many committed offsets of groups without members; the name of one of the groups."""
    bodies = []
    for number in range(count // partitions):
        entries = b"".join(struct.pack(">iq", index, number) + string("") for index in range(partitions))
        who = string(f"stored-{number}") + struct.pack(">i", -1) + string("")
        bodies.append(who + struct.pack(">qi", -1, 1) + string(topic) + struct.pack(">i", partitions) + entries)

    def check(answer: bytes) -> None:
        expect(struct.unpack_from(">h", answer, len(answer) - 2)[0], 0, "OffsetCommit")

    size = len(swarm.lines)
    for start in range(0, len(bodies), size):
        for answer in swarm.ask_all(_COMMIT, _COMMIT_VERSION, bodies[start : start + size]):
            check(answer)
    return "stored-0"


def fetch_when_loaded(port: int, groups: list[str], topic: str, ready: Callable[[], None]) -> None:
    """Until the offset of a partition of every group is told. `ready`: says whether the broker still lives."""
    deadline = time.monotonic() + 120
    while True:
        ready()
        try:
            swarm = Swarm(port, 1)
        except OSError:
            time.sleep(0.005)  # sleep: another process starts
            continue
        try:
            for group in groups:
                while not _told(swarm, group, topic):
                    time.sleep(0.005)  # sleep: as a client backs off
                    if time.monotonic() > deadline:
                        raise TimeoutError("no offset was told within 120 s")
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
        finally:
            swarm.close()


def _told(swarm: Swarm, group: str, topic: str) -> bool:
    body = string(group) + struct.pack(">i", 1) + string(topic) + struct.pack(">ii", 1, 0)
    (answer,) = swarm.ask_all(_FETCH, _FETCH_VERSION, [body])
    (error,) = struct.unpack_from(">h", answer, len(answer) - 2)
    if error in (_LOADING, _NOT_COORDINATOR, _NOT_AVAILABLE):
        return False
    expect(error, 0, "OffsetFetch")
    (offset,) = struct.unpack_from(">q", answer, 8 + 2 + len(topic) + 8)
    expect(offset, int(group.rpartition("-")[2]), "OffsetFetch, offset")
    return True

"""Real engines replicate a partition while leaders change, brokers go and come, and some hear of it late: what was
below the high watermark of any leader is in all logs in the end, at its offset, and all logs are the same."""

import random
from pathlib import Path

import pytest

from tests.support.live_replicas import LiveCluster, batch

STEPS = 40


class Chaos:
    def __init__(self, directory: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.cluster = LiveCluster(directory, nodes=self.chance.choice((3, 3, 4)))
        self.appended: dict[tuple[int, int], str] = {}
        self.committed: dict[int, str] = {}
        self.values = 0

    def up(self) -> list[int]:
        return [each for each, node in self.cluster.nodes.items() if node.up]

    def step(self) -> None:
        action = self.chance.choices(
            (
                self.append,
                self.elect,
                self.whisper,
                self.tell,
                self.stop,
                self.start,
                self.pause,
                self.look,
                self.retain,
            ),
            (10, 3, 2, 4, 2, 4, 4, 6, 2),
        )[0]
        action()

    def append(self) -> None:
        """To whoever believes to lead."""
        for broker_id in self.up():
            node = self.cluster.nodes[broker_id]
            if node.state.leader_id == broker_id and self.chance.random() < 0.8:
                for _ in range(self.chance.randint(1, 20)):
                    self.values += 1
                    value = f"v{self.values}"
                    done = node.engine.append(node.number, batch(value), 0)
                    self.appended[node.state.leader_epoch, done.base_offset] = value

    def elect(self) -> None:
        if self.cluster.elect(self.chance.choice):
            self.tell()

    def whisper(self) -> None:
        """Another leader, of which only it and some others hear."""
        if self.cluster.elect(self.chance.choice):
            leader = self.cluster.decision.leader
            self.cluster.tell(leader, *(each for each in self.up() if each != leader and self.chance.random() < 0.5))

    def tell(self) -> None:
        self.cluster.tell(*self.up())

    def stop(self) -> None:
        """A broker goes; the controller takes it out of the ISR and elects, as long as somebody is left in it."""
        broker_id = self.chance.choice(list(self.cluster.nodes))
        self.look()
        self.cluster.nodes[broker_id].stop()
        leader = self.cluster.decision.leader
        if broker_id in self.cluster.decision.isr and self.cluster.elect(
            lambda left: leader if leader in left else left[0]
        ):
            self.cluster.tell(*(self.up() if self.chance.random() < 0.7 else [self.cluster.decision.leader]))

    def start(self) -> None:
        gone = [each for each in self.cluster.nodes if each not in self.up()]
        if gone:
            broker_id = self.chance.choice(gone)
            self.cluster.nodes[broker_id].start()
            if self.chance.random() < 0.7:
                self.elect()

    def pause(self) -> None:
        """Let a follower catch up with the newest leader, if it is about to."""
        leader, node = (
            self.cluster.nodes[each] for each in (self.cluster.decision.leader, self.chance.choice(self.up() or [1]))
        )
        both = leader.up and node.up and leader.state.leader_epoch == node.state.leader_epoch
        if both and leader.state.leader_id == leader.id:
            self.cluster.wait(lambda: node.info().log_end_offset == leader.info().log_end_offset)

    def look(self) -> None:
        """What leaders call committed now."""
        for broker_id in self.up():
            node = self.cluster.nodes[broker_id]
            state = node.state
            if state.leader_id != broker_id:
                continue
            high_watermark = node.info().high_watermark
            for (epoch, offset), value in self.appended.items():
                if offset < high_watermark and epoch == state.leader_epoch:
                    assert self.committed.setdefault(offset, value) == value

    def retain(self) -> None:
        """A leader drops old records that are committed."""
        broker_id = self.cluster.decision.leader
        node = self.cluster.nodes[broker_id]
        if node.up and node.state.leader_id == broker_id:
            info = node.info()
            kept = self.chance.randint(0, info.high_watermark - info.log_start_offset)
            node.engine.delete_records(node.number, info.high_watermark - kept)

    def converge(self) -> None:
        for node in self.cluster.nodes.values():
            if not node.up:
                node.start()
        everybody = tuple(self.cluster.nodes)
        assert self.cluster.elect(self.chance.choice)
        self.tell()
        self.cluster.replicated(*everybody)
        self.cluster.wait(lambda: set(self.cluster.decision.isr) == set(everybody))
        self.cluster.replicated(*everybody)
        first = self.cluster.nodes[1].by_offset()
        start = max(node.info().log_start_offset for node in self.cluster.nodes.values())
        for node in self.cluster.nodes.values():
            held = node.by_offset()
            assert {each: held[each] for each in held if each >= start} == {
                each: first[each] for each in first if each >= start
            }, f"node {node.id} differs"
            for offset, value in self.committed.items():
                assert offset < start or held.get(offset) == value, f"{value} at {offset} was committed"


@pytest.mark.parametrize("seed", range(4))
def test_what_is_committed_stays(tmp_path: Path, seed: int) -> None:
    chaos = Chaos(tmp_path, seed)
    try:
        chaos.cluster.decide(leader=1)
        for _ in range(STEPS):
            chaos.step()
        chaos.converge()
    finally:
        chaos.cluster.close()

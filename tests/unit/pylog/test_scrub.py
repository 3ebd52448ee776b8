"""The pass over closed segments: what it reads, how fast, and what it says; over logs that are made up."""

from __future__ import annotations

import errno
import os
from typing import cast

import pytest

from pylog import logger
from pylog._native import SCRUB_STEP_BYTES, ScrubResult, SegmentInfo
from pylog.damage import Damage, Damages
from pylog.log import Log
from pylog.schedule import Schedule
from pylog.scrub import BUSY_BYTES_PER_S, Scrub, ScrubConfig

MB = 1 << 20
CONFIG = ScrubConfig(MB, 60_000)


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000

    def monotonic_ms(self) -> int:
        return self.now

    def wall_ms(self) -> int:
        return self.now


class FakeLog:
    """A log of closed segments of given sizes, and an active one. damaged: where a batch of 100 bytes is."""

    def __init__(self, path: str, sizes: dict[int, int]) -> None:
        self.path = path
        self.closed = False
        self.sizes = sizes
        self.steps: list[tuple[int, int, int]] = []
        self.damaged: set[tuple[int, int]] = set()
        self.fails: dict[int, OSError] = {}
        self.gone: set[int] = set()

    def segments(self) -> list[SegmentInfo]:
        return [SegmentInfo(base, 0, 0, 0, 0, 0, 0, 0) for base in (*self.sizes, 1 << 40)]

    def scrub(self, base: int, position: int, most: int) -> ScrubResult | None:
        self.steps.append((base, position, most))
        if base in self.fails:
            raise self.fails[base]
        if base in self.gone:
            return None
        size = self.sizes[base]
        end = min(position + most, size)
        hit = min((at for seg, at in self.damaged if seg == base and position <= at < end), default=None)
        if hit is None:
            return ScrubResult(end, size, 0, 0, -1, -1, -1)
        return ScrubResult(hit + 100, size, 1, 100, hit, 7, 9)


class World:
    def __init__(self, *logs: FakeLog, config: ScrubConfig = CONFIG) -> None:
        self.clock = FakeClock()
        self.schedule = Schedule()
        self.damages = Damages()
        self.moved = 0
        self.scrub = Scrub(
            config,
            logs=lambda: cast("list[Log]", list(logs)),
            schedule=self.schedule,
            clock=self.clock,
            damages=self.damages,
            moved_bytes=lambda: self.moved,
        )

    def run(self, until: int, moved_per_s: int = 0) -> None:
        """Let time pass."""
        while (due := self.schedule.next_due_ms()) is not None and due <= until:
            self.moved += moved_per_s * (due - self.clock.now) // 1000
            self.clock.now = max(due, self.clock.now)
            self.schedule.run(self.clock.now)
        assert self.schedule.errors == 0
        self.clock.now = until


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(logger, "sink", lambda level, line: found.append(line))
    return found


def test_every_closed_byte_once_a_pass_and_no_faster_than_allowed() -> None:
    one, two = FakeLog("/d/a-0", {0: 3 * MB + 5, 100: MB}), FakeLog("/d/b-0", {0: 2 * MB})
    world = World(one, two)
    world.scrub.begin(10)
    world.run(1_009)
    assert world.scrub.bytes == 0
    world.run(1_010 + 2_500)
    assert world.scrub.bytes == 3 * MB  # at 0, 1 and 2 seconds
    world.run(1_010 + 8_000)
    assert world.scrub.bytes == 6 * MB + 5
    assert world.scrub.passes == 1
    assert {(base, at) for base, at, _ in one.steps} == {(0, 0), (0, MB), (0, 2 * MB), (0, 3 * MB), (100, 0)}
    assert all(most == SCRUB_STEP_BYTES for _, _, most in one.steps + two.steps)
    world.run(1_010 + 66_000)
    assert world.scrub.passes == 1
    world.run(1_010 + 80_000)
    assert world.scrub.passes == 2


def test_off() -> None:
    log = FakeLog("/d/a-0", {0: MB})
    world = World(log, config=ScrubConfig(0, 1))
    world.scrub.begin(0)
    assert world.schedule.next_due_ms() is None


def test_a_slow_rate_makes_small_steps() -> None:
    log = FakeLog("/d/a-0", {0: 1000})
    world = World(log, config=ScrubConfig(100, 1_000_000))
    world.scrub.begin(0)
    world.run(1_000 + 9_999)
    assert world.scrub.bytes == 1000
    assert [most for _, _, most in log.steps] == [100] * 10


def test_a_tenth_under_load() -> None:
    log = FakeLog("/d/a-0", {0: 100 * MB})
    world = World(log)
    world.scrub.begin(0)
    world.run(31_000, moved_per_s=2 * BUSY_BYTES_PER_S)
    assert 3 * MB <= world.scrub.bytes <= 5 * MB
    before = world.scrub.bytes
    world.run(61_000, moved_per_s=BUSY_BYTES_PER_S // 2)
    assert 20 * MB <= world.scrub.bytes - before <= 31 * MB


def test_damage_is_told_once_and_the_pass_goes_on(lines: list[str]) -> None:
    log = FakeLog("/d/a-0", {0: 2 * MB})
    log.damaged = {(0, 500), (0, MB + 500)}
    world = World(log)
    world.scrub.begin(0)
    world.run(200_000)
    assert world.scrub.passes >= 2
    assert world.scrub.bytes == world.scrub.passes * 2 * MB
    assert world.damages.batches == 2
    told = [line for line in lines if "damaged batch" in line]
    assert len(told) == 2
    for part in ("/d/a-0/00000000000000000000.log", "position=500", "bytes=100", "offsets=7-9"):
        assert part in told[0]


def test_what_cannot_be_read_is_told_and_what_is_gone_is_not(lines: list[str]) -> None:
    log = FakeLog("/d/a-0", {0: MB, 10: MB, 20: MB, 30: MB})
    log.fails = {0: OSError(errno.EIO, "bad sector"), 10: OSError(errno.ENOENT, "moved"), 20: OSError(errno.EMFILE, "")}
    log.gone = {30}
    closed = FakeLog("/d/b-0", {0: MB})
    closed.closed = True
    world = World(log, closed)
    world.scrub.begin(0)
    world.run(30_000)
    assert world.scrub.passes == 1
    assert (world.damages.batches, world.damages.unreadable) == (0, 1)
    assert closed.steps == []
    assert [line for line in lines if os.strerror(errno.EIO) in line and "position=0" in line]


def test_another_log_is_first_at_another_time() -> None:
    logs = [FakeLog(f"/d/a-{i}", {0: MB}) for i in range(3)]
    world = World(*logs)
    world.clock.now = 1_001
    world.scrub.begin(0)
    world.run(1_001)
    assert [len(log.steps) for log in logs] == [0, 0, 1]  # 1001 is 2 modulo 3


def test_unknown_extent(lines: list[str]) -> None:
    damages = Damages()
    assert damages.note(Damage("/f", 9, 0, -1, -1))
    assert not damages.note(Damage("/f", 9, 50, 1, 2))
    assert "bytes=unknown offsets=unknown" in lines[0]
    assert len(lines) == 1

"""The control loop with a scripted engine and a clock that moves when told."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any
from weakref import WeakSet

import pytest

from cluster.broker.loop import GIVES_WAY_NS, Loop, Timers
from cluster.effects import Append, Ask, CancelTimer, Effect, Publication, Reply, SetTimer, Shard

SHARD = Shard("__consumer_offsets", 3)


class ScriptedEngine:
    """Gives out one list of upcalls per poll, then stops the loop."""

    def __init__(self, *turns: list[Any]) -> None:
        self.turns = list(turns)
        self.timeouts: list[int] = []
        self.wakes = 0
        self.loop: Loop | None = None

    def poll(self, timeout_ms: int, capacity: int) -> list[Any]:
        self.timeouts.append(timeout_ms)
        if not self.turns:
            assert self.loop is not None
            self.loop.stop()
            return []
        return self.turns.pop(0)

    def wake(self) -> None:
        self.wakes += 1


class Recorder:
    def __init__(self) -> None:
        self.loop: Loop | None = None
        self.seen: list[Any] = []
        self.effects_of: dict[Any, list[Effect]] = {}

    def upcall(self, upcall: Any) -> None:
        self.seen.append(("upcall", upcall))
        if upcall == "bad":
            raise RuntimeError("a defect")
        assert self.loop is not None
        self.loop.apply(self.effects_of.get(upcall, []))

    def reply(self, reply: Reply) -> None:
        self.seen.append(("reply", reply.message))
        if reply.message == "bad":
            raise RuntimeError("a defect")

    def append(self, turn: list[list[Append]]) -> None:
        self.seen.append(("append", *([append.token for append in appends] for appends in turn)))
        assert self.loop is not None
        for appends in turn:
            for append in appends:
                self.loop.apply(self.effects_of.get(append.token, []))

    def ask(self, ask: Ask) -> None:
        assert self.loop is not None
        loop, effects = self.loop, self.effects_of[ask.question]
        loop.soon(lambda: loop.apply(effects))

    def publish(self, publication: Publication) -> None:
        self.seen.append(("publish", publication.group_id))

    def timer(self, key: Hashable) -> Iterable[Effect]:
        self.seen.append(("timer", key))
        return self.effects_of.get(key, [])


def run(engine: ScriptedEngine, driver: Recorder, now_ms: list[int]) -> Loop:
    loop = Loop(engine, driver, lambda: now_ms[0])  # type: ignore[arg-type]
    engine.loop = driver.loop = loop
    loop.run()
    return loop


def test_timers_come_in_order_and_only_once() -> None:
    timers = Timers()
    timers.set("b", 20)
    timers.set("a", 10)
    timers.set("c", 30)
    timers.set("b", 5)  # moved
    timers.cancel("c")
    assert timers.next_ms() == 5
    assert timers.due(4) is None
    assert [timers.due(100) for _ in range(3)] == ["b", "a", None]
    assert timers.next_ms() is None


class Key:
    """What is a key by itself, and can be seen to be forgotten."""


def test_keys_of_cancelled_and_moved_timers_are_forgotten_long_before_their_time() -> None:
    timers, weeks_ms = Timers(), 24 * 24 * 3600 * 1000
    cancelled, moved = WeakSet[Key](), Key()
    timers.set("last", weeks_ms + 20_000)
    for number in range(20_000):
        key = Key()
        cancelled.add(key)
        timers.set(key, weeks_ms + number)
        timers.set(moved, weeks_ms - number)
        timers.cancel(key)
    del key
    assert len(cancelled) < 2_000
    assert [timers.due(2 * weeks_ms) for _ in range(3)] == [moved, "last", None]


def test_appends_of_one_turn_go_together_and_after_its_replies() -> None:
    driver = Recorder()
    driver.effects_of = {
        "x": [Append(SHARD, [(b"k", b"v")], 1), Reply(("c", 1), "one")],
        "y": [Append(SHARD, [(b"k", b"w")], 2)],
    }
    run(ScriptedEngine(["x", "y"]), driver, [0])
    assert driver.seen == [("upcall", "x"), ("reply", "one"), ("upcall", "y"), ("append", [1, 2])]


def test_who_works_for_long_gives_way_after_each_task_and_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns, given_way = [0], list[tuple[str, object]]()

    class Busy(Recorder):
        def reply(self, reply: Reply) -> None:
            now_ns[0] += GIVES_WAY_NS // 2 + 1
            super().reply(reply)

    driver = Busy()
    monkeypatch.setattr("cluster.broker.loop.monotonic_ns", lambda: now_ns[0])
    monkeypatch.setattr("cluster.broker.loop.sched_yield", lambda: given_way.append(driver.seen[-1]))
    driver.effects_of = {"x": [Reply(("c", number), number) for number in range(5)]}
    run(ScriptedEngine(["x"]), driver, [0])
    assert given_way == [("reply", 1), ("reply", 3)]
    given_way.clear()
    driver.effects_of = {name: [Reply(("c", 1), name)] for name in "abcd"}
    run(ScriptedEngine([*"ab"]), driver, [0])
    assert given_way == [("reply", "b")]


def test_appends_of_all_shards_go_together() -> None:
    driver = Recorder()
    other = Shard("__transaction_state", 1)
    driver.effects_of = {"x": [Append(SHARD, [], 1), Append(other, [], 2), Append(SHARD, [], 3)]}
    run(ScriptedEngine(["x"]), driver, [0])
    assert driver.seen == [("upcall", "x"), ("append", [1, 3], [2])]


def test_what_follows_from_an_append_is_done_in_its_turn_and_not_in_the_middle_of_effects() -> None:
    driver = Recorder()
    driver.effects_of = {
        "x": [Append(SHARD, [], 1)],
        1: [Ask("key", "markers"), Reply(("c", 1), "prepared")],
        "markers": [Append(SHARD, [], 2), Reply(("c", 1), "asked")],
        2: [Ask("key", "told")],
        "told": [Append(SHARD, [], 3)],
    }
    engine = ScriptedEngine(["x"])
    run(engine, driver, [0])
    assert driver.seen[1:] == [
        ("append", [1]),
        ("reply", "prepared"),
        ("reply", "asked"),
        ("append", [2]),
        ("append", [3]),
    ]
    assert engine.timeouts == [-1, -1]


def test_a_defect_is_counted_and_the_loop_goes_on() -> None:
    driver = Recorder()
    loop = run(ScriptedEngine(["bad", "x"]), driver, [0])
    assert loop.failures == 1
    assert ("upcall", "x") in driver.seen


def test_effects_behind_one_that_fails_are_carried_out() -> None:
    driver = Recorder()
    driver.effects_of = {"x": [Reply(("c", 1), "bad"), Reply(("c", 2), "good"), Append(SHARD, [(b"k", b"v")], 1)]}
    loop = run(ScriptedEngine(["x"]), driver, [0])
    assert loop.failures == 1
    assert driver.seen[1:] == [("reply", "bad"), ("reply", "good"), ("append", [1])]


def test_it_sleeps_until_the_next_timer() -> None:
    driver = Recorder()
    driver.effects_of = {"x": [SetTimer("t", 250), SetTimer("u", 90), CancelTimer("u")]}
    engine = ScriptedEngine(["x"])
    run(engine, driver, [100])
    assert engine.timeouts == [-1, 150]


def test_a_due_timer_fires_and_its_effects_are_carried_out() -> None:
    driver = Recorder()
    driver.effects_of = {"x": [SetTimer("t", 50)], "t": [Reply(("c", 1), "late")]}
    run(ScriptedEngine(["x"]), driver, [100])
    assert driver.seen[1:] == [("timer", "t"), ("reply", "late")]


def test_the_inbox_runs_on_the_loop_and_wakes_it() -> None:
    driver = Recorder()
    engine = ScriptedEngine([])
    loop = Loop(engine, driver, lambda: 0)  # type: ignore[arg-type]
    engine.loop = driver.loop = loop
    loop.post(lambda: driver.seen.append("posted"))
    assert engine.wakes == 1
    loop.run()
    assert driver.seen == ["posted"]
    assert engine.timeouts[0] == 0

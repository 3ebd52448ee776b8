"""Tasks in the order they are due; periods; a task that raises; being woken for what is due earlier."""

import threading

import pytest

from pylog import logger
from pylog.clock import ManualClock, SystemClock
from pylog.maintenance import Maintenance
from pylog.schedule import Schedule
from pylog.types import FOREVER


def test_once_in_order() -> None:
    done: list[str] = []
    schedule = Schedule()
    schedule.at(20, lambda: done.append("b"))
    schedule.at(10, lambda: done.append("a"))
    schedule.at(20, lambda: done.append("c"))
    assert schedule.next_due_ms() == 10
    assert schedule.run(9) == 10
    assert schedule.run(10) == 20
    assert schedule.run(100) is None
    assert done == ["a", "b", "c"]


def test_every() -> None:
    at: list[int] = []
    now = 0
    schedule = Schedule()
    schedule.every(10, 5, lambda: at.append(now))
    schedule.every(FOREVER, 0, lambda: at.append(-1))
    for now in (0, 5, 6, 14, 15, 60, 69, 70):
        schedule.run(now)
    assert at == [5, 15, 60, 70]


def test_a_period_of_nothing_does_not_spin() -> None:
    runs: list[int] = []
    schedule = Schedule()
    schedule.every(0, 0, lambda: runs.append(1))
    assert schedule.run(0) == 1
    assert runs == [1]


def test_a_task_may_add_tasks() -> None:
    done: list[int] = []
    schedule = Schedule()
    schedule.at(1, lambda: schedule.at(1, lambda: done.append(1)))
    schedule.run(1)
    assert done == [1]


def test_a_task_that_raises_is_told_and_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(logger, "sink", lambda level, line: lines.append(line))
    schedule = Schedule()
    schedule.every(1, 1, lambda: 1 / 0)
    schedule.run(1)
    schedule.run(2)
    assert schedule.errors == 2
    assert len(lines) == 2 and "ZeroDivisionError" in lines[0]


def test_wake_only_for_what_is_due_earlier() -> None:
    wakes: list[int] = []
    schedule = Schedule(lambda: wakes.append(1))
    schedule.at(10, lambda: None)
    schedule.at(11, lambda: None)
    assert len(wakes) == 1
    schedule.at(9, lambda: None)
    assert len(wakes) == 2


def test_maintenance_runs_what_is_added_and_stops() -> None:
    schedule = Schedule()
    schedule.at(FOREVER, lambda: None)
    maintenance = Maintenance(schedule, SystemClock())
    maintenance.start()
    done = threading.Event()
    names: list[str] = []

    def task() -> None:
        names.append(threading.current_thread().name)
        done.set()

    schedule.at(0, task)
    assert done.wait(10)
    maintenance.stop()
    assert names == ["log-maintenance"]
    schedule.at(0, lambda: names.append("late"))
    assert names == ["log-maintenance"]


def test_maintenance_with_nothing_to_do_stops() -> None:
    maintenance = Maintenance(Schedule(), ManualClock())
    maintenance.start()
    maintenance.stop()

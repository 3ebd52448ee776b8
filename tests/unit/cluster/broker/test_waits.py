"""Answers that wait: told once, when their condition holds or when their time is up."""

from cluster.broker.waits import WaitKey, Waits
from cluster.effects import CancelTimer, Effect, SetTimer


class Scene:
    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.told: list[bool] = []
        self.there = False
        self.waits = Waits(self.effects.extend)

    def wait(self) -> None:
        self.waits.until(lambda: self.there, 1000, self.told.append)


def test_what_holds_already_does_not_wait() -> None:
    scene = Scene()
    scene.there = True
    scene.wait()
    assert scene.told == [True]
    assert scene.effects == []


def test_a_change_that_fulfils_the_condition_ends_the_wait() -> None:
    scene = Scene()
    scene.wait()
    assert scene.effects == [SetTimer(WaitKey(1), 1000)]
    scene.waits.changed()
    assert scene.told == []
    scene.there = True
    scene.waits.changed()
    scene.waits.changed()
    assert scene.told == [True]
    assert scene.effects[1:] == [CancelTimer(WaitKey(1))]
    scene.waits.expired(WaitKey(1))
    assert scene.told == [True]


def test_time_is_up() -> None:
    scene = Scene()
    scene.wait()
    scene.waits.expired(WaitKey(1))
    scene.there = True
    scene.waits.changed()
    assert scene.told == [False]


def test_each_wait_has_a_timer_of_its_own() -> None:
    scene = Scene()
    scene.wait()
    scene.wait()
    scene.waits.expired(WaitKey(2))
    assert scene.told == [False]
    scene.there = True
    scene.waits.changed()
    assert scene.told == [False, True]

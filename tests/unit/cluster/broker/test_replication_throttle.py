"""Which replicas are throttled, and how far."""

from collections.abc import Sequence

from cluster.broker.replication_throttle import ReplicationThrottle
from pylog.config import LogConfig


class PlayedEngine:
    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def mark_throttled(self, partitions: Sequence[int], *, leading: bool, following: bool) -> None:
        self.told.append((sorted(partitions), leading, following))

    def throttle_replication(self, leader_rate: int, follower_rate: int) -> None:
        self.told.append((leader_rate, follower_rate))

    def heard(self) -> list[tuple[object, ...]]:
        told, self.told = self.told, []
        return told


HOSTED = [(0, 70), (1, 71), (2, 72)]
ALL = LogConfig(leader_replication_throttled_replicas=("*",), follower_replication_throttled_replicas=("*",))
SOME = LogConfig(
    leader_replication_throttled_replicas=("0:1", "1:2"), follower_replication_throttled_replicas=("2:1", "1:2")
)


def test_rates_are_told_when_they_change() -> None:
    engine = PlayedEngine()
    throttle = ReplicationThrottle(1, engine)
    throttle.limit(None, None)
    assert engine.heard() == []
    throttle.limit(1_000, None)
    throttle.limit(1_000, None)
    assert engine.heard() == [(1_000, -1)]
    throttle.limit(None, 0)
    assert engine.heard() == [(-1, 0)]


def test_replicas_of_this_broker_are_marked() -> None:
    engine = PlayedEngine()
    throttle = ReplicationThrottle(1, engine)
    throttle.configure(SOME, HOSTED)
    assert engine.heard() == [([70], True, False), ([72], False, True)]
    throttle.configure(SOME, HOSTED)
    assert engine.heard() == [], "they are known"
    throttle.configure(ALL, HOSTED)
    assert engine.heard() == [([70, 71, 72], True, True)]
    throttle.configure(LogConfig(), HOSTED)
    assert engine.heard() == [([70, 71, 72], False, False)]
    throttle.configure(LogConfig(), HOSTED)
    assert engine.heard() == []


def test_what_is_hosted_anew_is_marked_anew() -> None:
    engine = PlayedEngine()
    throttle = ReplicationThrottle(1, engine)
    throttle.configure(ALL, [(0, 70)])
    throttle.forget([70, 71])
    engine.heard()
    throttle.configure(ALL, [(0, 70), (1, 90)])
    assert engine.heard() == [([70, 90], True, True)]

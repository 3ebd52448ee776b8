"""Each kind of fault against the leader of a partition, the controller and the coordinator of a group, under load.

Long runs with random faults: `make chaos MINUTES=10 SEED=7`.
"""

from pathlib import Path

import pytest

from tests.clustered.chaos import TARGETS, Chaos, running
from tests.support import network, zookeeper
from tests.support.zookeeper import ZooKeeper


@pytest.mark.timeout(300)
def test_killed_and_stopped(tmp_path: Path, ensemble: ZooKeeper) -> None:
    """Stopped for longer than a session lasts, a broker wakes up believing what is not true any more."""
    with Chaos(tmp_path, ensemble, None) as chaos:
        for target in TARGETS:
            chaos.strike("pause", target)
            chaos.strike("kill", target)
        chaos.check()


@pytest.mark.timeout(300)
def test_cut_off(tmp_path: Path) -> None:
    """From ZooKeeper or from the other brokers, in both directions or in one; clients reach all of them."""
    reason = zookeeper.unavailable() or network.unavailable()
    if reason is not None:
        pytest.skip(reason)
    with running(tmp_path, has_network=True) as chaos:
        for cut in ("zookeeper-cut", "peers-cut", "both-cut"):
            for target in TARGETS:
                chaos.strike(cut, target)
        for cut in ("zookeeper-mute", "peers-mute"):
            chaos.strike(cut, "controller")
        for cut in ("zookeeper-deaf", "peers-deaf"):
            chaos.strike(cut, "leader")
        chaos.check()

"""IsrKeeper and Replicator on real engines: what a cluster does when a replica falls behind, comes back, or differs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_replicas import LiveCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LiveCluster]:
    cluster = LiveCluster(tmp_path, nodes=3)
    yield cluster
    cluster.close()


def values(start: int, end: int) -> list[str]:
    return [f"v{number}" for number in range(start, end)]


def same(cluster: LiveCluster, expected: list[str]) -> None:
    cluster.replicated(1, 2, 3)
    for node in cluster.nodes.values():
        assert node.values() == expected
        assert node.bytes() == cluster.nodes[1].bytes()


def test_followers_have_the_leaders_bytes(cluster: LiveCluster) -> None:
    cluster.decide(leader=1)
    cluster.append(1, *values(0, 200))
    same(cluster, values(0, 200))
    cluster.decide(leader=2)
    cluster.append(2, *values(200, 210))
    same(cluster, values(0, 210))


def test_a_replica_that_goes_leaves_the_isr_and_joins_when_it_has_everything(cluster: LiveCluster) -> None:
    cluster.decide(leader=1)
    cluster.append(1, *values(0, 5))
    cluster.replicated(1, 2, 3)
    cluster.nodes[3].stop()
    cluster.append(1, *values(5, 10))
    cluster.wait(lambda: set(cluster.decision.isr) == {1, 2})
    cluster.replicated(1, 2)
    cluster.append(1, *values(10, 15))
    cluster.replicated(1, 2)
    cluster.nodes[3].start()
    cluster.tell(3)
    cluster.wait(lambda: set(cluster.decision.isr) == {1, 2, 3})
    same(cluster, values(0, 15))
    cluster.append(1, "last")
    same(cluster, [*values(0, 15), "last"])


def test_a_replica_that_never_fetches_leaves_the_isr_too(cluster: LiveCluster) -> None:
    cluster.nodes[3].stop()
    cluster.decide(leader=1)
    cluster.append(1, *values(0, 5))
    cluster.wait(lambda: set(cluster.decision.isr) == {1, 2})
    cluster.replicated(1, 2)


def test_an_old_leader_gives_up_what_nobody_else_has(cluster: LiveCluster) -> None:
    cluster.decide(leader=1)
    cluster.append(1, *values(0, 5))
    cluster.replicated(1, 2, 3)
    cluster.decide(leader=2, to=[2, 3])
    cluster.append(1, "lost 1", "lost 2", "lost 3")
    cluster.append(2, "kept")
    cluster.replicated(2, 3)
    cluster.tell(1)
    same(cluster, [*values(0, 5), "kept"])


def test_a_replica_that_lacks_what_its_leader_dropped_starts_anew(cluster: LiveCluster) -> None:
    cluster.decide(leader=1)
    cluster.append(1, *values(0, 3))
    cluster.replicated(1, 2, 3)
    cluster.nodes[3].stop()
    cluster.decide(leader=1, isr=(1, 2))
    cluster.append(1, *values(3, 20))
    cluster.replicated(1, 2)
    leader = cluster.nodes[1]
    assert leader.engine.delete_records(leader.number, 15) == 15
    cluster.nodes[3].start()
    cluster.tell(3)
    cluster.wait(lambda: set(cluster.decision.isr) == {1, 2, 3})
    cluster.replicated(1, 2, 3)
    info = cluster.nodes[3].info()
    assert (info.log_start_offset, info.log_end_offset) == (15, 20)
    assert cluster.nodes[3].values() == values(15, 20)


def test_after_an_unclean_election_the_longer_log_goes_back(cluster: LiveCluster) -> None:
    cluster.decide(leader=1, to=[1])
    cluster.append(1, *values(0, 5))
    cluster.decide(leader=2, isr=(2,))
    same(cluster, [])
    cluster.append(2, "anew")
    same(cluster, ["anew"])


def test_a_leader_that_is_gone_and_back_is_fetched_from_again(cluster: LiveCluster) -> None:
    cluster.decide(leader=1)
    cluster.append(1, *values(0, 5))
    cluster.replicated(1, 2, 3)
    cluster.nodes[1].stop()
    cluster.nodes[1].start()
    cluster.decide(leader=1)
    cluster.append(1, *values(5, 10))
    same(cluster, values(0, 10))

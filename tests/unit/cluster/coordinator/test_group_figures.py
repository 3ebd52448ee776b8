"""What is counted of groups, and what is looked up."""

from __future__ import annotations

from collections import Counter

from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_coordinator import GroupCoordinator
from cluster.coordinator.group_figures import CLASSIC, GroupSeen, look_at
from cluster.coordinator.journal import GroupCounts
from tests.transcripts.group_driver import OFFSETS, Driver


def machines(driver: Driver) -> list[GroupCoordinator]:
    return [machine for machine in driver.runtime.machines(OFFSETS) if isinstance(machine, GroupCoordinator)]


def seen(driver: Driver) -> dict[str, GroupSeen]:
    return {each.group_id: each for machine in machines(driver) for each in look_at(machine.groups())}


def counts(driver: Driver) -> GroupCounts:
    return machines(driver)[0].counts


def test_groups_of_two_shards() -> None:
    driver = Driver(GroupConfig(offsets_topic_partitions=2), partitions=2)
    assert seen(driver) == {}
    # Names that the two partitions of the topic share out.
    names = [f"g{number}" for number in range(4)]
    assert {driver.runtime.partition_for(name) for name in names} == {0, 1}
    for name in names[:2]:
        driver.stable_group("a", "b", group=name)
    driver.commit_offsets({("t", 0): 40, ("t", 1): 9, ("u", 0): 3}, group=names[2])
    driver.join("waits", group=names[3])
    told = seen(driver)
    assert Counter(each.state for each in told.values()) == {"Stable": 2, "Empty": 1, "PreparingRebalance": 1}
    assert {each.protocol for each in told.values()} == {CLASSIC}
    assert sum(each.members for each in told.values()) == 5
    offsets = {where: committed.offset for where, committed in told[names[2]].committed.items()}
    assert offsets == {("t", 0): 40, ("t", 1): 9, ("u", 0): 3}
    assert counts(driver).begun == {"joined": 3}
    assert (counts(driver).ended, counts(driver).took_ms) == (2, 12_000)
    assert counts(driver).offsets_committed == 3


def test_what_was_seen_does_not_change() -> None:
    driver = Driver()
    driver.commit_offsets({("t", 0): 40}, group="g")
    before = seen(driver)["g"]
    driver.commit_offsets({("t", 0): 41, ("t", 1): 1}, group="g")
    assert {where: committed.offset for where, committed in before.committed.items()} == {("t", 0): 40}
    assert counts(driver).offsets_committed == 3


def test_a_rebalance_that_was_interrupted_began_and_did_not_end() -> None:
    driver = Driver()
    driver.join("a")
    driver.advance(3_000)
    driver.join("b")
    assert (counts(driver).begun, counts(driver).ended) == ({"joined": 2}, 0)


def test_counts_outlive_a_shard() -> None:
    driver = Driver(partitions=2)
    driver.stable_group("a", group="g0")
    partition = driver.runtime.partition_for("g0")
    driver.unload(partition)
    assert seen(driver) == {}
    driver.load(partition)
    assert [(each.state, each.members) for each in seen(driver).values()] == [("Stable", 1)]
    assert counts(driver).begun == {"joined": 1}

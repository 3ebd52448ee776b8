"""What is counted of groups, and what is looked up."""

from __future__ import annotations

from cluster.coordinator.context import GroupConfig
from cluster.coordinator.group_coordinator import GroupCoordinator
from cluster.coordinator.group_figures import GroupFigures, group_figures
from tests.transcripts.group_driver import OFFSETS, Driver

ENDS = {("t", 0): 100, ("t", 1): 7}


def figures(driver: Driver) -> GroupFigures:
    machines = [machine for machine in driver.runtime.machines(OFFSETS) if isinstance(machine, GroupCoordinator)]
    groups = [group for machine in machines for group in machine.groups()]
    return group_figures(groups, machines[0].counts, lambda topic, partition: ENDS.get((topic, partition)))


def test_figures_of_two_shards() -> None:
    driver = Driver(GroupConfig(offsets_topic_partitions=2), partitions=2)
    assert figures(driver) == GroupFigures({}, 0, 0, {}, 0, 0, {})
    # Names that the two partitions of the topic share out.
    names = [f"g{number}" for number in range(4)]
    assert {driver.runtime.partition_for(name) for name in names} == {0, 1}
    for name in names[:2]:
        driver.stable_group("a", "b", group=name)
    driver.commit_offsets({("t", 0): 40, ("t", 1): 9, ("u", 0): 3}, group=names[2])
    driver.join("waits", group=names[3])
    told = figures(driver)
    assert told.groups == {"Stable": 2, "Empty": 1, "PreparingRebalance": 1}
    assert (told.members, told.offsets) == (5, 3)
    assert told.lag == {names[2]: 60}  # nothing is owed of what is committed beyond the end, or elsewhere
    assert told.rebalances == {"joined": 3}
    assert (told.rebalances_ended, told.rebalance_ms) == (2, 12_000)


def test_a_rebalance_that_was_interrupted_began_and_did_not_end() -> None:
    driver = Driver()
    driver.join("a")
    driver.advance(3_000)
    driver.join("b")
    told = figures(driver)
    assert (told.rebalances, told.rebalances_ended) == ({"joined": 2}, 0)


def test_counts_outlive_a_shard() -> None:
    driver = Driver(partitions=2)
    driver.stable_group("a", group="g0")
    partition = driver.runtime.partition_for("g0")
    driver.unload(partition)
    assert figures(driver).groups == {}
    driver.load(partition)
    told = figures(driver)
    assert (told.groups, told.members, told.rebalances) == ({"Stable": 1}, 1, {"joined": 1})

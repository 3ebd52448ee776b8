"""What pages remember of hosted partitions, while these come, go, and change their leaders."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from cluster.broker.metrics.replicas import Hosting, led_families, log_families
from cluster.broker.metrics.text import write
from pylog._engine import PartitionColumns

if TYPE_CHECKING:
    from cluster.broker.replica_manager import HostedPartition
    from pylog._engine import Engine


class Fake:
    """Partitions by their numbers; each log is as long as its number says. `gone`: not there any more."""

    def __init__(self) -> None:
        self.gone: set[int] = set()

    def partition_infos(self, numbers: list[int]) -> PartitionColumns:
        roles = [-1 if number in self.gone else 1 for number in numbers]
        return PartitionColumns(roles, [0] * len(numbers), numbers, numbers, numbers, numbers)


def hosted(number: int, topic: str, index: int, isr: list[int], leads: bool = True) -> SimpleNamespace:
    state = SimpleNamespace(replicas=[1, 2, 3], isr=isr, min_insync_replicas=2)
    return SimpleNamespace(number=number, topic=topic, index=index, state=state, leads=leads)


def ends(engine: Fake, hosting: Hosting, some: list[SimpleNamespace]) -> tuple[list[str], list[str]]:
    """Where each log ends, and in how many replicas in sync those led are, as the page has it."""
    told = hosting.look_at(cast("Engine", engine), cast("list[HostedPartition]", some))
    text = write(log_families(told) + led_families(told), open_metrics=False).decode().splitlines()
    found: tuple[list[str], list[str]] = ([], [])
    for line in text:
        for place, name in enumerate(("kafka_log_log_logendoffset{", "kafka_cluster_partition_insyncreplicascount{")):
            if line.startswith(name):
                found[place].append(line.removeprefix(name).replace('"', ""))
    return found


def test_they_are_sorted_and_followers_are_not_led() -> None:
    some = [hosted(7, "b", 0, [1, 2]), hosted(5, "a", 10, [1], leads=False), hosted(6, "a", 2, [1, 2, 3])]
    assert ends(Fake(), Hosting(), some) == (
        ["topic=a,partition=2} 6", "topic=a,partition=10} 5", "topic=b,partition=0} 7"],
        ["topic=a,partition=2} 3", "topic=b,partition=0} 2"],
    )


def test_what_comes_goes_and_changes_hands() -> None:
    engine, hosting = Fake(), Hosting()
    first, second, third = (hosted(number, "t", number, [1, 2]) for number in (1, 2, 3))
    assert ends(engine, hosting, [first, second])[0] == ["topic=t,partition=1} 1", "topic=t,partition=2} 2"]
    assert ends(engine, hosting, [first, second, third])[1] == [f"topic=t,partition={n}}} 2" for n in (1, 2, 3)]
    second.state = SimpleNamespace(replicas=[1, 2, 3], isr=[1], min_insync_replicas=2)
    assert ends(engine, hosting, [first, second, third])[1][1] == "topic=t,partition=2} 1"
    second.state, second.leads = SimpleNamespace(**vars(second.state), leader_epoch=2), False
    assert ends(engine, hosting, [first, second, third])[1] == [f"topic=t,partition={n}}} 2" for n in (1, 3)]
    assert ends(engine, hosting, [third])[0] == ["topic=t,partition=3} 3"]


def test_what_went_while_it_was_looked_at() -> None:
    engine, hosting = Fake(), Hosting()
    both = [hosted(number, "t", number, [1]) for number in (1, 2)]
    engine.gone = {1}
    assert ends(engine, hosting, both)[0] == ["topic=t,partition=2} 2"]
    assert ends(engine, hosting, both)[1] == ["topic=t,partition=2} 1"]
    engine.gone = {1, 2}
    assert ends(engine, hosting, both) == ([], [])
    assert ends(engine, hosting, []) == ([], [])

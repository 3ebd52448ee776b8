"""Our brokers write the tree that brokers of Apache Kafka 3.9.1 wrote when the same was done to them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.clustered.captured import load
from tests.clustered.stage import Stage
from tests.clustered.stories import STORIES
from tests.support.zookeeper import ZooKeeper


@pytest.mark.timeout(300)
def test_the_same_tree(tmp_path: Path, ensemble: ZooKeeper) -> None:
    story, settings = STORIES["tree"]
    captured = load("tree")
    assert [step for step, _ in captured] == story, "the story has changed: python -m tests.clustered.captured tree"
    with closing(Stage(tmp_path, ensemble.fresh(), "pylog", settings)) as stage:
        for step, theirs in captured:
            ours = stage.play(step, lambda ours: bool(ours == theirs))  # noqa: B023
            if "tree" not in step:
                assert ours == theirs, step
                continue
            found = [
                f"{path}: ours {ours.get(path)}, Kafka {theirs.get(path)}"
                for path in sorted({*ours, *theirs})
                if ours.get(path) != theirs.get(path)
            ]
            assert not found, f"{step['tree']}:\n" + "\n".join(found)

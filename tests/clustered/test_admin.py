"""Our brokers answer as brokers of Apache Kafka 3.9.1 did, at the controller and elsewhere, when the same is asked."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from cluster.protocol.served import SERVED, SERVED_IN_CLUSTER
from tests.clustered.captured import load
from tests.clustered.known import reason
from tests.clustered.stage import Stage
from tests.clustered.stories import STORIES
from tests.differential.compare import Difference, differences
from tests.differential.session import Step, Tree
from tests.support.zookeeper import ZooKeeper

#: What brokers of a cluster ask of one another, and of its controller, at Kafka's versions; the rest is in known.py.
OF_CLUSTERS = {int(key) for key in SERVED_IN_CLUSTER} - {int(key) for key in SERVED}


def faults(step: Step, ours: Tree, theirs: Tree) -> list[Difference]:
    return [each for each in differences(step, ours, theirs) if reason(each) is None]


@pytest.mark.timeout(300)
def test_the_same_answers(tmp_path: Path, ensemble: ZooKeeper) -> None:
    story, settings = STORIES["admin"]
    captured = load("admin")
    assert [step for step, _ in captured] == story, "the story has changed: python -m tests.clustered.captured admin"
    found = []
    with closing(Stage(tmp_path, ensemble.fresh(), "pylog", settings)) as stage:
        for step, theirs in captured:
            if "ask" not in step:
                assert stage.play(step) == theirs, step
                continue
            ours = stage.play(step, lambda ours: not faults(step["ask"], ours, theirs))  # noqa: B023
            found += [
                f"at {step['at']}: {each}\n  {json.dumps(step['ask'])[:600]}"
                for each in faults(step["ask"], ours, theirs)
            ]
        for broker in stage.cluster.brokers.values():
            assert "Traceback" not in broker.log.read_text("utf-8"), "a handler failed"
    assert not found, f"{len(found)} differences:\n" + "\n".join(found)


def test_versions_of_what_clusters_ask() -> None:
    (theirs, *_) = [outcome for step, outcome in load("admin") if step.get("ask", {}).get("api") == "ApiVersions"]
    ranges = {each["api_key"]: (each["min_version"], each["max_version"]) for each in theirs["api_keys"]}
    assert {int(key): SERVED_IN_CLUSTER[key] for key in SERVED_IN_CLUSTER if int(key) in OF_CLUSTERS} == {
        key: ranges[key] for key in OF_CLUSTERS
    }

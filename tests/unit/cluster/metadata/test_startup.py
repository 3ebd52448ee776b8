"""A broker's first steps leave the tree as Kafka 3.9.1 left it."""

from pathlib import Path

import pytest

from cluster.metadata import paths, startup
from cluster.metadata.forms import Forms, forms_of
from cluster.metadata.local import LocalStore
from cluster.metadata.memory import MemoryTree
from cluster.metadata.reader import read_brokers, read_cluster
from cluster.metadata.store import NodeExists, Store
from cluster.model import EndPoint
from tests.unit.cluster.metadata.snapshots import Znode, snapshots

NOW_MS = 1_795_345_304_076
ENDPOINTS = (EndPoint("PLAINTEXT", "127.0.0.1", 17_091, "PLAINTEXT"),)
REGISTRATION = paths.BrokerRegistration(ENDPOINTS, "rack1", NOW_MS)


def start(store: Store, broker_id: int = 1) -> tuple[int, int, int]:
    """Returns broker epoch, controller epoch and fence."""
    startup.prepare_tree(store, "BqAbZzJcRyCV7ufzNcp56A")
    broker_epoch = startup.register_broker(store, broker_id, REGISTRATION)
    epoch, fence = startup.become_controller(store, broker_id, 1_795_345_304_360)
    startup.tidy_up(store)
    return broker_epoch, epoch, fence


def everything(store: Store, path: str = "/") -> list[Znode]:
    data, stat = store.get(path)
    node = Znode(path, data, bool(stat.ephemeral_owner), stat.version, stat.cversion, stat.num_children)
    below = [each for name in store.children(path) for each in everything(store, f"{path.rstrip('/')}/{name}")]
    return [node, *below]


def test_the_tree_of_a_first_broker() -> None:
    store = MemoryTree(lambda: NOW_MS).connect()
    _, epoch, fence = start(store)
    assert (epoch, fence) == (1, 1)
    ours = [node for node in everything(store) if node.path != "/"]
    kafkas = [node for node in snapshots()["01-first-broker"] if node.path != "/"]
    assert sorted(ours) == sorted(kafkas), "data, kind, versions and numbers of children"


def test_a_second_start_changes_only_the_epoch(tmp_path: Path) -> None:
    path = str(tmp_path / "metadata.db")
    store = LocalStore(path, lambda: NOW_MS)
    first = start(store)
    before = everything(store)
    store.close()
    store = LocalStore(path, lambda: NOW_MS)
    assert startup.prepare_tree(store, "AAAAAAAAAAAAAAAAAAAAAA") == "BqAbZzJcRyCV7ufzNcp56A"
    second = start(store)
    assert second[0] > first[0] and second[1:] == (2, 2)
    changed = {old.path for old, new in zip(before, everything(store), strict=True) if old != new}
    assert changed == {"/", "/brokers/ids", "/controller_epoch"}
    store.close()


def test_an_id_that_another_session_holds() -> None:
    tree = MemoryTree(lambda: NOW_MS)
    start(tree.connect())
    other = tree.connect()
    startup.prepare_tree(other, "ignored")
    with pytest.raises(NodeExists):
        startup.register_broker(other, 1, REGISTRATION)
    with pytest.raises(NodeExists):
        startup.become_controller(other, 2, NOW_MS)
    assert startup.register_broker(other, 2, REGISTRATION) > 0
    assert sorted(read_brokers(other)) == [1, 2]


def test_a_registration_waits_for_the_session_of_before() -> None:
    tree = MemoryTree(lambda: NOW_MS)
    before, again = tree.connect(), tree.connect()
    first = start(before)[0]
    said: list[str] = []
    pauses = []

    def pause() -> bool:
        pauses.append(1)
        if len(pauses) == 3:
            tree.expire(before.session_id)
        return len(pauses) < 10

    epoch = startup.register_when_free(again, 1, REGISTRATION, pause=pause, say=said.append)
    assert epoch > first and len(pauses) == 3
    assert len(said) == 1 and said[0].startswith(f"/brokers/ids/1 belongs to session 0x{before.session_id:x};")
    with pytest.raises(NodeExists):
        startup.register_when_free(tree.connect(), 1, REGISTRATION, pause=pause, say=said.append)
    assert len(pauses) == 10


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("3.9-IV0", Forms(5, 2, paths.FeatureNode(1, 2), True)),
        ("3.4", Forms(5, 2, paths.FeatureNode(1, 2), True)),
        ("3.3-IV0", Forms(5, 1, paths.FeatureNode(1, 2), True)),
        ("3.2-IV0", Forms(5, 1, paths.FeatureNode(1, 1), True)),
        ("2.8-IV0", Forms(5, 1, paths.FeatureNode(1, 1), True)),
        ("2.7", Forms(5, 1, paths.FeatureNode(1, 1), False)),
        ("2.6-IV0", Forms(4, 1, paths.FeatureNode(0, 1), False)),
        ("0.10.0-IV1", Forms(4, 1, paths.FeatureNode(0, 1), False)),
        ("0.10.0", Forms(4, 1, paths.FeatureNode(0, 1), False)),
        ("0.10.0-IV0", Forms(2, 1, paths.FeatureNode(0, 1), False)),
        ("0.9.0", Forms(2, 1, paths.FeatureNode(0, 1), False)),
    ],
)
def test_forms(protocol: str, expected: Forms) -> None:
    assert forms_of(protocol) == expected


def test_what_protocol_2_6_writes() -> None:
    store = MemoryTree(lambda: NOW_MS).connect()
    forms = forms_of("2.6")
    startup.prepare_tree(store, "OXi_rJhdQXGNg7gSGlS2YQ")
    kafkas = {node.path: node.data or b"" for node in snapshots()["ibp26"]}
    there = paths.BrokerRegistration.decode(kafkas["/brokers/ids/1"])
    startup.register_broker(store, 1, there._replace(version=forms.broker))
    startup.become_controller(store, 1, NOW_MS, version=forms.controller)
    store.multi(startup.feature_ops(store, forms.feature))
    for path in ("/brokers/ids/1", "/feature"):
        assert store.get(path)[0] == kafkas[path], path
    # Kafka before 3.4 wrote this form; 3.9 writes the later one whatever the protocol is.
    assert store.get(paths.CONTROLLER)[0] == b'{"version":1,"brokerid":1,"timestamp":"1795345304076"}'


def test_the_feature_node_follows_the_protocol() -> None:
    store = MemoryTree(lambda: NOW_MS).connect()
    startup.prepare_tree(store, "BqAbZzJcRyCV7ufzNcp56A")
    old = b'{"features":{"f":{"max_version_level":3,"min_version_level":3}},"version":1,"status":1}'
    store.create(paths.FEATURE, old)
    startup.tidy_up(store)
    assert store.get(paths.FEATURE)[0] == b'{"features":{"f":{"max_version_level":3}},"version":2,"status":1}'
    assert startup.feature_ops(store, paths.FeatureNode()) == [], "what is right is not written again"
    store.multi(startup.feature_ops(store, forms_of("3.2").feature))
    assert store.get(paths.FEATURE)[0] == old
    store.multi(startup.feature_ops(store, forms_of("2.6").feature))
    assert store.get(paths.FEATURE)[0] == b'{"features":{},"version":1,"status":0}'


def test_generated_ids() -> None:
    store = MemoryTree(lambda: NOW_MS).connect()
    startup.prepare_tree(store, "BqAbZzJcRyCV7ufzNcp56A")
    assert [startup.generate_broker_id(store, 1000) for _ in range(3)] == [1001, 1002, 1003]
    assert store.get(paths.BROKER_SEQUENCE)[0] == b""


def test_a_new_controller_clears_old_notifications() -> None:
    store = MemoryTree(lambda: NOW_MS).connect()
    startup.prepare_tree(store, "BqAbZzJcRyCV7ufzNcp56A")
    store.create(paths.ISR_CHANGE_PREFIX, paths.IsrChange((("t", 0),)).encode(), sequential=True)
    store.create(paths.LOG_DIR_EVENT_PREFIX, paths.LogDirEvent(3).encode(), sequential=True)
    startup.tidy_up(store)
    assert store.children(paths.ISR_CHANGES) == store.children(paths.LOG_DIR_EVENTS) == []
    assert store.get(paths.FEATURE)[0] == b'{"features":{},"version":2,"status":1}'


def test_config_notifications_are_kept_a_quarter_of_an_hour() -> None:
    clock = [0]
    store = MemoryTree(lambda: clock[0]).connect()
    startup.prepare_tree(store, "BqAbZzJcRyCV7ufzNcp56A")
    for clock[0] in (0, 60_000):
        store.create(paths.CONFIG_CHANGE_PREFIX, paths.ConfigChange("topics/t").encode(), sequential=True)
    names = store.children(paths.CONFIG_CHANGES)
    assert startup.outdated_changes(store, names, 900_000) == []
    store.multi(startup.outdated_changes(store, [*names, "config_change_0000000099"], 900_001))
    assert store.children(paths.CONFIG_CHANGES) == ["config_change_0000000001"]


def test_a_tree_that_cannot_be_read_is_named() -> None:
    store = MemoryTree(lambda: NOW_MS).connect()
    start(store)
    store.create("/brokers/topics/t", b"{}")
    with pytest.raises(ValueError, match="/brokers/topics/t: no partitions"):
        read_cluster(store)


@pytest.mark.parametrize("step", ["03-topics-created", "07-configs", "16-reassign-done", "27-all-stopped", "ibp26"])
def test_kafkas_trees_are_read(step: str) -> None:
    store = MemoryTree(lambda: NOW_MS).connect()
    nodes = snapshots()[step]
    for node in sorted(nodes):
        if node.path != "/":
            store.create(node.path, node.data, ephemeral=node.is_ephemeral)
    facts = read_cluster(store)
    paths_there = {node.path for node in nodes}
    assert {paths.topic(name) for name in facts.topics} == {
        path for path in paths_there if path.startswith("/brokers/topics/") and path.count("/") == 3
    }
    assert {paths.partition_state(*each) for each in facts.states} == {p for p in paths_there if p.endswith("/state")}
    assert {paths.broker(each) for each in facts.brokers} == {p for p in paths_there if p.startswith("/brokers/ids/")}
    assert set(facts.topic_configs) == set(facts.topics)
    assert facts.controller_epoch > 0 and len(facts.cluster_id) == 22

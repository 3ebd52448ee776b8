"""Whatever Kafka wrote into the tree is read, and written again byte for byte."""

import json
import re
from collections.abc import Callable

import pytest

from cluster.metadata import paths, security_paths
from cluster.model import BrokerEpoch, EndPoint, LeaderAndIsr, PartitionAssignment, TopicDescription
from pylog.types import ZERO_TOPIC_ID
from tests.unit.cluster.metadata.snapshots import snapshots

RoundTrip = Callable[[str, bytes], bytes]


def topic(path: str, data: bytes) -> bytes:
    return paths.encode_topic(paths.decode_topic(path.rpartition("/")[2], data))


# The first pattern that matches a path says how its data is read and written.
CODECS: list[tuple[str, RoundTrip]] = [
    (r"/brokers/ids/\d+", lambda _, data: paths.BrokerRegistration.decode(data).encode()),
    (r"/brokers/topics/[^/]+", topic),
    (r"/brokers/topics/[^/]+/partitions/\d+/state",
     lambda _, data: paths.encode_partition_state(paths.decode_partition_state(data, 0))),
    (r"/cluster/id", lambda _, data: paths.ClusterIdNode.decode(data).encode()),
    (r"/config/changes/config_change_\d{10}", lambda _, data: paths.ConfigChange.decode(data).encode()),
    (r"/config/(topics|brokers|users|clients|ips)/.+", lambda _, data: paths.encode_config(paths.decode_config(data))),
    (r"/controller", lambda _, data: paths.ControllerNode.decode(data).encode()),
    (r"/controller_epoch", lambda _, data: paths.encode_controller_epoch(paths.decode_controller_epoch(data))),
    (r"/feature", lambda _, data: paths.FeatureNode.decode(data).encode()),
    (r"/latest_producer_id_block", lambda _, data: paths.ProducerIdBlock.decode(data).encode()),
    (r"/delegation_token/tokens/.+", lambda _, data: security_paths.DelegationToken.decode(data).encode()),
    (r"/delegation_token/token_changes/token_change_\d{10}", lambda _, data: data),
    (r"/kafka-acl/[^/]+/.+", lambda _, data: security_paths.encode_acls(security_paths.decode_acls(data))),
    (r"/kafka-acl-changes/acl_changes_\d{10}",
     lambda _, data: security_paths.LiteralAclChange.decode(data).encode()),
    (r"/kafka-acl-extended-changes/acl_changes_\d{10}",
     lambda _, data: security_paths.ExtendedAclChange.decode(data).encode()),
]  # fmt: skip


def in_order(data: bytes) -> bool:
    """False for a topic of so many partitions that Kafka's hash map shuffled them."""
    value = json.loads(data) if data.startswith(b"{") else {}
    indices = [int(index) for index in value["partitions"]] if "topic_id" in value else []
    return indices == sorted(indices)


@pytest.mark.parametrize("step", snapshots())
def test_every_znode_round_trips(step: str) -> None:
    used = 0
    for node in snapshots()[step]:
        if not node.data or node.path == "/":
            continue
        codecs = [codec for pattern, codec in CODECS if re.fullmatch(pattern, node.path)]
        assert codecs, f"nothing reads {node.path}"
        written = codecs[0](node.path, node.data)
        if in_order(node.data):
            assert written == node.data, node.path
            used += 1
        else:
            assert json.loads(written) == json.loads(node.data), node.path
    assert used > 4 or step == "00-empty"


def test_all_kinds_were_seen() -> None:
    seen = {node.path for nodes in snapshots().values() for node in nodes if node.data}
    for pattern, _ in CODECS:
        assert any(re.fullmatch(pattern, path) for path in seen), pattern


# As written by old tools and seen in a trace of every write; none outlives its handling.
NOTIFICATIONS = [
    (paths.IsrChange.decode, b'{"version":1,"partitions":[{"topic":"v2","partition":0}]}'),
    (paths.LogDirEvent.decode, b'{"version":1,"broker":3,"event":1}'),
    (paths.ReassignPartitions.decode,
     b'{"version":1,"partitions":[{"topic":"assigned","partition":0,"replicas":[3,1]}]}'),
    (paths.PreferredElection.decode, b'{"version":1,"partitions":[{"topic":"assigned","partition":0}]}'),
]  # fmt: skip


@pytest.mark.parametrize(("decode", "data"), NOTIFICATIONS)
def test_notifications(decode: Callable[[bytes], paths.IsrChange], data: bytes) -> None:
    assert decode(data).encode() == data


def test_what_is_read() -> None:
    nodes = {node.path: node.data for node in snapshots()["14-reassign-inprogress"]}
    moving = paths.decode_topic("bigmove", nodes["/brokers/topics/bigmove"]).partitions[0]
    assert moving == PartitionAssignment((2, 3), (2,), (3,))
    assert moving.is_reassigning and moving.target == (2,) and moving.origin == (3,)
    state = paths.decode_partition_state(nodes["/brokers/topics/txn/partitions/0/state"], 7)
    assert state == LeaderAndIsr(3, 0, (3, 2, 1), 1, 7)
    registered = paths.BrokerRegistration.decode(nodes["/brokers/ids/2"]).broker(2, 49)
    assert registered.endpoints == (EndPoint("PLAINTEXT", "127.0.0.1", 17092, "PLAINTEXT"),)
    assert (registered.id, registered.rack, registered.epoch) == (2, "rack2", BrokerEpoch(49))
    assert paths.ControllerNode.decode(nodes["/controller"]).broker_id == 1
    assert paths.decode_controller_epoch(nodes["/controller_epoch"]) == 1
    assert paths.decode_config(nodes["/config/topics/retained"])["retention.bytes"] == "8192"
    assert paths.decode_config(None) == {}


def test_a_leader_that_recovers() -> None:
    state = LeaderAndIsr(2, 5, (2,), 3, 9, recovering=True)
    data = paths.encode_partition_state(state)
    assert b'"leader_recovery_state":1' in data
    assert paths.decode_partition_state(data, 9) == state
    assert b"recovery" not in paths.encode_partition_state(state._replace(recovering=False)), "as Kafka leaves it out"


def test_older_versions_are_read() -> None:
    first = paths.decode_topic("t", b'{"version":1,"partitions":{"1":[2],"0":[1,2]}}')
    assert first == TopicDescription("t", ZERO_TOPIC_ID, (PartitionAssignment((1, 2)), PartitionAssignment((2,))))


def test_a_broker_without_a_plaintext_listener_names_no_host() -> None:
    registration = paths.BrokerRegistration((EndPoint("OUT", "::1", 9093, "SSL"),), None, 5)
    data = registration.encode()
    assert data == (
        b'{"features":{},"listener_security_protocol_map":{"OUT":"SSL"},"endpoints":["OUT://[::1]:9093"],'
        b'"jmx_port":-1,"port":-1,"host":null,"version":5,"timestamp":"5"}'
    )
    assert paths.BrokerRegistration.decode(data) == registration


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: paths.decode_topic("t", None),
        lambda: paths.decode_topic("t", b"[]"),
        lambda: paths.decode_topic("t", b"{}"),
        lambda: paths.decode_topic("t", b'{"version":3,"partitions":{"1":[1]}}'),
        lambda: paths.decode_topic("t", b'{"version":3,"partitions":{},"topic_id":"short"}'),
        lambda: paths.decode_topic("t", b'{"version":3,"partitions":{"0":7}}'),
        lambda: paths.decode_topic("t", b'{"version":3,"partitions":{"0":["1"]}}'),
        lambda: paths.decode_topic("t", b'{"version":3,"partitions":[]}'),
        lambda: paths.decode_partition_state(b'{"leader":1}', 0),
        lambda: paths.decode_partition_state(b'{"leader":1,"leader_epoch":0,"isr":5,"controller_epoch":1}', 0),
        lambda: paths.decode_partition_state(b'{"leader":[],"leader_epoch":0,"isr":[],"controller_epoch":1}', 0),
        lambda: paths.ConfigChange.decode(b'{"version":2,"entity_path":5}'),
        lambda: paths.IsrChange.decode(b'{"version":1,"partitions":["t"]}'),
        lambda: paths.BrokerRegistration.decode(b'{"version":5}'),
        lambda: paths.BrokerRegistration.decode(b'{"version":5,"endpoints":["nonsense"]}'),
        lambda: paths.ControllerNode.decode(b"not json"),
        lambda: paths.decode_controller_epoch(b"x"),
        lambda: paths.decode_controller_epoch(None),
        lambda: paths.decode_config(b'{"version":1,"config":[]}'),
        lambda: security_paths.decode_acls(b'{"acls":[{}]}'),
        lambda: security_paths.LiteralAclChange.decode(b"x"),
        lambda: security_paths.ExtendedAclChange.decode(b"{}"),
        lambda: security_paths.DelegationToken.decode(b"{}"),
    ],
)
def test_nonsense_is_a_value_error(attempt: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        attempt()


@pytest.mark.parametrize(
    ("entity", "sanitized"),
    [("User:alice", "User%3Aalice"), ("a b", "a%20b"), ("*", "%2A"), ("a.b-c_d~", "a.b-c_d%7E"), ("é", "%C3%A9")],
)
def test_names_in_paths(entity: str, sanitized: str) -> None:
    assert paths.sanitize(entity) == sanitized
    assert paths.desanitize(sanitized) == entity


def test_paths() -> None:
    assert paths.partition_state("t", 3) == "/brokers/topics/t/partitions/3/state"
    assert paths.config("users", paths.sanitize("a b")) == "/config/users/a%20b"
    assert security_paths.acl("Topic", "pre", prefixed=True) == "/kafka-acl-extended/prefixed/Topic/pre"
    assert security_paths.acl("Topic", "*", prefixed=False) == "/kafka-acl/Topic/*"


def test_registrations_of_old_brokers() -> None:
    host_and_port = b'{"jmx_port":-1,"timestamp":"1","host":"h","version":1,"port":9092}'
    plain = EndPoint("PLAINTEXT", "h", 9092, "PLAINTEXT")
    assert paths.BrokerRegistration.decode(host_and_port).endpoints == (plain,)
    written = paths.BrokerRegistration((plain, EndPoint("SSL", "h", 9093, "SSL")), "r", 1, version=2).encode()
    assert written == (
        b'{"endpoints":["PLAINTEXT://h:9092","SSL://h:9093"],"jmx_port":-1,"port":9092,"host":"h","version":2,'
        b'"timestamp":"1"}'
    )
    assert [each.protocol for each in paths.BrokerRegistration.decode(written).endpoints] == ["PLAINTEXT", "SSL"]


def test_the_first_form_of_controller() -> None:
    old = b'{"version":1,"brokerid":4,"timestamp":"17"}'
    node = paths.ControllerNode.decode(old)
    assert node == (4, 17, 1) and node.encode() == old

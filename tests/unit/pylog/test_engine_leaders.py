"""Requests for partitions that are not hosted: whoever leads them is named, as Apache Kafka 3.9.1 does it (KIP-951)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.protocol.messages import FetchResponse, ProduceResponse
from pylog._engine import GRANT_READ, GRANT_WRITE, RESOURCE_TOPIC, ROLE_FOLLOWER, TopicLeaders
from pylog.errors import KafkaError
from tests.unit.pylog.engine_client import LEADER, TIMEOUT_MS, Client, Host, batch, parts_of, topic_id

ONE = batch([b"x"])
REPLICATED = LEADER._replace(replicas=(1, 2), isr=(1, 2), min_insync_replicas=1, high_watermark=0)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path).start()
    yield host
    host.close()


def tell(host: Host, topic: str, *partitions: tuple[int, int, int], internal: bool = False) -> None:
    host.engine.publish_leaders([TopicLeaders(topic, topic_id(topic), internal, partitions)])


def produced(client: Client, version: int) -> ProduceResponse:
    answer = client.decode(ProduceResponse, 0, version)
    assert isinstance(answer, ProduceResponse)
    return answer


def named(answer: ProduceResponse | FetchResponse) -> list[tuple[int, str, int]]:
    return [(node.node_id, node.host, node.port) for node in answer.node_endpoints]


@pytest.mark.parametrize("version", [9, 10, 12, 13])
def test_a_producer_is_told_of_the_leader(host: Host, version: int) -> None:
    host.engine.publish_node(7, 2, "there", 9999)
    tell(host, "t", (0, 2, 5), (1, -1, 6), (2, 3, 0))
    with host.client() as client:
        client.send_produce({("t", index): ONE for index in range(4)}, version=version)
        answer = produced(client, version)
    (topic,) = answer.responses
    assert [part.error_code for part in topic.partition_responses] == [6, 6, 6, 3]
    leaders = [(p.current_leader.leader_id, p.current_leader.leader_epoch) for p in topic.partition_responses]
    if version == 9:
        assert leaders == [(-1, -1)] * 4
    else:  # nobody leads the second; where the third's leader is, is not known
        assert leaders == [(2, 5), (-1, 6), (3, 0), (-1, -1)]
        assert named(answer) == [(2, "there", 9999)]


@pytest.mark.parametrize("version", [4, 11, 12, 13, 16, 17])
def test_a_reader_is_told_of_the_leader(host: Host, version: int) -> None:
    host.engine.publish_node(7, 2, "there", 9999)
    tell(host, "t", (0, 2, 5), (1, -1, 6))
    with host.client() as client:
        client.send_fetch({("t", index): 0 for index in range(3)}, version=version)
        answer = client.fetched(version)
    (topic,) = answer.responses
    assert [part.error_code for part in topic.partitions] == [6, 6, 3]
    leaders = [(p.current_leader.leader_id, p.current_leader.leader_epoch) for p in topic.partitions]
    assert leaders == ([(2, 5), (-1, 6), (-1, -1)] if version >= 16 else [(-1, -1)] * 3)
    assert named(answer) == ([(2, "there", 9999)] if version >= 16 else [])


def test_what_is_wrong_anywhere_comes_first(host: Host) -> None:
    tell(host, "t", (0, 2, 5))
    tell(host, "__internal", (0, 2, 5), internal=True)
    with host.client() as client:
        assert client.produce(ONE, acks=2).error_code == 21
        assert client.produce(None).error_code == 87
        assert client.produce(b"").error_code == 87
        assert client.produce(ONE + ONE).error_code == 87
        assert client.produce(ONE, "__internal").error_code == 17
        client.send_produce({("__internal", 0): ONE}, client_id=b"__admin_client")
        assert client.produced()[0].error_code == 6


def test_ids_that_nobody_told_of(host: Host) -> None:
    tell(host, "t", (0, 2, 5))
    host.host("u")
    with host.client() as client:
        for topic, index, code in (("never", 0, 100), ("t", 1, 3), ("u", 1, 3), ("t", 0, 6)):
            assert client.produce(ONE, topic, index, version=13).error_code == code
            client.send_fetch({(topic, index): 0}, version=17)
            assert client.fetched(17).responses[0].partitions[0].error_code == code


def test_a_partition_that_goes_is_forgotten(host: Host) -> None:
    tell(host, "t", (0, 2, 5), (1, 2, 5))
    tell(host, "t", (0, -1, -1))
    with host.client() as client:
        assert client.produce(ONE).error_code == 3
        assert client.produce(ONE, index=1).error_code == 6
        host.engine.publish_leaders([TopicLeaders("t", b"\0" * 16, False, ())])
        assert client.produce(ONE, index=1).error_code == 3


def test_what_is_hosted_says_it_itself(host: Host) -> None:
    """The state of the replica is what counts, also when the controller's view of the cluster is older."""
    host.host(state=LEADER._replace(role=ROLE_FOLLOWER, leader_id=3, leader_epoch=7))
    tell(host, "t", (0, 2, 5))
    with host.client() as client:
        client.send_produce({("t", 0): ONE}, version=10)
        (part,) = produced(client, 10).responses[0].partition_responses
    assert (part.error_code, part.current_leader.leader_id, part.current_leader.leader_epoch) == (6, 3, 7)


def test_removal_sends_those_who_wait_to_the_leader(host: Host) -> None:
    hosted = host.host(state=REPLICATED)
    host.engine.publish_node(7, 2, "there", 9999)
    tell(host, "t", (0, 2, 1))
    with host.client() as producer, host.client() as reader:
        producer.send_produce({("t", 0): ONE}, acks=-1, version=10)
        reader.send_fetch({("t", 0): 0}, version=16, max_wait_ms=TIMEOUT_MS, min_bytes=1 << 20)
        host.wait_for(lambda: host.engine.stats().delayed_now == 2)
        host.remove(hosted, 6)
        answer = produced(producer, 10)
        (part,) = answer.responses[0].partition_responses
        assert (part.error_code, part.current_leader.leader_id, part.current_leader.leader_epoch) == (6, 2, 1)
        assert named(answer) == [(2, "there", 9999)]
        fetched = reader.fetched(16)
        (read,) = parts_of(fetched).values()
        assert (read.error_code, read.current_leader.leader_id, read.current_leader.leader_epoch) == (6, 2, 1)
        assert named(fetched) == [(2, "there", 9999)]


def test_a_partition_elsewhere_ends_the_wait_of_the_others(host: Host) -> None:
    host.host()
    tell(host, "far", (0, 2, 1))
    with host.client() as client:
        client.send_fetch({("t", 0): 0, ("far", 0): 0}, max_wait_ms=TIMEOUT_MS)
        parts = parts_of(client.fetched())
    assert {name: part.error_code for name, part in parts.items()} == {("t", 0): 0, ("far", 0): 6}


def test_a_topic_elsewhere_is_authorized_by_its_name(tmp_path: Path) -> None:
    host = Host(tmp_path, authorizer=True).start()
    try:
        tell(host, "open", (0, 2, 1))
        tell(host, "shut", (0, 2, 1))
        host.engine.publish_grant(0, RESOURCE_TOPIC, b"open", GRANT_READ | GRANT_WRITE)
        host.engine.publish_grant(0, RESOURCE_TOPIC, b"shut", 0)
        with host.client() as client:
            for topic, code in (("open", 6), ("shut", 29)):
                assert client.produce(ONE, topic, version=13).error_code == code
                client.send_fetch({(topic, 0): 0}, version=17)
                assert client.fetched(17).responses[0].partitions[0].error_code == code
    finally:
        host.close()


def test_impossible_names_are_refused(host: Host) -> None:
    told = [
        TopicLeaders("t" * 250, topic_id("t"), False, [(0, 1, 1)]),
        TopicLeaders("u", topic_id("u"), False, [(0, 1, 1)]),
    ]
    with pytest.raises(KafkaError):
        host.engine.publish_leaders(told)
    with host.client() as client:
        assert client.produce(ONE, "u").error_code == 6

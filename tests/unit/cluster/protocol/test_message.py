"""Message classes: defaults, values, refusals. The bytes themselves are held by test_golden.py."""

import subprocess
import sys
import threading

import pytest

from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError, EncodeError
from cluster.protocol.message import Message, build_message


def test_defaults_are_the_schemas() -> None:
    request = m.JoinGroupRequest()
    assert (request.group_id, request.session_timeout_ms, request.rebalance_timeout_ms) == ("", 0, -1)
    assert request.group_instance_id is None
    assert request.protocols == []
    assert m.FetchRequest().max_bytes == 0x7FFFFFFF
    assert m.FetchRequest().replica_state == m.FetchRequest.ReplicaState(replica_id=-1, replica_epoch=-1)
    assert m.MetadataRequest().topics == []
    assert m.MetadataRequest().allow_auto_topic_creation is True
    assert m.MetadataResponse.MetadataResponseTopic().topic_id == bytes(16)
    assert m.FetchResponse.PartitionData().records is None
    assert m.ConsumerGroupHeartbeatResponse().assignment is None


def test_every_object_has_its_own_arrays_and_structs() -> None:
    one, two = m.MetadataRequest(), m.MetadataRequest()
    assert one.topics is not two.topics
    assert m.FetchRequest().replica_state is not m.FetchRequest().replica_state
    assert m.MetadataRequest(topics=None).topics is None


def test_facts_of_a_class() -> None:
    assert m.JoinGroupRequest.api_key == 11
    assert m.JoinGroupRequest.valid_versions == (0, 9)
    assert m.JoinGroupRequest.flexible_versions == 6
    assert m.InitProducerIdRequest.latest_version_unstable
    assert not m.JoinGroupRequest.latest_version_unstable
    assert m.SaslHandshakeRequest.flexible_versions > m.SaslHandshakeRequest.valid_versions[1]
    assert m.LeaderAndIsrRequest.valid_versions == (0, 7)
    assert m.FetchRequest.valid_versions == (0, 18)


def test_values_are_compared_shown_and_not_hashed() -> None:
    topic = m.MetadataRequest.MetadataRequestTopic(name="t")
    assert topic == m.MetadataRequest.MetadataRequestTopic(name="t")
    assert topic != m.MetadataRequest.MetadataRequestTopic(name="u")
    assert topic != m.MetadataRequest(topics=[topic])
    assert repr(topic) == f"MetadataRequest.MetadataRequestTopic(topic_id={bytes(16)!r}, name='t')"
    with pytest.raises(TypeError):
        hash(topic)


def test_a_class_takes_only_its_fields() -> None:
    with pytest.raises(TypeError):
        m.HeartbeatRequest(group="g")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        m.HeartbeatRequest("g")  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        m.HeartbeatRequest().generation = 1  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no message HeartbitRequest"):
        m.HeartbitRequest  # type: ignore[attr-defined] # noqa: B018


def test_a_class_is_published_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(m.__dict__, "EndTxnRequest", raising=False)
    start = threading.Barrier(4)
    seen: list[type[Message]] = []

    def ask() -> None:
        start.wait()
        seen.append(m.EndTxnRequest)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert set(map(id, seen)) == {id(m.EndTxnRequest)}
    assert build_message("EndTxnRequest") is not m.EndTxnRequest


def test_versions_that_do_not_exist() -> None:
    with pytest.raises(EncodeError, match="no version 10"):
        m.JoinGroupRequest().encode(10)
    with pytest.raises(DecodeError, match="no version -1"):
        m.JoinGroupRequest.decode(b"", -1)


def test_left_over_bytes() -> None:
    data = m.HeartbeatRequest(group_id="g").encode(0)
    with pytest.raises(DecodeError, match="2 bytes left over"):
        m.HeartbeatRequest.decode(data + b"xx", 0)
    assert m.HeartbeatRequest.decode(data + b"xx", 0, exact=False).group_id == "g"
    with pytest.raises(DecodeError, match="offset -1"):
        m.HeartbeatRequest.decode(data, 0, -1)
    with pytest.raises(DecodeError):
        m.HeartbeatRequest.decode(data, 0, len(data) + 1)


def test_any_bytes_like_will_do() -> None:
    data = b"__" + m.HeartbeatRequest(group_id="g", member_id="m").encode(4)
    for view in (data, bytearray(data), memoryview(data)):
        assert m.HeartbeatRequest.decode(view, 4, 2).member_id == "m"


def test_a_field_that_matters_is_not_dropped() -> None:
    # Kafka's rule: group_instance_id is not ignorable and version 4 has no such field; reason is ignorable.
    with pytest.raises(EncodeError, match=r"JoinGroupRequest\.group_instance_id is set, but version 4"):
        m.JoinGroupRequest(group_instance_id="i").encode(4)
    assert m.JoinGroupRequest(reason="r").encode(4) == m.JoinGroupRequest().encode(4)
    with pytest.raises(EncodeError):
        m.OffsetFetchRequest(groups=[m.OffsetFetchRequest.OffsetFetchRequestGroup()]).encode(7)
    with pytest.raises(EncodeError):
        m.FetchRequest(replica_state=m.FetchRequest.ReplicaState(replica_id=1)).encode(14)


def test_values_that_cannot_be_said() -> None:
    with pytest.raises(EncodeError):
        m.HeartbeatRequest(generation_id=1 << 31).encode(0)
    with pytest.raises(EncodeError):
        m.HeartbeatRequest(group_id=None).encode(0)  # type: ignore[arg-type]
    with pytest.raises(EncodeError):
        m.HeartbeatRequest(group_id=None).encode(4)  # type: ignore[arg-type]
    for version in (0, 4):
        with pytest.raises(EncodeError):
            m.HeartbeatRequest(group_id="x" * 32768).encode(version)
        assert m.HeartbeatRequest.decode(m.HeartbeatRequest(group_id="x" * 32767).encode(version), version)
    with pytest.raises(EncodeError, match="a uuid has 16 bytes"):
        m.MetadataRequest(topics=[m.MetadataRequest.MetadataRequestTopic(topic_id=b"short")]).encode(12)
    with pytest.raises(EncodeError):
        m.MetadataRequest(topics=None).encode(0)  # null is not in version 0


def test_unknown_tagged_fields_are_skipped() -> None:
    plain = m.HeartbeatRequest(group_id="g").encode(4)
    assert plain[-1] == 0
    tagged = plain[:-1] + b"\x02" + b"\x05\x03abc" + b"\xff\x01\x00"
    assert m.HeartbeatRequest.decode(tagged, 4) == m.HeartbeatRequest(group_id="g")
    for broken in (tagged[:-1], plain[:-1] + b"\x01\x05\x04abc", plain[:-1] + b"\xff\xff\xff\xff\xff\x01"):
        with pytest.raises(DecodeError):
            m.HeartbeatRequest.decode(broken, 4)


def test_a_known_tagged_field_has_its_size() -> None:
    request = m.FetchRequest(cluster_id="c")
    data = request.encode(12)
    at = data.index(b"\x01\x00\x02\x02c")
    assert m.FetchRequest.decode(data, 12) == request
    with pytest.raises(DecodeError, match="tagged field ends"):
        m.FetchRequest.decode(data[:at] + b"\x01\x00\x03\x02c\x00" + data[at + 5 :], 12)


def test_strings_that_are_not_utf8_are_read_as_kafka_reads_them() -> None:
    data = b"\x00\x02\xffg" + bytes(4) + b"\x00\x00"
    assert m.HeartbeatRequest.decode(data, 0).group_id == "\ufffdg"


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 126, 127, 128, 300, 16383, 16384])
def test_arrays_of_every_length(count: int) -> None:
    """Around the limits of the short codecs and of one- and two-byte lengths."""
    numbers = list(range(count))
    body = b"".join(number.to_bytes(4) for number in numbers)
    request = m.FetchRequest(forgotten_topics_data=[m.FetchRequest.ForgottenTopic(partitions=numbers)])
    for version in (7, 13):
        encoded = request.encode(version)
        assert body in encoded
        assert m.FetchRequest.decode(encoded, version) == request
    for version in (0, 2):
        groups = m.DeleteGroupsRequest(groups_names=[str(number) for number in numbers])
        assert m.DeleteGroupsRequest.decode(groups.encode(version), version) == groups
        partitions = m.DeleteRecordsRequest(
            topics=[
                m.DeleteRecordsRequest.DeleteRecordsTopic(
                    name="t",
                    partitions=[
                        m.DeleteRecordsRequest.DeleteRecordsPartition(partition_index=number) for number in numbers
                    ],
                )
            ]
        )
        assert m.DeleteRecordsRequest.decode(partitions.encode(version), version) == partitions


def test_null_where_it_may_not_be() -> None:
    for version, data in ((0, b"\xff\xff" + bytes(6)), (4, b"\x00" + bytes(8))):
        with pytest.raises(DecodeError, match=r"HeartbeatRequest\.group_id: length -1"):
            m.HeartbeatRequest.decode(data, version)
    with pytest.raises(DecodeError, match="length -2"):
        m.MetadataRequest.decode(b"\xff\xff\xff\xfe", 1)


def test_import_is_cheap() -> None:
    """The start-up budget: no heavy module and no table is read by importing."""
    heavy = (
        "dataclasses inspect logging argparse socket ssl uuid datetime random tempfile subprocess numpy kazoo pathlib"
    )
    code = (
        "import sys, cluster.protocol.messages as m, cluster.protocol.served, cluster.protocol.records\n"
        f"print([name for name in '{heavy}'.split() if name in sys.modules])\n"
        "print([name for name in vars(m) if name.endswith(('Request', 'Response'))])"
    )
    output = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert output.stdout.splitlines() == ["[]", "[]"]


ROOT = __file__.rsplit("/tests/", 1)[0]

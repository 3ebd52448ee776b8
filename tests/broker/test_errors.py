"""What a broker answers to requests that are wrong, or right in unusual ways: the codes that Apache Kafka 3.9.1 gives.

The same tests run against Apache Kafka with PYLOG_TEST_BROKER=kafka39 or kafka4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.protocol import messages as m
from tests.broker.batches import batch
from tests.broker.raw import Raw
from tests.support.brokers import Broker, start_broker, unavailable


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    why = unavailable()
    if why is not None:
        pytest.skip(why)
    directory: Path = tmp_path_factory.mktemp("errors")
    with start_broker(directory, {"auto.create.topics.enable": "false"}) as started:
        raw = Raw(started.port)
        topic = m.CreateTopicsRequest.CreatableTopic
        config = m.CreateTopicsRequest.CreatableTopicConfig
        created = raw.ask(
            m.CreateTopicsRequest(
                topics=[
                    topic(name="b1", num_partitions=2, replication_factor=1),
                    topic(name="idem", num_partitions=1, replication_factor=1),
                    topic(
                        name="comp",
                        num_partitions=1,
                        replication_factor=1,
                        configs=[config(name="cleanup.policy", value="compact")],
                    ),
                    topic(
                        name="small",
                        num_partitions=1,
                        replication_factor=1,
                        configs=[config(name="max.message.bytes", value="200")],
                    ),
                ],
                timeout_ms=15_000,
            ),
            5,
        )
        assert [t.error_code for t in created.topics] == [0, 0, 0, 0]
        raw.close()
        yield started


@pytest.fixture
def raw(broker: Broker) -> Iterator[Raw]:
    connection = Raw(broker.port)
    yield connection
    connection.close()


def produce(
    raw: Raw, records: bytes, *, topic: str = "b1", partition: int = 0, acks: int = -1, version: int = 7
) -> tuple[int, int]:
    """(error code, base offset) of one partition."""
    data = m.ProduceRequest.TopicProduceData(
        name=topic, partition_data=[m.ProduceRequest.PartitionProduceData(index=partition, records=records)]
    )
    answer = raw.ask(m.ProduceRequest(acks=acks, timeout_ms=5000, topic_data=[data]), version)
    (one,) = answer.responses[0].partition_responses
    return one.error_code, one.base_offset


BAD_PRODUCE = [
    ("unknown topic", {"topic": "nope"}, batch(), 3),
    ("unknown partition", {"partition": 9}, batch(), 3),
    ("acks 7", {"acks": 7}, batch(), 21),
    ("wrong checksum", {}, batch(crc_error=1), 2),
    ("count is not what is there", {}, batch(count=5), 87),
    ("last offset delta is not count - 1", {}, batch(last_delta=7), 87),
    ("base offset is not 0", {}, batch(base_offset=1000), 87),
    ("two batches", {}, batch() + batch(), 87),
    ("no batch", {}, b"", 87),
    ("cut short", {}, batch()[:-3], 87),
    ("magic 5", {}, batch(magic=5), 2),
    ("codec 7", {}, batch(attributes=7), -1),
    ("control batch", {}, batch(attributes=0x20), 87),
    ("no key in a compacted topic", {"topic": "comp"}, batch([(None, b"v")]), 87),
    ("too large for the topic", {"topic": "small"}, batch([(b"k", b"x" * 300)]), 10),
]


@pytest.mark.parametrize(("what", "where", "records", "code"), BAD_PRODUCE, ids=[case[0] for case in BAD_PRODUCE])
def test_produce_refused(raw: Raw, what: str, where: dict[str, Any], records: bytes, code: int) -> None:
    assert produce(raw, records, **where) == (code, -1), what


def test_produce_versions(raw: Raw) -> None:
    offsets = [produce(raw, batch(), partition=1, version=version) for version in (3, 5, 7, 8, 9, 11)]
    assert [code for code, _ in offsets] == [0] * 6
    assert [offset for _, offset in offsets] == list(range(offsets[0][1], offsets[0][1] + 6))


def test_produce_without_acks_is_not_answered(raw: Raw) -> None:
    data = m.ProduceRequest.TopicProduceData(
        name="b1", partition_data=[m.ProduceRequest.PartitionProduceData(index=0, records=batch())]
    )
    raw.send(m.ProduceRequest(acks=0, timeout_ms=5000, topic_data=[data]), 7)
    assert raw.ask(m.MetadataRequest(topics=[]), 4).brokers


def test_produce_without_acks_that_fails_closes(raw: Raw) -> None:
    data = m.ProduceRequest.TopicProduceData(
        name="nope", partition_data=[m.ProduceRequest.PartitionProduceData(index=0, records=batch())]
    )
    raw.send(m.ProduceRequest(acks=0, timeout_ms=5000, topic_data=[data]), 7)
    assert raw.closed()


def test_idempotence(raw: Raw) -> None:
    wish = m.InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
    given = raw.ask(wish, 1)
    for _ in range(100):  # Kafka has no block of producer ids at first and says COORDINATOR_LOAD_IN_PROGRESS
        if given.error_code == 0:
            break
        given = raw.ask(wish, 1)
    producer = given.producer_id
    assert producer >= 0
    one = [(b"k", b"v")]

    def send(epoch: int, sequence: int, count: int = 1, of: int = producer) -> tuple[int, int]:
        return produce(raw, batch(one * count, producer=(of, epoch, sequence)), topic="idem")

    assert send(0, 0) == (0, 0)
    assert send(0, 0) == (0, 0), "the duplicate is acknowledged with the offset it got"
    assert send(0, 5) == (45, -1), "a gap"
    for sequence in range(1, 8):
        assert send(0, sequence) == (0, sequence)
    assert send(0, 1) == (45, -1), "older than the five batches that are kept"
    assert send(1, 3) == (45, -1), "a new epoch starts at 0"
    assert send(1, 0) == (0, 8)
    assert send(0, 8) == (47, -1), "the old epoch"
    assert send(0, 9, of=producer + 500) == (0, 9), "a producer never seen may start anywhere"


def fetch(raw: Raw, offset: int, *, topic: str = "idem", partition: int = 0, **fields: Any) -> Any:
    part = m.FetchRequest.FetchPartition(
        partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20, log_start_offset=-1
    )
    if "leader_epoch" in fields:
        part.current_leader_epoch = fields.pop("leader_epoch")
    request = m.FetchRequest(
        max_wait_ms=100,
        min_bytes=1,
        topics=[m.FetchRequest.FetchTopic(topic=topic, partitions=[part])],
        **{"session_epoch": -1, **fields},
    )
    return raw.ask(request, 11)


def test_fetch(raw: Raw) -> None:
    produce(raw, batch([(b"a", b"1")] * 3), topic="idem")
    end = fetch(raw, 0).responses[0].partitions[0].high_watermark
    assert end > 0

    def code(*args: Any, **kwargs: Any) -> int:
        answer = fetch(raw, *args, **kwargs)
        return answer.error_code or answer.responses[0].partitions[0].error_code

    assert code(0) == 0
    assert code(end) == 0
    assert code(end + 1) == 1
    assert code(-1) == 1
    assert code(0, topic="nope") == 3
    assert code(0, partition=7) == 3
    assert code(0, leader_epoch=9) == 75
    assert code(0, session_id=4711, session_epoch=3) == 70
    assert code(0, session_id=0, session_epoch=5) == 70
    assert code(0, max_bytes=1) == 0
    assert fetch(raw, 0, max_bytes=1).responses[0].partitions[0].records, "the first batch comes whole"


def list_offset(raw: Raw, timestamp: int, *, topic: str = "idem", version: int = 7, epoch: int = -1) -> tuple[int, int]:
    part = m.ListOffsetsRequest.ListOffsetsPartition(partition_index=0, timestamp=timestamp, current_leader_epoch=epoch)
    answer = raw.ask(
        m.ListOffsetsRequest(
            replica_id=-1, topics=[m.ListOffsetsRequest.ListOffsetsTopic(name=topic, partitions=[part])]
        ),
        version,
    )
    one = answer.topics[0].partitions[0]
    return one.error_code, one.offset


def test_list_offsets(raw: Raw) -> None:
    produce(raw, batch(), topic="b1", partition=0)
    code, latest = list_offset(raw, -1, topic="b1")
    assert code == 0 and latest > 0
    assert list_offset(raw, -2, topic="b1") == (0, 0)
    assert list_offset(raw, 1 << 60, topic="b1") == (0, -1)
    assert list_offset(raw, 0, topic="b1") == (0, 0)
    assert list_offset(raw, -1, topic="nope") == (3, -1)
    assert list_offset(raw, -3, topic="b1", version=1) == (35, -1)
    assert list_offset(raw, -9, topic="b1") == (35, -1)
    assert list_offset(raw, -1, topic="b1", epoch=9) == (75, -1)


def test_find_coordinator(raw: Raw) -> None:
    def code(kind: int, key: str) -> int:
        return int(raw.ask(m.FindCoordinatorRequest(key=key, key_type=kind), 2).error_code)

    first = code(0, "g")
    for _ in range(500):  # Kafka is creating __consumer_offsets and says COORDINATOR_NOT_AVAILABLE
        if first == 0:
            break
        first = code(0, "g")
    assert first == 0
    assert code(0, "") == 0
    assert code(5, "g") == 42


def test_versions_and_keys(raw: Raw, broker: Broker) -> None:
    raw.socket.sendall(struct.pack(">ihhih3sb", 14, 18, 99, 1, 3, b"raw", 0))
    (size,) = struct.unpack(">i", raw.receive(4))
    assert struct.unpack(">ih", raw.receive(size)[:6]) == (1, 35)
    for key, version in ((3, 99), (999, 0), (55, 0)):
        other = Raw(broker.port)
        other.socket.sendall(struct.pack(">ihhih3s", 13, key, version, 1, 3, b"raw"))
        assert other.closed(), (key, version)
        other.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        struct.pack(">i", -5),
        struct.pack(">i", 2**31 - 1),
        struct.pack(">ihhih", 10, 3, 4, 1, 32767),
        struct.pack(">ihhihi", 14, 3, 4, 1, -1, 2**31 - 1),
        struct.pack(">ihhihi", 14, 0, 7, 1, -1, 2**31 - 1),
        struct.pack(">ihhihi", 14, 1, 11, 1, -1, 2**31 - 1),
    ],
    ids=["http", "negative size", "huge size", "client id cut", "metadata", "produce", "fetch"],
)
def test_garbage_closes(broker: Broker, raw: Raw, data: bytes) -> None:
    raw.socket.sendall(data)
    assert raw.closed()
    again = Raw(broker.port)
    assert again.ask(m.MetadataRequest(topics=[]), 4).brokers, "and nobody else is disturbed"
    again.close()


def test_tagged_fields_of_a_header(broker: Broker, raw: Raw) -> None:
    """Those that nobody knows are stepped over; a connection whose header says more of them than there is closes."""
    for key, tags in ((3, b"\2\0\3abc\xac\2\0"), (60, b"\1\7\x80\1" + bytes(128)), (60, b"\x81\0\7\0")):
        asked, told = (m.MetadataRequest(topics=[]), m.MetadataResponse)
        if key == 60:
            asked, told = (m.DescribeClusterRequest(), m.DescribeClusterResponse)
        version = 12 if key == 3 else 0
        raw.send(asked, version, tags)
        assert raw.answer(told, key, version).brokers
    for tags in (b"", b"\1\7\xff\1", b"\xff\xff\xff\xff\xff\xff"):
        other = Raw(broker.port)
        other.send(m.DescribeClusterRequest(), 0, tags)
        assert other.closed(), tags
        other.close()


class Group:
    """The requests of one member of group g1, with what a test wants to be wrong."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.member = ""

    def join(self, version: int = 2, **fields: Any) -> Any:
        protocol = m.JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"")
        asked = {
            "group_id": "g1",
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 10_000,
            "protocol_type": "consumer",
            "protocols": [protocol],
            **fields,
        }
        return self.raw.ask(m.JoinGroupRequest(**asked), version)

    def sync(self, generation: int = 1, member: str | None = None, group: str = "g1") -> int:
        member = self.member if member is None else member
        asked = m.SyncGroupRequest(group_id=group, generation_id=generation, member_id=member)
        return int(self.raw.ask(asked, 1).error_code)

    def beat(self, generation: int = 1, member: str | None = None, group: str = "g1") -> int:
        member = self.member if member is None else member
        asked = m.HeartbeatRequest(group_id=group, generation_id=generation, member_id=member)
        return int(self.raw.ask(asked, 1).error_code)

    def commit(
        self,
        generation: int = 1,
        member: str | None = None,
        group: str = "g1",
        topic: str = "b1",
        metadata: str = "",
    ) -> int:
        part = m.OffsetCommitRequest.OffsetCommitRequestPartition(
            partition_index=0, committed_offset=1, committed_metadata=metadata
        )
        asked = m.OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=self.member if member is None else member,
            topics=[m.OffsetCommitRequest.OffsetCommitRequestTopic(name=topic, partitions=[part])],
        )
        return int(self.raw.ask(asked, 5).topics[0].partitions[0].error_code)

    def leave(self, member: str | None = None, group: str = "g1") -> int:
        member = self.member if member is None else member
        return int(self.raw.ask(m.LeaveGroupRequest(group_id=group, member_id=member), 1).error_code)

    def fetched(self, topic: str, group: str = "g1") -> tuple[int, int]:
        asked = m.OffsetFetchRequest.OffsetFetchRequestTopic(name=topic, partition_indexes=[0])
        answer = self.raw.ask(m.OffsetFetchRequest(group_id=group, topics=[asked]), 5)
        one = answer.topics[0].partitions[0]
        return one.error_code, one.committed_offset


@pytest.fixture
def group(raw: Raw) -> Group:
    """The first member of g1 in generation 1."""
    made = Group(raw)
    raw.ask(m.FindCoordinatorRequest(key="g1", key_type=0), 2)
    first = made.join()
    for _ in range(2000):  # Kafka is still creating and loading __consumer_offsets
        if first.error_code not in (14, 15, 16):
            break
        first = made.join()
    assert first.error_code == 0
    made.member = first.member_id
    return made


def test_group_life(group: Group) -> None:
    assert group.join(group_id="").error_code == 24
    assert group.join(session_timeout_ms=1).error_code == 26
    assert group.join(session_timeout_ms=10**9).error_code == 26
    assert group.join(member_id="who").error_code == 25
    assert group.join(protocols=[], group_id="g2").error_code == 23
    answer = group.join(version=4, group_id="g3")
    assert answer.error_code == 79 and answer.member_id
    assert group.join(protocol_type="connect").error_code == 23
    assert (group.sync(member="who"), group.sync(generation=9), group.sync(), group.sync(group="nobody")) == (
        25,
        22,
        0,
        25,
    )
    assert (group.beat(), group.beat(member="who"), group.beat(generation=9)) == (0, 25, 22)
    assert (group.beat(group="nobody"), group.beat(group="")) == (25, 24)
    assert (group.commit(), group.commit(generation=9), group.commit(member="who")) == (0, 22, 25)
    assert group.commit(generation=-1, member="") == 25
    assert (group.leave(member="who"), group.leave(group="nobody"), group.leave()) == (25, 25, 0)
    assert group.fetched("b1") == (0, 1)


def test_offsets_without_members(raw: Raw, group: Group) -> None:
    """The group of the fixture only sees to it that there is a coordinator."""
    assert group.commit(generation=-1, member="", group="simple") == 0
    assert group.commit(generation=-1, member="", group="simple", topic="nope") == 3
    assert group.commit(generation=-1, member="", group="simple", metadata="x" * 5000) == 12
    assert group.commit(generation=3, member="", group="fresh") == 22
    assert group.commit(generation=-1, member="", group="") == 0
    assert group.fetched("b1", "simple") == (0, 1)
    assert group.fetched("b1", "never") == (0, -1)
    assert group.fetched("nope") == (0, -1)
    described = raw.ask(m.DescribeGroupsRequest(groups=["never"]), 1).groups[0]
    assert (described.error_code, described.group_state) == (0, "Dead")
    assert group.leave() == 0


def test_metadata_of_bad_names(raw: Raw) -> None:
    names = ["nope", "bad name!", "b1"]
    asked = [m.MetadataRequest.MetadataRequestTopic(name=name) for name in names]
    answer = raw.ask(m.MetadataRequest(topics=asked, allow_auto_topic_creation=False), 8)
    assert {topic.name: topic.error_code for topic in answer.topics} == {"nope": 3, "bad name!": 17, "b1": 0}

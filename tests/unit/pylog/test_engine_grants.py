"""Authorization of Produce and Fetch through real sockets: who waits, who is refused and how, what revocation undoes.

The refusals' bytes are those of Apache Kafka 3.9.1 with its AclAuthorizer, for the same requests.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.protocol.messages import FetchResponse
from pylog._engine import (
    GRANT_ALL,
    GRANT_CLUSTER_ACTION,
    GRANT_READ,
    GRANT_WRITE,
    PRINCIPAL_ANY,
    RESOURCE_ANY,
    RESOURCE_CLUSTER,
    RESOURCE_TOPIC,
    RESOURCE_TRANSACTIONAL_ID,
    UP_GRANT,
    Upcall,
)
from tests.unit.pylog.engine_client import (
    FETCH_VERSIONS,
    LEADER,
    PRODUCE_VERSIONS,
    Client,
    Host,
    batch,
    parts_of,
)

DENIED = 29
REPLICATED = LEADER._replace(replicas=(1, 2), isr=(1, 2), high_watermark=0)
ONE = batch([b"x"])


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Nothing is allowed unasked."""
    host = Host(tmp_path, authorizer=True).start()
    yield host
    host.close()


def grant(host: Host, topic: str, operations: int, principal: int = 0) -> None:
    host.engine.publish_grant(principal, RESOURCE_TOPIC, topic.encode(), operations)


def next_question(host: Host) -> Upcall:
    return host.next_upcall(UP_GRANT)


def no_question(host: Host) -> None:
    """None has come so far."""
    for _ in range(2):
        host._seen += host.engine.poll(0, 64)
    assert [upcall for upcall in host._seen if upcall.kind == UP_GRANT] == []


def reply(host: Host, question: Upcall, operations: int) -> None:
    host.engine.publish_grant(question.a, question.b, question.body, operations, question.generation)


def records_in(host: Host) -> int:
    return host.engine.stats().records_in


# -------------------------------------------------------------------------------------------------- waiting


def test_a_request_waits_for_the_first_answer(host: Host) -> None:
    host.host()
    host.host("open")
    grant(host, "open", GRANT_WRITE)
    with host.client() as client, host.client() as other:
        client.send_produce({("t", 0): ONE})
        question = next_question(host)
        assert (question.a, question.b, question.body) == (0, RESOURCE_TOPIC, b"t")
        assert question.listener_id == 7
        assert host.engine.peer(question.conn).peer_port == client.socket.getsockname()[1]
        assert other.produce(ONE, "open").base_offset == 0  # others go on
        assert records_in(host) == 1
        client.expect_silence()
        reply(host, question, GRANT_WRITE)
        assert client.produced()[0].error_code == 0
        assert client.produce(ONE).base_offset == 1
        assert other.produce(ONE).base_offset == 2
    no_question(host)


def test_a_fetch_waits_for_the_first_answer(host: Host) -> None:
    host.host()
    grant(host, "t", GRANT_READ | GRANT_WRITE, principal=1)
    with host.client() as client:
        client.send_fetch({("t", 0): 0})
        question = next_question(host)
        assert (question.a, question.b, question.body) == (0, RESOURCE_TOPIC, b"t")
        client.expect_silence()
        reply(host, question, GRANT_READ)
        assert parts_of(client.fetched())["t", 0].error_code == 0
        assert client.fetch(0).error_code == 0
    no_question(host)


def test_each_pair_is_asked_once(host: Host) -> None:
    hosted = host.host()
    clients = [host.client() for _ in range(20)]
    for client in clients:
        client.send_produce({("t", 0): ONE})
    question = next_question(host)
    host.wait_for(lambda: host.engine.stats().connections_now == 20)
    with host.client() as last:
        last.send_fetch({("nope", 0): 0})  # a question behind those of the others
        assert next_question(host).body == b"nope"
    no_question(host)
    reply(host, question, GRANT_WRITE)
    for client in clients:
        assert client.produced()[0].error_code == 0
        client.close()
    assert host.engine.partition_info(hosted.number).log_end_offset == 20


def test_all_of_a_request_is_asked_at_once(host: Host) -> None:
    for topic in ("a", "b", "c"):
        host.host(topic)
    grant(host, "b", GRANT_WRITE)
    with host.client() as client:
        client.send_produce({(topic, 0): ONE for topic in ("a", "b", "c", "nope")})
        questions = [next_question(host) for _ in range(3)]
        assert [question.body for question in questions] == [b"a", b"c", b"nope"]
        for question in questions:
            assert records_in(host) == 0
            reply(host, question, GRANT_WRITE if question.body != b"c" else 0)
        assert [part.error_code for part in client.produced()] == [0, 0, DENIED, 3]
    no_question(host)


def test_more_topics_than_are_asked_at_a_time(host: Host) -> None:
    names = [f"topic-{i}" for i in range(2500)]
    asked: list[bytes] = []
    with host.client() as client:
        client.send_fetch({(name, 0): 0 for name in names})
        while len(asked) < len(names):
            question = next_question(host)
            asked.append(question.body)
            reply(host, question, GRANT_READ if len(asked) % 2 else 0)
        codes = [part.error_code for part in parts_of(client.fetched()).values()]
    assert asked == [name.encode() for name in names]
    assert codes == [3, DENIED] * 1250


def test_order_is_kept_around_a_wait(host: Host) -> None:
    host.host(state=REPLICATED)
    host.host("new")
    grant(host, "t", GRANT_ALL)
    host.engine.publish_grant(0, RESOURCE_CLUSTER, b"", GRANT_CLUSTER_ACTION)
    with host.client() as client, host.client() as follower:
        client.send_produce({("t", 0): ONE}, acks=-1)  # waits for the follower
        client.send_produce({("new", 0): ONE})  # waits for Python
        client.send_produce({("t", 0): ONE}, acks=1)
        client.send(3, 9, b"\0\0\0\0")
        reply(host, next_question(host), GRANT_WRITE)
        client.expect_silence()
        assert follower.fetch(1, replica_id=2).error_code == 0
        assert [client.produced()[0].base_offset for _ in range(3)] == [0, 0, 1]
        upcall = host.next_upcall(1)
        host.engine.answer(upcall.conn, upcall.slot, upcall.correlation_id.to_bytes(4, "big") + b"meta")
        assert client.receive()[1] == b"meta"


def test_a_large_frame_outlasts_the_wait(host: Host) -> None:
    hosted = host.host()
    host.host("other")
    grant(host, "other", GRANT_WRITE)
    values = [bytes([65 + i]) * 700_000 for i in range(3)]
    with host.client() as client, host.client() as other:
        for value in values:
            client.send_produce({("t", 0): batch([value])})
        question = next_question(host)
        for _ in range(20):  # memory that the waiting frame must not share
            assert other.produce(batch([b"." * 300_000]), "other").error_code == 0
        reply(host, question, GRANT_WRITE)
        assert [client.produced()[0].base_offset for _ in values] == [0, 1, 2]
    data = hosted.log.read(0, 3, 4 << 20, True)
    assert [value[:1] * 100 in data for value in values] == [True] * 3


def test_who_waits_is_not_read(host: Host) -> None:
    host.host()
    with host.client() as client:
        client.send_produce({("t", 0): ONE})
        question = next_question(host)
        client.socket.setblocking(False)
        frame = client.frame(0, 9, b"\0" * 100_000)
        sent = 0
        with pytest.raises(BlockingIOError):
            while sent < 1 << 30:
                sent += client.socket.send(frame)
        assert host.engine.stats().bytes_in < 4 << 20
        assert host.engine.stats().buffer_bytes_now < 8 << 20
        client.socket.setblocking(True)
        client.socket.settimeout(20)
        reply(host, question, GRANT_WRITE)
        assert client.produced()[0].error_code == 0


def test_closing_while_waiting(host: Host) -> None:
    host.host()
    with host.client() as client, host.client() as stays:
        client.send_produce({("t", 0): ONE})
        stays.send_produce({("t", 0): ONE})
        question = next_question(host)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        host.wait_for(lambda: host.engine.stats().connections_now == 1)
        reply(host, question, GRANT_WRITE)
        assert stays.produced()[0].error_code == 0
        assert records_in(host) == 1


def test_stopping_while_waiting(tmp_path: Path) -> None:
    host = Host(tmp_path, authorizer=True).start()
    host.host()
    with host.client() as client:
        client.send_produce({("t", 0): ONE})
        next_question(host)
        host.close()
        client.expect_closed()


# -------------------------------------------------------------------------------------------------- produce


@pytest.mark.parametrize("version", range(PRODUCE_VERSIONS[0], PRODUCE_VERSIONS[1] + 1))
def test_refused_produce_in_every_version(host: Host, version: int) -> None:
    hosted = host.host("secret")
    host.host("mine")
    for topic in ("secret", "nope"):
        grant(host, topic, GRANT_READ)
    grant(host, "mine", GRANT_WRITE)
    with host.client() as client:
        client.send_produce({(t, i): ONE for t in ("secret", "mine", "nope") for i in range(2)}, version=version)
        parts = client.produced(version)
        absent = 100 if version >= 13 else DENIED  # an id that nothing has tells nothing
        assert [part.error_code for part in parts] == [DENIED, DENIED, 0, 3, absent, absent]
        for part in parts[:2]:
            assert (part.base_offset, part.log_append_time_ms, part.log_start_offset) == (-1, -1, -1)
            assert not part.record_errors
            assert part.error_message is None
    assert host.engine.partition_info(hosted.number).log_end_offset == 0
    no_question(host)


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        (3, b"\0\0\0\1\0\6secret\0\0\0\1\0\0\0\0\0\x1d" + b"\xff" * 16 + b"\0\0\0\0"),
        (5, b"\0\0\0\1\0\6secret\0\0\0\1\0\0\0\0\0\x1d" + b"\xff" * 24 + b"\0\0\0\0"),
        (8, b"\0\0\0\1\0\6secret\0\0\0\1\0\0\0\0\0\x1d" + b"\xff" * 24 + b"\0\0\0\0\xff\xff\0\0\0\0"),
        (9, b"\0\2\7secret\2\0\0\0\0\0\x1d" + b"\xff" * 24 + b"\1\0\0\0\0\0\0\0\0"),
        (11, b"\0\2\7secret\2\0\0\0\0\0\x1d" + b"\xff" * 24 + b"\1\0\0\0\0\0\0\0\0"),
    ],
)
def test_refused_produce_is_kafkas_answer(host: Host, version: int, answer: bytes) -> None:
    grant(host, "secret", 0)
    with host.client() as client:
        for data in (ONE, b"xx", None, batch([b"x"], producer=(5, 0, 0))):  # refused before it is looked at
            client.send_produce({("secret", 0): data}, version=version, acks=7 if data is None else 1)
            assert client.receive()[1] == answer


def test_refused_without_an_answer_closes(host: Host) -> None:
    host.host()
    grant(host, "t", GRANT_READ)
    with host.client() as client:
        client.send_produce({("t", 0): ONE}, acks=0)
        client.expect_closed()
    assert records_in(host) == 0


def test_idempotent_records_need_no_right_of_their_own(host: Host) -> None:
    host.host()
    grant(host, "t", GRANT_WRITE)
    with host.client() as client:
        assert client.produce(batch([b"x"], producer=(5, 0, 0))).error_code == 0
    no_question(host)


def test_transactional_records_need_their_id(host: Host) -> None:
    for topic in ("a", "b"):
        host.host(topic)
        grant(host, topic, GRANT_WRITE)
    transactional = batch([b"x"], producer=(5, 0, 0), transactional=True)
    both = {("a", 0): ONE, ("b", 0): transactional}
    with host.client() as client:
        client.send_produce(both, transactional_id="mine")
        question = next_question(host)
        assert (question.a, question.b, question.body) == (0, RESOURCE_TRANSACTIONAL_ID, b"mine")
        client.expect_silence()
        reply(host, question, GRANT_WRITE)
        assert [part.error_code for part in client.produced()] == [0, 0]  # verification is not on here
        client.send_produce(both, transactional_id="theirs")
        reply(host, next_question(host), GRANT_READ)
        refused = b"\0\3\2a\2\0\0\0\0\0\x35" + b"\xff" * 24 + b"\1\0\0\0\2b\2\0\0\0\0\0\x35" + b"\xff" * 24
        refused += b"\1\0\0\0\0\0\0\0\0"
        assert client.receive()[1] == refused
        client.send_produce(both)
        assert client.receive()[1] == refused
        client.send_produce({("a", 0): ONE}, transactional_id="theirs")  # nobody asks about an id without transaction
        assert client.produced()[0].error_code == 0
        host.engine.publish_grant(PRINCIPAL_ANY, RESOURCE_ANY, b"", GRANT_ALL)
        client.send_produce(both)
        assert client.receive()[1] == refused
    no_question(host)


# -------------------------------------------------------------------------------------------------- fetch


@pytest.mark.parametrize("version", range(FETCH_VERSIONS[0], FETCH_VERSIONS[1] + 1))
def test_refused_fetch_in_every_version(host: Host, version: int) -> None:
    host.host("secret")
    host.host("mine")
    for topic in ("secret", "nope"):
        grant(host, topic, GRANT_WRITE)
    grant(host, "mine", GRANT_ALL)
    with host.client() as client:
        assert client.produce(ONE, "mine").error_code == 0
        assert client.produce(ONE, "secret").error_code == 0
        for isolation in (0, 1):
            client.send_fetch({("secret", 0): 0, ("mine", 0): 0, ("nope", 0): 0}, version=version, isolation=isolation)
            parts = [part for topic in client.fetched(version).responses for part in topic.partitions]
            # A name is refused whether or not something has it; an id that nothing has tells nothing.
            assert [part.error_code for part in parts] == [DENIED, 0, 100 if version >= 13 else DENIED]
            assert parts[1].records
            for part in (parts[0], parts[2]):
                assert (part.high_watermark, part.last_stable_offset, part.log_start_offset) == (-1, -1, -1)
                assert part.aborted_transactions == []
                assert not part.records
    no_question(host)


@pytest.mark.parametrize(
    ("version", "answer"),
    [
        (4, b"\0\0\0\0\0\0\0\1\0\6secret\0\0\0\1\0\0\0\0\0\x1d" + b"\xff" * 16 + b"\0\0\0\0\0\0\0\0"),
        (7, b"\0" * 10 + b"\0\0\0\1\0\6secret\0\0\0\1\0\0\0\0\0\x1d" + b"\xff" * 24 + b"\0\0\0\0\0\0\0\0"),
        (
            11,
            b"\0" * 10
            + b"\0\0\0\1\0\6secret\0\0\0\1\0\0\0\0\0\x1d"
            + b"\xff" * 24
            + b"\0\0\0\0\xff\xff\xff\xff\0\0\0\0",
        ),
        (12, b"\0" * 11 + b"\2\7secret\2\0\0\0\0\0\x1d" + b"\xff" * 24 + b"\1\xff\xff\xff\xff\1\0\0\0"),
    ],
)
def test_refused_fetch_is_kafkas_answer(host: Host, version: int, answer: bytes) -> None:
    grant(host, "secret", 0)
    host.engine.publish_grant(0, RESOURCE_CLUSTER, b"", 0)
    with host.client() as client:
        for replica_id in (-1, -2, 3):
            client.send_fetch({("secret", 0): 0}, version=version, replica_id=replica_id, max_wait_ms=20_000)
            assert client.receive()[1] == answer  # and at once


def test_refused_partitions_do_not_end_the_wait_of_others(host: Host) -> None:
    host.host("mine")
    host.host("secret")
    grant(host, "mine", GRANT_ALL)
    grant(host, "secret", GRANT_WRITE)
    with host.client() as client, host.client() as producer:
        client.send_fetch({("secret", 0): 0, ("mine", 0): 0}, max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        assert producer.produce(ONE, "secret").error_code == 0
        client.expect_silence()
        assert producer.produce(ONE, "mine").error_code == 0
        parts = parts_of(client.fetched())
        assert {key: (part.error_code, bool(part.records)) for key, part in parts.items()} == {
            ("secret", 0): (DENIED, False),
            ("mine", 0): (0, True),
        }


def test_what_appears_while_a_fetch_is_parked_is_not_served_unasked(host: Host) -> None:
    """An id that meant nothing when the request came: by the time it does, nobody has asked about it."""
    host.host("mine")
    grant(host, "mine", GRANT_ALL)
    grant(host, "late", GRANT_WRITE)
    with host.client() as client, host.client() as producer:
        client.send_fetch({("late", 0): 0, ("mine", 0): 0}, version=13, max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        host.host("late")
        assert producer.produce(ONE, "late").error_code == 0
        assert producer.produce(ONE, "mine").error_code == 0
        late, mine = (topic.partitions[0] for topic in client.fetched(13).responses)
        assert (late.error_code, late.records) == (100, b"")
        assert mine.records
        assert [part.error_code for topic in fetch_both(client).responses for part in topic.partitions] == [DENIED, 0]


def fetch_both(client: Client) -> FetchResponse:
    client.send_fetch({("late", 0): 0, ("mine", 0): 0}, version=13)
    return client.fetched(13)


def test_a_parked_fetch_keeps_what_it_was_allowed(host: Host) -> None:
    host.host()
    grant(host, "t", GRANT_ALL)
    with host.client() as client, host.client() as producer:
        client.send_fetch({("t", 0): 0}, max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        host.engine.revoke_grants()
        grant(host, "t", GRANT_WRITE)
        assert producer.produce(ONE).error_code == 0
        assert parts_of(client.fetched())["t", 0].records
        assert client.fetch(0).error_code == DENIED


# -------------------------------------------------------------------------------------------------- sessions


def codes(answer: FetchResponse) -> dict[tuple[str, int], int]:
    return {key: part.error_code for key, part in parts_of(answer).items()}


def test_refused_partitions_of_a_session_are_told_each_time(host: Host) -> None:
    for topic in ("mine", "secret"):
        host.host(topic)
    grant(host, "mine", GRANT_READ)
    grant(host, "secret", 0)
    with host.client() as client:
        client.send_fetch({("mine", 0): 0, ("secret", 0): 0}, session=(0, 0))
        answer = client.fetched()
        assert codes(answer) == {("mine", 0): 0, ("secret", 0): DENIED}
        session = answer.session_id
        for epoch in (1, 2):
            client.send_fetch({}, session=(session, epoch))
            assert codes(client.fetched()) == {("secret", 0): DENIED}
        client.send_fetch({("new", 0): 0}, session=(session, 3))  # one more topic: only that is asked
        question = next_question(host)
        assert question.body == b"new"
        client.expect_silence()
        reply(host, question, GRANT_READ)
        assert codes(client.fetched()) == {("secret", 0): DENIED, ("new", 0): 3}
        host.engine.revoke_grants()
        client.send_fetch({}, session=(session, 4), forget=(("new", 0),))
        rules = {b"mine": 0, b"secret": GRANT_READ, b"new": 0}
        for _ in range(3):
            question = next_question(host)
            reply(host, question, rules.pop(question.body))
        assert codes(client.fetched()) == {("mine", 0): DENIED, ("secret", 0): 0}
    no_question(host)


def test_a_session_outlives_a_topic_that_was_refused_and_deleted(host: Host) -> None:
    """The refused partition was looked up by an earlier request; parking must not touch what it found then."""
    host.host("mine")
    secret = host.host("secret")
    for topic in ("mine", "secret"):
        grant(host, topic, GRANT_ALL)
    with host.client() as client, host.client() as producer:
        client.send_fetch({("mine", 0): 0, ("secret", 0): 0}, session=(0, 0))
        session = client.fetched().session_id
        host.engine.revoke_grants()
        grant(host, "mine", GRANT_ALL)
        grant(host, "secret", 0)
        host.remove(secret, 3)
        client.send_fetch({}, session=(session, 1), max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        assert producer.produce(ONE, "mine").error_code == 0
        assert codes(client.fetched()) == {("mine", 0): 0, ("secret", 0): DENIED}
        host.engine.revoke_grants()
        host.engine.publish_grant(0, RESOURCE_ANY, b"", GRANT_ALL)
        client.send_fetch({}, session=(session, 2))
        assert codes(client.fetched())["secret", 0] == 3


def test_a_session_is_asked_about_for_each_who_uses_it(host: Host) -> None:
    """Another principal that goes on with it gets what that principal may read; whoever is parked with it is ended."""
    host.host()
    grant(host, "t", GRANT_ALL)
    grant(host, "t", 0, principal=9)
    other_port = host.engine.listen("127.0.0.1", 0, 2)
    host.engine.set_listener_principal(2, 9)
    with host.client() as client, Client(other_port) as other, host.client() as producer:
        client.send_fetch({("t", 0): 0}, session=(0, 0))
        session = client.fetched().session_id
        client.send_fetch({}, session=(session, 1), max_wait_ms=20_000)
        host.wait_for(lambda: host.engine.stats().delayed_now == 1)
        other.send_fetch({}, session=(session, 2))
        assert codes(other.fetched()) == {("t", 0): DENIED}
        assert client.fetched().error_code == 71
        assert producer.produce(ONE).error_code == 0
        client.send_fetch({}, session=(session, 3))
        assert parts_of(client.fetched())["t", 0].records
        other.send_fetch({}, session=(session, 4))
        assert codes(other.fetched()) == {("t", 0): DENIED}
        other.send_fetch({}, session=(session, 99))
        assert other.fetched().error_code == 71


def test_a_session_by_ids(host: Host) -> None:
    host.host("secret")
    grant(host, "secret", GRANT_WRITE)
    with host.client() as client:
        client.send_fetch({("secret", 0): 0, ("late", 0): 0}, version=13, session=(0, 0))
        answer = client.fetched(13)
        assert [topic.partitions[0].error_code for topic in answer.responses] == [DENIED, 100]
        host.host("late")
        client.send_fetch({}, version=13, session=(answer.session_id, 1))
        question = next_question(host)
        assert question.body == b"late"
        reply(host, question, GRANT_READ)
        answer = client.fetched(13)
        assert [topic.partitions[0].error_code for topic in answer.responses] == [DENIED, 0]


# -------------------------------------------------------------------------------------------------- followers


@pytest.mark.parametrize("version", [12, 13, 16])
def test_followers_need_the_cluster(host: Host, version: int) -> None:
    hosted = host.host(state=REPLICATED)
    grant(host, "t", GRANT_ALL)  # to read topics is not to be a follower
    with host.client() as follower, host.client() as producer:
        assert producer.produce(ONE).error_code == 0
        follower.send_fetch({("t", 0): 1, ("nope", 0): 0}, version=version, replica_id=2)
        question = next_question(host)
        assert (question.a, question.b, question.body) == (0, RESOURCE_CLUSTER, b"")
        reply(host, question, 0)
        answer = follower.fetched(version)
        assert [topic.partitions[0].error_code for topic in answer.responses] == [DENIED, DENIED]
        assert host.engine.partition_info(hosted.number).high_watermark == 0  # it is no progress
        host.engine.publish_grant(0, RESOURCE_CLUSTER, b"", GRANT_CLUSTER_ACTION)
        follower.send_fetch({("t", 0): 1, ("nope", 0): 0}, version=version, replica_id=2)
        answer = follower.fetched(version)
        unknown = 100 if version >= 13 else 3
        assert [topic.partitions[0].error_code for topic in answer.responses] == [0, unknown]
        assert host.engine.partition_info(hosted.number).high_watermark == 1
    no_question(host)


# -------------------------------------------------------------------------------------------------- revocation


def test_revocation_makes_everything_unknown(host: Host) -> None:
    host.host()
    host.engine.publish_grant(PRINCIPAL_ANY, RESOURCE_ANY, b"", GRANT_READ)
    grant(host, "t", GRANT_WRITE)
    with host.client() as client:
        assert client.produce(ONE).error_code == 0
        assert client.fetch(0).error_code == 0
        host.engine.revoke_grants()
        client.send_produce({("t", 0): ONE})
        question = next_question(host)
        client.expect_silence()
        reply(host, question, GRANT_READ)
        assert client.produced()[0].error_code == DENIED
        assert client.fetch(0).error_code == 0
    assert records_in(host) == 1


def test_an_answer_from_before_a_revocation_is_void(host: Host) -> None:
    host.host()
    with host.client() as client:
        client.send_produce({("t", 0): ONE})
        old = next_question(host)
        host.engine.revoke_grants()
        new = next_question(host)  # the one that waits asks again
        assert new.generation > old.generation
        reply(host, old, GRANT_WRITE)
        reply(host, old._replace(b=RESOURCE_ANY, body=b""), GRANT_WRITE)
        assert records_in(host) == 0
        client.expect_silence()
        reply(host, new, 0)
        assert client.produced()[0].error_code == DENIED
    no_question(host)


# -------------------------------------------------------------------------------------------------- principals


def test_one_answer_for_all_resources(host: Host) -> None:
    """A super user: whoever waits goes on, and nothing more is asked."""
    host.host()
    with host.client() as client, host.client() as other:
        client.send_produce({("t", 0): ONE})
        other.send_produce({("u", 0): ONE})
        for _ in range(2):
            question = next_question(host)
        host.engine.publish_grant(0, RESOURCE_ANY, b"", GRANT_ALL, question.generation)
        assert client.produced()[0].error_code == 0
        assert other.produced()[0].error_code == 3
        assert client.fetch(0).error_code == 0
        assert client.fetch(0, "v").error_code == 3
    no_question(host)


def test_connections_have_principals(host: Host) -> None:
    host.host()
    for principal, operations in ((0, 0), (1, GRANT_WRITE), (2, GRANT_READ)):
        grant(host, "t", operations, principal)
    with host.client() as client, host.client() as other:
        client.send(3, 9, b"")
        conn = host.next_upcall(1).conn
        host.engine.answer(conn, 0, b"\0\0\0\1")
        client.receive()
        seen = []
        for principal in (0, 1, 2, 0):
            host.engine.set_principal(conn, principal)
            seen.append((client.produce(ONE).error_code, client.fetch(0).error_code))
            assert other.produce(ONE).error_code == DENIED
        assert seen == [(DENIED, DENIED), (0, DENIED), (DENIED, 0), (DENIED, DENIED)]
        host.engine.set_listener_principal(7, 1)
        assert client.produce(ONE).error_code == other.produce(ONE).error_code == 0
        host.engine.set_principal(conn, 2)
        assert (client.produce(ONE).error_code, other.produce(ONE).error_code) == (DENIED, 0)
    host.engine.set_principal(12345, 1)  # gone


def test_who_waits_can_be_named_anew(host: Host) -> None:
    """A principal is one number per host where rules name hosts: Python learns the host by the question."""
    host.host()
    with host.client() as client, host.client() as other:
        client.send_produce({("t", 0): ONE})
        first = next_question(host)
        other.send_produce({("t", 0): ONE})
        host.wait_for(lambda: host.engine.stats().connections_now == 2)
        host.engine.set_principal(first.conn, 5)
        questions = {question.a: question for question in (next_question(host), next_question(host))}
        assert set(questions) == {0, 5}  # the other one, who waited for the same answer, asks for itself
        assert questions[5].conn == first.conn
        assert questions[0].conn != first.conn
        reply(host, questions[0], 0)
        reply(host, questions[5], GRANT_WRITE)
        assert client.produced()[0].error_code == 0
        assert other.produced()[0].error_code == DENIED
    no_question(host)


def test_what_cannot_be_granted(host: Host) -> None:
    for principal, resource, name in (
        (-1, RESOURCE_ANY, b""),
        (PRINCIPAL_ANY, RESOURCE_TOPIC, b"t"),
        (0, RESOURCE_CLUSTER, b"name"),
        (0, RESOURCE_ANY, b"name"),
        (0, 6, b"a delegation token"),
    ):
        with pytest.raises(OSError):
            host.engine.publish_grant(principal, resource, name, GRANT_ALL)
    for listener_id, principal in ((-1, 0), (1024, 0), (0, -1), (0, PRINCIPAL_ANY)):
        with pytest.raises(OSError):
            host.engine.set_listener_principal(listener_id, principal)
    for principal in (-1, PRINCIPAL_ANY):
        with pytest.raises(OSError):
            host.engine.set_principal(0, principal)

"""`pylog consume` from its command line to its output, against brokers that move, refuse and forget."""

import json
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from cluster.cli import consume, membership
from cluster.cli.main import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, main
from cluster.cli.offsets import TopicPartition
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from pylog.records import Header, NewRecord, RecordBatchBuilder
from tests.unit.cluster.cli.fake_cluster import FakeCluster

TP = TopicPartition("t", 0)
START_MS = 1_700_000_000_000


def _fill(fake: FakeCluster, tp: TopicPartition, first: int, count: int, *, batch: int = 10) -> None:
    """Values 0, 1, 2, ... in batches; record n has the time START_MS + n."""
    builder = RecordBatchBuilder()
    for start in range(first, first + count, batch):
        numbers = range(start, min(start + batch, first + count))
        fake.append(tp, builder.build([NewRecord(START_MS + n, b"k%d" % n, b"%d" % n) for n in numbers]))
    builder.close()


def _numbers(first: int, end: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, end))


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with FakeCluster({"t": 1}) as running:
        _fill(running, TP, 0, 95)
        yield running


def _consume(fake: FakeCluster, *arguments: str) -> int:
    return main(["consume", "t", "-b", fake.bootstrap, "--timeout", "5", *arguments])


def test_everything_to_the_end(fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert _consume(fake, "-e") == 0
    assert capfdbinary.readouterr() == (_numbers(0, 95), b"")


@pytest.mark.parametrize(
    ("start", "first"),
    [("beginning", 0), ("end", 95), ("13", 13), ("95", 95), ("-7", 88), ("-700", 0), (f"@{START_MS + 42}", 42)],
)
def test_where_to_start(fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes], start: str, first: int) -> None:
    assert _consume(fake, "-e", "--from", start) == 0
    assert capfdbinary.readouterr().out == _numbers(first, 95)


def test_a_start_behind_the_end(fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert _consume(fake, "-e", "--from", "96") == EXIT_FAILED
    assert capfdbinary.readouterr() == (b"", b"pylog: t-0 ends at offset 95; there is no 96\n")


def test_a_limit_cuts_within_a_batch(fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert _consume(fake, "-n", "23") == 0
    assert capfdbinary.readouterr().out == _numbers(0, 23)


def test_idle_ends(
    fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consume, "_POLL_S", 0.01)
    assert _consume(fake, "--idle", "0.05") == 0
    assert capfdbinary.readouterr().out == _numbers(0, 95)


def test_partitions(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with FakeCluster({"t": 3}, brokers=2) as fake:
        for partition in range(3):
            _fill(fake, TopicPartition("t", partition), 100 * partition, 10)
        assert _consume(fake, "-e", "-F", r"%p %v\n") == 0
        lines = capfdbinary.readouterr().out.splitlines()
        for partition in range(3):
            own = [line for line in lines if line.startswith(b"%d " % partition)]
            assert own == [b"%d %d" % (partition, 100 * partition + number) for number in range(10)]
        assert _consume(fake, "-e", "-p", "1") == 0
        assert capfdbinary.readouterr().out == _numbers(100, 110)
        assert _consume(fake, "-e", "-p", "3") == EXIT_USAGE
        assert b"topic 't' has no partition 3, only 0 to 2" in capfdbinary.readouterr().err


def test_a_leader_that_moves_is_followed(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with FakeCluster({"t": 1}, brokers=2) as fake:
        _fill(fake, TP, 0, 30)
        first = fake.brokers[0].handlers[ApiKey.FETCH]

        def move_then_answer(request: object, version: int) -> object:
            fake.move(TP, 1)
            return first(request, version)  # type: ignore[arg-type]

        fake.brokers[0].handlers[ApiKey.FETCH] = move_then_answer  # type: ignore[assignment]
        assert _consume(fake, "-e") == 0
        assert capfdbinary.readouterr().out == _numbers(0, 30)


def test_a_lost_connection_doubles_nothing(fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    fake.lose_answers(ApiKey.FETCH, 2)
    assert _consume(fake, "-e") == 0
    assert capfdbinary.readouterr().out == _numbers(0, 95)


def test_an_offset_that_never_was(fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert _consume(fake, "--from", "96") == EXIT_FAILED
    assert capfdbinary.readouterr().err == b"pylog: t-0 holds offsets 0 to 95; there is no 96\n"


def test_a_damaged_batch_is_not_shown(fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    data = bytearray(fake.logs[TP][1])
    data[-3] ^= 1
    fake.logs[TP][1] = bytes(data)
    assert _consume(fake, "-e") == EXIT_FAILED
    assert capfdbinary.readouterr().err == b"pylog: t-0: the batch at offset 10 is damaged (checksum)\n"


def test_a_topic_that_is_not_there(fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["consume", "nope", "-b", fake.bootstrap]) == EXIT_FAILED
    assert b"topic 'nope' does not exist; `pylog topics create nope`" in capfdbinary.readouterr().err


def test_json_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with FakeCluster({"t": 1}) as fake:
        builder = RecordBatchBuilder()
        headers = (Header("h", b"\xff"),)
        fake.append(TP, builder.build([NewRecord(START_MS, None, "größer".encode(), headers)]))
        builder.close()
        assert _consume(fake, "-e", "--json") == 0
        assert json.loads(capfdbinary.readouterr().out) == {
            "topic": "t",
            "partition": 0,
            "offset": 0,
            "timestamp": START_MS,
            "key": None,
            "value": "größer",
            "headers": [["h", {"base64": "/w=="}]],
        }


def test_a_group_goes_on_where_it_stopped(fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert _consume(fake, "-g", "g", "-n", "33") == 0
    assert fake.committed["g"] == {TP: 33}
    assert _consume(fake, "-g", "g", "-e") == 0
    assert capfdbinary.readouterr().out == _numbers(0, 95)
    assert fake.committed["g"] == {TP: 95}
    assert fake.left == fake.members == ["member-0", "member-1"]


def test_a_group_may_be_left_as_it_is(fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert _consume(fake, "-g", "g", "-e", "--no-commit") == 0
    assert fake.committed["g"] == {}
    assert fake.left == ["member-0"]


@pytest.mark.parametrize(("code", "members"), [(ErrorCode.REBALANCE_IN_PROGRESS, 1), (ErrorCode.UNKNOWN_MEMBER_ID, 2)])
def test_a_rebalance_is_joined_and_nothing_is_read_twice(
    fake: FakeCluster,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    code: ErrorCode,
    members: int,
) -> None:
    monkeypatch.setattr(membership, "_HEARTBEAT_S", 0.0)
    fake.fail(ApiKey.HEARTBEAT, [ErrorCode.NONE, code])
    original = fake.brokers[0].handlers[ApiKey.HEARTBEAT]
    beats = 0

    def more_records(request: object, version: int) -> object:
        nonlocal beats
        beats += 1
        if beats == 4:
            _fill(fake, TP, 95, 5)
        return original(request, version)  # type: ignore[arg-type]

    fake.brokers[0].handlers[ApiKey.HEARTBEAT] = more_records  # type: ignore[assignment]
    assert _consume(fake, "-g", "g", "-n", "100") == 0
    assert capfdbinary.readouterr().out == _numbers(0, 100)
    assert len(fake.members) == members
    assert fake.count(ApiKey.JOIN_GROUP) == 2 * members + (members == 1)
    assert fake.committed["g"] == {TP: 100}


def test_joining_is_tried_again(fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    fake.fail(ApiKey.FIND_COORDINATOR, [ErrorCode.COORDINATOR_NOT_AVAILABLE])
    fake.fail(ApiKey.JOIN_GROUP, [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.UNKNOWN_MEMBER_ID])
    fake.fail(ApiKey.SYNC_GROUP, [ErrorCode.REBALANCE_IN_PROGRESS])
    assert _consume(fake, "-g", "g", "-e") == 0
    assert capfdbinary.readouterr().out == _numbers(0, 95)


def test_an_interrupt_commits_leaves_and_says_nothing(
    fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: membership.Membership) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(membership.Membership, "rebalance_due", interrupted)
    assert _consume(fake, "-g", "g") == EXIT_INTERRUPTED
    assert capfdbinary.readouterr() == (_numbers(0, 95), b"")
    assert fake.committed["g"] == {TP: 95}
    assert fake.left == ["member-0"]


def test_a_signal_while_it_joins_leaves_and_says_nothing(
    fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The answer that it does not wait for comes when it has left, which it tells on another connection."""
    join, leave = (fake.brokers[0].handlers[each] for each in (ApiKey.JOIN_GROUP, ApiKey.LEAVE_GROUP))
    has_left = threading.Event()
    answered: list[Message] = []
    answered_before: list[int] = []

    def parked(request: Message, version: int) -> bytes | Message | None:
        answer = join(request, version)
        assert isinstance(answer, m.JoinGroupResponse)
        if answer.error_code == ErrorCode.NONE:
            os.kill(os.getpid(), signal.SIGTERM)
            has_left.wait(10)
            answered.append(answer)
        return answer

    def left(request: Message, version: int) -> bytes | Message | None:
        answered_before.append(len(answered))
        has_left.set()
        return leave(request, version)

    fake.brokers[0].handlers |= {ApiKey.JOIN_GROUP: parked, ApiKey.LEAVE_GROUP: left}
    with pytest.raises(SystemExit) as ended:
        _consume(fake, "-g", "g")
    assert ended.value.code == 128 + signal.SIGTERM
    assert capfdbinary.readouterr() == (b"", b"")
    assert answered_before == [0]
    assert fake.left == fake.members == ["member-0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-g", "g", "-p", "0"], b"--group and --partition exclude each other"),
        (["--no-commit"], b"--no-commit is for --group"),
        (["--from", "yesterday"], b"argument -o/--from: 'yesterday' is not `beginning`"),
        (["-F", "%x"], b"there is no %x"),
    ],
)
def test_what_makes_no_sense_is_refused(
    fake: FakeCluster, capfdbinary: pytest.CaptureFixture[bytes], arguments: list[str], message: bytes
) -> None:
    assert _consume(fake, *arguments) == EXIT_USAGE
    assert message in capfdbinary.readouterr().err

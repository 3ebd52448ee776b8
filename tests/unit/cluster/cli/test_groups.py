"""`pylog groups` from its command line to its output: what is known, what is not, and what is refused."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from cluster.cli.main import EXIT_FAILED, EXIT_USAGE, main
from cluster.cli.offsets import TopicPartition
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.records import encode_versioned
from pylog.errors import ErrorCode
from pylog.records import NewRecord, RecordBatchBuilder
from tests.unit.cluster.cli.fake_cluster import FakeCluster

NOW_S = 1_800_000_000
UUID = "12345678-1234-1234-1234-123456789abc"
Described = m.DescribeGroupsResponse.DescribedGroup
Run = Callable[..., tuple[int, list[str], list[str]]]


def member(name: str, *partitions: int, topic: str = "t") -> m.DescribeGroupsResponse.DescribedGroupMember:
    assigned = m.ConsumerProtocolAssignment.TopicPartition(topic=topic, partitions=list(partitions))
    return m.DescribeGroupsResponse.DescribedGroupMember(
        member_id=f"{name}-{UUID}",
        client_id=name,
        client_host="/10.0.0.1",
        member_assignment=encode_versioned(m.ConsumerProtocolAssignment(assigned_partitions=[assigned]), 0),
    )


def group(name: str, *members: m.DescribeGroupsResponse.DescribedGroupMember, kind: str = "consumer") -> Described:
    return Described(
        group_id=name,
        group_state="Stable" if members else "Empty",
        protocol_type=kind,
        protocol_data="range" if members else "",
        members=list(members),
    )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """Partition p of `t` holds 10 records, the n-th 100 (p + 1) - n seconds old. Group `g` has two members, and
    committed 10 of partition 0, 7 of partition 1, 3 of a topic that is gone; `idle` has nobody and nothing."""
    monkeypatch.setattr(time, "time", lambda: float(NOW_S))
    monkeypatch.setenv("COLUMNS", "200")
    with FakeCluster({"t": 3}, brokers=2) as running:
        builder = RecordBatchBuilder()
        for partition in range(3):
            for n in range(10):
                stamp = (NOW_S - 100 * (partition + 1) + n) * 1000
                running.append(TopicPartition("t", partition), builder.build([NewRecord(stamp, None, b"v")]))
        builder.close()
        running.groups = {
            each.group_id: each for each in (group("g", member("a", 0, 1), member("b", 2)), group("idle"))
        }
        gone = TopicPartition("gone", 4)
        running.committed["g"] = {TopicPartition("t", 0): 10, TopicPartition("t", 1): 7, gone: 3}
        yield running


@pytest.fixture
def run(fake: FakeCluster, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """run("list", ...): exit code, lines of standard output, lines of standard error; `terminal=True`: as on one."""

    def call(*arguments: str, terminal: bool = False) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        code = main(["groups", arguments[0], "-b", fake.bootstrap, "--timeout", "5", *arguments[1:]])
        sys.stdout.flush()
        out, err = capfd.readouterr()
        out = re.sub(r"\x1b\[[0-9;]*m", "", out)
        return code, out.splitlines(), err.splitlines()

    return call


def test_list(run: Run) -> None:
    assert run("list") == (0, ["g\tStable\tclassic\t2\t3\t193.000\t0", "idle\tEmpty\tclassic\t0\t-\t-\t0"], [])
    assert run("list", "--names", "--state", "empty") == (0, ["idle"], [])
    assert run("list", "--type", "consumer") == (0, [], [])
    documents = [json.loads(line) for line in run("list", "--json")[1]]
    assert documents[0]["behind_s"] == 193.0
    assert documents[1] | {"group": ""} == {
        "group": "",
        "state": "Empty",
        "type": "classic",
        "protocol": "consumer",
        "members": 0,
        "lag": None,
        "behind_s": None,
        "coordinator": 0,
    }


def test_a_group_that_is_not_of_consumers(fake: FakeCluster, run: Run) -> None:
    fake.groups = {"workers": group("workers", member("w", 0), kind="connect")}
    assert run("list")[1] == ["workers\tStable\tclassic/connect\t1\t-\t-\t0"]
    code, rows, _ = run("describe", "workers")
    assert (code, rows) == (0, [f"workers\t-\t-\t-\t-\t-\t-\tw-{UUID}\t10.0.0.1\tw"])


def test_offsets(run: Run) -> None:
    who = {name: f"{name}-{UUID}\t10.0.0.1\t{name}" for name in "ab"}
    rows = [
        "g\tgone\t4\t3\t-\t-\t-\t-\t-\t-",
        f"g\tt\t0\t10\t10\t0\t0.000\t{who['a']}",
        f"g\tt\t1\t7\t10\t3\t193.000\t{who['a']}",
        f"g\tt\t2\t-\t10\t-\t-\t{who['b']}",
    ]
    assert run("describe", "g") == (0, rows, [])
    assert run("describe", "--all") == (0, rows, [])


def test_what_is_committed_beyond_the_end_is_seen_and_makes_up_for_nothing(fake: FakeCluster, run: Run) -> None:
    fake.committed["g"][TopicPartition("t", 0)] = 15
    assert run("describe", "g")[1][1].split("\t")[3:7] == ["15", "10", "-5", "0.000"]
    assert run("list")[1][0].split("\t")[4:6] == ["3", "193.000"]


def test_what_a_partition_without_a_leader_holds_is_unknown(fake: FakeCluster, run: Run) -> None:
    fake.move(TopicPartition("t", 1), -1)
    assert [row.split("\t")[3:7] for row in run("describe", "g")[1]][2] == ["7", "-", "-", "-"]


def test_groups_that_nobody_coordinates(fake: FakeCluster, run: Run) -> None:
    """What is there is shown and done, and what is not is said."""
    for number in range(3):
        fake.logs[TopicPartition("__consumer_offsets", number)] = []
        fake.move(TopicPartition("__consumer_offsets", number), 0 if number else -1)
    lost = "pylog: groups are missing here: those of partitions of __consumer_offsets without a leader (0)"
    for verb in (["list"], ["list", "--names"], ["describe", "--all"]):
        code, rows, said = run(*verb)
        assert (code, bool(rows), said) == (EXIT_FAILED, True, [lost])
    fake.uncoordinated = {"lost"}
    nobody = "nobody coordinates group 'lost' now: its partition of __consumer_offsets has no leader"
    code, rows, said = run("describe", "lost", "--timeout", "0.1")
    assert (code, rows, said) == (EXIT_FAILED, [], [f"pylog: {nobody} (COORDINATOR_NOT_AVAILABLE)"])
    code, rows, said = run("delete", "g", "lost", "idle", "nope", "--timeout", "0.1")
    assert (code, rows) == (EXIT_FAILED, ["deleted group g", "deleted group idle"])
    assert said == [
        f"pylog: group 'lost' is not deleted: COORDINATOR_NOT_AVAILABLE: {nobody}",
        "pylog: group 'nope' does not exist",
    ]


def test_many_groups_are_asked_about_a_hundred_at_a_time(fake: FakeCluster, run: Run) -> None:
    names = [f"g{number:03}" for number in range(250)]
    fake.groups = {name: group(name) for name in names}
    for name in names:
        fake.committed[name] = {TopicPartition("t", 0): 9}
    code, rows, _ = run("list")
    assert (code, [row.split("\t")[0] for row in rows]) == (0, names)
    assert {row.split("\t")[4] for row in rows} == {"1"}
    assert fake.count(ApiKey.DESCRIBE_GROUPS) == fake.count(ApiKey.OFFSET_FETCH) == 3


def test_members_and_state(run: Run) -> None:
    assert run("describe", "g", "--members")[1] == [
        f"g\ta-{UUID}\t-\ta\t10.0.0.1\t2\t3\t193.000",
        f"g\tb-{UUID}\t-\tb\t10.0.0.1\t1\t-\t-",
    ]
    (row,) = run("describe", "g", "--state")[1]
    assert row.startswith("g\tStable\tclassic\trange\t2\t3\t193.000\t127.0.0.1:")


def test_a_group_that_does_not_exist(run: Run) -> None:
    code, rows, errors = run("describe", "nobody", "idle", "--state")
    assert (code, errors) == (EXIT_FAILED, ["pylog: group 'nobody' does not exist"])
    assert [row.split("\t")[0] for row in rows] == ["idle"]
    assert run("describe") == run("describe", "g", "--all")
    assert run("describe")[0] == EXIT_USAGE


def test_a_group_of_another_sort(fake: FakeCluster, run: Run) -> None:
    fake.groups["shared"] = Described(group_id="shared", group_state="Dead")
    fake.kinds["shared"] = "Share"
    said = "pylog: group 'shared' is a share group; only groups of consumers can be described"
    assert run("describe", "shared") == (EXIT_FAILED, [], [said])
    refused = ["pylog: group 'shared' is a share group; only those of consumers can be reset"]
    assert run("reset", "shared", "-t", "t", "--to-latest") == (EXIT_FAILED, [], refused)
    assert run("list", "--type", "share")[1] == ["shared\tDead\tshare\t-\t-\t-\t0"]


def test_for_people(run: Run) -> None:
    head, columns, *rows = run("describe", "g", terminal=True)[1]
    assert head.startswith("group g: Stable, 2 members, classic protocol, assignor range, lag 3 records, 3m 13s behind")
    assert columns.split() == ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "BEHIND", "MEMBER", "HOST", "CLIENT"]
    assert rows[2].split()[-6:] == ["3", "3m", "13s", "a-12345678…", "10.0.0.1", "a"]
    assert run("describe", "idle", terminal=True)[1][1] == "  nothing committed"
    assert run("describe", "idle", "--members", terminal=True)[1][1] == "  no members"
    assert run("list", "--state", "dead", terminal=True)[1] == ["no such groups"]


def test_names_do_nothing_to_a_terminal(fake: FakeCluster, run: Run) -> None:
    name = "a\tb\n\x1b]0;title\x07\x9b2J\u202ec ü"
    fake.groups = {name: group(name)}
    assert run("list", terminal=True)[1][1].split("  ")[0] == r"a\tb\n\x1b]0;title\x07\x9b2J\u202ec ü"
    assert run("list", "--names", terminal=True)[1] == [r"a\tb\n\x1b]0;title\x07\x9b2J\u202ec ü"]
    assert run("describe", name, terminal=True)[1][0].startswith(
        "group a\tb" + r"\n\x1b]0;title\x07\x9b2J\u202ec ü: Empty"
    )
    as_it_is = "a b \x1b]0;title\x07\x9b2J\u202ec ü"
    assert run("list", "--names")[1] == [as_it_is]
    assert run("list")[1][0].split("\t")[0] == as_it_is


def test_what_the_protocol_cannot_say_is_refused_in_one_line(fake: FakeCluster, run: Run) -> None:
    fake.groups["?"] = group("?")
    for arguments in (["delete", "\udcff"], ["describe", "\udcff"], ["reset", "\udcff", "-t", "t", "--to-latest"]):
        assert run(*arguments) == (EXIT_USAGE, [], ["pylog: an argument is not UTF-8, as all names in Kafka are"])
    assert "?" in fake.groups
    for arguments in (["delete", "x" * 40_000], ["describe", "x" * 40_000]):
        code, out, (line,) = run(*arguments)
        assert (code, out) == (EXIT_USAGE, [])
        assert line.startswith("pylog: longer or larger than Kafka's protocol can say: ")


def test_reset_by_a_duration_that_began_before_1970(run: Run) -> None:
    code, rows, _ = run("reset", "idle", "-t", "t:0", "--by-duration", "9999999w")
    assert (code, rows) == (0, ["t\t0\t-\t0"])


def rebalances() -> list[m.DescribeGroupsResponse.Rebalance]:
    cause = m.DescribeGroupsResponse.RebalanceCause
    come = cause(kind="joined", member_id=f"a-{UUID}", client_id="a", client_host="/10.0.0.1", at_ms=1)
    went = cause(kind="left", member_id="b-1", client_id="b", client_host="/10.0.0.2", at_ms=2, reason="closing")
    made = m.DescribeGroupsResponse.Rebalance
    return [
        made(
            begun_ms=NOW_S * 1000,
            joining_ms=500,
            took_ms=1500,
            outcome="stable",
            generation=3,
            members=1,
            causes=[come, went],
            omitted=4,
        ),
        made(begun_ms=NOW_S * 1000 + 1, joining_ms=-1, took_ms=-1, generation=3, members=2, causes=[come]),
    ]


def test_history(fake: FakeCluster, run: Run) -> None:
    fake.groups["g"].rebalances = rebalances()
    code, rows, errors = run("describe", "g", "idle", "--history")
    assert [row.split("\t")[2:] for row in rows] == [
        ["1.500", "0.500", "stable", "3", "1", "joined", f"a-{UUID}", "10.0.0.1", "a", "-"],
        ["1.500", "0.500", "stable", "3", "1", "left", "b-1", "10.0.0.2", "b", "closing"],
        ["-", "-", "under way", "3", "2", "joined", f"a-{UUID}", "10.0.0.1", "a", "-"],
    ]
    assert code == EXIT_FAILED and "'idle'" in errors[0] and "keeps no history of rebalances" in errors[0]
    (document,) = map(json.loads, run("describe", "g", "--history", "--json")[1])
    assert [each["took_ms"] for each in document["rebalances"]] == [1500, None]
    assert [cause["reason"] for cause in document["rebalances"][0]["causes"]] == [None, "closing"]


def test_history_for_people(fake: FakeCluster, run: Run) -> None:
    fake.groups["g"].rebalances = rebalances()
    fake.groups["idle"].rebalances = []
    _, _, *rows = run("describe", "g", "--history", "5", terminal=True)[1]
    assert rows[0].split()[2:9] == ["1.500", "s", "0.500", "s", "stable", "3", "1"]
    assert rows[1].split() == ["left", "b-1", "10.0.0.2", "b", "closing"]
    assert rows[2].strip() == "and 4 more"
    assert "under way" in rows[3]
    assert "no rebalance since 127.0.0.1:" in run("describe", "idle", "--history", terminal=True)[1][1]


def test_reset_shows_and_then_does(fake: FakeCluster, run: Run) -> None:
    fake.groups["g"] = group("g")
    before = dict(fake.committed["g"])
    how = ("reset", "g", "--topic", "t:1", "--topic", "t:2", "--to-offset", "99")
    rows = ["t\t1\t7\t10", "t\t2\t-\t10"]
    code, shown, said = run(*how)
    assert (code, shown) == (0, rows)
    assert said[-1] == "pylog: nothing was changed; the same with --execute does it" and "99 became 10" in said[0]
    assert run(*how, "--dry-run")[1] == rows
    assert fake.committed["g"] == before
    assert run(*how, "--execute")[1] == rows
    assert fake.committed["g"] == before | {TopicPartition("t", 1): 10, TopicPartition("t", 2): 10}


def test_reset_of_a_group_that_is_to_be(fake: FakeCluster, run: Run) -> None:
    code, rows, said = run("reset", "new", "-t", "t:1", "--to-latest", "--execute")
    assert (code, rows, said) == (0, ["t\t1\t-\t10"], ["pylog: there is no group 'new' yet; offsets make one"])
    assert fake.committed["new"] == {TopicPartition("t", 1): 10}
    refused = ["pylog: group 'newer' does not exist"]
    assert run("reset", "newer", "--all-topics", "--to-latest") == (EXIT_FAILED, [], refused)


def test_reset_leaves_out_what_is_gone(fake: FakeCluster, run: Run) -> None:
    fake.groups["g"] = group("g")
    code, rows, said = run("reset", "g", "--all-topics", "--shift-by", "-2")
    assert (code, rows) == (0, ["t\t0\t10\t8", "t\t1\t7\t5"])
    assert said[0] == "pylog: left out, since they do not exist or have no leader now: gone"


def test_reset_of_a_group_with_members(fake: FakeCluster, run: Run) -> None:
    how = ("reset", "g", "--all-topics", "--to-latest", "--execute")
    stop = "stop its consumers before a reset"
    assert run(*how) == (EXIT_FAILED, [], [f"pylog: group 'g' has 2 members; {stop}"])
    fake.groups["g"] = group("g")
    fake.fail(ApiKey.OFFSET_COMMIT, [ErrorCode.UNKNOWN_MEMBER_ID])
    assert run(*how)[2][-1] == f"pylog: group 'g' has got members just now; {stop}"

"""Kafka's own tools for groups and transactions, shown two brokers: what they print must be the same but for ids and
times.

    python -m tests.differential.tools [--kafka kafka4]      compare with Apache Kafka, by the tools of its version
    python -m tests.differential.tools --capture             keep what they print of Kafka in tests/golden

What stays true: a command sees what the commands before it have left, on both brokers alike. Rows are in no order that
means anything.
"""

from __future__ import annotations

import argparse
import difflib
import gzip
import json
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from tests.differential.oracle import SETTINGS, player
from tests.differential.session import Session, ask, batches, placeholder
from tests.differential.values import T0
from tests.support import peers
from tests.support.brokers import KINDS, Broker

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "differential"
#: A producer whose coordinator does not know of its transaction can be made.
TOOLS_SETTINGS = {**SETTINGS, "transaction.partition.verification.enable": "false"}
_PROGRAM = peers.ROOT / "tests" / "clients" / "java" / "Tools.java"
_GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
_TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand"
_TIMEOUT_MS = 1_200_000
_FOREVER_MS = 900_000
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORTENED_UUID = re.compile(r"(?<=[ab]-|m-)[0-9a-f-]{6,}\.\.\.")
_CLOCK = re.compile(r"\b1[6-9]\d{11}( \d+)?\b|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,\d]*(Z|[+-]\d\d:?\d\d)?")


def stage() -> Session:
    """Topics with records; a group that is alive, one that is left, one with a static member and one of a protocol of
    its own; a transaction that is open, one that has ended, and one that nobody knows of."""
    return [
        ask("CreateTopics", 4, {"topics": [_topic("cli-a", 3), _topic("cli-b", 1)], "timeout_ms": 15_000}),
        *[
            _produce("cli-a", part, [{"records": [["k", str(n)]], "timestamp": T0 + 1_000 * n}])
            for part in range(2)
            for n in range(5)
        ],
        _produce("cli-b", 0, [{"records": [["k", "v"]], "timestamp": T0}]),
        *_member("cli-live", "a", None, {"a": ("cli-a", [0, 1, 2]), "b": ("cli-b", [0])}),
        *_member("cli-static", "m", "instance-1", {"m": ("cli-b", [0])}),
        *_member("cli-other", "b", None, {}, protocol_type="connect"),
        _commit("cli-live", "a", "cli-a", [(0, 3), (1, 5)]),
        _commit("cli-static", "m", "cli-b", [(0, 0)]),
        _commit("cli-idle", None, "cli-a", [(0, 1), (1, 5), (2, 0)]),
        _commit("cli-idle", None, "cli-b", [(0, 1)]),
        _commit("cli-gone", None, "cli-b", [(0, 7)]),
        *_producer("cli-open"),
        _add("cli-open", "cli-a", [0, 1]),
        _produce("cli-a", 0, [_part_of("cli-open", 0)], "cli-open"),
        *_producer("cli-done"),
        _add("cli-done", "cli-b", [0]),
        _produce("cli-b", 0, [_part_of("cli-done", 0)], "cli-done"),
        ask("EndTxn", 3, {"transactional_id": "cli-done", **_identity("cli-done"), "committed": True}),
        {"ended": "cli-done"},
        *_producer("cli-lost"),
        _produce("cli-b", 0, [_part_of("cli-lost", 0)], "cli-lost"),
    ]


def _topic(name: str, count: int) -> dict[str, Any]:
    return {"name": name, "num_partitions": count, "replication_factor": 1}


def _produce(topic: str, part: int, specs: list[dict[str, Any]], transactional_id: str | None = None) -> dict[str, Any]:
    data = [{"index": part, "records": batches(*specs)}]
    body = {"transactional_id": transactional_id, "acks": -1, "timeout_ms": 5_000}
    return ask("Produce", 7, {**body, "topic_data": [{"name": topic, "partition_data": data}]})


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _member(
    group: str,
    label: str,
    instance: str | None,
    reads: dict[str, tuple[str, list[int]]],
    protocol_type: str = "consumer",
) -> Session:
    """One that joins, leads and is given what it reads."""
    topic, parts = reads.get(label, ("", []))
    metadata = b"\0\0" + (1).to_bytes(4, "big") + _text(topic) + b"\xff" * 4
    given = b"\0\0" + (1).to_bytes(4, "big") + _text(topic) + len(parts).to_bytes(4, "big")
    given += b"".join(part.to_bytes(4, "big") for part in parts) + b"\xff" * 4
    saved = f"{group}.{label}"
    who = {"group_id": group, "member_id": placeholder("member", saved), "group_instance_id": instance}
    join = {
        **who,
        "session_timeout_ms": _TIMEOUT_MS,
        "rebalance_timeout_ms": _TIMEOUT_MS,
        "protocol_type": protocol_type,
        "protocols": [{"name": "range", "metadata": placeholder("hex", metadata.hex())}],
    }
    assigned = [{"member_id": placeholder("member", saved), "assignment": placeholder("hex", given.hex())}]
    sync = {**who, "generation_id": placeholder("generation", saved), "assignments": assigned}
    first = ask("JoinGroup", 5, {**join, "member_id": ""}, save=saved, keep=True, client=label)
    again = [] if instance else [ask("JoinGroup", 5, join, save=saved, keep=True, client=label)]
    return [first, *again, ask("SyncGroup", 3, sync, client=label)]


def _commit(group: str, label: str | None, topic: str, offsets: list[tuple[int, int]]) -> dict[str, Any]:
    who: dict[str, Any] = {"generation_id_or_member_epoch": -1, "member_id": ""}
    if label is not None:
        saved = f"{group}.{label}"
        who = {
            "generation_id_or_member_epoch": placeholder("generation", saved),
            "member_id": placeholder("member", saved),
        }
    parts = [
        {"partition_index": part, "committed_offset": offset, "committed_metadata": ""} for part, offset in offsets
    ]
    return ask("OffsetCommit", 6, {"group_id": group, **who, "topics": [{"name": topic, "partitions": parts}]})


def _identity(name: str) -> dict[str, Any]:
    return {"producer_id": placeholder("producer", name), "producer_epoch": placeholder("epoch", name)}


def _producer(name: str) -> Session:
    found = {"key": name, "key_type": 1}
    body = {"transactional_id": name, "transaction_timeout_ms": _FOREVER_MS}
    soon = [14, 15, 16, 51]
    return [ask("FindCoordinator", 2, found, again=soon), ask("InitProducerId", 2, body, save=name, again=soon)]


def _add(name: str, topic: str, parts: list[int]) -> dict[str, Any]:
    body = {f"v3_and_below_{key}": value for key, value in {"transactional_id": name, **_identity(name)}.items()}
    return ask("AddPartitionsToTxn", 3, {**body, "v3_and_below_topics": [{"name": topic, "partitions": parts}]})


def _part_of(name: str, sequence: int) -> dict[str, Any]:
    stamp = placeholder("now", "", add=-3_600_000)  # long ago enough to hang
    producer = [name, placeholder("epoch", name), sequence]
    return {"records": [["k", "v"]], "timestamp": stamp, "attributes": 0x10, "producer": producer}


def commands(plan: Path) -> list[list[str]]:
    """plan: a file of offsets to reset to."""
    plan.write_text("cli-idle,cli-a,0,2\ncli-idle,cli-b,0,0\n")
    groups = [*_questions(), *_resets(plan), *_deletions()]
    return [[_GROUPS, *each] for each in groups] + [[_TRANSACTIONS, *each] for each in _of_transactions()]


def _questions() -> list[list[str]]:
    return [
        ["--list"],
        ["--list", "--state"],
        ["--list", "--state", "Stable,Empty"],
        ["--list", "--type"],
        ["--list", "--type", "classic"],
        ["--list", "--type", "consumer"],
        ["--list", "--state", "--type"],
        *[
            ["--describe", "--group", group, *what, *more]
            for group in ("cli-live", "cli-static", "cli-idle", "cli-other", "cli-never")
            for what in ([], ["--members"], ["--state"], ["--offsets"])
            for more in ([], ["--verbose"])
        ],
        ["--describe", "--group", "cli-live", "--group", "cli-idle"],
        ["--describe", "--all-groups", "--state"],
        ["--describe", "--all-groups", "--members", "--verbose"],
        ["--describe", "--all-groups"],
    ]


def _resets(plan: Path) -> list[list[str]]:
    idle = ["--group", "cli-idle"]
    reset = ["--reset-offsets", *idle]
    everything = ["--all-topics", "--dry-run"]
    return [
        [*reset, "--to-earliest", *everything],
        [*reset, "--to-latest", *everything],
        [*reset, "--to-current", *everything],
        [*reset, "--to-offset", "2", "--topic", "cli-a:0,1"],
        [*reset, "--to-offset", "99", "--topic", "cli-a"],
        [*reset, "--to-offset", "1", "--topic", "nope"],
        [*reset, "--shift-by", "-1", *everything],
        [*reset, "--shift-by", "100", *everything],
        [*reset, "--to-datetime", "2023-11-14T22:13:22.000", "--topic", "cli-a"],
        [*reset, "--to-datetime", "2033-11-14T22:13:22.000", "--topic", "cli-a"],
        [*reset, "--by-duration", "PT1H", "--topic", "cli-b"],
        [*reset, "--by-duration", "P9000D", "--topic", "cli-b"],
        [*reset, "--from-file", str(plan), "--dry-run"],
        [*reset, "--to-current", "--export", *everything],
        [*reset, "--to-earliest", "--topic", "cli-b", "--execute"],
        [*reset, "--from-file", str(plan), "--execute"],
        ["--describe", *idle],
        ["--reset-offsets", "--group", "cli-live", "--to-earliest", "--all-topics", "--execute"],
        ["--reset-offsets", "--group", "cli-static", "--to-earliest", "--topic", "cli-a", "--execute"],
        ["--reset-offsets", "--group", "cli-new", "--to-latest", "--topic", "cli-a", "--execute"],
        ["--reset-offsets", "--group", "cli-new2", "--to-earliest", "--all-topics", "--execute"],
        ["--reset-offsets", "--all-groups", "--to-earliest", "--all-topics", "--dry-run"],
        ["--describe", "--group", "cli-new"],
    ]


def _deletions() -> list[list[str]]:
    idle = ["--group", "cli-idle"]
    return [
        ["--delete-offsets", *idle, "--topic", "cli-b"],
        ["--delete-offsets", *idle, "--topic", "cli-a:1,2"],
        ["--delete-offsets", *idle, "--topic", "cli-a:7"],
        ["--delete-offsets", *idle, "--topic", "nope"],
        ["--delete-offsets", "--group", "cli-live", "--topic", "cli-a"],
        ["--delete-offsets", "--group", "cli-live", "--topic", "cli-b"],
        ["--delete-offsets", "--group", "cli-other", "--topic", "cli-a"],
        ["--delete-offsets", "--group", "cli-never", "--topic", "cli-a"],
        ["--describe", *idle],
        ["--delete", "--group", "cli-live"],
        ["--delete", "--group", "cli-never"],
        ["--delete", "--group", "cli-gone"],
        ["--delete", "--group", "cli-idle", "--group", "cli-other", "--group", "cli-new"],
        ["--list", "--state"],
        ["--delete", "--all-groups"],
        ["--list"],
    ]


def _of_transactions() -> list[list[str]]:
    of_partition = ["--topic", "cli-b", "--partition", "0"]
    return [
        ["list"],
        ["describe", "--transactional-id", "cli-open"],
        ["describe", "--transactional-id", "cli-done"],
        ["describe", "--transactional-id", "cli-lost"],
        ["describe", "--transactional-id", "cli-never"],
        ["describe-producers", *of_partition],
        ["describe-producers", "--topic", "cli-a", "--partition", "0"],
        ["describe-producers", "--topic", "cli-a", "--partition", "2", "--broker-id", "0"],
        ["find-hanging", "--broker-id", "0"],
        ["find-hanging", "--broker-id", "0", "--max-transaction-timeout", "20"],
        ["find-hanging", "--broker-id", "0", "--max-transaction-timeout", "200"],
        ["find-hanging", "--topic", "cli-b", "--max-transaction-timeout", "20"],
        ["find-hanging", *of_partition, "--max-transaction-timeout", "20"],
        ["find-hanging", "--topic", "cli-a", "--partition", "0", "--max-transaction-timeout", "20"],
        ["find-hanging", "--topic", "nope", "--max-transaction-timeout", "20"],
        ["abort", *of_partition, "--start-offset", "0"],
        ["abort", *of_partition, "--start-offset", "3"],
        ["describe-producers", *of_partition],
        ["find-hanging", *of_partition, "--max-transaction-timeout", "20"],
        ["abort", *of_partition, "--producer-id", "99999", "--producer-epoch", "0", "--coordinator-epoch", "0"],
    ]


class Printed(NamedTuple):
    """What a command printed, its exit code last."""

    command: str
    rows: list[str]


def shown(broker: Broker, tools: str) -> list[Printed]:
    """tools: of which version."""
    player(broker).play(stage(), "cli")
    asked = commands(broker.directory / "plan.csv")
    lines = ["\t".join([main, "--bootstrap-server", broker.bootstrap, *rest]) for main, *rest in asked]
    command = peers.java(tools, str(_PROGRAM), [])
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=300, check=True
    )
    printed = re.split(r"\n\x01(-?\d+)\n", done.stdout)
    assert len(printed) == 2 * len(asked) + 1, done.stdout[-2_000:] + done.stderr[-2_000:]
    return [
        Printed(named(" ".join(rest), broker)[0], [*named(text, broker), f"exit {code}"])
        for (_, *rest), text, code in zip(asked, printed[::2], printed[1::2], strict=False)
    ]


def named(text: str, broker: Broker) -> list[str]:
    """Rows in an order of their own, without what a broker makes up and without the columns' widths."""
    text = text.replace(str(broker.directory), "<directory>")
    text = text.replace(f"{broker.host}:{broker.port}", "<broker>").replace(f":{broker.port}", ":<port>")
    rows = [" ".join(row.split()) for row in text.splitlines() if row.strip()]
    return sorted(_SHORTENED_UUID.sub("<id>", _CLOCK.sub("<time>", _UUID.sub("<id>", row))) for row in rows)


def told(ours: list[Printed], theirs: list[Printed]) -> list[str]:
    """What differs, command by command."""
    found = []
    for one, other in zip(ours, theirs, strict=True):
        if one != other:
            lines = [*difflib.unified_diff(other.rows, one.rows, "Kafka", "ours", lineterm="", n=0)][2:]
            found.append(one.command + "\n  " + "\n  ".join(lines))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential.tools", description=__doc__)
    parser.add_argument("--kafka", choices=["kafka39", "kafka4"], default="kafka39")
    parser.add_argument("--capture", action="store_true")
    options = parser.parse_args()
    kind = options.kafka
    why = peers.unavailable(kind)
    if why is not None:
        print(why, file=sys.stderr)
        return 2
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tools-")))
        theirs = shown(stack.enter_context(KINDS[kind](directory / kind, TOOLS_SETTINGS)).start(), kind)
        if options.capture:
            keep(kind, theirs)
            return 0
        ours = shown(stack.enter_context(KINDS["pylog"](directory / "pylog", TOOLS_SETTINGS)).start(), kind)
    found = told(ours, theirs)
    print("\n".join(found))
    print(f"{len(found)} of {len(ours)} commands print something else")
    return 1 if found else 0


def keep(kind: str, printed: list[Printed]) -> None:
    lines = "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in printed)
    (GOLDEN / f"tools-{kind}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), 9, mtime=0))


def kept(kind: str) -> list[Printed]:
    with gzip.open(GOLDEN / f"tools-{kind}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [Printed(*json.loads(line)) for line in lines]


if __name__ == "__main__":
    sys.exit(main())

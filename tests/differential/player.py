"""Plays sessions to one broker and writes down what it answers, named alike for all brokers.

What stays true: a step has exactly one outcome: an answer (decoded, normalised), "closed", "silent" (nothing within the
time limit) or "undecodable"; a connection that was closed is opened again for the next step.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Any

from cluster.protocol import messages
from cluster.protocol.errors import DecodeError
from cluster.protocol.headers import request_header_version, response_header_version
from cluster.protocol.tables import Struct, read_table
from tests.broker.batches import batch
from tests.differential.members import members_words
from tests.differential.normal import Names, normalised
from tests.differential.session import Session, Step, Tree

ANSWER_TIMEOUT_S = 6.0
STRAYED_TIMEOUT_S = 0.3  # for the rest of a session in which two brokers have parted
MEMBER_ID_REQUIRED = 79
UNSTABLE = 88
NOBODYS_ID = bytes(range(1, 17))
#: What a broker that works later than it answers (Apache Kafka) may still be busy with.
CHANGES = frozenset(
    {"CreateTopics", "DeleteTopics", "CreatePartitions", "AlterConfigs", "IncrementalAlterConfigs", "DeleteRecords"}
)


class Player:
    """One broker. settle_s: how long a change takes until other requests see it. names: those that it shares with the
    players of other brokers of a cluster."""

    def __init__(self, port: int, settle_s: float = 0.0, names: Names | None = None) -> None:
        self._port = port
        self.settle_s = settle_s
        self._sockets: dict[int, socket.socket] = {}
        self._waiting: dict[int, tuple[Step, int]] = {}
        self._correlation = 0
        self._patience_s = ANSWER_TIMEOUT_S
        self._saved: dict[str, dict[str, Any]] = {}
        self._topic_ids: dict[str, bytes] = {}
        self._names = Names(port, "") if names is None else names
        self.names: dict[str, Names] = {}  # of the sessions played, by prefix

    def play(self, session: Session, prefix: str, expected: list[Tree] | None = None) -> list[Tree]:
        """The outcome of each step. Labels, ids and connections are of this session only. `expected`: what another
        broker answered, so that a poll need not be longer than it takes to see the same."""
        self._saved.clear()
        self._names = self.names[prefix] = Names(self._port, prefix)
        self._patience_s = ANSWER_TIMEOUT_S
        outcomes: list[Tree] = []
        for at, step in enumerate(session):
            if "poll" in step:
                outcomes.append(self._poll(None if expected is None else expected[at]))
                continue
            if "stable" in step:
                outcomes.append(self._until_stable(step["stable"], step["topics"], step.get("ids", [])))
                continue
            if "settled" in step:
                without = step.get("without")
                outcomes.append(
                    self._until_settled(step["settled"], without, None if expected is None else expected[at])
                )
                continue
            if "ended" in step:
                outcomes.append(self._until_ended(step["ended"]))
                continue
            outcomes.append(self.outcome(step))
            if outcomes[-1] == "sent" and not step.get("park"):
                self._until_taken(step)
            elif self.settle_s and step.get("api") in CHANGES:
                time.sleep(self.settle_s)  # sleep: another process's own time, with no event that tells its end
        self.close()
        return outcomes

    def _until_taken(self, step: Step) -> None:
        """A JoinGroup that is not waited for: until its group waits for others, or it is answered all the same."""
        request = messages.DescribeGroupsRequest(groups=[step["body"]["group_id"]])
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while time.monotonic() < deadline:
            if select.select([self._sockets[step["conn"]]], [], [], 0)[0]:
                return
            (group,) = messages.DescribeGroupsResponse.decode(self._aside(request, 0), 0, 4).groups
            if group.group_state == "PreparingRebalance":
                return

    def _poll(self, expected: Tree) -> Tree:
        """Who of those that wait has been answered, and what; by connection. With nothing to expect: as long as this
        broker may take over what it does after it has answered another."""
        answered: set[int] = set()
        deadline = time.monotonic() + (self.settle_s if expected is None else self._patience_s)
        hoped = {conn for conn in self._waiting if expected is None or str(conn) in expected}
        while not hoped <= answered and time.monotonic() < deadline:
            answered |= self._readable(deadline - time.monotonic())
        self._aside(messages.ListGroupsRequest(), 0)  # what was sent before this has been looked at
        answered |= self._readable(0)
        found: dict[str, Tree] = {}
        received = []
        for conn in sorted(answered):
            step, correlation = self._waiting.pop(conn)
            try:
                received.append((conn, step, correlation, _received(self._sockets[conn])))
            except OSError:
                found[str(conn)] = "closed"
            self._drop(conn)
        for _, step, _, data in received:  # each is named by its own answer, before the leader's answer lists them all
            self._names.text(self._decoded(step, data).member_id if step["api"] == "JoinGroup" else "")
        for conn, step, correlation, data in received:
            found[str(conn)] = self._tell(step, correlation, data)
        return found

    def _until_stable(self, group: str, topics: list[str], ids: list[str]) -> Tree:
        """The group's offsets of two partitions of these topics, once no transaction holds any. ids: whose may go on,
        and hold them for longer; then what was ended gets the time that it may take."""
        made = messages.OffsetFetchRequest
        asked = [made.OffsetFetchRequestTopics(name=name, partition_indexes=[0, 1]) for name in topics]
        request = made(groups=[made.OffsetFetchRequestGroup(group_id=group, topics=asked)], require_stable=True)
        goes_on = "Ongoing" in {each.transaction_state for each in self._transactions(ids)}
        deadline = time.monotonic() + (max(0.2, 4 * self.settle_s) if goes_on else ANSWER_TIMEOUT_S)
        while True:
            answer = messages.OffsetFetchResponse.decode(self._aside(request, 8), 8, 5)
            codes = {each.error_code for topic in answer.groups[0].topics for each in topic.partitions}
            if UNSTABLE not in codes or time.monotonic() > deadline:
                return normalised("OffsetFetch", answer, read_table("OffsetFetchResponse").struct, 8, self._names)

    def _until_settled(self, group: str, without: str | None, expected: Tree) -> Tree:
        """How a group of the consumer protocol is described once what goes on behind the answers is done: as another
        broker described it, or else as it stays for a while. without: and this member is gone."""
        request = messages.ConsumerGroupDescribeRequest(group_ids=[group])
        started = changed = time.monotonic()
        last: Tree = None
        while True:
            answer = messages.ConsumerGroupDescribeResponse.decode(self._aside(request, 0), 0, 5)
            gone = all(each.member_id != without for each in answer.groups[0].members)
            told = normalised(
                "ConsumerGroupDescribe", answer, read_table("ConsumerGroupDescribeResponse").struct, 0, self._names
            )
            now = time.monotonic()
            changed = changed if told == last else now
            last = told
            is_settled = (
                told == expected if expected is not None else now - changed > min(0.3, max(0.05, 2 * self.settle_s))
            )
            if gone and is_settled:
                return told
            if now - started > self._patience_s:
                self._patience_s = STRAYED_TIMEOUT_S
                return told

    def _until_ended(self, transactional_id: str) -> Tree:
        """What is said of a transactional id once no end of its is on its way."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            found = self._transactions([transactional_id])
            if not found[0].transaction_state.startswith("Prepare") or time.monotonic() > deadline:
                answer = messages.DescribeTransactionsResponse(transaction_states=found)
                table = read_table("DescribeTransactionsResponse").struct
                return normalised("DescribeTransactions", answer, table, 0, self._names)

    def _transactions(self, ids: list[str]) -> list[Any]:
        if not ids:
            return []
        asked = self._aside(messages.DescribeTransactionsRequest(transactional_ids=ids), 0)
        return messages.DescribeTransactionsResponse.decode(asked, 0, 5).transaction_states

    def _readable(self, wait_s: float) -> set[int]:
        waiting = {self._sockets[conn]: conn for conn in self._waiting}
        ready, _, _ = select.select([*waiting], [], [], max(0.0, wait_s)) if waiting else ([], [], [])
        return {waiting[each] for each in ready}

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()
        self._waiting.clear()

    def outcome(self, step: Step) -> Tree:
        conn = step["receive"] if "receive" in step else step.get("conn", 0)
        try:
            if "receive" in step:
                asked, correlation = self._waiting.pop(conn)
                return self._answer(conn, asked, correlation)
            correlation = self._send(conn, step)
            if not step.get("wait", True) or step.get("park"):
                self._waiting[conn] = (step, correlation)
                return "sent"
            answer = self._answer(conn, step, correlation)
            deadline = time.monotonic() + ANSWER_TIMEOUT_S
            while "again" in step and answer["error_code"] in step["again"] and time.monotonic() < deadline:
                answer = self._answer(conn, step, self._send(conn, step))
            return answer
        except TimeoutError:
            self._drop(conn)
            return "silent"
        except OSError:
            self._drop(conn)
            return "closed"

    def _drop(self, conn: int) -> None:
        old = self._sockets.pop(conn, None)
        if old is not None:
            old.close()

    # ------------------------------------------------------------------------------------------------- sending

    def _send(self, conn: int, step: Step) -> int:
        if conn not in self._sockets:
            self._sockets[conn] = socket.create_connection(("127.0.0.1", self._port), ANSWER_TIMEOUT_S)
            self._sockets[conn].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._correlation += 1
        frame = self.frame(step, self._correlation)
        self._sockets[conn].sendall(struct.pack(">i", len(frame)) + frame)
        return self._correlation

    def frame(self, step: Step, correlation: int) -> bytes:
        """Header and body of a request, without the size in front."""
        api, version = step["api"], step["version"]
        table = read_table(api + "Request")
        client = step.get("client", "odd")
        name = b"" if client is None else client.encode()
        header = struct.pack(">hhih", table.api_key, version, correlation, -1 if client is None else len(name)) + name
        if request_header_version(table.api_key, version) >= 2:
            header += bytes.fromhex(step.get("header_tags", "00"))
        cls = messages.message_class(api + "Request")
        body = self._build(cls, cls, table.struct, step["body"]).encode(version)
        if "tags" in step and version in table.flexible and body[-1:] == b"\0":
            body = body[:-1] + bytes.fromhex(step["tags"])
        return header + (damaged(body, *step["damage"]) if "damage" in step else body)

    def _build(self, message: Any, cls: Any, table: Struct, tree: Tree) -> Any:
        made = cls()
        fields = {field.name: field for field in table.fields}
        for name, value in tree.items():
            inner = fields[name].struct
            if isinstance(value, dict) and inner is not None and "$" in value:
                value = self._value(value)
            if inner is None or value is None:
                setattr(made, name, self._value(value))
            elif fields[name].is_array:
                setattr(made, name, [self._build(message, getattr(message, inner.name), inner, each) for each in value])
            else:
                setattr(made, name, self._build(message, getattr(message, inner.name), inner, value))
        return made

    def _value(self, value: Tree) -> Any:
        if isinstance(value, list):
            return [self._value(each) for each in value]
        if not isinstance(value, dict):
            return value
        kind, of = value["$"], value.get("of", "")
        if kind == "text":
            return str(of) * int(value["times"])
        if kind == "hex":
            return bytes.fromhex(of)
        if kind == "now":
            return int(time.time() * 1000) + value["add"]
        if kind == "batches":
            return b"".join(self._batch(spec) for spec in value["list"])
        if kind == "topic_id":
            return self._topic_id(of)
        found = self._saved.get(of, {})
        if kind in ("assigned", "subscription", "assignment"):
            return members_words(kind, value, found)
        unknown = {
            "member_epoch": 77,
            "member": "nobody",
            "generation": 77,
            "producer": 4_000_000,
            "epoch": 0,
            "session": 4711,
        }
        known = found.get(kind, unknown[kind])
        return known + value["add"] if "add" in value else known

    def _batch(self, spec: dict[str, Any]) -> bytes:
        """A batch from plain data: keys and values are text, producer is [label or id, epoch, sequence]."""
        wanted = dict(spec)
        cut = wanted.pop("cut", None)
        if "records" in wanted:
            encoded = [[None if part is None else part.encode() for part in pair] for pair in wanted["records"]]
            wanted["records"] = [tuple(pair) for pair in encoded]
        if "producer" in wanted:
            owner, epoch, sequence = wanted["producer"]
            if isinstance(owner, str):
                owner = self._value({"$": "producer", "of": owner})
            wanted["producer"] = (owner, self._value(epoch), sequence)
        if isinstance(wanted.get("timestamp"), dict):
            wanted["timestamp"] = self._value(wanted["timestamp"])
        return batch(**wanted)[:cut]

    def _topic_id(self, name: str) -> bytes:
        """As the broker says now; the last that was known when the topic is gone."""
        request = messages.MetadataRequest
        asked = request(topics=[request.MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
        (topic,) = messages.MetadataResponse.decode(self._aside(asked, 12), 12, 5).topics
        if topic.error_code == 0:
            self._topic_ids[name] = topic.topic_id
        found = self._topic_ids.get(name, NOBODYS_ID)
        self._names.name("id", found)
        return found

    def _aside(self, message: Any, version: int) -> bytes:
        """The answer to a question of the player's own."""
        key = message.api_key
        header = struct.pack(">hhih", key, version, 0, -1) + b"\0" * (request_header_version(key, version) - 1)
        frame = header + message.encode(version)
        with socket.create_connection(("127.0.0.1", self._port), ANSWER_TIMEOUT_S) as aside:
            aside.sendall(struct.pack(">i", len(frame)) + frame)
            return _received(aside)

    # ------------------------------------------------------------------------------------------------- receiving

    def _answer(self, conn: int, step: Step, correlation: int) -> Tree:
        if step["api"] == "Produce" and step["body"].get("acks") == 0 and "damage" not in step:
            return self._unanswered(conn)
        return self._tell(step, correlation, _received(self._sockets[conn]))

    def _tell(self, step: Step, correlation: int, data: bytes) -> Tree:
        api, version = step["api"], step["version"]
        (got,) = struct.unpack_from(">i", data)
        if got != correlation:
            return f"answer to request {got - correlation} before"
        try:
            answer = self._decoded(step, data)
        except DecodeError as error:
            return f"undecodable: {error}"
        if "save" in step:
            self._save(step, answer)
        return normalised(api, answer, read_table(api + "Response").struct, version, self._names)

    def _decoded(self, step: Step, data: bytes) -> Any:
        api, version = step["api"], step["version"]
        start = 5 if response_header_version(read_table(api + "Response").api_key, version) >= 1 else 4
        if api == "ApiVersions" and data[start : start + 2] == b"\0\x23":
            version = 0
        return messages.message_class(api + "Response").decode(data, version, start)

    def _unanswered(self, conn: int) -> Tree:
        """acks=0 is not answered; a connection that goes on answers the next request."""
        probe = {"api": "ListGroups", "version": 0, "body": {}}
        correlation = self._send(conn, probe)
        (got,) = struct.unpack_from(">i", _received(self._sockets[conn]))
        return "no answer" if got == correlation else "an answer"

    def _save(self, step: Step, answer: Any) -> None:
        """keep: a refusal leaves what was known, but for the id that one is told to come back with."""
        label, error = step["save"], getattr(answer, "error_code", 0)
        if step.get("keep") and error not in (0, MEMBER_ID_REQUIRED):
            return
        found = {
            "member": getattr(answer, "member_id", None),
            "generation": getattr(answer, "generation_id", None),
            "producer": getattr(answer, "producer_id", None),
            "epoch": getattr(answer, "producer_epoch", None),
            "session": getattr(answer, "session_id", None),
            "member_epoch": getattr(answer, "member_epoch", None),
            "assignment": getattr(answer, "assignment", None),
        }
        known = {kind: value for kind, value in found.items() if value is not None}
        if error == MEMBER_ID_REQUIRED:
            known = {"member": found["member"]}
        self._saved[label] = {**self._saved.get(label, {}), **known} if step.get("keep") else known


def _received(conn: socket.socket) -> bytes:
    (size,) = struct.unpack(">i", _exactly(conn, 4))
    return _exactly(conn, size)


def _exactly(conn: socket.socket, size: int) -> bytes:
    parts = []
    while size > 0:
        piece = conn.recv(min(size, 1 << 16))
        if not piece:
            raise ConnectionResetError("closed")
        parts.append(piece)
        size -= len(piece)
    return b"".join(parts)


def damaged(body: bytes, kind: str, argument: int) -> bytes:
    """A body made wrong: cut N bytes from its end; N bytes more; byte N set to 0xff, or to 0x7f; N at most wraps."""
    if kind == "cut":
        return body[: max(0, len(body) - argument)]
    if kind == "more":
        return body + b"\x55" * argument
    at = argument % max(1, len(body))
    return body[:at] + (b"\xff" if kind == "ff" else b"\x7f") + body[at + 1 :]

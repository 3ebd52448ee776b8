"""An answer as plain data in which two brokers that behave alike say the same.

What must differ is named: ids by the order in which a session meets them, clocks, ports, host, directories, sizes of
the machine's disks. Everything else stays as it was sent. Lists whose order Kafka takes from a hash table are sorted.
"""

from __future__ import annotations

import hashlib
import re
import struct
import time
from typing import Any

from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.records import VERSION_BYTES, read_version
from cluster.protocol.tables import Field, Struct
from tests.differential.session import Tree

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SHORT_UUID = re.compile(r"\b[A-Za-z0-9_-]{22}\b")
_A_MEMBER = re.compile(r"(?<=member )[A-Za-z0-9_-]{22}(?=[. ])")
_ONLY_A_SHORT_UUID = re.compile(r"[A-Za-z0-9_-]{22}")
_MILLISECONDS = re.compile(r"\b1[5-9]\d{11}\b")
_PREFIX = re.compile(r"s\d+(x\d+)?[-._]")
_ABOUT_NOW_MS = 3_600_000
_BATCH = struct.Struct(">qiibIhiqqqhii")
_HIDDEN = {"throttle_time_ms", "rebalances"}  # the second is ours, told to who asks for it
_OF_THE_MACHINE = {
    "cluster_id": "<cluster>",
    "documentation": "<text>",
    "host": "<host>",
    "log_dir": "<directory>",
    "total_bytes": "<disk>",
    "usable_bytes": "<disk>",
}
_BROKER = 4
#: Settings that say where a broker is, or that only one kind of broker has, or sets differently.
_OWN_SETTINGS = ("pylog.", "listeners", "log.dirs", "socket.", "zookeeper.")
_NAMING = ("name", "topic", "group_id", "transactional_id")
#: Lists in no order that means anything: Kafka fills them from hash tables and sets. By field, with what sorts them.
_SETS = {
    "configs": ("name",),
    "groups": ("group_id",),
    "topics": ("name", "topic_id", "topic"),
    "topic_partitions": ("topic_name", "topic_id"),
    "responses": ("name", "resource_name", "topic", "topic_id"),
    "results": ("name", "resource_name", "log_dir", "group_id"),
    "partitions": ("partition_index", "partition"),
    "partition_responses": ("index",),
    "members": ("member_id", "group_instance_id"),
    "active_producers": ("producer_id",),
    "coordinators": ("key",),
    "brokers": ("node_id", "broker_id"),
    "replica_election_results": ("topic",),
    "partition_result": ("partition_id",),
    "transaction_states": ("transactional_id",),
    "results_by_transaction": ("transactional_id",),
    "topic_results": ("name",),
    "results_by_topic_v3_and_below": ("name",),
    "results_by_partition": ("partition_index",),
}
_SETS_OF_SCALARS = {
    ("DescribeTransactions", "partitions"),
    ("ConsumerGroupHeartbeat", "partitions"),
    ("ConsumerGroupDescribe", "partitions"),
    ("ConsumerGroupDescribe", "subscribed_topic_names"),
}


class Names:
    """Names for what a broker makes up, in the order in which it turns up in a session.

    prefix: of the session's own topics and groups; those of other sessions are left out of lists of everything.
    """

    def __init__(self, port: int, prefix: str) -> None:
        self.port = port
        self._prefix = prefix
        self._known: dict[tuple[str, Any], str] = {}

    def name(self, kind: str, value: Any) -> str:
        return self._known.setdefault((kind, value), f"<{kind} {sum(k == kind for k, _ in self._known) + 1}>")

    def is_known(self, kind: str, value: object) -> bool:
        return (kind, value) in self._known

    def known(self, value: object) -> str:
        """The name of what was met before, as a key to sort by: what a broker makes up has no order of its own."""
        if isinstance(value, bytes):
            return self._known.get(("id", value), "~")
        if isinstance(value, str) and _ONLY_A_SHORT_UUID.fullmatch(value):
            return self._known.get(("uuid", value), "~")
        if isinstance(value, str):
            return _UUID.sub(lambda found: self._known.get(("uuid", found[0]), "~"), value)
        return repr(value)

    def foreign(self, api: str, name: object) -> bool:
        """Whether it belongs to another session. Damaged requests make groups of any name."""
        if not isinstance(name, str) or name.startswith(self._prefix):
            return False
        return api in ("ListGroups", "ListTransactions") or _PREFIX.match(name) is not None

    def text(self, value: str) -> str:
        if _ONLY_A_SHORT_UUID.fullmatch(value):
            return self.name("uuid", value)
        value = _A_MEMBER.sub(lambda found: self.name("uuid", found[0]), value)
        value = _UUID.sub(lambda found: self.name("uuid", found[0]), value)
        value = value.replace(f"127.0.0.1:{self.port}", "<address>")
        value = _MILLISECONDS.sub("<ms>", value)
        if "TopicId" in value or "topic id" in value:
            value = _SHORT_UUID.sub("<id>", value)
        return value


def normalised(api: str, answer: Any, table: Struct, version: int, names: Names) -> Tree:
    """The fields that this version of the answer has."""
    if api == "Fetch" and table.name == "FetchResponse":
        _gather(answer.responses)
    if api == "DescribeConfigs" and table.name == "DescribeConfigsResult" and answer.resource_type == _BROKER:
        answer.configs = [config for config in answer.configs if not config.name.startswith(_OWN_SETTINGS)]
    tree: dict[str, Tree] = {}
    for field in table.fields:
        if version in field.versions and field.name not in _HIDDEN:
            tree[field.name] = _field(api, field, getattr(answer, field.name), version, names)
    return tree


def _gather(topics: list[Any]) -> None:
    """One entry per topic: Kafka begins a new one wherever another topic stood between two partitions."""
    first: dict[object, Any] = {}
    for topic in topics:
        known = first.setdefault((topic.topic, topic.topic_id), topic)
        if known is not topic:
            known.partitions.extend(topic.partitions)
    topics[:] = first.values()


def _field(api: str, field: Field, value: Any, version: int, names: Names) -> Tree:
    if value is None:
        return None
    if field.is_array:
        inner = field.struct
        if inner is None:
            if (api, field.name) in _SETS_OF_SCALARS:
                value = sorted(value)
            return [_scalar(field, each, names) for each in value]
        own = [each for each in value if not any(names.foreign(api, getattr(each, key, None)) for key in _NAMING)]
        if api == "OffsetFetch":  # by id: what a group without a name has is of all sessions
            own = [
                each for each in own if not any(getattr(each, "topic_id", b"")) or names.is_known("id", each.topic_id)
            ]
        if api == "DescribeLogDirs":  # the coordinator's log grows with every session's groups
            own = [each for each in own if getattr(each, "name", "") != "__consumer_offsets"]
        return [normalised(api, each, inner, version, names) for each in _sorted(field.name, own, names)]
    if field.struct is not None:
        return normalised(api, value, field.struct, version, names)
    if field.type == "records":
        return record_batches(bytes(value), names)
    return _scalar(field, value, names)


def _sorted(name: str, items: list[Any], names: Names) -> list[Any]:
    """By the first of the naming fields that is there; equal ones stay in the order they were sent."""
    if not items:
        return items
    for key in _SETS.get(name, ()):
        if hasattr(items[0], key) and any(getattr(each, key) for each in items):
            if key == "producer_id":  # given in the order in which they were asked for
                return sorted(items, key=lambda each: int(each.producer_id))
            return sorted(items, key=lambda each: names.known(getattr(each, key)))
    return items


def _scalar(field: Field, value: Any, names: Names) -> Tree:
    if field.name in _OF_THE_MACHINE and value:
        return _OF_THE_MACHINE[field.name]
    if field.name == "port" and value == names.port:
        return "<port>"
    if field.type == "uuid":
        return names.name("id", value) if any(value) else ""
    if field.name == "session_id" and value > 0:
        return "<session>"
    if field.name == "producer_id" and value >= 0:
        return names.name(field.name, value)
    if field.type == "int64":
        return about_now(value)
    if isinstance(value, str):
        return names.text(value)
    if isinstance(value, bytes):
        return value.hex() if field.name != "assignment" else assignment(value)
    return value


def assignment(data: bytes) -> Tree:
    """What a member of a classic group of consumers was given, topics by name: a coordinator that makes it of what it
    knows takes them from a hash table. Bytes of another kind stay bytes."""
    try:
        version = read_version(data)
        told = m.ConsumerProtocolAssignment.decode(data, version, VERSION_BYTES)
    except DecodeError:
        return data.hex()
    return {
        "version": version,
        "assigned": sorted([each.topic, each.partitions] for each in told.assigned_partitions),
        "user_data": None if told.user_data is None else told.user_data.hex(),
    }


def about_now(value: int) -> Tree:
    return "<now>" if abs(value - time.time() * 1000) < _ABOUT_NOW_MS else value


def record_batches(data: bytes, names: Names) -> Tree:
    """Each batch's header, and a digest of its records; what is left at the end, as its length."""
    found: list[Tree] = []
    at = 0
    while len(data) - at >= _BATCH.size:
        fields = _BATCH.unpack_from(data, at)
        size = fields[1] + 12
        if size > len(data) - at:
            break
        base, _, epoch, magic, _, attributes, last, first_ms, max_ms, producer, producer_epoch, sequence, count = fields
        payload = data[at + _BATCH.size : at + size]
        found.append(
            {
                "base_offset": base,
                "leader_epoch": epoch,
                "magic": magic,
                "attributes": attributes,
                "last_offset_delta": last,
                "first_ms": about_now(first_ms),
                "max_ms": about_now(max_ms),
                "producer": names.name("producer_id", producer) if producer >= 0 else -1,
                "producer_epoch": producer_epoch,
                "sequence": sequence,
                "count": count,
                "records": "compressed" if attributes & 7 else hashlib.sha256(payload).hexdigest()[:12],
            }
        )
        at += size
    return [*found, f"{len(data) - at} bytes of another"] if at < len(data) else found

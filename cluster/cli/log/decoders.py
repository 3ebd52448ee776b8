"""What is in the records of __consumer_offsets and __transaction_state, in the words of kafka-dump-log.

Keeps true: the text is that of Kafka 3.9's tool, letter for letter, for every record that a broker writes; a record
that cannot be read is told in its place and does not end the dump.
"""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress

from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from cluster.protocol.message import Message, Struct
from cluster.protocol.records import VERSION_BYTES, read_version
from pylog.records import Record
from pylog.types import id_text

_DELETE = "<DELETE>"

_GROUP_RECORDS = {
    0: "OffsetCommit",
    1: "OffsetCommit",
    2: "GroupMetadata",
    3: "ConsumerGroupMetadata",
    4: "ConsumerGroupPartitionMetadata",
    5: "ConsumerGroupMemberMetadata",
    6: "ConsumerGroupTargetAssignmentMetadata",
    7: "ConsumerGroupTargetAssignmentMember",
    8: "ConsumerGroupCurrentMemberAssignment",
    16: "ConsumerGroupRegularExpression",
}
_CONSUMER_PROTOCOL = "consumer"
_TRANSACTION_KEY = 0
_TRANSACTION_STATES = (
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
)


def decode_group_record(record: Record) -> tuple[str | None, str | None]:
    """Key and value of a record of __consumer_offsets as JSON."""
    try:
        version = _version("key", record.key)
        name = _GROUP_RECORDS.get(version)
        if name is None:
            return f"Unknown record type {version} at offset {record.offset}, skipping.", None
        key = _read("key", f"{name}Key", record.key, version)
        key_text = _json({"type": str(version), "data": as_json(key, version)})
        if record.value is None:
            return key_text, _DELETE
        value_version = _version("value", record.value)
        data = as_json(_read("value", f"{name}Value", record.value, value_version), value_version)
        if name == "GroupMetadata":
            _open_consumer_protocol(data)
        return key_text, _json({"version": str(value_version), "data": data})
    except DecodeError as error:
        return f"Error at offset {record.offset}, skipping. {error}", None


def decode_transaction_record(record: Record) -> tuple[str | None, str | None]:
    """Key and value of a record of __transaction_state."""
    try:
        version = _version("key", record.key)
        if version != _TRANSACTION_KEY:
            return f"Unknown record type {version} at offset {record.offset}, skipping.", None
        key = _read("key", "TransactionLogKey", record.key, version)
        assert isinstance(key, m.TransactionLogKey)
        key_text = f"transaction_metadata::transactionalId={key.transactional_id}"
        if record.value is None:
            return key_text, _DELETE
        value = _read("value", "TransactionLogValue", record.value, _version("value", record.value))
        assert isinstance(value, m.TransactionLogValue)
    except DecodeError as error:
        return f"Error at offset {record.offset}, skipping. {error}", None
    status = value.transaction_status
    state = _TRANSACTION_STATES[status] if 0 <= status < len(_TRANSACTION_STATES) else str(status)
    named = [(part.topic, i) for part in value.transaction_partitions or () for i in part.partition_ids]
    partitions = [f"{topic}-{i}" for topic, i in _in_hash_order(named)]
    return key_text, (
        f"producerId:{value.producer_id},producerEpoch:{value.producer_epoch},state={state},"
        f"partitions=[{','.join(partitions)}],"
        f"txnLastUpdateTimestamp={value.transaction_last_update_timestamp_ms},"
        f"txnTimeoutMs={value.transaction_timeout_ms}"
    )


def _version(part: str, data: bytes | None) -> int:
    try:
        return read_version(data or b"")
    except DecodeError:
        raise DecodeError(f"Could not read version from {part}'s buffer.") from None


def _read(part: str, name: str, data: bytes | None, version: int) -> Message:
    try:
        return _message(name, data or b"", version)
    except DecodeError as error:
        why = f"Could not read record with version {version} from {part}'s buffer due to: {error}."
        raise DecodeError(why) from None


def _in_hash_order(partitions: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Kafka keeps them in a hash table and prints them as they lie there. The same order for up to a dozen."""
    slots = 16
    while len(partitions) * 4 >= slots * 3:
        slots *= 2

    def place(partition: tuple[str, int]) -> tuple[int, int]:
        topic, number = partition
        units = topic.encode("utf-16-be")
        code = 0
        for at in range(0, len(units), 2):
            code = 31 * code + int.from_bytes(units[at : at + 2], "big")
        code = (31 * (31 + number) + code) & 0xFFFFFFFF
        code ^= code >> 16
        return code & (slots - 1), code - (code >> 31 << 32)

    return sorted(partitions, key=place)


def as_json(value: Struct, version: int) -> dict[str, object]:
    """A message of that version as Kafka's JSON shows it: what the version has, tagged fields only when they say
    something."""
    fields: dict[str, object] = {}
    for field in value._fields:
        content = getattr(value, field.name)
        if version not in field.versions and version not in field.tagged:
            continue
        if version in field.tagged and content == (type(content)() if isinstance(content, Struct) else field.default):
            continue
        name = _camel(field.name)
        if field.is_array and content is not None:
            fields[name] = [_plain(item, field.type, version) for item in content]
        else:
            fields[name] = _plain(content, field.type, version)
    return fields


def _plain(content: object, kind: str, version: int) -> object:
    if isinstance(content, Struct):
        return as_json(content, version)
    if isinstance(content, bytes):
        return id_text(content) if kind == "uuid" else b64encode(content).decode()
    return content


def _open_consumer_protocol(group: dict[str, object]) -> None:
    """Subscription and assignment of a consumer are messages of their own; what is none of these stays as it is."""
    members = group["members"]
    if group["protocolType"] != _CONSUMER_PROTOCOL or not isinstance(members, list):
        return
    from base64 import b64decode

    for member in members:
        for name, kind in (
            ("subscription", "ConsumerProtocolSubscription"),
            ("assignment", "ConsumerProtocolAssignment"),
        ):
            data = b64decode(member[name])
            with suppress(DecodeError):
                version = min(read_version(data), getattr(m, kind).valid_versions[1])
                member[name] = as_json(_message(kind, data, version, exact=False), version)


def _message(name: str, data: bytes, version: int, *, exact: bool = True) -> Message:
    kind: type[Message] = getattr(m, name)
    return kind.decode(data, version, VERSION_BYTES, exact)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

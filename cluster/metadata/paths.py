"""Every path of Kafka's ZooKeeper tree, and what Kafka 3.9 writes there.

What stays true: `encode` gives Kafka's bytes (compact JSON, its key order, UTF-8; partitions in order, where Kafka's
own order is that of a hash map), `decode` reads what Kafka 2.x and 3.x wrote, ignoring keys it does not know, and
raises ValueError for anything else. What security keeps in the tree is in `security_paths.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.metadata.json_data import decode_json, encode_json, integer, integers, items, mapping, string, strings
from cluster.model import Broker, BrokerEpoch, BrokerId, EndPoint, LeaderAndIsr, PartitionAssignment, TopicDescription
from pylog.facts import NamedTuple
from pylog.typed import Self
from pylog.types import ZERO_TOPIC_ID, id_bytes, id_text

ADMIN = "/admin"
DELETE_TOPICS = "/admin/delete_topics"
REASSIGN_PARTITIONS = "/admin/reassign_partitions"
PREFERRED_REPLICA_ELECTION = "/admin/preferred_replica_election"
BROKERS = "/brokers"
BROKER_IDS = "/brokers/ids"
BROKER_SEQUENCE = "/brokers/seqid"
TOPICS = "/brokers/topics"
CLUSTER = "/cluster"
CLUSTER_ID = "/cluster/id"
CONFIG = "/config"
CONFIG_TOPICS = "/config/topics"
CONFIG_CLIENTS = "/config/clients"
CONFIG_USERS = "/config/users"
CONFIG_BROKERS = "/config/brokers"
CONFIG_IPS = "/config/ips"
CONFIG_CHANGES = "/config/changes"
CONFIG_CHANGE_PREFIX = "/config/changes/config_change_"
CONSUMERS = "/consumers"
CONTROLLER = "/controller"
CONTROLLER_EPOCH = "/controller_epoch"
FEATURE = "/feature"
ISR_CHANGES = "/isr_change_notification"
ISR_CHANGE_PREFIX = "/isr_change_notification/isr_change_"
LATEST_PRODUCER_ID_BLOCK = "/latest_producer_id_block"
LOG_DIR_EVENTS = "/log_dir_event_notification"
LOG_DIR_EVENT_PREFIX = "/log_dir_event_notification/log_dir_event_"

DEFAULT_ENTITY = "<default>"

# In the order in which a Kafka broker makes them on an empty tree, all with null data.
PERSISTENT = (
    CONSUMERS, BROKERS, BROKER_IDS, TOPICS, CONFIG, CONFIG_CHANGES, ADMIN, DELETE_TOPICS, BROKER_SEQUENCE, ISR_CHANGES,
    LATEST_PRODUCER_ID_BLOCK, LOG_DIR_EVENTS, CONFIG_TOPICS, CONFIG_CLIENTS, CONFIG_USERS, CONFIG_BROKERS, CONFIG_IPS,
)  # fmt: skip


def broker(broker_id: int) -> str:
    return f"{BROKER_IDS}/{broker_id}"


def topic(name: str) -> str:
    return f"{TOPICS}/{name}"


def partitions(topic_name: str) -> str:
    return f"{TOPICS}/{topic_name}/partitions"


def partition(topic_name: str, index: int) -> str:
    return f"{TOPICS}/{topic_name}/partitions/{index}"


def partition_state(topic_name: str, index: int) -> str:
    return f"{TOPICS}/{topic_name}/partitions/{index}/state"


def delete_topic(name: str) -> str:
    return f"{DELETE_TOPICS}/{name}"


def config(entity_type: str, entity: str) -> str:
    """`entity` as it stands in the tree: see `sanitize`."""
    return f"{CONFIG}/{entity_type}/{entity}"


_UNRESERVED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")


def sanitize(entity: str) -> str:
    """A user, client or principal as part of a path: URL-encoded."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in entity.encode())


def desanitize(entity: str) -> str:
    """Raises ValueError for what is not URL-encoded."""
    first, *rest = entity.split("%")
    raw = first.encode() + b"".join(bytes([int(part[:2], 16)]) + part[2:].encode() for part in rest)
    return raw.decode()


# ------------------------------------------------------------------------------------------------ brokers, controller


class BrokerRegistration(NamedTuple):
    """/brokers/ids/N. `version` 4 (before 2.7) has no features, 2 (before 0.10.0-IV1) neither a rack nor listeners but
    those named after their security protocol, 1 (read only) one address without a listener."""

    endpoints: tuple[EndPoint, ...]
    rack: str | None
    timestamp_ms: int
    jmx_port: int = -1
    version: int = 5
    features: Mapping[str, object] = {}

    def encode(self) -> bytes:
        plain = next((endpoint for endpoint in self.endpoints if endpoint.protocol == "PLAINTEXT"), None)
        value: dict[str, object] = {"features": self.features} if self.version >= 5 else {}
        if self.version >= 4:
            protocols = {endpoint.listener: endpoint.protocol for endpoint in self.endpoints}
            value["listener_security_protocol_map"] = protocols
        value["endpoints"] = [str(endpoint) for endpoint in self.endpoints]
        if self.rack is not None and self.version >= 3:
            value["rack"] = self.rack
        value["jmx_port"] = self.jmx_port
        value["port"] = plain.port if plain else -1
        value["host"] = plain.host if plain else None
        value["version"] = self.version
        value["timestamp"] = str(self.timestamp_ms)
        return encode_json(value)

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        value = decode_json(data)
        version = integer(value, "version")
        endpoints: tuple[EndPoint, ...]
        if version == 1:
            endpoints = (EndPoint("PLAINTEXT", string(value, "host"), integer(value, "port"), "PLAINTEXT"),)
        else:
            protocols = mapping(value, "listener_security_protocol_map", {})
            endpoints = tuple(_endpoint(each, protocols) for each in strings(value, "endpoints"))
        rack = value.get("rack")
        return cls(
            endpoints,
            None if rack is None else str(rack),
            integer(value, "timestamp", -1),
            integer(value, "jmx_port", -1),
            version,
            mapping(value, "features", {}),
        )

    def broker(self, broker_id: int, czxid: int) -> Broker:
        return Broker(BrokerId(broker_id), self.endpoints, self.rack, BrokerEpoch(czxid))


def _endpoint(text: str, protocols: Mapping[str, object]) -> EndPoint:
    name, _, address = text.partition("://")
    host, _, port = address.rpartition(":")
    return EndPoint(name, host.removeprefix("[").removesuffix("]"), int(port), str(protocols.get(name, name)))


class ControllerNode(NamedTuple):
    """/controller. `version` 1 (before 3.4) does not say that no KRaft controller is in charge."""

    broker_id: int
    timestamp_ms: int
    version: int = 2

    def encode(self) -> bytes:
        value = {"version": self.version, "brokerid": self.broker_id, "timestamp": str(self.timestamp_ms)}
        return encode_json(value if self.version < 2 else value | {"kraftControllerEpoch": -1})

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        value = decode_json(data)
        return cls(integer(value, "brokerid"), integer(value, "timestamp", -1), integer(value, "version", 1))


def encode_controller_epoch(epoch: int) -> bytes:
    return str(epoch).encode()


def decode_controller_epoch(data: bytes | None) -> int:
    return int(data or b"")


class ClusterIdNode(NamedTuple):
    """/cluster/id."""

    cluster_id: str

    def encode(self) -> bytes:
        return encode_json({"version": "1", "id": self.cluster_id})

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        return cls(string(decode_json(data), "id"))


class FeatureNode(NamedTuple):
    """/feature. `status`: 0 disabled (protocol before 2.7), 1 enabled. In `version` 1 (before 3.3) a finalized feature
    has a range of levels."""

    status: int = 1
    version: int = 2
    features: Mapping[str, object] = {}

    def features_in(self, version: int) -> dict[str, object]:
        """The finalized features as another version has them."""
        levels = {name: integer(mapping(self.features, name), "max_version_level") for name in self.features}
        keys = ("max_version_level", "min_version_level") if version == 1 else ("max_version_level",)
        return {name: dict.fromkeys(keys, level) for name, level in levels.items()}

    def encode(self) -> bytes:
        return encode_json({"features": self.features, "version": self.version, "status": self.status})

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        value = decode_json(data)
        return cls(integer(value, "status"), integer(value, "version"), mapping(value, "features", {}))


class ProducerIdBlock(NamedTuple):
    """/latest_producer_id_block: the ids from `start` to `end`, both included, belong to a broker."""

    broker_id: int
    start: int
    end: int

    def encode(self) -> bytes:
        value = {"version": 1, "broker": self.broker_id, "block_start": str(self.start), "block_end": str(self.end)}
        return encode_json(value)

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        value = decode_json(data)
        return cls(integer(value, "broker"), integer(value, "block_start"), integer(value, "block_end"))


# ------------------------------------------------------------------------------------------------ topics, partitions


def encode_topic(description: TopicDescription) -> bytes:
    """/brokers/topics/T."""
    value: dict[str, object] = {
        "partitions": {str(index): list(part.replicas) for index, part in enumerate(description.partitions)}
    }
    if description.topic_id != ZERO_TOPIC_ID:
        value["topic_id"] = id_text(description.topic_id)
    for name in ("adding", "removing"):
        value[f"{name}_replicas"] = {
            str(index): list(getattr(part, name))
            for index, part in enumerate(description.partitions)
            if getattr(part, name)
        }
    return encode_json(value | {"version": 3})


def decode_topic(name: str, data: bytes | None) -> TopicDescription:
    """Versions 1 to 3. Raises ValueError also when partitions are missing between others."""
    value = decode_json(data)
    replicas = _replicas(mapping(value, "partitions"))
    if sorted(replicas) != list(range(len(replicas))):
        raise ValueError(f"partitions of topic {name} are not consecutive: {sorted(replicas)}")
    adding = _replicas(mapping(value, "adding_replicas", {}))
    removing = _replicas(mapping(value, "removing_replicas", {}))
    parts = tuple(
        PartitionAssignment(replicas[index], adding.get(index, ()), removing.get(index, ()))
        for index in range(len(replicas))
    )
    return TopicDescription(name, id_bytes(string(value, "topic_id")) if "topic_id" in value else ZERO_TOPIC_ID, parts)


def _replicas(by_partition: Mapping[str, object]) -> dict[int, tuple[int, ...]]:
    return {int(index): integers(by_partition, index) for index in by_partition}


def encode_partition_state(state: LeaderAndIsr) -> bytes:
    """/brokers/topics/T/partitions/P/state."""
    value: dict[str, object] = {
        "controller_epoch": state.controller_epoch,
        "leader": state.leader,
        "version": 1,
        "leader_epoch": state.leader_epoch,
        "isr": list(state.isr),
    }
    if state.recovering:
        value["leader_recovery_state"] = 1
    return encode_json(value)


def decode_partition_state(data: bytes | None, version: int) -> LeaderAndIsr:
    """`version`: of the znode."""
    value = decode_json(data)
    return LeaderAndIsr(
        integer(value, "leader"),
        integer(value, "leader_epoch"),
        integers(value, "isr"),
        integer(value, "controller_epoch"),
        version,
        integer(value, "leader_recovery_state", 0) == 1,
    )


# ------------------------------------------------------------------------------------------------ configurations


def encode_config(settings: Mapping[str, str]) -> bytes:
    """/config/<type>/<entity>."""
    return encode_json({"version": 1, "config": dict(settings)})


def decode_config(data: bytes | None) -> dict[str, str]:
    """A node without data (the parent of a user's clients) has no settings."""
    if not data:
        return {}
    settings = mapping(decode_json(data), "config", {})
    return {name: string(settings, name) for name in settings}


class ConfigChange(NamedTuple):
    """/config/changes/config_change_N: `topics/T`, `brokers/N`, `users/U/clients/C`, …"""

    entity_path: str

    def encode(self) -> bytes:
        return encode_json({"version": 2, "entity_path": self.entity_path})

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        return cls(string(decode_json(data), "entity_path"))


# ------------------------------------------------------------------------------------------------ notifications


class IsrChange(NamedTuple):
    """/isr_change_notification/isr_change_N: (topic, partition) whose ISR a leader changed (protocol before 2.7)."""

    partitions: tuple[tuple[str, int], ...]

    def encode(self) -> bytes:
        changed = [{"topic": name, "partition": index} for name, index in self.partitions]
        return encode_json({"version": 1, "partitions": changed})

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        changed = items(decode_json(data), "partitions")
        return cls(tuple((string(each, "topic"), integer(each, "partition")) for each in changed))


class LogDirEvent(NamedTuple):
    """/log_dir_event_notification/log_dir_event_N: a log directory of this broker failed."""

    broker_id: int

    def encode(self) -> bytes:
        return encode_json({"version": 1, "broker": self.broker_id, "event": 1})

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        return cls(integer(decode_json(data), "broker"))


class ReassignPartitions(NamedTuple):
    """/admin/reassign_partitions, which old tools write: (topic, partition, replicas)."""

    partitions: tuple[tuple[str, int, tuple[int, ...]], ...]

    def encode(self) -> bytes:
        moves = [{"topic": name, "partition": index, "replicas": list(to)} for name, index, to in self.partitions]
        return encode_json({"version": 1, "partitions": moves})

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        moves = items(decode_json(data), "partitions")
        return cls(
            tuple((string(move, "topic"), integer(move, "partition"), integers(move, "replicas")) for move in moves)
        )


class PreferredElection(NamedTuple):
    """/admin/preferred_replica_election, which old tools write: (topic, partition)."""

    partitions: tuple[tuple[str, int], ...]

    def encode(self) -> bytes:
        return IsrChange(self.partitions).encode()

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        return cls(IsrChange.decode(data).partitions)

"""The tree of a cluster as lines in which two clusters that did the same say the same.

What stays true: a line has the node's data as they are written, its version, and whether it is ephemeral. What must
differ is named alike: times, ids, ports; and what is drawn by lot: which replicas a topic of chance has, who leads it,
and what becomes of it when brokers die. Of its replicas the racks stay, so that a spread over racks is seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

Lines: TypeAlias = dict[str, list[Any]]

#: Topics whose replicas were not said by whoever made them.
CHANCE = ("__", "chance")
_TIMESTAMP = re.compile(r'("timestamp":)"\d{13}"')
_TOPIC_ID = re.compile(r'("topic_id":)"[A-Za-z0-9_-]{22}"')
_CLUSTER_ID = re.compile(r'("id":)"[A-Za-z0-9_-]{22}"')
#: Maps that Kafka writes in the order of a hash table.
_SETS = ("partitions", "adding_replicas", "removing_replicas", "config")


class Reader:
    """One connection. ports: port → broker id; racks: broker id → rack."""

    def __init__(self, connect: str, ports: Mapping[int, int], racks: Mapping[int, str]) -> None:
        self._ports = ports
        self._racks = racks
        self._client = KazooClient(connect)
        self._client.start()

    def close(self) -> None:
        self._client.stop()
        self._client.close()

    def create(self, path: str, data: str) -> None:
        self._client.create(path, data.encode())

    def broker_epoch(self, broker_id: int) -> int:
        return int(self._client.get(f"/brokers/ids/{broker_id}")[1].czxid)

    def exists(self, path: str) -> bool:
        return self._client.exists(path) is not None

    def read(self) -> Lines:
        """Path → data, version, and the word ephemeral where it is."""
        found: Lines = {}
        asked = ["/"]
        while asked:
            data = [self._client.get_async(path) for path in asked]
            children = [self._client.get_children_async(path) for path in asked]
            deeper = []
            for path, node, names in zip(asked, data, children, strict=True):
                try:
                    text, stat = node.get()
                    below = names.get()
                except NoNodeError:
                    continue
                if path != "/":
                    ephemeral = ["ephemeral"] if stat.ephemeralOwner else []
                    line = self._named_alike(path, text)
                    found[path] = [line, "<chance>" if line and "<chance>" in line else stat.version, *ephemeral]
                deeper += [f"{path.rstrip('/')}/{name}" for name in below]
            asked = deeper
        return dict(sorted(found.items()))

    def _named_alike(self, path: str, data: bytes | None) -> str | None:
        if data is None:
            return None
        text = _TIMESTAMP.sub(r'\1"<ms>"', data.decode())
        text = _CLUSTER_ID.sub(r'\1"<id>"', _TOPIC_ID.sub(r'\1"<id>"', text))
        for port, broker_id in self._ports.items():
            text = re.sub(rf"\b{port}\b", f"<port {broker_id}>", text)
        if not text.startswith("{") or "<port" in text:
            return text
        value = {
            key: dict(sorted(each.items())) if key in _SETS and isinstance(each, dict) else each
            for key, each in json.loads(text).items()
        }
        parts = path.split("/")
        if parts[:3] == ["", "brokers", "topics"] and parts[3].startswith(CHANCE):
            value = self._without_chance(value)
        return json.dumps(value, separators=(",", ":"))

    def _without_chance(self, value: dict[str, Any]) -> dict[str, Any]:
        if "partitions" in value:
            partitions = {name: self._racks_of(replicas) for name, replicas in value["partitions"].items()}
            return {**value, "partitions": partitions}
        settled = {"leader": "<one>", "isr": self._racks_of(value["isr"])}
        return {**value, **settled} if value["leader_epoch"] == 0 else dict.fromkeys(value, "<chance>")

    def _racks_of(self, brokers: list[int]) -> list[str]:
        return sorted(self._racks.get(each, str(each)) for each in brokers)

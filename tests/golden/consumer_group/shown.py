"""Answers and facts as text in which nothing depends on who said it: ids of topics and members by name, no times."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from cluster.coordinator.group_records import GroupStored
from cluster.protocol.message import Message, Struct

#: What differs from run to run: times, hashes of topic ids, versions of metadata.
_LEFT_OUT = frozenset({"throttle_time_ms", "metadata_hash", "made_ms", "commit_ms", "state_ms", "version"})
#: What follows is said in the words of a library.
_SYNTAX = " is not a valid regular expression"


class Shown:
    """`topics`: names by id. Ids that a coordinator made are numbered as they come."""

    def __init__(self, topics: dict[bytes, str]) -> None:
        self._topics = topics
        self._made: dict[str, str] = {}

    def answer(self, message: Message) -> str:
        made = getattr(message, "member_id", None)
        if isinstance(made, str) and len(made) > 20 and made not in self._made:
            self._made[made] = f"made{len(self._made) + 1}"
        return self.text(message)

    def facts(self, facts: Iterable[Any]) -> list[str]:
        """Kafka 4 writes down a classic group that has no generation yet; we, as Kafka 3.9, do not."""
        shown: list[str] = []
        for kind, run in groupby(facts, type):
            of_one_kind = list(run)
            if kind is GroupStored and of_one_kind[0].generation == 0:
                continue
            shown += sorted(self.text(fact) for fact in of_one_kind)  # members come in the order of ids that differ
        return shown

    def text(self, value: object) -> str:
        if isinstance(value, bytes):
            return self._topics.get(value, value.hex())
        if isinstance(value, Struct):
            fields = ((field.name, getattr(value, field.name)) for field in value._fields)
            return self._fields(type(value).__name__, fields)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self._fields(type(value).__name__, zip(value._fields, value, strict=True))
        if isinstance(value, dict):
            return "{" + ", ".join(sorted(f"{self.text(k)}: {self.text(v)}" for k, v in value.items())) + "}"
        if isinstance(value, (list, tuple)):
            # What a map held comes in any order.
            texts = [self.text(each) for each in value]
            return "[" + ", ".join(sorted(texts) if value and isinstance(value[0], Struct) else texts) + "]"
        if isinstance(value, frozenset):
            return "{" + ", ".join(sorted(self.text(each) for each in value)) + "}"
        if isinstance(value, str):
            for made, name in self._made.items():
                value = value.replace(made, name)
            return value.partition(_SYNTAX)[0]
        return str(int(value)) if isinstance(value, int) else str(value)

    def _fields(self, name: str, fields: object) -> str:
        shown = (f"{field}={self.text(value)}" for field, value in fields if field not in _LEFT_OUT)  # type: ignore[attr-defined]
        return f"{name}({', '.join(shown)})"

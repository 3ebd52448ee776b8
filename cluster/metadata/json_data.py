"""JSON as it stands in znodes: written compactly, read with suspicion.

What stays true: whatever is in the data, reading gives a value of the type asked for or raises ValueError; a number may
be written as text, as Kafka does with timestamps.
"""

import json
from collections.abc import Mapping


def encode_json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def decode_json(data: bytes | None) -> dict[str, object]:
    value = json.loads(data) if data else None
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object: {data!r}")
    return value


def integer(value: Mapping[str, object], name: str, default: int | None = None) -> int:
    found = _field(value, name, default)
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise ValueError(f"{name} is no number: {found!r}")
    return int(found)


def string(value: Mapping[str, object], name: str, default: str | None = None) -> str:
    found = _field(value, name, default)
    if not isinstance(found, str):
        raise ValueError(f"{name} is no text: {found!r}")
    return found


def mapping(
    value: Mapping[str, object], name: str, default: Mapping[str, object] | None = None
) -> Mapping[str, object]:
    found = _field(value, name, default)
    if not isinstance(found, dict):
        raise ValueError(f"{name} is no object: {found!r}")
    return found


def integers(value: Mapping[str, object], name: str) -> tuple[int, ...]:
    found = _listed(value, name)
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in found):
        raise ValueError(f"{name} is no list of numbers: {found!r}")
    return tuple(each for each in found if isinstance(each, int))


def strings(value: Mapping[str, object], name: str) -> tuple[str, ...]:
    found = _listed(value, name)
    if not all(isinstance(each, str) for each in found):
        raise ValueError(f"{name} is no list of texts: {found!r}")
    return tuple(each for each in found if isinstance(each, str))


def items(value: Mapping[str, object], name: str) -> tuple[dict[str, object], ...]:
    """A list of objects."""
    found = _listed(value, name)
    if not all(isinstance(each, dict) for each in found):
        raise ValueError(f"{name} is no list of objects: {found!r}")
    return tuple(each for each in found if isinstance(each, dict))


def _listed(value: Mapping[str, object], name: str) -> list[object]:
    found = _field(value, name, None)
    if not isinstance(found, list):
        raise ValueError(f"{name} is no list: {found!r}")
    return found


def _field(value: Mapping[str, object], name: str, default: object) -> object:
    found = value.get(name, default)
    if found is None:
        raise ValueError(f"no {name} in {dict(value)!r}")
    return found

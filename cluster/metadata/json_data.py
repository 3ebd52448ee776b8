"""JSON as it stands in znodes: written compactly, read with suspicion.

What stays true: whatever is in the data, reading gives a value of the type asked for or raises ValueError; a number may
be written as text, as Kafka does with timestamps.

The work is done by the C half of the standard library's `json`, asked directly: its Python half brings `re` and `enum`
along, which together are an eighth of a broker's start, for options that nobody here uses.
"""

from __future__ import annotations

from _json import encode_basestring, make_encoder, make_scanner
from collections.abc import Mapping

from pylog.typed import NoReturn

_BLANKS = " \t\n\r"


def _refuse(what: object) -> NoReturn:
    """What is asked when something is met that JSON cannot say: NaN, an object of ours."""
    raise ValueError(f"not in JSON: {what!r}")


class _Reading:
    """How the scanner is to read: what JSONDecoder says when it is given no option."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse)


_scan = make_scanner(_Reading)  # type: ignore[arg-type]  # the stub asks for a scanner, the scanner for a decoder
# In order: no check for cycles, our refusal of foreign objects, texts as they are, no indentation, the separators, keys
# in their own order, none left out, no NaN.
_write = make_encoder(None, _refuse, encode_basestring, None, ":", ",", False, False, False)


def encode_json(value: Mapping[str, object]) -> bytes:
    return "".join(_write(value, 0)).encode()


def decode_json(data: bytes | None) -> dict[str, object]:
    text = data.decode().strip(_BLANKS) if data else ""
    try:
        value, end = _scan(text, 0)
    except (StopIteration, RecursionError):
        value = end = None
    if not isinstance(value, dict) or end != len(text):
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

"""Reading and writing JSON beside the standard library's `json`, whose C half does the work."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.metadata.json_data import decode_json, encode_json

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
OBJECTS = st.dictionaries(st.text(), VALUES)


def by_json(value: object, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


@given(OBJECTS)
def test_written_as_json_writes_compactly(value: dict[str, object]) -> None:
    try:
        expected = by_json(value, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        with pytest.raises(ValueError):
            encode_json(value)
    else:
        assert encode_json(value) == expected


@given(OBJECTS, st.sampled_from([None, 1, "\t"]), st.text(" \t\r\n"), st.text(" \t\r\n"))
def test_reads_what_json_writes(value: dict[str, object], indent: int | str | None, before: str, after: str) -> None:
    text = before + json.dumps(value, indent=indent) + after
    assert decode_json(text.encode()) == value


@given(st.text('{}[]":,0123456789.eE+-truefalsn\\u \n\x01ä'))
def test_anything_is_read_as_json_reads_it_or_refused(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    if isinstance(expected, dict):
        assert decode_json(text.encode()) == expected
    else:
        with pytest.raises(ValueError):
            decode_json(text.encode())


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b" ",
        b"null",
        b"[]",
        b"1",
        b'"{}"',
        b"{",
        b"{}}",
        b"{} {}",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":\x01}',
        b'{"a":"\n"}',
        b"\xff{}",
        b"\xef\xbb\xbf{}",
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_what_is_no_object_is_refused(data: bytes | None) -> None:
    with pytest.raises(ValueError):
        decode_json(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", object()])
def test_what_json_cannot_say_is_not_written(value: object) -> None:
    with pytest.raises(ValueError):
        encode_json({"a": [value]})


def test_lone_surrogates_are_not_written() -> None:
    with pytest.raises(ValueError):
        encode_json({"a": "\ud800"})

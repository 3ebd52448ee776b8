"""What `pylog produce` reads: lines out of a file or a pipe, and the record in a line of JSON.

What it keeps true: every line is one record and nothing of a line is lost, the last one too when no newline ends it;
a reader that has nothing to give says so (an empty list), so that what was read is sent and not kept back.
"""

from __future__ import annotations

import json
import os
import select
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator

from cluster.cli.errors import CommandError
from pylog.facts import NamedTuple
from pylog.records import Header

_READ_BYTES = 1 << 18
# A broker takes requests of up to 100 MiB by default; a longer line is a file that has no lines.
_MAX_LINE_BYTES = 100 << 20


class InputRecord(NamedTuple):
    """A record to produce. `timestamp`: None for now."""

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp: int | None


def read_lines(fd: int, idle_s: float) -> Iterator[list[bytes]]:
    """Lines as they come, in lists; an empty list when none has come for `idle_s`. Raises CommandError."""
    rest: list[bytes] = []
    rest_bytes = 0
    while True:
        if not select.select([fd], [], [], idle_s)[0]:
            yield []
            select.select([fd], [], [])
        data = os.read(fd, _READ_BYTES)
        if not data:
            if rest:
                yield [b"".join(rest)]
            return
        head, newline, tail = data.rpartition(b"\n")
        if newline:
            rest.append(head)
            yield b"".join(rest).split(b"\n")
            rest, rest_bytes = [], 0
        if tail:
            rest.append(tail)
            rest_bytes += len(tail)
            if rest_bytes > _MAX_LINE_BYTES:
                raise CommandError(f"a line of more than {_MAX_LINE_BYTES >> 20} MiB is no record a broker would take")


def parse_json(line: bytes, number: int) -> InputRecord:
    """The record in a line as `pylog consume --json` writes it; topic, partition and offset are ignored.

    `number`: of the line, for the CommandError that is raised when there is none in it.
    """
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise ValueError("not an object")
        return InputRecord(
            _json_bytes(fields.get("key")),
            _json_bytes(fields.get("value")),
            _json_headers(fields.get("headers")),
            _json_int(fields.get("timestamp")),
        )
    except ValueError as error:
        raise CommandError(f"line {number}: {error} in {shown(line)}") from error


def _json_bytes(value: object) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"base64"}:
        try:
            return b64decode(value["base64"], validate=True)
        except (Base64Error, TypeError) as error:
            raise ValueError(f"bad base64 ({error})") from error
    # Anything else is a document of its own: {"value": {"a": 1}} produces {"a":1}.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _json_headers(value: object) -> tuple[Header, ...]:
    """A list of pairs; or an object, when no name comes twice."""
    pairs = list(value.items()) if isinstance(value, dict) else value or []
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("the headers are not a list of [name, value]")
    return tuple(Header(str(name), _json_bytes(content)) for name, content in pairs)


def _json_int(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError(f"{value!r} is not an integer")


def shown(line: bytes) -> str:
    """The beginning of a line, for an error."""
    text = line[:60].decode("utf-8", "backslashreplace")
    return repr(text + ("..." if len(line) > 60 else ""))

"""meta.properties: which broker and which cluster a data directory belongs to.

Keeps true: once written it never changes for as long as the directory lives; the caller compares it with the broker's
own id and cluster id before any log of the directory is opened.

    #
    #Sun Nov 22 11:01:42 UTC 2026
    broker.id=1
    version=0
    cluster.id=BqAbZzJcRyCV7ufzNcp56A

A KRaft node writes version 1, with node.id and directory.id.
"""

from __future__ import annotations

import os
import time

from pylog.facts import NamedTuple
from pylog.files import CorruptFileError, read_file, replace_file
from pylog.types import id_text

META_PROPERTIES_FILE = "meta.properties"

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class MetaProperties(NamedTuple):
    """What the file says; None for what it does not say."""

    version: int
    broker_id: int | None = None
    cluster_id: str | None = None
    directory_id: str | None = None


def new_cluster_id() -> str:
    """A fresh id: 16 random bytes as text. Kafka's own never begin with a dash, which command lines mistake for an
    option."""
    while (text := id_text(os.urandom(16))).startswith("-"):
        pass
    return text


def java_date(wall_ms: int) -> str:
    """A moment as Java's Date prints it, in UTC: `Sun Nov 22 11:01:42 UTC 2026`. No locale has a say in it."""
    t = time.gmtime(wall_ms // 1000)
    clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{_DAYS[t.tm_wday]} {_MONTHS[t.tm_mon - 1]} {t.tm_mday:02} {clock} UTC {t.tm_year}"


def encode_meta_properties(meta: MetaProperties, wall_ms: int) -> bytes:
    """The file's bytes, keys in the order in which Kafka 3.9 (version 0) and Kafka 4 (version 1) leave them."""
    if meta.version == 0:
        pairs = [("broker.id", meta.broker_id), ("version", 0), ("cluster.id", meta.cluster_id)]
        pairs.append(("directory.id", meta.directory_id))
    else:
        pairs = [("node.id", meta.broker_id), ("directory.id", meta.directory_id)]
        pairs += [("version", meta.version), ("cluster.id", meta.cluster_id)]
    lines = ["#", "#" + java_date(wall_ms), *(f"{key}={value}" for key, value in pairs if value is not None), ""]
    return "\n".join(lines).encode()


def read_meta_properties(directory: str) -> MetaProperties | None:
    """What the directory says of itself, None when it has no meta.properties yet. Raises CorruptFileError."""
    path = os.path.join(directory, META_PROPERTIES_FILE)
    data = read_file(path)
    if data is None:
        return None
    values: dict[str, tuple[int, str]] = {}
    for number, raw in enumerate(data.decode("latin-1").splitlines(), 1):
        line = raw.strip(" \t\f")
        if line and line[0] not in "#!":
            key, value = _pair(line)
            values[key] = (number, value)
    version = _integer(path, values, "version")
    if version not in (0, 1):
        raise CorruptFileError(path, values.get("version", (1, ""))[0], "version 0 or 1 expected")
    broker_id = _integer(path, values, "broker.id" if version == 0 else "node.id")
    return MetaProperties(version, broker_id, _text(values, "cluster.id"), _text(values, "directory.id"))


def write_meta_properties(directory: str, meta: MetaProperties, wall_ms: int) -> None:
    """Write the file durably. Raises OSError."""
    replace_file(os.path.join(directory, META_PROPERTIES_FILE), encode_meta_properties(meta, wall_ms))


def _pair(line: str) -> tuple[str, str]:
    """One `key=value` of Java properties: the first unescaped `=`, `:` or blank ends the key."""
    out: list[str] = []
    i = 0
    while i < len(line) and line[i] not in "=: \t\f":
        i = _take(line, i, out)
    key = "".join(out)
    rest = line[i:].lstrip(" \t\f")
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(" \t\f")
    out = []
    i = 0
    while i < len(rest):
        i = _take(rest, i, out)
    return key, "".join(out)


def _take(text: str, i: int, out: list[str]) -> int:
    """Append the character at i, or the one its escape stands for; returns the index behind it."""
    if text[i] == "\\" and i + 1 < len(text):
        out.append(_ESCAPES.get(text[i + 1], text[i + 1]))
        return i + 2
    out.append(text[i])
    return i + 1


def _integer(path: str, values: dict[str, tuple[int, str]], key: str) -> int | None:
    if key not in values:
        return None
    number, value = values[key]
    try:
        return int(value)
    except ValueError:
        raise CorruptFileError(path, number, f"{key} is not a number: {value[:80]!r}") from None


def _text(values: dict[str, tuple[int, str]], key: str) -> str | None:
    return values[key][1] if key in values else None

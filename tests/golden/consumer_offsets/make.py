"""Makes records.jsonl from a log directory of Apache Kafka and the text its own dump tool printed of it.

    python make.py LOG_DIR DUMP_DIR > records.jsonl

One line per record of __consumer_offsets: partition, offset, the producer id of its transaction (-1: none), and either
the marker that ends one ("commit", "abort") or key and value in hexadecimal, with what Kafka's tool read in them. The
reader of the log is its own: it shares no code with what is tested.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

_HEADER = struct.Struct(">qiibIhiqqqhii")
_LINE = re.compile(r"^\| offset: (\d+) .*? headerKeys: \[\] (?:endTxnMarker: (\w+) .*|key: (.*?) payload: (.*))$")


def varint(data: bytes, at: int) -> tuple[int, int]:
    shift = value = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def field(data: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = varint(data, at)
    return (None, at) if size < 0 else (data[at : at + size], at + size)


def records(log: bytes) -> Iterator[tuple[int, int, bool, bytes, bytes | None]]:
    """Offset, producer id of the transaction, whether it is a marker, key, value."""
    at = 0
    while at < len(log):
        base, size, _, magic, _, attributes, _, _, _, producer, _, _, count = _HEADER.unpack_from(log, at)
        assert magic == 2
        assert attributes & 7 == 0, "compressed"
        position = at + _HEADER.size
        for _ in range(count):
            length, position = varint(log, position)
            end = position + length
            _, inner = varint(log, position + 1)
            delta, inner = varint(log, inner)
            key, inner = field(log, inner)
            value, inner = field(log, inner)
            assert key is not None
            yield base + delta, producer if attributes & 16 else -1, bool(attributes & 32), key, value
            position = end
        at += 12 + size


def dumped(path: Path) -> dict[int, re.Match[str]]:
    found = (_LINE.match(line) for line in path.read_text("utf-8").splitlines())
    return {int(match[1]): match for match in found if match}


def main(log_dir: Path, dump_dir: Path) -> None:
    for folder in sorted(log_dir.glob("__consumer_offsets-*")):
        texts: dict[int, re.Match[str]] = {}
        for path in sorted((dump_dir / folder.name).glob("*.log.txt")):
            texts |= dumped(path)
        for path in sorted(folder.glob("*.log")):
            for offset, producer, is_marker, key, value in records(path.read_bytes()):
                entry: dict[str, object] = {"partition": int(folder.name.rpartition("-")[2]), "offset": offset}
                entry["producer"] = producer
                if is_marker:
                    entry["marker"] = "commit" if struct.unpack_from(">h", key, 2)[0] else "abort"
                    assert texts[offset][2] == str(entry["marker"]).upper()
                else:
                    entry["key"] = key.hex()
                    entry["value"] = None if value is None else value.hex()
                    entry["kafka_key"] = json.loads(texts[offset][3])
                    payload = texts[offset][4]
                    entry["kafka_value"] = None if payload == "<DELETE>" else json.loads(payload)
                print(json.dumps(entry, separators=(",", ":")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""partition.metadata: the topic id a partition directory belongs to.

Keeps true: written once, before the first record, and never changed; so a directory left by an earlier topic of the
same name is told from the present one. 43 bytes without a line end:

    version: 0
    topic_id: 9RZ0gJ8bTSiv8OHPmuRo-g
"""

import os

from pylog.files import CorruptFileError, read_file, replace_file, write_all
from pylog.types import id_bytes, id_text

PARTITION_METADATA_FILE = "partition.metadata"


def encode_partition_metadata(topic_id: bytes) -> bytes:
    """The file's bytes."""
    return b"version: 0\ntopic_id: " + id_text(topic_id).encode()


def read_partition_metadata(path: str) -> bytes | None:
    """The topic id, None when there is no file (protocol before 2.8). Raises CorruptFileError."""
    data = read_file(path)
    return None if data is None else decode_partition_metadata(path, data)


def decode_partition_metadata(path: str, data: bytes) -> bytes:
    """The topic id in the file's bytes. Raises CorruptFileError."""
    lines = data.rstrip(b"\n").split(b"\n")
    if lines[0] != b"version: 0":
        raise CorruptFileError(path, 1, f"'version: 0' expected, found {lines[0][:80]!r}")
    if len(lines) != 2 or not lines[1].startswith(b"topic_id: "):
        raise CorruptFileError(path, 2, "'topic_id: ' and 22 characters expected")
    try:
        return id_bytes(lines[1][len(b"topic_id: ") :].decode("ascii"))
    except ValueError as e:
        raise CorruptFileError(path, 2, str(e)) from None


def write_partition_metadata(path: str, topic_id: bytes) -> None:
    """Write the file durably. Raises OSError."""
    replace_file(path, encode_partition_metadata(topic_id))


def create_partition_metadata(path: str, topic_id: bytes) -> None:
    """Write the file in a new directory; whoever makes the directory durable syncs it too. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, encode_partition_metadata(topic_id))
    finally:
        os.close(fd)

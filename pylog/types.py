"""The words every other module speaks: offsets, epochs, topic partitions, topic ids.

Keeps true: a partition's directory name and its TopicPartition say the same thing, both ways, and a topic id is 16
bytes inside and 22 characters of URL-safe base64 (without padding) wherever Kafka writes one as text.
"""

from __future__ import annotations

import binascii

from pylog.facts import NamedTuple
from pylog.typed import NewType

Offset = NewType("Offset", int)
"""A record's number in its log."""
LeaderEpoch = NewType("LeaderEpoch", int)
"""Which leadership wrote a record; -1 is none."""
ProducerId = NewType("ProducerId", int)

NO_OFFSET = Offset(-1)
NO_EPOCH = LeaderEpoch(-1)
NO_PRODUCER_ID = ProducerId(-1)

FOREVER = (1 << 63) - 1
"""Kafka's "never" for times, sizes and counts: the largest int64."""

TOPIC_ID_BYTES = 16
ZERO_TOPIC_ID = bytes(TOPIC_ID_BYTES)
"""The id of a topic that has none (inter-broker protocol before 2.8)."""

_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_STANDARD = bytes.maketrans(b"-_", b"+/")


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int

    @property
    def directory_name(self) -> str:
        """`topic-N`: what Kafka calls the partition's directory."""
        return f"{self.topic}-{self.partition}"

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


def topic_partition(directory_name: str) -> TopicPartition | None:
    """What `topic-N` names, or None when it names no partition. The last dash separates: topics may hold dashes."""
    topic, dash, number = directory_name.rpartition("-")
    if not dash or not topic or not (number.isascii() and number.isdigit()):
        return None
    return TopicPartition(topic, int(number))


def id_text(id_bytes: bytes) -> str:
    """16 bytes as Kafka writes a topic id, cluster id or directory id: URL-safe base64 without padding."""
    if len(id_bytes) != TOPIC_ID_BYTES:
        raise ValueError(f"an id has {TOPIC_ID_BYTES} bytes, not {len(id_bytes)}")
    return binascii.b2a_base64(id_bytes, newline=False)[:22].translate(_URL_SAFE).decode()


def id_bytes(text: str) -> bytes:
    """The 16 bytes behind 22 characters of base64; ValueError when they are not that."""
    try:
        raw = binascii.a2b_base64(text.encode("ascii").translate(_STANDARD) + b"==", strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as e:
        raise ValueError(f"not an id in URL-safe base64: {text!r}") from e
    if len(raw) != TOPIC_ID_BYTES:
        raise ValueError(f"an id has 22 characters of base64: {text!r}")
    return raw

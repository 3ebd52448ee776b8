"""Partition directory names and ids as text: both ways, and what is refused."""

import os

import pytest

from pylog.types import TopicPartition, id_bytes, id_text, topic_partition


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("orders-0", TopicPartition("orders", 0)),
        ("a-b-12", TopicPartition("a-b", 12)),
        ("__consumer_offsets-49", TopicPartition("__consumer_offsets", 49)),
        ("-1", None),
        ("orders-", None),
        ("orders", None),
        ("orders-x", None),
        ("orders-٣", None),
        ("orders-1.0123-delete", None),
    ],
)
def test_directory_names(name: str, expected: TopicPartition | None) -> None:
    assert topic_partition(name) == expected
    if expected is not None:
        assert expected.directory_name == name


def test_ids_round_trip() -> None:
    for _ in range(100):
        raw = os.urandom(16)
        assert id_bytes(id_text(raw)) == raw
    assert id_text(bytes.fromhex("f51671d0 9f1b4d28 afcafc63 4fe6c1a0".replace(" ", ""))).isascii()


@pytest.mark.parametrize("text", ["", "short", "9RZ0gJ8bTSiv8OHPmuRo-g=", "9RZ0gJ8bTSiv8OHPmuRo!g", "é" * 22])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError):
        id_bytes(text)

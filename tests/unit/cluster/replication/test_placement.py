"""Fetchers and throttled replicas."""

import pytest

from cluster.replication.placement import fetcher_of, is_throttled
from pylog.types import TopicPartition

INT_MAX = 2**31 - 1


@pytest.mark.parametrize(
    ("topic", "partition", "value"),  # as Java computes it
    [
        ("orders", 0, 1207109189),
        ("orders", 49, 1207109140),
        ("__consumer_offsets", 0, 16741367),
        ("a", 1, 3008),
        ("topic-\u00e4\u20ac", 0, 387604250),
        ("polygenelubricants", 0, 0),  # its hash is the smallest number
        ("polygenelubricants", 1, 2147483647),
        ("zzzzzzzzzz", 49, 1765712911),
    ],
)
def test_the_fetcher_is_by_javas_hash(topic: str, partition: int, value: int) -> None:
    name = TopicPartition(topic, partition)
    for fetchers in (1, 3, 7, INT_MAX):
        assert fetcher_of(name, fetchers) == value % fetchers


def test_throttled_replicas_are_named_or_all() -> None:
    assert is_throttled(("0:1", "2:3"), 2, 3)
    assert not is_throttled(("0:1", "2:3"), 3, 2)
    assert is_throttled(("*",), 9, 9)
    assert not is_throttled((), 0, 1)

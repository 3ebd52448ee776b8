"""Facts about a cluster: what follows from them."""

import pytest

from cluster.model import EndPoint, PartitionAssignment


def test_a_reassignment_knows_where_from_and_where_to() -> None:
    moving = PartitionAssignment((2, 1, 3), adding=(2,), removing=(3,))
    assert moving.is_reassigning
    assert moving.origin == (1, 3)
    assert moving.target == (2, 1)


def test_without_a_reassignment_all_are_the_same() -> None:
    still = PartitionAssignment((3, 1))
    assert not still.is_reassigning
    assert still.origin == still.target == still.replicas == (3, 1)


@pytest.mark.parametrize(
    ("host", "text"),
    [("127.0.0.1", "OUT://127.0.0.1:9092"), ("::1", "OUT://[::1]:9092"), ("", "OUT://:9092")],
)
def test_endpoints_as_text(host: str, text: str) -> None:
    assert str(EndPoint("OUT", host, 9092, "PLAINTEXT")) == text


def test_facts_do_not_change() -> None:
    with pytest.raises(AttributeError):
        PartitionAssignment((1,)).replicas = (2,)  # type: ignore[misc]

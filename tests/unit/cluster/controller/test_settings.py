"""Which versions of the controller's requests go with which inter-broker protocol."""

import pytest

from cluster.controller.settings import Settings, parse_protocol


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        ("3.9-IV0", (7, 8, 4)),
        ("3.9", (7, 8, 4)),
        ("3.4-IV0", (7, 8, 4)),
        ("3.3-IV3", (6, 7, 3)),
        ("3.2", (6, 7, 3)),
        ("3.1-IV0", (5, 7, 3)),
        ("2.8-IV0", (4, 6, 3)),
        ("2.8", (5, 7, 3)),
        ("2.6", (4, 6, 3)),
    ],
)
def test_request_versions(text: str, versions: tuple[int, int, int]) -> None:
    settings = Settings(1, protocol=parse_protocol(text))
    chosen = (settings.leader_and_isr_version, settings.update_metadata_version, settings.stop_replica_version)
    assert chosen == versions


def test_abilities() -> None:
    assert Settings(1).has_leader_recovery
    old = Settings(1, protocol=parse_protocol("2.6"))
    assert not (old.has_topic_ids or old.has_features or old.has_leader_recovery)


def test_a_protocol_without_leader_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2\.5.*older than 2\.6"):
        parse_protocol("2.5-IV0")

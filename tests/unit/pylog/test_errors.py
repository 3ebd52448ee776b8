"""Error codes: the numbers, flags and words that clients rely on."""

from __future__ import annotations

import pytest

from pylog.errors import ErrorCode, KafkaError


def test_every_code_from_minus_one_to_the_newest_is_there() -> None:
    assert sorted(map(int, ErrorCode)) == list(range(-1, 129))


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (-1, "UNKNOWN_SERVER_ERROR"),
        (0, "NONE"),
        (6, "NOT_LEADER_OR_FOLLOWER"),
        (16, "NOT_COORDINATOR"),
        (56, "KAFKA_STORAGE_ERROR"),
        (79, "MEMBER_ID_REQUIRED"),
        (87, "INVALID_RECORD"),
        (100, "UNKNOWN_TOPIC_ID"),
        (127, "VOTER_NOT_FOUND"),
        (128, "INVALID_REGULAR_EXPRESSION"),
    ],
)
def test_a_code_has_kafkas_name(code: int, name: str) -> None:
    assert ErrorCode(code).name == name


def test_flags() -> None:
    assert ErrorCode.NOT_LEADER_OR_FOLLOWER.retriable
    assert ErrorCode.NOT_LEADER_OR_FOLLOWER.refreshes_metadata
    assert ErrorCode.NOT_COORDINATOR.retriable
    assert not ErrorCode.NOT_COORDINATOR.refreshes_metadata
    assert not ErrorCode.ILLEGAL_GENERATION.retriable
    assert all(code.retriable for code in ErrorCode if code.refreshes_metadata)
    assert sum(code.retriable for code in ErrorCode) == 31


def test_a_message_is_kafkas_or_the_name() -> None:
    assert ErrorCode.NON_EMPTY_GROUP.message == "The group is not empty."
    assert ErrorCode.ILLEGAL_GENERATION.message == "Illegal generation."
    assert ErrorCode.NONE.message == "NONE"


def test_an_error_without_words_has_those_of_its_code() -> None:
    assert KafkaError(ErrorCode.NON_EMPTY_GROUP).message == "The group is not empty."
    given = KafkaError(ErrorCode.INVALID_CONFIG, "Unknown topic config name: foo.bar")
    assert (given.code, given.message) == (ErrorCode.INVALID_CONFIG, "Unknown topic config name: foo.bar")
    assert "INVALID_CONFIG" in str(given)

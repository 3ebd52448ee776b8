"""Every answer that Kafka 3.9's own parser gave for every key and a set of texts is ours too."""

import gzip
import json
from pathlib import Path

import pytest

from pylog.config import TOPIC_KEYS
from pylog.config_value import ConfigError, is_release, parse_value, show_value

GOLDEN = Path(__file__).parents[2] / "golden" / "config" / "parsed_values.json.gz"


def kafka_groups() -> list[dict[str, object]]:
    """Keys which Kafka treats alike, with its answer to each text: "ok <value>" or the refusal, the key as KEY."""
    groups: list[dict[str, object]] = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    return groups


def ours(key: str, kind: str, rule: str | None, text: str) -> str:
    try:
        value = parse_value(key, kind, rule, text)
    except ConfigError as error:
        message = str(error).replace(f"configuration {key}:", "configuration KEY:")
        return message.replace(f": {key} must be", ": KEY must be")
    return f"ok {show_value(value)}"


@pytest.mark.parametrize("key", TOPIC_KEYS)
def test_topic_key_reads_like_kafka(key: str) -> None:
    entry = TOPIC_KEYS[key]
    (answers,) = [group["answers"] for group in kafka_groups() if key in group["topic"]]  # type: ignore[operator]
    assert isinstance(answers, dict) and len(answers) > 70
    assert {text: ours(key, entry.kind, entry.rule, text) for text in answers} == answers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (True, "true"),
        (False, "false"),
        (("a", "b"), "a,b"),
        ((), ""),
        (7, "7"),
        (0.5, "0.5"),
        (1e6, "1000000.0"),
        (1e7, "1.0E7"),
        (1.7976931348623157e308, "1.7976931348623157E308"),
        (0.001, "0.001"),
        (0.0001, "1.0E-4"),
        (-0.0, "-0.0"),
        (123456789012.0, "1.23456789012E11"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_values_show_as_java_prints_them(value: object, text: str | None) -> None:
    assert show_value(value) == text  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["3.9", "3.9-IV0", "2.8.1", "0.10.2", "0.10.2-IV0", "0.8.2.1", "4.0-IV1"])
def test_release(text: str) -> None:
    assert is_release(text)


@pytest.mark.parametrize("text", ["", "3", "3.9-IV1", "3.9-IVx", "3.9-", "9.9", "0.10", "x.y", "3.9-SNAPSHOT"])
def test_not_a_release(text: str) -> None:
    assert not is_release(text)

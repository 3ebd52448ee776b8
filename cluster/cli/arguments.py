"""Command-line pieces that several commands share: the broker's address, key=value pairs, times and durations.

Every converter raises argparse.ArgumentTypeError with a sentence, which argparse prints behind the option's name.
"""

from __future__ import annotations

import argparse
import re

from cluster.cli.client import ClusterClient, parse_addresses
from cluster.cli.output import notice

_DEFAULT_TIMEOUT_S = 30.0
_LAST_MS = (1 << 63) - 1
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_ISO_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.IGNORECASE)


def add_connection(parser: argparse.ArgumentParser) -> None:
    """--bootstrap-server and --timeout."""
    parser.add_argument(
        "-b",
        "--bootstrap-server",
        metavar="HOST:PORT",
        default="localhost:9092",
        help="one or several brokers, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive_seconds,
        default=_DEFAULT_TIMEOUT_S,
        help="how long to keep trying while brokers are away or leaders move (default: %(default)g)",
    )


def connect(options: argparse.Namespace) -> ClusterClient:
    """The cluster that the options of `add_connection` name; connects when first asked for something."""
    return ClusterClient(
        parse_addresses(options.bootstrap_server), timeout_ms=int(options.timeout * 1000), on_wait=notice
    )


def positive_seconds(text: str) -> float:
    """A number of seconds above 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return seconds


def positive_int(text: str) -> int:
    """An integer above 0."""
    value = non_negative_int(text)
    if value == 0:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return value


def non_negative_int(text: str) -> int:
    """An integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return int(text)


def key_value(text: str) -> tuple[str, str]:
    """KEY=VALUE; the value may be empty and may hold further equals signs."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key.strip(), value


def escaped(text: str) -> bytes:
    r"""Bytes from text with \n, \t, \0, \xHH and \\ in it."""
    try:
        return text.encode("utf-8").decode("unicode_escape").encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def duration_ms(text: str) -> int:
    """A duration such as 90s, 15m, 2h, 7d, or ISO 8601's PT1H30M, in ms."""
    for unit in sorted(_UNITS_MS, key=len, reverse=True):
        number = text.removesuffix(unit)
        if number != text and number.isdecimal():
            return int(number) * _UNITS_MS[unit]
    match = _ISO_DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90s, 15m, 2h, 7d or PT1H30M")
    days, hours, minutes, seconds = (float(group or 0) for group in match.groups())
    return int(((days * 24 + hours) * 60 + minutes) * 60_000 + seconds * 1000)


def timestamp_ms(text: str) -> int:
    """A moment: ISO 8601 (local time unless it has a zone), or milliseconds since 1970. What was before that is taken
    as 1970, for to Kafka a negative time is not one."""
    if text.isdecimal() and int(text) <= _LAST_MS:
        return int(text)
    from datetime import datetime

    try:
        return max(0, int(datetime.fromisoformat(text).timestamp() * 1000))
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time such as 2026-11-22T10:00:00 or milliseconds since 1970"
        ) from error

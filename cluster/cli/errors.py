"""What a command raises when it cannot go on: one line for the user, and an exit code."""

from __future__ import annotations

from pylog.errors import ErrorCode, KafkaError


class CommandError(Exception):
    """The command failed; the text is the whole line the user sees. Exit code 1."""


class UsageError(CommandError):
    """The command was asked for something that makes no sense. Exit code 2."""


def refusal(code: int, message: str | None = None) -> KafkaError:
    """The exception for an error code out of an answer; `message`: the broker's own words, if it sent any."""
    try:
        known = ErrorCode(code)
    except ValueError:
        return KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, message or f"error code {code}")
    return KafkaError(known, message if message and message != "NONE" else None)


def check(code: int, message: str | None = None) -> None:
    """Raise what the error code of an answer says; nothing for NONE."""
    if code != ErrorCode.NONE:
        raise refusal(code, message)

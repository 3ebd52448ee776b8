"""Runs one client command: its arguments, its connection, and its errors as one line.

What it keeps true: no command but the one asked for is imported; every connection is closed when the command ends.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn, cast

from cluster.broker.peer import PeerError
from cluster.cli.errors import CommandError, UsageError
from cluster.cli.main import EXIT_FAILED, EXIT_USAGE
from cluster.protocol.errors import EncodeError
from pylog.errors import KafkaError

_SIGNALLED = 128

#: Commands without paths among their arguments: those need not be text.
_ALL_NAMES = ("topics", "groups", "configs")


def run_command(word: str, arguments: list[str]) -> int:
    """Run `pylog WORD arguments` and return the exit code."""
    module = import_module(f"cluster.cli.{word}")
    build = cast(Callable[[], argparse.ArgumentParser], module.build_parser)
    parser = build()
    if not arguments and parser._subparsers is not None:
        # argparse would only say that VERB is missing, and not which there are.
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    try:
        options = parser.parse_args(arguments)
    except SystemExit as end:  # argparse has said what was wrong, or printed the help
        return end.code if isinstance(end.code, int) else EXIT_USAGE
    if word in _ALL_NAMES and not all(map(_is_text, arguments)):
        return _say("an argument is not UTF-8, as all names in Kafka are", EXIT_USAGE)
    run = cast(Callable[[argparse.Namespace], int], options.run)
    before = signal.signal(signal.SIGTERM, _terminate)
    _show_everything()
    try:
        code = run(options)
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _say(str(error), EXIT_USAGE)
    except CommandError as error:
        return _say(str(error), EXIT_FAILED)
    except KafkaError as error:
        return _say(f"{error.message.rstrip('.')} ({error.code.name})", EXIT_FAILED)
    except PeerError as error:
        return _say(str(error), EXIT_FAILED)
    except EncodeError as error:
        return _say(f"longer or larger than Kafka's protocol can say: {error}", EXIT_USAGE)
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_text(argument: str) -> bool:
    """Bytes that are none would be sent as question marks, which may be somebody's name."""
    return not any("\ud800" <= each <= "\udfff" for each in argument)


def _show_everything() -> None:
    """What the locale's encoding does not have is shown as its code, as Python does on stderr, instead of ending us."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _terminate(signum: int, frame: object) -> NoReturn:
    """End as after Ctrl-C: leave the group, say how much was written."""
    raise SystemExit(_SIGNALLED + signum)


def _say(line: str, code: int) -> int:
    print(f"pylog: {line}", file=sys.stderr)
    return code

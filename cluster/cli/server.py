"""`pylog server [server.properties] [--override KEY=VALUE]...`: reads the settings and runs a broker.

What it keeps true: nothing is imported here that the broker itself does not need, so arguments are read by hand; a
setting that cannot be used ends in one line and exit code 2 before anything was started or written.
"""

from __future__ import annotations

import gc
import sys

_USAGE = "usage: pylog server [server.properties] [--override KEY=VALUE]... [--help]\n"
_HELP = (
    _USAGE
    + """
Starts a broker with Apache Kafka's settings, read from a properties file. Without a file it listens on localhost:9092
and keeps its data in ./pylog-data. It says when it is ready; SIGTERM or Ctrl-C stops it in order.

  --override KEY=VALUE   set a key, whatever the file says; may be given several times
"""
)
EXIT_USAGE = 2


def run_server(arguments: list[str]) -> int:
    """Run a broker in this process; returns its exit code."""
    gc.disable()  # what a start makes is there to stay; the broker turns it on when it is ready
    try:
        return _run_server(arguments)
    finally:
        gc.enable()


def _run_server(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(_HELP)
        sys.stdout.flush()
        return 0
    try:
        path, overrides = parse_arguments(arguments)
    except ValueError as error:
        sys.stderr.write(f"pylog server: {error}\n{_USAGE}")
        return EXIT_USAGE
    from cluster.config import ConfigError, load

    try:
        config = load(path, overrides)
    except ConfigError as error:
        sys.stderr.write(f"pylog server: {error}\n")
        return EXIT_USAGE
    except OSError as error:
        sys.stderr.write(f"pylog server: {path}: {(error.strerror or str(error)).lower()}\n")
        return EXIT_USAGE
    for warning in config.warnings:
        sys.stderr.write(f"pylog server: warning: {warning}\n")
    from cluster.broker.broker import run

    return run(config)


def parse_arguments(arguments: list[str]) -> tuple[str | None, dict[str, str]]:
    """The path of the properties file, if one is named, and the overrides. Raises ValueError with a sentence."""
    path: str | None = None
    overrides: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        if word == "--override" or word.startswith("--override="):
            pair = next(words, "") if word == "--override" else word.removeprefix("--override=")
            key, equals, value = pair.partition("=")
            if not equals or not key.strip():
                raise ValueError(f"--override needs KEY=VALUE, not {pair!r}")
            overrides[key.strip()] = value.strip()
        elif word.startswith("-"):
            raise ValueError(f"there is no option {word}")
        elif path is not None:
            raise ValueError(f"one properties file at most, not {path} and {word}")
        else:
            path = word
    return path, overrides

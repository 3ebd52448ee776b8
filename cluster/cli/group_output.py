"""How figures of groups are written: for people on a terminal, as plain numbers everywhere else."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime

from cluster.cli.client import ClusterClient
from cluster.cli.output import print_line

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_UUID_SHOWN = 8
_CLEAR = "\x1b[H\x1b[2J"


def seconds_text(seconds: float | None) -> str | None:
    """12.345, or on a terminal such as 12.3 s, 5m 12s, 3h 05m, 2d 03h."""
    if seconds is None:
        return None
    if not sys.stdout.isatty():
        return f"{seconds:.3f}"
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m {whole % _MINUTE_S:02}s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h {whole % _HOUR_S // _MINUTE_S:02}m"
    return f"{whole // _DAY_S}d {whole % _DAY_S // _HOUR_S:02}h"


def member_text(member_id: str) -> str:
    """A member's id; on a terminal without most of the UUID at its end, which would fill half of the line."""
    if not sys.stdout.isatty():
        return member_id
    return _UUID.sub(lambda found: found[0][:_UUID_SHOWN] + "…", member_id)


def moment_text(moment_ms: int) -> str:
    """Local time; with its zone where a program reads it."""
    moment = datetime.fromtimestamp(moment_ms / 1000).astimezone()
    if sys.stdout.isatty():
        return moment.replace(tzinfo=None).isoformat(" ", "seconds")
    return moment.isoformat(timespec="milliseconds")


def counted(number: int, noun: str) -> str:
    """Such as `1 member`, `2,000 members`."""
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


def print_json(document: Mapping[str, object]) -> None:
    """One line of JSON."""
    print_line(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def say_failed(lines: list[str]) -> int:
    """What could not be done, below what could; the exit code."""
    sys.stdout.flush()
    for line in lines:
        print(f"pylog: {line}", file=sys.stderr)
    return 1 if lines else 0


def repeat(cluster: ClusterClient, every_s: float | None, show: Callable[[], int]) -> int:
    """Show once, or again and again on a clean screen until Ctrl-C; piped, one after the other."""
    if every_s is None:
        return show()
    while True:
        if sys.stdout.isatty():
            sys.stdout.write(_CLEAR)
        show()
        sys.stdout.flush()
        cluster.pause(every_s)

"""Lines for people: when, how bad, who, what, and the fields.

What stays true: one call writes one whole line, whatever the thread; the message is constant and what varies is in the
fields, so that lines can be counted and searched. The standard library's `logging` costs a fifth of a broker's start-up
time and is not used on the way; a program that embeds pylog points `sink` at its own logger.

    [2026-11-22 10:20:30,123] INFO [Partition orders-3 broker=2] leader epoch started epoch=5 offset=70
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from pylog.typed import Final

DEBUG: Final = 10
INFO: Final = 20
WARN: Final = 30
ERROR: Final = 40

_NAMES: Final = {DEBUG: "DEBUG", INFO: "INFO", WARN: "WARN", ERROR: "ERROR"}


def to_stderr(level: int, line: str) -> None:
    """The sink of a program of our own."""
    stamp = time.time()
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp))
    data = f"[{text},{int(stamp * 1000) % 1000:03d}] {_NAMES[level]} {line}\n"
    try:
        os.write(2, data.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody reads our stderr any more; that must not stop a broker


#: Where lines go: (level, text without time and level). Replace it to send them elsewhere.
sink: Callable[[int, str], None] = to_stderr

#: Lines below this level are not built.
threshold: int = INFO


class Logger:
    """Lines with one prefix, such as `[Partition orders-3 broker=2]`. Any thread."""

    __slots__ = ("prefix",)

    def __init__(self, subject: str) -> None:
        self.prefix = f"[{subject}] "

    def debug(self, message: str, **fields: object) -> None:
        self.log(DEBUG, message, fields)

    def info(self, message: str, **fields: object) -> None:
        self.log(INFO, message, fields)

    def warn(self, message: str, **fields: object) -> None:
        self.log(WARN, message, fields)

    def error(self, message: str, **fields: object) -> None:
        self.log(ERROR, message, fields)

    def exception(self, message: str, **fields: object) -> None:
        """An error line with the traceback of the exception being handled behind it."""
        import traceback

        kind, error, trace = sys.exc_info()
        lines = "".join(traceback.format_exception(kind, error, trace)).rstrip()
        self.log(ERROR, message, fields, "\n" + lines)

    def log(self, level: int, message: str, fields: dict[str, object], tail: str = "") -> None:
        if level < threshold:
            return
        text = "".join(f" {name}={value}" for name, value in fields.items())
        sink(level, self.prefix + message + text + tail)

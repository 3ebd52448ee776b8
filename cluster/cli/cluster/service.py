"""One background process of a cluster: started, looked at and ended by commands that do not live as long as it does.

What stays true: the file `pid` names a process by its id and the time of its start, so that another one that got the
same id later is left alone; what the process writes goes to the end of one log file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_LOOK_AGAIN_S = 0.05
_GONE_S = 5.0
_TAIL_BYTES = 4096


class Service:
    """`name`: for people; `directory`: where its files are, the log among them."""

    def __init__(self, name: str, directory: Path, log_name: str) -> None:
        self.name = name
        self.directory = directory
        self.log = directory / log_name
        self._pid_file = directory / "pid"
        self._child: subprocess.Popen[bytes] | None = None
        self._pause = threading.Event()

    def pid(self) -> int | None:
        """None when it does not run."""
        if self._child is not None and self._child.poll() is not None:
            return None
        try:
            pid, started = map(int, self._pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        return pid if _start_time(pid) == started else None

    def start(self, command: Sequence[str]) -> None:
        """Raises OSError. The process gets a session of its own, so that nobody's Ctrl-C ends it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
            )
        started = _start_time(self._child.pid)
        aside = self._pid_file.with_suffix(".tmp")
        aside.write_text(f"{self._child.pid} {started}\n")
        aside.rename(self._pid_file)

    def stop(self, timeout_s: float) -> bool:
        """SIGTERM; False when it had to be killed. Raises OSError when it belongs to somebody else."""
        pid = self.pid()
        in_order = True
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            in_order = self._wait_gone(timeout_s)
            if not in_order:
                os.kill(pid, signal.SIGKILL)
                self._wait_gone(_GONE_S)
        self._pid_file.unlink(missing_ok=True)
        return in_order

    def last_line(self) -> str:
        """What it wrote last: why it ended, as a rule."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")

    def pause(self) -> None:
        """Between two looks at it."""
        self._pause.wait(_LOOK_AGAIN_S)

    def _wait_gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.pid() is not None:
            if time.monotonic() > deadline:
                return False
            self.pause()
        return True


def _start_time(pid: int) -> int | None:
    """In clock ticks since the machine's start; None when no such process runs (one that has ended, and that nobody has
    asked about, does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may have blanks
    return None if fields[0] in "ZX" else int(fields[19])

"""A server process whose output is kept and can be waited for.

What stays true: output is read as it comes, so a talkative child never blocks on a full pipe; the last lines are in
every error raised here; after `stop` or `kill` the process is gone and its exit code known.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

LAST_LINES = 40
_LAST_WORDS_S = 5


class ProcessError(AssertionError):
    """The process ended, or did not do in time what was waited for."""


class ServerProcess:
    """One child. `lines` holds the end of what it wrote (stdout and stderr together), the whole is in the log file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = list(command)
        self.log = log
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self._changed = threading.Condition()
        self._seen: list[str] = []
        self._ended = False
        self.started_at = time.monotonic()
        self._child = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {self.command[0]}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def _read(self) -> None:
        assert self._child.stdout is not None
        with self.log.open("ab") as log:
            for raw in self._child.stdout:
                log.write(raw)
                log.flush()
                line = raw.decode("utf-8", "replace").rstrip("\n")
                with self._changed:
                    self.lines.append(line)
                    self._seen.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_line(self, pattern: str, timeout_s: float = 60) -> str:
        """The first line since the start of the process that has `pattern`. Raises ProcessError when it ends before."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        position = 0
        with self._changed:
            while True:
                while position < len(self._seen):
                    if wanted.search(self._seen[position]):
                        return self._seen[position]
                    position += 1
                if self._ended:
                    raise ProcessError(f"ended with {self._child.wait(5)} before saying {pattern!r}{self._tail()}")
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise ProcessError(f"did not say {pattern!r} within {timeout_s} s{self._tail()}")

    def wait(self, timeout_s: float = 60) -> int:
        """Exit code of a process that ends by itself; negative: the signal."""
        try:
            code = self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"still running after {timeout_s} s{self._tail()}") from None
        self._reader.join(_LAST_WORDS_S)
        return code

    def running(self) -> bool:
        """False: it has ended, and what it wrote is in `lines` and the log."""
        if self._child.poll() is None:
            return True
        self._reader.join(_LAST_WORDS_S)
        return False

    def stop(self, timeout_s: float = 60) -> int:
        """SIGTERM and wait. A process that does not end in time is killed, and that is an error."""
        if self.running():
            self._child.send_signal(signal.SIGTERM)
        try:
            return self.wait(timeout_s)
        except ProcessError:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL and wait until it is gone."""
        if self.running():
            self._child.kill()
        self.wait(30)

    def _tail(self) -> str:
        return f"; {' '.join(self.command)[:200]}; its last lines:\n" + "\n".join(self.lines)

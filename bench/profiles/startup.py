"""python -m bench.profiles.startup: what it costs to start a broker, from exec to the first answered ApiVersions.

--rounds N           how often each start is timed (9)
--partitions N,...   numbers of hosted partitions to start with, in one topic (0)
--no-count           do not count instructions (valgrind takes some seconds for it)

Wall time says what a user waits, and on a busy machine mostly how busy it is; CPU time is steadier; instructions can be
compared across days. Instructions are of the whole life of a broker that answers once and stops; "imports" are the
interpreter and everything that `pylog server` imports before it does anything, "interpreter" is what nobody can save.

A start is `fresh` in an empty directory (it makes the metadata tree), else in one that was left by a clean stop.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support import confluent, wire
from tests.support.ports import free_port

TIMEOUT_S = 120
IMPORTS = "import cluster.cli.main, cluster.cli.server, cluster.config, cluster.broker.broker"
# Without bytecode files every start would compile everything.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Start(NamedTuple):
    """One start: milliseconds of wall time to the answer, of CPU time until then, and resident megabytes then."""

    wall_ms: float
    cpu_ms: float
    rss_mb: float


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


class Subject:
    """A broker to be started again and again, as a user starts it: with a file that says where to listen."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        directory.mkdir()
        self._properties = directory / "server.properties"
        self._properties.write_text(f"listeners=PLAINTEXT://127.0.0.1:{self.port}\nlog.dirs={self.data}\n")

    def launch(self, prefix: tuple[str, ...] = ()) -> tuple[subprocess.Popen[str], float]:
        """The process, and when (monotonic) it was made."""
        command = [*prefix, str(Path(sys.executable).with_name("pylog")), "server", str(self._properties)]
        since = time.monotonic()
        child = subprocess.Popen(
            command, cwd=self.directory, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        return child, since

    def wait_answer(self, since: float) -> float:
        """Seconds from `since` until ApiVersions was answered."""
        return wire.seconds_to_first_answer(self.port, since=since, timeout_s=TIMEOUT_S)


def stop(child: subprocess.Popen[str]) -> str:
    """Stop it in order; returns what it wrote to stderr."""
    child.terminate()
    _, errors = child.communicate(timeout=TIMEOUT_S)
    if child.returncode != 0:
        raise RuntimeError(f"the broker ended with {child.returncode}: {errors}")
    return errors


def start_once(subject: Subject) -> Start:
    child, since = subject.launch()
    try:
        wall_s = subject.wait_answer(since)
        cpu_s = time.clock_gettime(~child.pid << 3 | 2)  # the process's clock, see clock_getcpuclockid
        start = Start(wall_s * 1000, cpu_s * 1000, resident_mb(child.pid))
        stop(child)
        return start
    finally:
        child.kill()
        child.wait()


def count_instructions(command: list[str], run: Callable[[list[str]], str]) -> float | None:
    """Millions of instructions of a command under valgrind; None where there is no valgrind."""
    if shutil.which("valgrind") is None:
        return None
    output = run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command])
    found = re.search(r"Collected : (\d+)", output)
    if found is None:
        raise RuntimeError(f"valgrind does not say how much it collected: {output[-500:]}")
    return int(found.group(1)) / 1e6


def run_python(code: str) -> float | None:
    def run(command: list[str]) -> str:
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
        return done.stderr

    return count_instructions([sys.executable, "-c", code], run)


def run_broker(subject: Subject) -> float | None:
    def run(command: list[str]) -> str:
        child, since = subject.launch(tuple(command))
        try:
            subject.wait_answer(since)
            return stop(child)
        finally:
            child.kill()
            child.wait()

    return count_instructions([], run)


def with_partitions(subject: Subject, count: int) -> None:
    """Let it have a topic of so many partitions, and stop it clean."""
    child, since = subject.launch()
    try:
        subject.wait_answer(since)
        confluent.create_topic(f"127.0.0.1:{subject.port}", "startup", count)
        stop(child)
    finally:
        child.kill()
        child.wait()


def timed(subject: Subject, rounds: int, before: Callable[[], object]) -> list[Start]:
    starts = []
    for _ in range(rounds):
        before()
        starts.append(start_once(subject))
    return starts


def show(name: str, starts: list[Start], instructions: float | None) -> None:
    wall = [each.wall_ms for each in starts]
    cpu = [each.cpu_ms for each in starts]
    counted = "" if instructions is None else f"{instructions:8.1f} M"
    print(
        f"{name:<18} wall {min(wall):6.1f} min {statistics.median(wall):6.1f} median   "
        f"cpu {min(cpu):6.1f} min {statistics.median(cpu):6.1f} median ms   "
        f"rss {max(each.rss_mb for each in starts):5.1f} MB   {counted}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profiles.startup")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--partitions", default="0")
    parser.add_argument("--no-count", action="store_true")
    options = parser.parse_args()
    counted = not options.no_count
    with tempfile.TemporaryDirectory(prefix="pylog-startup-") as directory:
        scratch = Path(directory)
        for partitions in map(int, options.partitions.split(",")):
            subject = Subject(scratch / f"with-{partitions}")

            def clear(data: Path = subject.data) -> None:
                shutil.rmtree(data, ignore_errors=True)

            start_once(subject)  # bytecode and page cache
            if partitions:
                with_partitions(subject, partitions)
            else:
                starts = timed(subject, options.rounds, clear)
                clear()
                show("fresh", starts, run_broker(subject) if counted else None)
            starts = timed(subject, options.rounds, lambda: None)
            show(f"{partitions} partitions", starts, run_broker(subject) if counted else None)
    if counted and (interpreter := run_python("pass")) is not None:
        imports = run_python(IMPORTS)
        assert imports is not None
        print(f"{'interpreter':<18} {interpreter:8.1f} M\n{'imports':<18} {imports:8.1f} M")
    return 0


if __name__ == "__main__":
    sys.exit(main())

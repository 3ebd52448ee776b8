"""What the kernel says of this process, under the names that every client library of Prometheus gives it."""

from __future__ import annotations

import os
import resource

from cluster.broker.metrics.text import Family, counter, gauge
from pylog.typed import Final

# Fields of /proc/PID/stat behind the name of the command, which may hold blanks and brackets.
_USER_TICKS: Final = 11
_SYSTEM_TICKS: Final = 12
_STARTED_TICKS: Final = 19
_VIRTUAL_BYTES: Final = 20
_RESIDENT_PAGES: Final = 21


def process_families() -> list[Family]:
    fields = _read("/proc/self/stat").rpartition(b")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    cpu_ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    resident_bytes = int(fields[_RESIDENT_PAGES]) * os.sysconf("SC_PAGE_SIZE")
    started_s = _booted_s() + int(fields[_STARTED_TICKS]) / ticks
    open_descriptors = len(os.listdir("/proc/self/fd")) - 1  # without the one that lists them
    max_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return [
        counter("process_cpu_seconds", "CPU time of user and system.", cpu_ticks / ticks),
        gauge("process_resident_memory_bytes", "Memory in RAM, mapped files included.", resident_bytes),
        gauge("process_virtual_memory_bytes", "Address space.", int(fields[_VIRTUAL_BYTES])),
        gauge("process_start_time_seconds", "When the process began, since 1970.", started_s),
        gauge("process_open_fds", "Open file descriptors.", open_descriptors),
        gauge("process_max_fds", "Most file descriptors that may be open.", max_descriptors),
    ]


def _booted_s() -> int:
    for line in _read("/proc/stat").splitlines():
        if line.startswith(b"btime "):
            return int(line.split()[1])
    raise OSError("/proc/stat does not say when the machine was started")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()

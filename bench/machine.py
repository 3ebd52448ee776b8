"""What a figure was measured on, and of which commit: without it the figure means nothing later."""

import mmap
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip()


def commit() -> str:
    """Short hash, with a + when the tree has changes that are not in it."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return (_git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")


def describe() -> dict[str, str | int]:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "machine": models[0] if models else platform.machine(),
        "cpus": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


BALLAST = """
import mmap, sys, time
size, step = int(sys.argv[1]), 16 << 20
memory = mmap.mmap(-1, size)
memory[::4096] = bytes(size // 4096)
print("held", flush=True)
sys.stdin.readline()
for at in range(0, size, step):
    memory.madvise(mmap.MADV_DONTNEED, at, min(step, size - at))
    time.sleep(0.008 if at >= size // 4 else 0)
"""


@contextmanager
def warm_memory(size_bytes: int) -> Iterator[None]:
    """Memory that this machine really has is there for what runs inside.

    A virtual machine's host takes free pages back within seconds, and giving one again costs more than the write that
    it serves; that would be counted as the broker's work. So a child holds pages and lets go of them, a part at once
    and the rest about as fast as a broker fills the page cache.
    """
    size_bytes += -size_bytes % mmap.PAGESIZE
    command = [sys.executable, "-c", BALLAST, str(size_bytes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        try:
            child.stdin.write(b"\n")
            child.stdin.flush()
            yield
        finally:
            child.kill()

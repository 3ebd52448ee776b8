"""What a figure was measured on, and of which commit: without it the figure means nothing later."""

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip()


def commit() -> str:
    """Short hash, with a + when the tree has changes that are not in it."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return (_git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")


def _coordinators() -> str:
    """Those that a broker started from here has: compiled, as in a wheel (make bench-coordination), or interpreted."""
    ask = "import cluster.coordinator.turns as it; print(it.__file__)"
    done = subprocess.run([sys.executable, "-P", "-c", ask], capture_output=True, text=True, timeout=30, check=True)
    return "compiled" if done.stdout.strip().endswith(".so") else "interpreted"


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
        "coordinators": _coordinators(),
    }

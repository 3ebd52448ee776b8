"""Builds the C module of the simulation in build/sim: csrc up to partition.c and what that needs, the disk in memory,
and replica.c.

What stays true: it is built again when a file that goes into it is newer; two processes that want it at once build it
once. SOURCES of csrc is in order, each file using only files above it.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CSRC = ROOT / "csrc"
TESTS = ROOT / "tests" / "c"
OUT = ROOT / "build" / "sim"
NAME = "sim_replica"


def _sources() -> list[str]:
    names = [line.split("#")[0].strip() for line in (CSRC / "SOURCES").read_text("ascii").splitlines()]
    names = [name for name in names if name]
    chosen = names[: names.index("upcall.c") + 1]
    return [str(CSRC / name) for name in chosen] + [str(TESTS / "disk_model.c"), str(HERE / "replica.c")]


def _inputs() -> list[Path]:
    found = [Path(name) for name in _sources()]
    return [*found, *CSRC.glob("*.h"), *TESTS.glob("*.h"), *HERE.glob("*.h"), Path(__file__)]


def _compile() -> None:
    from cffi import FFI

    header = (HERE / "replica.h").read_text("utf-8")
    match = re.search(r"/\* cdef:begin \*/(.*)/\* cdef:end \*/", header, re.DOTALL)
    assert match is not None
    ffi = FFI()
    ffi.cdef(re.sub(r"/\*.*?\*/", "", match.group(1), flags=re.DOTALL))
    ffi.set_source(
        NAME,
        '#include "replica.h"\n',
        sources=_sources(),
        include_dirs=[str(CSRC), str(TESTS), str(HERE)],
        define_macros=[("_GNU_SOURCE", None)],
        extra_compile_args=["-std=c11", "-O1", "-g", "-fvisibility=hidden", "-pthread", "-Wno-unused-parameter"],
        extra_link_args=["-pthread"],
        libraries=["dl"],
    )
    ffi.compile(tmpdir=str(OUT))


def load() -> ModuleType:
    """The module, built if need be."""
    OUT.mkdir(parents=True, exist_ok=True)
    stamp = OUT / "stamp"
    with open(OUT / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(path.stat().st_mtime for path in _inputs())
        if not stamp.exists() or stamp.stat().st_mtime < newest:
            _compile()
            stamp.touch()
            os.utime(stamp, (newest, newest))
    found = sorted(OUT.glob(f"{NAME}*.so"), key=lambda path: path.stat().st_mtime)
    spec = importlib.util.spec_from_file_location(NAME, found[-1])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    load()

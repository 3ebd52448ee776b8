"""Builds the C module `pylog._plog` with cffi: the block between the cdef markers of plog.h is what Python sees.

The C compiler reads the same header, so the two cannot disagree. setup.py finds `ffibuilder` here.
"""

from __future__ import annotations

import os
import re

from cffi import FFI

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def cut_cdef(header: str) -> str:
    """The declarations between the markers, without the comments that cffi does not need."""
    match = re.search(r"/\* cdef:begin \*/(.*)/\* cdef:end \*/", header, re.DOTALL)
    if match is None:
        raise SystemExit("csrc/plog.h: the cdef:begin and cdef:end markers are missing")
    return re.sub(r"/\*.*?\*/", "", match.group(1), flags=re.DOTALL)


def read_sources() -> list[str]:
    """The .c files of the library, relative to the project's root (setuptools wants them so)."""
    with open(os.path.join(HERE, "SOURCES"), encoding="ascii") as lines:
        names = [line.split("#")[0].strip() for line in lines]
    return [f"csrc/{name}" for name in names if name]


ffibuilder = FFI()
with open(os.path.join(HERE, "plog.h"), encoding="utf-8") as header_file:
    ffibuilder.cdef(cut_cdef(header_file.read()))
ffibuilder.set_source(
    "pylog._plog",
    '#include "plog.h"\n',
    sources=read_sources(),
    include_dirs=["csrc"],
    depends=[f"csrc/{name}" for name in sorted(os.listdir(HERE)) if name.endswith(".h")],
    define_macros=[("_GNU_SOURCE", None)],
    extra_compile_args=[
        "-std=c11",
        "-O2",
        "-g",
        "-fvisibility=hidden",
        "-pthread",
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
    ],
    extra_link_args=["-pthread"],
    libraries=["dl"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)

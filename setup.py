"""The C modules, and nothing else: everything static is in pyproject.toml.

With PYLOG_MYPYC=1 the coordinators are compiled too, by mypyc (of mypy, which has to be installed): the same source, at
three quarters of the cost. That is for wheels, which then are of one version of Python; never in place, where a library
would go on hiding a source that was edited.
"""

import os
from glob import glob

from setuptools import Extension, setup

ROWS = Extension(
    "pylog._rows",
    sources=["pylog/_rows.c"],
    include_dirs=["csrc"],
    depends=["csrc/plog.h"],
    define_macros=[("Py_LIMITED_API", "0x030b0000")],
    extra_compile_args=["-std=c11", "-O2", "-g", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"],
    py_limited_api=True,
)


def compiled() -> list[Extension]:
    from mypyc.build import mypycify

    sources = sorted(glob("cluster/coordinator/*.py"))
    return list(mypycify(sources, group_name="pylog", opt_level="2"))


IS_COMPILED = os.environ.get("PYLOG_MYPYC") == "1"

setup(
    cffi_modules=["csrc/ffi_build.py:ffibuilder"],
    ext_modules=[ROWS, *compiled()] if IS_COMPILED else [ROWS],
    options={} if IS_COMPILED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)

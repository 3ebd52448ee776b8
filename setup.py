"""The two C modules, and nothing else: everything static is in pyproject.toml."""

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

setup(
    cffi_modules=["csrc/ffi_build.py:ffibuilder"],
    ext_modules=[ROWS],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)

"""The names of `import pylog`: all there, loaded when used, and no heavy module on the way."""

import subprocess
import sys

import pytest

import pylog

_BANNED = "dataclasses inspect logging argparse socket ssl uuid datetime random tempfile subprocess numpy kazoo"


def test_every_name_is_there() -> None:
    assert sorted(pylog.__all__) == pylog.__all__ == dir(pylog)
    assert set(pylog._HOME) == set(pylog.__all__)
    for name in pylog.__all__:
        assert getattr(pylog, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pylog.nothing  # noqa: B018


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", _PATH + code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


_PATH = f"import sys; sys.path[:0] = {sys.path!r}; "


def test_importing_the_package_loads_nothing_else() -> None:
    assert {name for name in modules_after("import pylog") if name.startswith("pylog.")} == set()


def test_the_log_manager_needs_no_heavy_module() -> None:
    assert modules_after("import pylog.log_manager, pylog.maintenance") & set(_BANNED.split()) == set()

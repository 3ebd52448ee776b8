"""What holds for every test: the same hypothesis examples in every run, so that a red build is red again at home, and
log lines that go where they went before, whatever a test before this one did."""

import importlib.util
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from pylog import logger

settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """kafka-python reads its schemas in a way that Python means to drop; two hundred lines of it would hide our own."""
    for function in ("read_text", "open_text"):
        config.addinivalue_line("filterwarnings", f"ignore:{function} is deprecated:DeprecationWarning")
    if os.environ.get("PYLOG_MYPYC") == "1" and not _is_compiled():
        raise pytest.UsageError("PYLOG_MYPYC=1, but the coordinators found first are not compiled: make compiled")


def _is_compiled() -> bool:
    spec = importlib.util.find_spec("cluster.coordinator.turns")
    return spec is not None and str(spec.origin).endswith(".so")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Compiled coordinators (make compiled) call one another directly: nobody can be put in between."""
    if _is_compiled():
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("interpreted")])
        items[:] = [item for item in items if not item.get_closest_marker("interpreted")]


@pytest.fixture(autouse=True)
def sink_of_log_lines() -> Iterator[None]:
    """The first store that a process opens sends them to `logging`, and there they stay."""
    before = logger.sink
    yield
    logger.sink = before

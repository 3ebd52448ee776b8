"""What holds for every test: the same hypothesis examples in every run, so that a red build is red again at home, and
log lines that go where they went before, whatever a test before this one did."""

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


@pytest.fixture(autouse=True)
def sink_of_log_lines() -> Iterator[None]:
    """The first store that a process opens sends them to `logging`, and there they stay."""
    before = logger.sink
    yield
    logger.sink = before

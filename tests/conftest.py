"""What holds for every test: the same hypothesis examples in every run, so that a red build is red again at home."""

import pytest
from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """kafka-python reads its schemas in a way that Python means to drop; two hundred lines of it would hide our own."""
    for function in ("read_text", "open_text"):
        config.addinivalue_line("filterwarnings", f"ignore:{function} is deprecated:DeprecationWarning")

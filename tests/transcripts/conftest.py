"""`pytest tests/transcripts --rewrite` writes down what is said now; the diff is then what there is to review."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="rewrite transcripts instead of checking them")

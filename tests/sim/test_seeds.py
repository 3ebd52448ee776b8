"""A thousand runs of a cluster, each from its seed; `make sim SEED=n` tells the story of one, `make sim SEEDS=n` makes
more of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SEEDS = 1000
_TOGETHER = 200


def _simulate(*arguments: str) -> str:
    """What was said. In a process of its own, for the order of names in a set is part of a seed."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.sim", *arguments],
        cwd=_ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{run.stdout[-20_000:]}\n{run.stderr[-5_000:]}"
    return run.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(1, _SEEDS, _TOGETHER))
def test_whatever_happens_a_cluster_keeps_its_promises(first: int) -> None:
    said = _simulate("--from", str(first), "--seeds", str(_TOGETHER))
    assert "failed: none" in said


def test_a_seed_is_a_run() -> None:
    assert _simulate("--seed", "5", "--digest") == _simulate("--seed", "5", "--digest")

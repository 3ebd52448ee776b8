"""A thousand runs of a cluster, each from its seed; `make sim SEED=n` tells the story of one, `make sim SEEDS=n` makes
more of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.mutants import MUTANTS

_ROOT = Path(__file__).parents[2]
_SEEDS = 1000
_TOGETHER = 200


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, for the order of names in a set is part of a seed."""
    return subprocess.run(
        [sys.executable, "-m", "tests.sim", *arguments],
        cwd=_ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def _simulate(*arguments: str) -> str:
    """What was said."""
    run = _run(*arguments)
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


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_mistake_is_found(mutant: str) -> None:
    run = _run("--mutant", mutant, "--seeds", "20")
    assert run.returncode == 1, f"{run.stdout[-2_000:]}{run.stderr[-2_000:]}"
    assert "Violation" in run.stdout

"""A broker killed at every step of making, growing and deleting a topic starts again with all of it or nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
def test_a_topic_is_whole_or_not_there_wherever_the_broker_was_killed(tmp_path: Path) -> None:
    """In a process without threads, since it forks for every attempt."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill.topics_cut_short", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    steps = dict(re.findall(r"(\w+): killed at (\d+) steps", done.stdout))
    assert set(steps) == {"create", "grow", "delete"}
    assert all(int(count) > 10 for count in steps.values()), done.stdout

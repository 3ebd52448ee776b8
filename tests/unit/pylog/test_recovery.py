"""Opening logs side by side: every one is opened, and one that cannot be ends it."""

import threading
from collections import deque

import pytest

from pylog.recovery import run_parallel


@pytest.mark.parametrize("threads", [1, 2, 5, 50])
def test_every_job_is_done_once(threads: int) -> None:
    done: list[int] = []
    run_parallel(deque(range(20)), done.append, threads)
    assert sorted(done) == list(range(20))
    run_parallel(deque(), done.append, threads)


def test_threads_work_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    run_parallel(deque(range(3)), lambda _: meeting.wait() and None, 3)
    assert not meeting.broken


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_error_is_raised_and_no_further_job_begun(threads: int) -> None:
    jobs = deque(range(100))

    def work(job: int) -> None:
        raise OSError(5, f"job {job}")

    with pytest.raises(OSError, match="job"):
        run_parallel(jobs, work, threads)
    assert len(jobs) >= 100 - threads

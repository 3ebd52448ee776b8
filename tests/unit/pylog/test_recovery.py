"""Opening logs side by side: every one is opened, and one that cannot be ends it."""

import threading
from collections import deque
from pathlib import Path

import pytest

from pylog import logger
from pylog._native import Sys
from pylog.clock import ManualClock
from pylog.config import LogConfig
from pylog.log import create_log
from pylog.records import NewRecord, RecordBatchBuilder
from pylog.recovery import LoadedDirectory, Progress, load_directories, run_parallel
from pylog.types import TopicPartition


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


def test_directories_are_opened_side_by_side(tmp_path: Path, system: Sys, clock: ManualClock) -> None:
    """Two directories, a log in each, and neither is opened before the other is under way."""
    paths = make_directories(tmp_path, system, clock, 2)
    meeting = threading.Barrier(2, timeout=10)

    def config_of(topic: str) -> LogConfig:
        meeting.wait()
        return LogConfig()

    found = load_directories(paths, sys=system, clock=clock, config_of=config_of, threads=1)
    for loaded in found:
        assert isinstance(loaded, LoadedDirectory)
        assert [log.info().log_end_offset for log in loaded.logs] == [3]
        for log in loaded.logs:
            log.close(clean=False)


def test_a_directory_that_fails_leaves_the_others(tmp_path: Path, system: Sys, clock: ManualClock) -> None:
    paths = make_directories(tmp_path, system, clock, 3)
    for path in Path(paths[1]).glob("t-*/*.log"):
        path.unlink()
        path.mkdir()
    found = load_directories(paths, sys=system, clock=clock, config_of=lambda _: LogConfig(), threads=2)
    assert [type(loaded) for loaded in found] == [LoadedDirectory, IsADirectoryError, LoadedDirectory]
    for loaded in found:
        if isinstance(loaded, LoadedDirectory):
            for log in loaded.logs:
                log.close(clean=False)


def test_a_long_recovery_says_how_far_it_is(
    tmp_path: Path, system: Sys, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is not opened before a line was told; after the end there is none."""
    lines: list[str] = []
    told = threading.Event()

    def sink(level: int, line: str) -> None:
        lines.append(line)
        if "recovery under way" in line:
            told.set()

    monkeypatch.setattr(logger, "sink", sink)
    paths = make_directories(tmp_path, system, clock, 1)

    def config_of(topic: str) -> LogConfig:
        assert told.wait(10)
        return LogConfig()

    progress = Progress(system, interval_s=0.001)
    checked = system.checked_bytes()
    (loaded,) = load_directories(paths, sys=system, clock=clock, config_of=config_of, threads=1, progress=progress)
    assert isinstance(loaded, LoadedDirectory) and not loaded.clean
    assert [line for line in lines if "recovery under way logs_left=1 checked_mb=0" in line]
    assert system.checked_bytes() - checked == sum(log.info().size_bytes for log in loaded.logs)
    count = len(lines)
    for log in loaded.logs:
        log.close(clean=False)
    assert not [thread for thread in threading.enumerate() if "_tell" in thread.name] and len(lines) == count


def make_directories(root: Path, system: Sys, clock: ManualClock, count: int) -> list[str]:
    """Data directories with one log of three records each, not closed in order."""
    paths = []
    builder = RecordBatchBuilder()
    for i in range(count):
        path = root / f"d{i}"
        path.mkdir()
        log = create_log(
            system,
            TopicPartition("t", i),
            str(path),
            config=LogConfig(),
            topic_id=None,
            now_ms=clock.monotonic_ms(),
            wall_ms=clock.wall_ms(),
        )
        records = [NewRecord(clock.wall_ms(), b"k", b"v") for _ in range(3)]
        log.append(builder.build(records, leader_epoch=0), clock.wall_ms())
        log.close(clean=False)
        paths.append(str(path))
    builder.close()
    return paths

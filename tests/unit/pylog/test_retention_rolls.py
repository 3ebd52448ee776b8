"""Jitter: segments of one age limit do not all end at once, and what is drawn depends on the seed alone."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from pylog._native import Log, LogSettings, Sys
from tests.unit.pylog.engine_client import SETTINGS

MakeBatch = Callable[..., bytes]
AGE_MS, JITTER_MS, STEP_MS, BATCHES = 1_000, 400, 10, 1_500


def ages(
    system: Sys, directory: Path, make_batch: MakeBatch, settings: LogSettings, restart_at: int | None = None
) -> list[int]:
    """How far the first times of neighbouring segments lie apart, for a batch each STEP_MS."""

    def open_log(segments: list[int]) -> Log:
        return Log.open(
            system,
            str(directory),
            settings,
            segments,
            log_start=0,
            recovery_point=0,
            clean=True,
            epochs=None if segments else (),
            now_ms=0,
        )[0]

    directory.mkdir()
    log = open_log([])
    for offset in range(BATCHES):
        if offset == restart_at:
            bases = [segment.base_offset for segment in log.segments()]
            log.close(clean=True)
            log = open_log(bases)
        log.append(make_batch(offset, count=1, value_bytes=1, timestamp=1_700_000_000_000 + offset * STEP_MS), 0)
    bases = [segment.base_offset for segment in log.segments()]
    log.close(clean=False)
    return [(after - before) * STEP_MS for before, after in pairwise(bases)]


def by_seed(seed: int, jitter_ms: int = JITTER_MS) -> LogSettings:
    return SETTINGS._replace(segment_ms=AGE_MS, segment_jitter_ms=jitter_ms, jitter_seed=seed)


def test_without_jitter_all_are_as_old(system: Sys, tmp_path: Path, make_batch: MakeBatch) -> None:
    assert set(ages(system, tmp_path / "x", make_batch, by_seed(1, 0))) == {AGE_MS + STEP_MS}


def test_each_segment_ends_somewhat_before(system: Sys, tmp_path: Path, make_batch: MakeBatch) -> None:
    found = ages(system, tmp_path / "x", make_batch, by_seed(1))
    assert all(AGE_MS - JITTER_MS < age <= AGE_MS + STEP_MS for age in found)
    assert max(found) - min(found) > JITTER_MS // 2, "spread over what is allowed"
    assert found == ages(system, tmp_path / "y", make_batch, by_seed(1))
    assert found != ages(system, tmp_path / "z", make_batch, by_seed(2))


@pytest.mark.parametrize("jitter_ms", [AGE_MS, 10 * AGE_MS])
def test_a_jitter_is_never_longer_than_the_age(
    system: Sys, tmp_path: Path, make_batch: MakeBatch, jitter_ms: int
) -> None:
    found = ages(system, tmp_path / "x", make_batch, by_seed(3, jitter_ms))
    assert all(0 < age <= AGE_MS + STEP_MS for age in found)
    assert min(found) < AGE_MS // 2


def test_a_segment_that_is_opened_again_draws_again(system: Sys, tmp_path: Path, make_batch: MakeBatch) -> None:
    found = ages(system, tmp_path / "x", make_batch, by_seed(1), restart_at=777)
    assert all(AGE_MS - JITTER_MS < age <= AGE_MS + STEP_MS for age in found)

"""The batches that a Kafka broker wrote, appended one by one to a fresh log with the topic's settings, make the files
that the broker made: records, both indexes, transaction index, byte for byte, cut into the same segments.
"""

import os
from pathlib import Path

import pytest

from pylog._native import INT64_MAX, Log, LogSettings, Sys, decode_snapshot

WEEK_MS = 7 * 24 * 3600 * 1000
SMALL = {"segment_bytes": 8192, "index_interval_bytes": 512}
TOPICS: dict[str, dict[str, int]] = {
    "codec_none-0": SMALL,
    "codec_gzip-0": SMALL,
    "codec_snappy-0": SMALL,
    "codec_lz4-0": SMALL,
    "codec_zstd-0": SMALL,
    "codec_brokergzip-0": {},
    "defaultidx-0": {"segment_index_bytes": 10 << 20},
    "nulls-0": {},
    "overrides-0": {},
    "overrides-1": {},
    "retained-0": {"segment_bytes": 4096, "index_interval_bytes": 512},
    "trimmed-0": {},
    "txn-0": {"segment_bytes": 4096, "index_interval_bytes": 256},
    "txn-1": {"segment_bytes": 4096, "index_interval_bytes": 256},
}


def settings(changes: dict[str, int]) -> LogSettings:
    return LogSettings(
        segment_bytes=1 << 30,
        segment_ms=WEEK_MS,
        segment_jitter_ms=0,
        segment_index_bytes=102_400,
        index_interval_bytes=4096,
        flush_messages=INT64_MAX,
        preallocate=False,
        jitter_seed=0,
    )._replace(**changes)


def written(directory: Path, suffixes: tuple[str, ...]) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(directory.iterdir()) if p.suffix in suffixes}


@pytest.mark.parametrize("partition", sorted(TOPICS))
def test_the_same_batches_make_the_same_files(partition: str, golden: Path, tmp_path: Path) -> None:
    source = golden / "broker1-clean" / partition
    logs = written(source, (".log",))
    bases = [int(name[:20]) for name in logs]
    # A snapshot that no segment begins with says that the broker was stopped there, which leaves traces in the indexes.
    restarts = {int(name[:20]) for name in written(source, (".snapshot",))} - set(bases)
    table = Sys()

    def open_log(segments: list[int]) -> Log:
        log, report = Log.open(
            table,
            os.fspath(tmp_path),
            settings(TOPICS[partition]),
            segments,
            log_start=bases[0],
            recovery_point=0,
            clean=True,
            epochs=[],
            now_ms=0,
        )
        assert report == (0,) * 7
        return log

    log = open_log([])
    for data in logs.values():
        position = 0
        while position < len(data):
            size = int.from_bytes(data[position + 8 : position + 12], "big") + 12
            log.append(data[position : position + size], now_ms=0)
            position += size
            if log.info().log_end_offset in restarts:
                segments = [segment.base_offset for segment in log.segments()]
                producers = sorted(log.producers())
                log.close(clean=True)
                log = open_log(segments)
                assert sorted(log.producers()) == producers
    end = log.info().log_end_offset
    log.close(clean=True)
    table.close()

    assert written(tmp_path, (".log",)) == logs
    for suffix in (".index", ".timeindex", ".txnindex"):
        assert written(tmp_path, (suffix,)) == written(source, (suffix,)), suffix
    if bases[0] > 0:
        return  # the producers of segments that are gone are in Kafka's snapshots only
    for offset in {*bases[1:], end}:
        name = f"{offset:020}.snapshot"
        ours, theirs = (tmp_path / name).read_bytes(), (source / name).read_bytes()
        assert sorted(decode_snapshot(ours)) == sorted(decode_snapshot(theirs)), name

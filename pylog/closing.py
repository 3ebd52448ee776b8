"""Closing all logs of a data directory in order.

Keeps true: when `close_logs` returns, every log is durable to the end it tells of; a log that fails ends it. Many logs
that are not durable yet are one sync of the file system, after all of them were closed. What takes long says every
second how far it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pylog._native import Sys
from pylog.clock import Clock
from pylog.data_dir import DataDirectory
from pylog.log import Log
from pylog.logger import Logger
from pylog.recovery import run_parallel
from pylog.shared_sync import to_share
from pylog.teller import TELL_EVERY_S, Teller
from pylog.types import TopicPartition


def close_logs(
    directory: DataDirectory,
    logs: Sequence[Log],
    *,
    sys: Sys,
    clock: Clock,
    threads: int,
    tell_every_s: float = TELL_EVERY_S,
) -> dict[TopicPartition, tuple[int, int, int]]:
    """Close them clean, several at once; returns log start offset, first segment and log end offset of each. Raises
    OSError."""
    began = clock.monotonic_ms()
    log_of_all = Logger(f"LogDir {directory.path}")
    ends: dict[TopicPartition, tuple[int, int, int]] = {}
    together = to_share(directory, [log for log in logs if log.close_waits()], sys=sys)

    def close(log: Log) -> None:
        info = log.info()
        log.close(clean=True, synced=log not in together)
        ends[log.partition] = (info.log_start_offset, info.first_base_offset, info.log_end_offset)

    def tell() -> None:
        left = len(logs) - len(ends)
        if left:
            log_of_all.info("closing logs", logs_left=left)
        else:
            log_of_all.info("logs are closed, waiting for the disk", synced_together=len(together))

    teller = Teller(tell, tell_every_s)
    teller.start()
    try:
        run_parallel(deque(logs), close, threads)
        if together:
            directory.sync_all(sys)
            if sum(log.put_epochs() for log in together):
                directory.sync_all(sys)
    finally:
        teller.end()
    if logs:
        elapsed_ms = clock.monotonic_ms() - began
        log_of_all.info("logs closed", logs=len(logs), synced_together=len(together), elapsed_ms=elapsed_ms)
    return {log.partition: ends[log.partition] for log in logs}

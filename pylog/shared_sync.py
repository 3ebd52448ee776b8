"""One sync of a file system for many logs of a data directory.

Keeps true: it stands for the logs' own syncs only where it tells of every write that failed since the directory was
locked, and only for logs on the directory's file system; all others are synced one by one, which is said when they are
many. What is durable is noted of a log after the sync, as it was before it.
"""

from __future__ import annotations

import errno
from collections.abc import Collection

from pylog._native import Sys
from pylog.clock import Clock
from pylog.data_dir import DataDirectory
from pylog.log import Log
from pylog.logger import Logger

#: From so many logs on. The file system also writes what other programs left in memory: with 300 MB of that, 250 logs
#: took as long either way; alone, a log takes 1.2 ms by itself and a third of that together with others.
SHARED_FROM = 200

_WHY_NOT = {errno.ENOSYS: "Linux before 5.17", errno.EOPNOTSUPP: "its file system is not ext4, XFS or Btrfs"}


def to_share(directory: DataDirectory, logs: Collection[Log], *, sys: Sys) -> set[Log]:
    """Those of the logs, which wait for the disk, that are to have one sync together. Raises OSError."""
    if len(logs) < SHARED_FROM:
        return set()
    try:
        directory.syncs_all(sys)
    except OSError as e:
        why = _WHY_NOT.get(e.errno or 0, e)
        Logger(f"LogDir {directory.path}").info("every log is synced by itself", logs=len(logs), because=why)
        return set()
    return {log for log in logs if directory.shares_file_system(log.path)}


def flush_together(directory: DataDirectory, logs: Collection[Log], *, sys: Sys, clock: Clock) -> list[Log]:
    """Flush logs of the directory that may share a sync; the others are returned. Raises OSError, FlushError."""
    together = to_share(directory, logs, sys=sys)
    points = [(log, log.before_shared_sync()) for log in together]
    if points:
        directory.sync_all(sys)
    for log, point in points:
        if point is not None:
            log.after_shared_sync(point, clock.monotonic_ms())
    return [log for log in logs if log not in together]

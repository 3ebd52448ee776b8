"""A look at an embedded store that a broker may be using: the tree of a copy of its file.

What stays true: nothing is written beside the original and nobody is kept from using it; the copy is of one moment, for
it is taken again when the file or its write-ahead log changed meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator

from cluster.metadata.local import FILE_NAME, LocalStore, StoreInUse
from pylog.typed import Final

_LOG_SUFFIX: Final = "-wal"
_ATTEMPTS: Final = 100
_QUIET_NS: Final = 30_000_000
"""How long a file must not have changed: what a file system notes as the time of a change may be a few ms coarse."""


@contextlib.contextmanager
def opened_copy(path: str) -> Iterator[LocalStore]:
    """Raises OSError, and what opening raises; StoreInUse when the file never keeps still."""
    with tempfile.TemporaryDirectory(prefix="pylog-metadata-") as directory:
        copy = os.path.join(directory, FILE_NAME)
        pause = threading.Event()
        for _ in range(_ATTEMPTS):
            if _try_to_copy(path, copy):
                break
            pause.wait(2 * _QUIET_NS / 1e9)
        else:
            raise StoreInUse(path)
        store = LocalStore(copy, lambda: time.time_ns() // 1_000_000)
        try:
            yield store
        finally:
            store.close()


def _try_to_copy(path: str, copy: str) -> bool:
    """False when it changed while it was copied, or just before."""
    before = _state(path)
    if any(state is not None and time.time_ns() - state[2] < _QUIET_NS for state in before):
        return False
    shutil.copyfile(path, copy)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(copy + _LOG_SUFFIX)
    if before[1] is not None:
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path + _LOG_SUFFIX, copy + _LOG_SUFFIX)
    return _state(path) == before


def _state(path: str) -> tuple[tuple[int, int, int] | None, tuple[int, int, int] | None]:
    """Of the file, which must be there, and its log."""
    return _seen(os.stat(path)), _seen_if_there(path + _LOG_SUFFIX)


def _seen_if_there(path: str) -> tuple[int, int, int] | None:
    try:
        return _seen(os.stat(path))
    except FileNotFoundError:
        return None


def _seen(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns

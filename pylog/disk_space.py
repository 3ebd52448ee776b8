"""How much of a disk may be filled. Pure policy; csrc/room.h holds clients' records to the same rule.

Keeps true: what is kept free is the larger of a number of bytes and a share of the file system; with both 0 nothing is.
"""

from __future__ import annotations

import os

from pylog.facts import NamedTuple


class DiskSpace(NamedTuple):
    """A file system as it is now, in bytes."""

    total: int
    usable: int
    """What is left for a process without privileges."""


class Reserve(NamedTuple):
    """What is to be kept free."""

    size_bytes: int = 0
    percent: float = 0.0


def disk_space(path: str) -> DiskSpace:
    """The file system that path lies on. Raises OSError."""
    found = os.statvfs(path)
    return DiskSpace(found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail)


def room_left(space: DiskSpace, reserve: Reserve) -> int:
    """Bytes that may be written before the reserve is reached, below 0 when it is used already."""
    kept = max(reserve.size_bytes, int(space.total * reserve.percent / 100))
    return space.usable - kept

"""Whole small files: read at once, replaced as a whole.

Keeps true: whoever opens a file that `replace_file` writes sees all of the old content or all of the new, after a power
cut too: written aside, fsynced, renamed, and the directory fsynced.
"""

import errno
import os

TEMPORARY_SUFFIX = ".tmp"

#: What a full disk, or a spent quota, says.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class CorruptFileError(ValueError):
    """A side file breaks its format. The message names the file and the line; what is then done is the reader's to
    say."""

    def __init__(self, path: str, line: int, what: str) -> None:
        super().__init__(f"{path}, line {line}: {what}")
        self.path = path
        self.line = line
        self.what = what


class FlushError(OSError):
    """fsync failed. The kernel may have dropped what it could not write: asking again could be answered with a lie."""


def read_file(path: str) -> bytes | None:
    """All of a file, None when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        pieces = []
        while piece := os.read(fd, 1 << 16):
            pieces.append(piece)
            if len(piece) < 1 << 16:
                break
        return b"".join(pieces)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write everything, however short the kernel makes each write."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def replace_file(path: str, data: bytes) -> None:
    """Give the file this content, durably. When it raises OSError the file is as it was, or has the new content, of
    which nobody can say whether a power cut would leave it."""
    write_aside(path, data, synced=True)
    put_in_place(path)
    sync_directory(os.path.dirname(path))


def write_aside(path: str, data: bytes, synced: bool) -> None:
    """Write what the file is to be replaced by. Not synced: it is the caller's to make it durable before
    `put_in_place`."""
    fd = os.open(path + TEMPORARY_SUFFIX, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, data)
        if synced:
            os.fsync(fd)
    finally:
        os.close(fd)


def put_in_place(path: str) -> None:
    """Replace the file by what was written aside; the caller makes the name durable."""
    os.rename(path + TEMPORARY_SUFFIX, path)


def sync_file(path: str) -> None:
    """Make a file's content durable, where there is one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """Make the directory's entries durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unlink_if_there(path: str) -> bool:
    """Remove the file; False when it was gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True

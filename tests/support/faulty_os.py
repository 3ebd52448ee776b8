"""The calls of `os` that change files, failing on demand, over a disk that loses what was not synced.

Stands in for `os` in the modules under test (`replaced_in`): every call goes to the real one, is counted, and is
remembered as a change of names or of content, so that after a power cut one can ask what may be on the disk
(`survivors`), no kinder than a journaling file system is:

- a file that was fsynced has that content; of one that was not, the old content, nothing, zeros, the new content, or
  new and zero sectors of 512 bytes side by side;
- names change in order, but the last changes since the directory's fsync may be missing, any number of them.

Files that C writes are not seen here: tests/c/disk_model.h does the same for those. One thread at a time.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

SECTOR_BYTES = 512


class PowerCut(BaseException):
    """Nothing is done after this. No handler of errors may take it for one."""


class _File:
    """durable: what the last fsync left, None when there was none."""

    __slots__ = ("durable", "seen")

    def __init__(self, content: bytes, durable: bytes | None) -> None:
        self.seen = content
        self.durable = durable


class _Descriptor:
    __slots__ = ("directory", "file", "position")

    def __init__(self, file: _File | None, directory: str) -> None:
        self.file = file
        self.directory = directory
        self.position = 0


class FaultyOs:
    """`os`, as far as what it changes below `root` is concerned. What is there when it is made counts as durable."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.calls = 0
        self._fail_at = self._fail_times = 0
        self._error: OSError | PowerCut | None = None
        self._short_bytes: int | None = None
        self._open: dict[int, _Descriptor] = {}
        self._names: dict[str, _File] = {}
        for folder, _, names in os.walk(root):
            for name in names:
                with open(os.path.join(folder, name), "rb") as one:
                    content = one.read()
                self._names[os.path.join(folder, name)] = _File(content, content)
        self._durable_names = dict(self._names)
        # (from, to, file): from "" is a creation, to "" a removal
        self._changes: dict[str, list[tuple[str, str, _File]]] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    # ---------------------------------------------------------------------------------- faults

    def fail(self, nth: int, error: OSError | PowerCut, times: int = 1) -> None:
        """The nth call from now (1: the next), and times - 1 after it, are not made but raise this. times -1: all."""
        self._fail_at, self._error, self._short_bytes, self._fail_times = self.calls + nth, error, None, times

    def shorten(self, nth: int, to_bytes: int, times: int = -1) -> None:
        """From the nth call on, a write takes only so many bytes."""
        self._fail_at, self._error, self._short_bytes, self._fail_times = self.calls + nth, None, to_bytes, times

    def heal(self) -> None:
        self._fail_at = 0

    def _count(self) -> int | None:
        """Before a call. How many bytes it may write, None: as many as it likes."""
        self.calls += 1
        last = self._fail_at + self._fail_times if self._fail_times >= 0 else self.calls + 1
        if not self._fail_at or not self._fail_at <= self.calls < last:
            return None
        if self._error is not None:
            raise self._error
        return self._short_bytes

    # ---------------------------------------------------------------------------------- what is replaced

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        self._count()
        fd = os.open(path, flags, mode)
        if flags & os.O_DIRECTORY:
            self._open[fd] = _Descriptor(None, path)
            return fd
        if path not in self._names:
            self._change("", path, _File(b"", None))
        if flags & os.O_TRUNC:
            self._names[path].seen = b""
        self._open[fd] = _Descriptor(self._names[path], os.path.dirname(path))
        return fd

    def close(self, fd: int) -> None:
        os.close(fd)
        self._open.pop(fd, None)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        most = self._count()
        written = os.write(fd, bytes(data)[:most])
        one = self._open.get(fd)
        if one is not None and one.file is not None:
            end = one.position + written
            one.file.seen = one.file.seen[: one.position] + bytes(data)[:written] + one.file.seen[end:]
            one.position = end
        return written

    def fsync(self, fd: int) -> None:
        self._count()
        os.fsync(fd)
        one = self._open[fd]
        if one.file is not None:
            one.file.durable = one.file.seen
        else:
            for change in self._changes.pop(one.directory, []):
                _apply(self._durable_names, *change)

    def rename(self, old: str, new: str) -> None:
        self._count()
        os.rename(old, new)
        self._change(old, new, self._names.get(old))

    def unlink(self, path: str) -> None:
        self._count()
        os.unlink(path)
        self._change(path, "", self._names.get(path))

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._count()
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        self._count()
        os.rmdir(path)

    def _change(self, old: str, new: str, file: _File | None) -> None:
        if file is None:  # made by C, or a directory
            return
        self._changes.setdefault(os.path.dirname(old or new), []).append((old, new, file))
        _apply(self._names, old, new, file)

    # ---------------------------------------------------------------------------------- the power

    def survivors(self) -> Iterator[dict[str, bytes]]:
        """Every state of the files that a cut at this moment may leave: names below root, and contents."""
        pending = [(folder, count) for folder, changes in self._changes.items() for count in range(len(changes) + 1)]
        for folder, count in pending or [("", 0)]:
            names = dict(self._durable_names)
            for change in self._changes.get(folder, [])[:count]:
                _apply(names, *change)
            for kind in ("old", "nothing", "zeros", "new", "torn"):
                yield {os.path.relpath(path, self.root): _left_of(file, kind) for path, file in names.items()}


def _apply(names: dict[str, _File], old: str, new: str, file: _File) -> None:
    if old:
        names.pop(old, None)
    if new:
        names[new] = file


def _left_of(file: _File, kind: str) -> bytes:
    if file.durable == file.seen or kind == "new":
        return file.seen
    if kind == "old":
        return file.durable or b""
    if kind == "nothing":
        return b""
    zeros = bytes(len(file.seen))
    if kind == "zeros":
        return zeros
    return b"".join(
        (file.seen if i % 2 == 0 else zeros)[at : at + SECTOR_BYTES]
        for i, at in enumerate(range(0, len(zeros), SECTOR_BYTES))
    )


def lay_out(files: dict[str, bytes], root: str) -> None:
    """Make a directory of survivors."""
    os.makedirs(root, exist_ok=True)
    for name, content in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as one:
            one.write(content)


@contextmanager
def replaced_in(faulty: FaultyOs, *modules: ModuleType) -> Iterator[None]:
    """These modules' `os` is the faulty one."""
    for module in modules:
        assert vars(module)["os"] is os
        vars(module)["os"] = faulty
    try:
        yield
    finally:
        for module in modules:
            vars(module)["os"] = os

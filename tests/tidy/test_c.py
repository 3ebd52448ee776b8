"""C: files include only what SOURCES has above them, and only sys.c talks to the kernel."""

import re

from tests.tidy.sources import ROOT, c_code, c_files, name, text

# What sys.h has in its table. Any of them called elsewhere would escape the faults that tests inject.
_CALL = re.compile(
    r"""(?<![\w.>])(
        open|openat|close|read|write|pread|pwrite|readv|writev|preadv|pwritev|preadv2|pwritev2|ftruncate|fallocate
        |posix_fallocate|fsync|fdatasync|sync_file_range|rename|renameat|unlink|unlinkat|mkdir|rmdir|stat|fstat|lstat
        |opendir|readdir|mmap|munmap|madvise|mincore|posix_fadvise|sendfile|splice|recv|recvmsg|recvfrom|send|sendmsg
        |sendto|accept|accept4|socket|bind|listen|connect|shutdown|getsockname|getpeername|setsockopt|getsockopt
        |epoll_create1|epoll_ctl|epoll_wait|epoll_pwait|eventfd|timerfd_create|clock_gettime|gettimeofday|time|nanosleep
        |usleep|sleep|fork|getrandom|fopen|fread|fwrite
    )\s*\(""",
    re.VERBOSE,
)
# The public header, the macros, and the reactor's structure, which the APIs work on while its loop stands behind them.
SEEN_BY_ALL = {"plog.h", "base.h", "reactor.h"}


def our_c_files() -> list[str]:
    return [name(path) for path in c_files() if name(path).startswith("csrc/")]


def test_only_sys_calls_the_kernel() -> None:
    wrong = []
    for file in our_c_files():
        if file in ("csrc/sys.c", "csrc/sys.h"):
            continue
        for number, line in enumerate(c_code(ROOT / file).splitlines(), 1):
            wrong += [f"{file}:{number}: {call}" for call in _CALL.findall(line)]
    assert not wrong, "\n".join(wrong)


def sources() -> list[str]:
    lines = (ROOT / "csrc" / "SOURCES").read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def test_every_c_file_is_in_sources() -> None:
    listed = set(sources())
    there = {file.removeprefix("csrc/") for file in our_c_files() if file.endswith(".c")}
    assert there - listed == set(), "not built by anybody"
    assert listed - there == set(), "listed and not there"


def includes(file: str) -> list[str]:
    return re.findall(r'^#include "([^"]+)"', text(ROOT / file), re.MULTILINE)


def test_includes_point_one_way() -> None:
    """No header can reach itself through others: any two files can be read in some order, one after the other."""
    graph = {file.removeprefix("csrc/"): includes(file) for file in our_c_files() if file.endswith(".h")}
    done: set[str] = set()

    def visit(header: str, way: list[str]) -> None:
        assert header not in way, " includes ".join([*way, header])
        if header in done:
            return
        for other in graph.get(header, []):
            visit(other, [*way, header])
        done.add(header)

    for header in graph:
        visit(header, [])


def test_a_file_includes_only_files_above_it() -> None:
    """SOURCES is written in that order. A header ranks with its .c; one without a .c may be used by everybody."""
    rank = {file.removesuffix(".c"): position for position, file in enumerate(sources())}
    wrong = []
    for file in our_c_files():
        own = rank.get(file.removeprefix("csrc/").rpartition(".")[0])
        if own is None:
            continue
        for header in includes(file):
            other = rank.get(header.removesuffix(".h"))
            if header not in SEEN_BY_ALL and other is not None and other > own:
                wrong.append(f"{file} includes {header}, which SOURCES has below it")
    assert not wrong, "\n".join(wrong)


def test_asserts_stay_on() -> None:
    wrong = [
        f"{file}:{number}"
        for file in our_c_files()
        for number, line in enumerate(c_code(ROOT / file).splitlines(), 1)
        if re.search(r"(?<!\w)assert\s*\(", line)
    ]
    assert not wrong, f"assert() goes away with NDEBUG, plog_assert() does not: {wrong}"

"""What tests of `pylog log` share: a data directory with something of everything in it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.cli.main import main
from pylog._native import Sys
from pylog.compression import Codec
from pylog.records import Header
from tests.support.log_writer import LogWriter

RunLog = Callable[..., tuple[int, str, str]]


@pytest.fixture
def system() -> Iterator[Sys]:
    table = Sys()
    yield table
    table.close()


@pytest.fixture
def log_directory(tmp_path: Path, system: Sys) -> Path:
    """Offsets 0 to 10: an aborted transaction (2, its marker 3), a committed one (7, marker 8), 4 to 6 in gzip."""
    writer = LogWriter(tmp_path / "data", system)
    writer.write(2)
    writer.write(1, transactional=True)
    writer.end_transaction(commit=False)
    writer.write(3, 2, codec=Codec.GZIP)
    writer.write(1, 2, transactional=True)
    writer.end_transaction(2, commit=True)
    writer.write(1, 3, value=b"\xff\x00", headers=(Header("h", b"1"), Header("n", None)))
    writer.write(1, 3, value=b'say "a,b"')
    writer.stop()
    return writer.path


@pytest.fixture
def run_log(capfdbinary: pytest.CaptureFixture[bytes]) -> RunLog:
    """run_log("ls", path, ...): exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["log", *map(str, arguments)])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run

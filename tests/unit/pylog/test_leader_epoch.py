"""leader-epoch-checkpoint: Kafka's bytes, the empty file, and what is refused."""

from pathlib import Path

import pytest

from pylog.files import CorruptFileError
from pylog.leader_epoch import EpochEntry, read_leader_epochs, write_leader_epochs


def test_bytes_and_back(tmp_path: Path) -> None:
    path = str(tmp_path / "leader-epoch-checkpoint")
    assert read_leader_epochs(path) is None
    entries = [EpochEntry(0, 0), EpochEntry(4, 70)]
    write_leader_epochs(path, entries)
    assert Path(path).read_bytes() == b"0\n2\n0 0\n4 70\n"
    assert read_leader_epochs(path) == entries
    Path(path).write_bytes(b"")
    assert read_leader_epochs(path) == []
    write_leader_epochs(path, [])
    assert Path(path).read_bytes() == b"0\n0\n"
    assert read_leader_epochs(path) == []


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"0\n2\n0 0\n0 5\n", 4),
        (b"0\n2\n1 7\n2 7\n", 4),
        (b"0\n2\n1 7\n2 6\n", 4),
        (b"0\n1\n-1 0\n", 3),
        (b"0\n1\n1\n", 3),
        (b"0\n1\nx 1\n", 3),
        (b"7\n0\n", 1),
    ],
)
def test_broken(tmp_path: Path, data: bytes, line: int) -> None:
    path = tmp_path / "e"
    path.write_bytes(data)
    with pytest.raises(CorruptFileError) as caught:
        read_leader_epochs(str(path))
    assert caught.value.line == line

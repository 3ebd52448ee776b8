"""partition.metadata: 43 bytes, once and for good."""

from pathlib import Path

import pytest

from pylog.files import CorruptFileError
from pylog.partition_metadata import create_partition_metadata, read_partition_metadata, write_partition_metadata
from pylog.types import id_bytes


def test_bytes_and_back(tmp_path: Path) -> None:
    path = tmp_path / "partition.metadata"
    assert read_partition_metadata(str(path)) is None
    topic_id = id_bytes("9RZ0gJ8bTSiv8OHPmuRo-g")
    write_partition_metadata(str(path), topic_id)
    assert path.read_bytes() == b"version: 0\ntopic_id: 9RZ0gJ8bTSiv8OHPmuRo-g"
    assert path.stat().st_size == 43
    path.unlink()
    create_partition_metadata(str(path), topic_id)
    with pytest.raises(FileExistsError):
        create_partition_metadata(str(path), topic_id)
    assert read_partition_metadata(str(path)) == topic_id


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", 1),
        (b"version: 1\ntopic_id: 9RZ0gJ8bTSiv8OHPmuRo-g", 1),
        (b"version: 0\n", 2),
        (b"version: 0\ntopic_id: 9RZ0", 2),
        (b"version: 0\ntopic_id: 9RZ0gJ8bTSiv8OHPmuRo-\xff", 2),
        (b"\0" * 43, 1),
    ],
)
def test_broken(tmp_path: Path, data: bytes, line: int) -> None:
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(CorruptFileError) as caught:
        read_partition_metadata(str(tmp_path / "m"))
    assert caught.value.line == line

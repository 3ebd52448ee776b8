"""meta.properties: Kafka's bytes to the letter, Java's escapes, KRaft's version 1."""

from pathlib import Path

import pytest

from pylog.files import CorruptFileError
from pylog.meta_properties import (
    MetaProperties,
    java_date,
    new_cluster_id,
    read_meta_properties,
    write_meta_properties,
)
from pylog.types import id_bytes

GOLDEN = b"#\n#Sun Nov 22 11:01:42 UTC 2026\nbroker.id=1\nversion=0\ncluster.id=BqAbZzJcRyCV7ufzNcp56A\n"
GOLDEN_MS = 1_795_345_302_000


def test_kafkas_bytes(tmp_path: Path) -> None:
    meta = MetaProperties(0, 1, "BqAbZzJcRyCV7ufzNcp56A")
    assert read_meta_properties(str(tmp_path)) is None
    write_meta_properties(str(tmp_path), meta, GOLDEN_MS)
    assert (tmp_path / "meta.properties").read_bytes() == GOLDEN
    assert read_meta_properties(str(tmp_path)) == meta


def test_java_date_pads_the_day() -> None:
    assert java_date(0) == "Thu Jan 01 00:00:00 UTC 1970"


def test_kraft(tmp_path: Path) -> None:
    meta = MetaProperties(1, 3, "BqAbZzJcRyCV7ufzNcp56A", "9RZ0gJ8bTSiv8OHPmuRo-g")
    write_meta_properties(str(tmp_path), meta, GOLDEN_MS)
    assert read_meta_properties(str(tmp_path)) == meta


def test_java_properties_forms(tmp_path: Path) -> None:
    text = b"! comment\n  broker.id : 7\r\nversion 0\ncluster\\.id=a\\=b\\:c\nother=1\n"
    (tmp_path / "meta.properties").write_bytes(text)
    assert read_meta_properties(str(tmp_path)) == MetaProperties(0, 7, "a=b:c")


@pytest.mark.parametrize(
    ("data", "line"), [(b"broker.id=1\n", 1), (b"#\nversion=2\n", 2), (b"version=0\nbroker.id=one\n", 2)]
)
def test_broken(tmp_path: Path, data: bytes, line: int) -> None:
    (tmp_path / "meta.properties").write_bytes(data)
    with pytest.raises(CorruptFileError) as caught:
        read_meta_properties(str(tmp_path))
    assert caught.value.line == line


def test_new_cluster_ids_differ_and_are_ids() -> None:
    ids = {new_cluster_id() for _ in range(200)}
    assert len(ids) == 200
    for text in ids:
        assert len(text) == 22 and not text.startswith("-")
        id_bytes(text)

"""The transaction index: 34-byte entries, ordered, of a known version."""

from pathlib import Path

import pytest

from pylog.files import CorruptFileError
from pylog.transaction_index import AbortedTransaction, read_transaction_index, write_transaction_index

# txn-0/00000000000000000041.txnindex of a Kafka 3.9 broker.
KAFKAS = bytes.fromhex(
    "0000 0000000000000001 0000000000000031 0000000000000037 0000000000000038"
    "0000 00000000000003e9 0000000000000038 0000000000000045 0000000000000046"
)
ENTRIES = [AbortedTransaction(0, 1, 49, 55, 56), AbortedTransaction(0, 1001, 56, 69, 70)]


def test_bytes_and_back(tmp_path: Path) -> None:
    path = tmp_path / "x.txnindex"
    assert read_transaction_index(str(path)) == []
    write_transaction_index(str(path), ENTRIES)
    assert path.read_bytes() == KAFKAS
    assert read_transaction_index(str(path)) == ENTRIES


@pytest.mark.parametrize(
    ("data", "entry"),
    [(KAFKAS[:-1], 2), (KAFKAS[:1], 1), (b"\0\1" + KAFKAS[2:], 1), (KAFKAS[34:] + KAFKAS[:34], 2)],
)
def test_broken(tmp_path: Path, data: bytes, entry: int) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(CorruptFileError) as caught:
        read_transaction_index(str(tmp_path / "x"))
    assert caught.value.line == entry

"""What a dump says of damaged files; what it says of whole ones is compared with Kafka's tool in tests/golden."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pylog.dump import Dump, DumpOptions
from pylog.errors import KafkaError
from pylog.files import CorruptFileError

MakeBatch = Callable[..., bytes]
BASE = "00000000000000000000"


def dumped(path: Path, **options: bool) -> tuple[list[str], list[str]]:
    dump = Dump(str(path), DumpOptions(**options))
    lines = list(dump.lines())
    return lines, [problem.what for problem in dump.problems]


def log_file(directory: Path, *batches: bytes) -> Path:
    path = directory / f"{BASE}.log"
    path.write_bytes(b"".join(batches))
    return path


def test_batches_only_or_records_too(tmp_path: Path, make_batch: MakeBatch) -> None:
    path = log_file(tmp_path, make_batch(0), make_batch(3))
    assert len(dumped(path)[0]) == 4
    lines, problems = dumped(path, deep_iteration=True)
    assert len(lines) == 10 and problems == []
    assert lines[3].endswith("sequence: -1 headerKeys: []")
    assert " key: key payload: " in dumped(path, print_data_log=True)[0][3]


def test_a_wrong_crc_is_told_and_its_records_are_shown_as_they_are(tmp_path: Path, make_batch: MakeBatch) -> None:
    bad = bytearray(make_batch(0))
    bad[-2] ^= 1
    lines, problems = dumped(log_file(tmp_path, bytes(bad), make_batch(3)), deep_iteration=True)
    assert lines[2].endswith("isvalid: false")
    assert [line.split()[2] for line in lines[3:6]] == ["0", "1", "2"]
    assert lines[6].startswith("baseOffset: 3")
    assert problems == ["CRC of the batch at position 0 (offset 0) is wrong"]
    bad[61] = 0xFF  # the length of its first record
    lines, problems = dumped(log_file(tmp_path, bytes(bad), make_batch(3)), deep_iteration=True)
    assert lines[3].startswith("baseOffset: 3")
    assert len(problems) == 2 and problems[1].startswith("records of the batch at position 0: ")


def test_a_torn_tail_is_told(tmp_path: Path, make_batch: MakeBatch) -> None:
    lines, problems = dumped(log_file(tmp_path, make_batch(0), make_batch(3)[:50]))
    assert lines[-1] == f"Found 50 invalid bytes at the end of {BASE}.log"
    assert problems == ["50 bytes at the end are no batch"]


def test_offsets_that_do_not_rise_are_told(tmp_path: Path, make_batch: MakeBatch) -> None:
    assert dumped(log_file(tmp_path, make_batch(0), make_batch(2)))[1] == ["offset 2 follows 2"]


def entry(size: int, *numbers: int) -> bytes:
    return b"".join(number.to_bytes(n, "big") for number, n in zip(numbers, (size, 4), strict=True))


def test_indexes(tmp_path: Path, make_batch: MakeBatch) -> None:
    first = make_batch(0)
    log_file(tmp_path, first, make_batch(3))
    path = tmp_path / f"{BASE}.index"
    path.write_bytes(entry(4, 5, len(first)) + bytes(16))
    assert dumped(path) == ([f"Dumping {path}", f"offset: 5 position: {len(first)}"], [])
    path.write_bytes(entry(4, 4, len(first)) + entry(4, 5, 7) + b"\0\0\0")
    assert dumped(path)[1] == [
        f"index offset 4 at position {len(first)}, log offset 5",
        "index offset 5 at position 7, log offset None",
        "ends in 3 bytes of an entry of 8",
    ]


def test_time_indexes(tmp_path: Path, make_batch: MakeBatch) -> None:
    log_file(tmp_path, make_batch(0, timestamp=100), make_batch(3, timestamp=200))
    path = tmp_path / f"{BASE}.timeindex"
    path.write_bytes(entry(8, 102, 2) + entry(8, 202, 5) + bytes(24))
    assert dumped(path) == ([f"Dumping {path}", "timestamp: 102 offset: 2", "timestamp: 202 offset: 5"], [])
    path.write_bytes(entry(8, 103, 2) + entry(8, 90, 4))
    assert dumped(path)[1] == [
        "index timestamp 103, log timestamp 102 at offset 2",
        "indexed offset 4 ends no batch of the log",
        "index timestamp 90 follows 103",
    ]


def test_an_index_without_its_log(tmp_path: Path) -> None:
    path = tmp_path / f"{BASE}.index"
    path.write_bytes(entry(4, 5, 100))
    assert "there is no .log beside it" in dumped(path)[1]


def test_broken_side_files_raise(tmp_path: Path) -> None:
    transactions = tmp_path / f"{BASE}.txnindex"
    transactions.write_bytes(b"x")
    with pytest.raises(CorruptFileError):
        dumped(transactions)
    snapshot = tmp_path / f"{BASE}.snapshot"
    snapshot.write_bytes(b"x" * 56)
    with pytest.raises(KafkaError, match=str(snapshot)):
        dumped(snapshot)


@pytest.mark.parametrize("name", ["x.log", "cleaner-offset-checkpoint", f"{BASE}.log.deleted", f"{BASE}.text"])
def test_other_files_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="neither segment, index nor snapshot"):
        Dump(name)


def test_leader_epochs_and_the_topic_id(tmp_path: Path) -> None:
    epochs = tmp_path / "leader-epoch-checkpoint"
    epochs.write_bytes(b"0\n2\n0 0\n4 70\n")
    assert dumped(epochs)[0][1:] == ["epoch: 0 startOffset: 0", "epoch: 4 startOffset: 70"]
    epochs.write_bytes(b"")
    assert dumped(epochs)[0][1:] == []
    metadata = tmp_path / "partition.metadata"
    metadata.write_bytes(b"version: 0\ntopic_id: 9RZ0gJ8bTSiv8OHPmuRo-g")
    assert dumped(metadata)[0][1:] == ["topicId: 9RZ0gJ8bTSiv8OHPmuRo-g"]


def test_a_decoder_reads_what_is_in_records(tmp_path: Path, make_batch: MakeBatch) -> None:
    path = log_file(tmp_path, make_batch(0, count=1))
    options = DumpOptions(decoder=lambda record: (f"<{record.offset}>", None))
    assert list(Dump(str(path), options).lines())[3].endswith("headerKeys: [] key: <0>")

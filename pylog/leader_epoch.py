"""leader-epoch-checkpoint: where each leader epoch of a partition began.

Keeps true: epochs and start offsets both rise strictly from entry to entry; only epochs that have a record are in. The
file is empty (0 bytes) for a partition that never had a record. The entries live in the C log; this is how they come
from the file and go back to it. A broken file raises CorruptFileError; the log then finds its epochs again in the
batches.

    0                      version
    2                      number of entries
    0 0                    epoch, start offset
    4 70
"""

from __future__ import annotations

from collections.abc import Sequence

from pylog.checkpoint import read_numbered_lines, write_numbered_lines
from pylog.facts import NamedTuple
from pylog.files import CorruptFileError, read_file, replace_file, write_aside

LEADER_EPOCH_FILE = "leader-epoch-checkpoint"


class EpochEntry(NamedTuple):
    """From start_offset on, records were written in this epoch (until the next entry)."""

    epoch: int
    start_offset: int


def read_leader_epochs(path: str) -> list[EpochEntry] | None:
    """All entries, None when there is no file. Raises CorruptFileError."""
    data = read_file(path)
    return None if data is None else decode_leader_epochs(path, data)


def decode_leader_epochs(path: str, data: bytes) -> list[EpochEntry]:
    """The entries in the file's bytes. Raises CorruptFileError."""
    if not data:
        return []
    entries: list[EpochEntry] = []
    for number, line in enumerate(read_numbered_lines(path, data), 3):
        try:
            epoch, start_offset = line.split(b" ")
            entry = EpochEntry(int(epoch), int(start_offset))
        except ValueError:
            raise CorruptFileError(path, number, f"epoch and start offset expected, found {line[:80]!r}") from None
        if entry.epoch < 0 or entry.start_offset < 0:
            raise CorruptFileError(path, number, f"negative epoch or offset: {entry.epoch} {entry.start_offset}")
        if entries and not (entries[-1].epoch < entry.epoch and entries[-1].start_offset < entry.start_offset):
            raise CorruptFileError(path, number, f"does not rise above the entry before: {epoch!r} {start_offset!r}")
        entries.append(entry)
    return entries


def encode_leader_epochs(entries: Sequence[tuple[int, int]]) -> bytes:
    """The bytes Kafka keeps for these entries; a partition whose entries were all truncated keeps "0\\n0\\n"."""
    return write_numbered_lines([f"{epoch} {start_offset}" for epoch, start_offset in entries])


def write_leader_epochs(path: str, entries: Sequence[tuple[int, int]]) -> None:
    """Replace the file durably. Raises OSError."""
    replace_file(path, encode_leader_epochs(entries))


def write_leader_epochs_aside(path: str, entries: Sequence[tuple[int, int]]) -> None:
    """Write what replaces the file when the caller has synced it and put it in place. Raises OSError."""
    write_aside(path, encode_leader_epochs(entries), synced=False)

"""The files of a partition directory by name, and putting right what an earlier process left half done.

Keeps true: a segment is its .log file, named by its base offset in 20 digits; every other file of that name is derived.
After `settle_directory` the directory holds whole segments only: a finished compaction is completed, an unfinished one
is dropped, what was to be deleted is gone, as Kafka does it at start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from pylog.facts import NamedTuple
from pylog.files import sync_directory, unlink_if_there

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
TRANSACTION_INDEX_SUFFIX = ".txnindex"
SNAPSHOT_SUFFIX = ".snapshot"
SEGMENT_SUFFIXES = (LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX)
_INDEX_SUFFIXES = SEGMENT_SUFFIXES[1:]

DELETED_SUFFIX = ".deleted"
CLEANED_SUFFIX = ".cleaned"
SWAP_SUFFIX = ".swap"

OFFSET_DIGITS = 20


def segment_file_name(base_offset: int, suffix: str) -> str:
    """`00000000000000000041.log` for 41 and `.log`."""
    return f"{base_offset:020d}{suffix}"


class SegmentFile(NamedTuple):
    """A file named by an offset: `<20 digits><kind><state>`, as in 00000000000000000041.index.swap."""

    name: str
    offset: int
    kind: str
    """.log, .index, ..."""
    state: str
    """"" or .deleted, .cleaned, .swap"""


def segment_file(name: str) -> SegmentFile | None:
    """What the name says, None for files that are not named by an offset."""
    digits, dot, rest = name.partition(".")
    if not dot or len(digits) != OFFSET_DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    kind, dot, state = rest.partition(".")
    return SegmentFile(name, int(digits), "." + kind, dot + state)


class Settled(NamedTuple):
    """What `settle_directory` found and did."""

    base_offsets: list[int]
    """Of the segments, ascending."""
    removed: list[str]
    """Names of leftover files that are gone."""
    completed: list[str]
    """Names of files that a compaction had not put in place and that now are."""


def settle_directory(path: str, next_offset: Callable[[str], int]) -> Settled:
    """Put a partition directory right and list its segments. Nobody else uses it. Raises OSError.

    next_offset: one past the last record in a .log file; asked only about compaction's outputs.
    """
    logs: set[str] = set()
    indexes: set[str] = set()
    odd = False
    for name in os.listdir(path):
        if name.endswith(LOG_SUFFIX):
            logs.add(name[: -len(LOG_SUFFIX)])
        elif name.endswith(_INDEX_SUFFIXES):
            indexes.add(name.partition(".")[0])
        elif name.endswith((DELETED_SUFFIX, CLEANED_SUFFIX, SWAP_SUFFIX)):
            odd = True
    bases = {name for name in logs if len(name) == OFFSET_DIGITS and name.isascii() and name.isdigit()}
    if odd or not indexes <= bases:
        return _settle(path, next_offset)
    return Settled(sorted(map(int, bases)), [], [])


def _settle(path: str, next_offset: Callable[[str], int]) -> Settled:
    files = [file for name in os.listdir(path) if (file := segment_file(name)) is not None]
    cleaned = [f for f in files if f.state == CLEANED_SUFFIX]
    # Swaps were made from .cleaned files of the same pass: one that is still .cleaned says that the pass did not
    # finish, and the swaps from there on are not the whole of what they replace.
    unfinished_from = min((f.offset for f in cleaned), default=None)
    swaps = [f for f in files if f.state == SWAP_SUFFIX]
    void = [f for f in swaps if unfinished_from is not None and f.offset >= unfinished_from]
    valid = [f for f in swaps if f not in void]
    replaced = _replaced(path, files, valid, next_offset)
    kept = {f.offset for f in files if f.kind == LOG_SUFFIX and not f.state and f not in replaced}
    kept |= {f.offset for f in valid if f.kind == LOG_SUFFIX}
    placed = [f for f in valid if f.offset in kept]
    orphans = [f for f in files if f.kind in _INDEX_SUFFIXES and not f.state and f.offset not in kept]
    orphans += [f for f in valid if f not in placed]
    # Void swaps go before the .cleaned that make them void: this may stop half way and begin again.
    deleted = [f for f in files if f.state == DELETED_SUFFIX]
    doomed = dict.fromkeys(f.name for f in [*void, *cleaned, *deleted, *replaced, *orphans])
    for name in doomed:
        unlink_if_there(os.path.join(path, name))
    for file in placed:
        os.rename(os.path.join(path, file.name), os.path.join(path, file.name.removesuffix(SWAP_SUFFIX)))
    sync_directory(path)
    return Settled(sorted(kept), sorted(doomed), sorted(f.name.removesuffix(SWAP_SUFFIX) for f in placed))


def _replaced(
    path: str, files: Sequence[SegmentFile], swaps: Sequence[SegmentFile], next_offset: Callable[[str], int]
) -> list[SegmentFile]:
    """The files of the segments that the swaps stand in for."""
    logs = [f for f in swaps if f.kind == LOG_SUFFIX]
    if not logs:
        return []
    first = min(f.offset for f in logs)
    end = max(next_offset(os.path.join(path, f.name)) for f in logs)
    return [f for f in files if not f.state and f.kind in SEGMENT_SUFFIXES and first <= f.offset < end]

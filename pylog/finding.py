"""What a verification says: something in a file is not as it must be.

Keeps true: one finding is one line: which file, where in it, which offsets are concerned, what is wrong.
"""

from __future__ import annotations

from pylog.facts import NamedTuple


class Finding(NamedTuple):
    """position: in the file, None when the file as a whole is meant. first_offset, last_offset: of the records that are
    concerned, None when none are; last_offset None: to the end."""

    path: str
    what: str
    position: int | None = None
    first_offset: int | None = None
    last_offset: int | None = None

    def __str__(self) -> str:
        where = self.path
        if self.position is not None:
            where += f": position {self.position}"
        if self.first_offset is not None:
            if self.last_offset is None:
                where += f", from offset {self.first_offset}"
            elif self.last_offset <= self.first_offset:
                where += f", offset {self.first_offset}"
            else:
                where += f", offsets {self.first_offset} to {self.last_offset}"
        return f"{where}: {self.what}"

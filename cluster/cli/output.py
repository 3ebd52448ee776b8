"""What commands print: tables, notices and progress.

What it keeps true: only results go to stdout; a table is drawn when stdout is a terminal, and otherwise is
tab-separated rows without a header, one line each, so that `cut` and `while read` work; what clients call their groups
and themselves does nothing to a terminal but appear on it; progress is drawn only where it disturbs nobody.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

_SHOW_AFTER_S = 0.5
_REFRESH_S = 0.1

#: Control characters, and those that turn the direction of what follows, by how they are shown.
_SHOWN_AS = {
    code: ascii(chr(code))[1:-1]
    for code in (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
_SHOWN_IN_A_LINE = {code: shown for code, shown in _SHOWN_AS.items() if code != ord("\t")}


def notice(text: str) -> None:
    """One line on stderr."""
    print(f"pylog: {text}", file=sys.stderr, flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Iterable[str] = ()) -> None:
    """Print rows under columns. `numbers`: the columns that are aligned to the right. None is shown as `-`."""
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(_one_line(cell) for cell in row) + "\n" for row in texts)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    right = set(numbers)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in texts:
        table.add_row(*(Text(cell.translate(_SHOWN_AS)) for cell in row))
    Console().print(table)


def print_line(text: str = "") -> None:
    """One line on stdout. Its tabs are ours."""
    line = text.translate(_SHOWN_IN_A_LINE) if sys.stdout.isatty() else text
    sys.stdout.write(line + "\n")


def print_names(names: Iterable[str]) -> None:
    """Each on a line of its own, whatever is in it."""
    for name in names:
        print_line(name.translate(_SHOWN_AS) if sys.stdout.isatty() else _one_line(name))


def _one_line(cell: str) -> str:
    return cell.replace("\t", " ").replace("\n", " ")


class RecordMeter:
    """Counts records and bytes, and draws them with their rates on stderr once the work has taken half a second.

    `total_bytes`: of the input, when it is known, for a bar. Nothing is drawn unless `enabled` and stderr is a
    terminal.
    """

    def __init__(self, verb: str, *, enabled: bool, total_bytes: int | None = None) -> None:
        self.records = 0
        self.size_bytes = 0
        self._verb = verb
        self._total = total_bytes
        self._enabled = enabled and sys.stderr.isatty()
        self._started = time.monotonic()
        self._next_draw = self._started + _SHOW_AFTER_S
        self._progress: Progress | None = None

    def __enter__(self) -> RecordMeter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def add(self, records: int, size_bytes: int) -> None:
        """Count, and draw when it is time to."""
        self.records += records
        self.size_bytes += size_bytes
        if self._enabled and time.monotonic() >= self._next_draw:
            self._draw()

    @property
    def drawn(self) -> bool:
        """Whether the work took long enough to be drawn."""
        return self._progress is not None

    @property
    def counted(self) -> str:
        """Such as `1,000,000 records`."""
        return "1 record" if self.records == 1 else f"{self.records:,} records"

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return max(time.monotonic() - self._started, 1e-9)

    def summary(self) -> str:
        """Such as `1,000,000 records, 95.4 MB in 2.1 s (480,000 records/s, 45.8 MB/s)`."""
        seconds = self.seconds
        return f"{self.counted}, {_megabytes(self.size_bytes)} in {seconds:.1f} s ({self._rates(seconds)})"

    def _rates(self, seconds: float) -> str:
        return f"{self.records / seconds:,.0f} records/s, {_megabytes(self.size_bytes / seconds)}/s"

    def _draw(self) -> None:
        if self._progress is None:
            self._progress = self._start_drawing()
        self._progress.update(
            self._progress.task_ids[0],
            completed=self.size_bytes,
            text=f"{self.counted}, {_megabytes(self.size_bytes)}, {self._rates(self.seconds)}",
        )
        self._progress.refresh()
        self._next_draw = time.monotonic() + _REFRESH_S

    def _start_drawing(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeRemainingColumn

        columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn(self._verb), TextColumn("{task.fields[text]}")]
        if self._total is not None:
            columns += [BarColumn(), TimeRemainingColumn()]
        # No refresh thread: what is drawn changes only in `add`.
        progress = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
        progress.start()
        progress.add_task(self._verb, total=self._total, text="")
        return progress


def _megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"

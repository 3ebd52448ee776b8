"""Families of figures as text: Prometheus's format (version 0.0.4), or OpenMetrics (1.0.0) for who asks for that.

What stays true: a family is written once, whole, behind what it means and what kind it is; a counter's samples end in
`_total`, and only a counter's; every label is escaped, whatever clients called their topics and groups. A line whose
figure is that of the last page is not put together again (`Rows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pylog.facts import NamedTuple
from pylog.typed import Final

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"

PLAIN_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


#: Rows that are written, and remembered, together: some hundred microseconds.
_ROWS_AT_ONCE: Final = 512


class _Written(NamedTuple):
    figures: Sequence[int | float | None]
    lines: bytes


_NEVER: Final = _Written((), b"")


class Rows:
    """Labels, as `labels` writes them, of figures that page after page tells, and the lines told last. One thread."""

    __slots__ = ("_labels", "_written")

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._written: dict[str, list[_Written]] = {}

    def lines(self, name: str, figures: Sequence[int | float | None]) -> list[bytes]:
        """figures: one for each row, None where there is none; those of a name are all of one type."""
        starts = range(0, len(self._labels), _ROWS_AT_ONCE)
        written = self._written.setdefault(name, [_NEVER] * len(starts))
        for place, start in enumerate(starts):
            now = figures[start : start + _ROWS_AT_ONCE]
            if written[place].figures != now:
                rows = zip(self._labels[start : start + _ROWS_AT_ONCE], now, strict=True)
                lines = [f"{name}{labels} {figure}\n" for labels, figure in rows if figure is not None]
                written[place] = _Written(now, "".join(lines).encode())
        return [each.lines for each in written]


class Column(NamedTuple):
    """A figure of each row, as `Rows.lines` wants them."""

    rows: Rows
    figures: Sequence[int | float | None]


class Family(NamedTuple):
    """`name`: without `_total`. `samples`: labels as `labels` writes them, of a histogram behind `_bucket`, `_sum` or
    `_count`; and the figure. `columns`: more of them, of which there may be very many."""

    name: str
    kind: str
    help: str
    samples: Sequence[tuple[str, int | float]] = ()
    columns: Sequence[Column] = ()


def counter(name: str, help: str, value: int | float) -> Family:
    return Family(name, COUNTER, help, [("", value)])


def gauge(name: str, help: str, value: int | float) -> Family:
    return Family(name, GAUGE, help, [("", value)])


def by_label(name: str, kind: str, help: str, label: str, values: Mapping[str, int | float]) -> Family:
    """One label, of which every value has a figure."""
    return Family(name, kind, help, [(labels((label, each)), value) for each, value in values.items()])


def labels(*pairs: tuple[str, str]) -> str:
    return "{" + inner(*pairs) + "}"


def inner(*pairs: tuple[str, str]) -> str:
    """Labels to be put between others: the same many times over."""
    return ",".join([f'{name}="{_escape(value)}"' for name, value in pairs])


def _escape(value: str) -> str:
    if not value.isascii():  # a name that is no UTF-8 shows its bytes
        value = value.encode("utf-8", "backslashreplace").decode()
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value


def write(families: Iterable[Family], *, open_metrics: bool) -> bytes:
    """Families without samples are left out."""
    parts: list[bytes] = []
    for family in families:
        name = f"{family.name}_total" if family.kind == COUNTER else family.name
        told = family.name if open_metrics else name
        lines = ["".join([f"{name}{labels} {value}\n" for labels, value in family.samples]).encode()]
        for column in family.columns:
            lines += column.rows.lines(name, column.figures)
        if any(lines):
            parts.append(f"# HELP {told} {family.help}\n# TYPE {told} {family.kind}\n".encode())
            parts += lines
    if open_metrics:
        parts.append(b"# EOF\n")
    return b"".join(parts)

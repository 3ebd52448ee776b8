"""Families of figures as text: Prometheus's format (version 0.0.4), or OpenMetrics (1.0.0) for who asks for that.

What stays true: a family is written once, whole, behind what it means and what kind it is; a counter's samples end in
`_total`, and only a counter's; every label is escaped, whatever clients called their topics and groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pylog.facts import NamedTuple
from pylog.typed import Final

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"

PLAIN_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Family(NamedTuple):
    """`name`: without `_total`. `samples`: labels as `labels` writes them, of a histogram behind `_bucket`, `_sum` or
    `_count`; and the figure. They are read once."""

    name: str
    kind: str
    help: str
    samples: Iterable[tuple[str, int | float]]


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
    parts: list[str] = []
    for family in families:
        name = f"{family.name}_total" if family.kind == COUNTER else family.name
        told = family.name if open_metrics else name
        lines = [f"{name}{labels} {value}\n" for labels, value in family.samples]
        if lines:
            parts.append(f"# HELP {told} {family.help}\n# TYPE {told} {family.kind}\n")
            parts += lines
    if open_metrics:
        parts.append("# EOF\n")
    return "".join(parts).encode()

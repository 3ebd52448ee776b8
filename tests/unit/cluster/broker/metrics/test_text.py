"""Figures as text: what Prometheus's own parsers read of it."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from cluster.broker.metrics.text import COUNTER, GAUGE, Column, Family, Rows, by_label, counter, gauge, labels, write

FAMILIES = [
    counter("requests", "Requests.", 7),
    gauge("free_bytes", "What is left.", 12.5),
    by_label("things", GAUGE, "Things by state.", "state", {"good": 1, "bad": 0}),
    Family("reads", COUNTER, "Reads.", []),
]


def test_plain_text() -> None:
    assert write(FAMILIES, open_metrics=False).decode() == (
        "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total 7\n"
        "# HELP free_bytes What is left.\n# TYPE free_bytes gauge\nfree_bytes 12.5\n"
        "# HELP things Things by state.\n# TYPE things gauge\n"
        'things{state="good"} 1\nthings{state="bad"} 0\n'
    )


def test_open_metrics_names_the_family_and_ends() -> None:
    text = write(FAMILIES, open_metrics=True).decode()
    assert text.startswith("# HELP requests Requests.\n# TYPE requests counter\nrequests_total 7\n")
    assert text.endswith('things{state="bad"} 0\n# EOF\n')
    assert [family.name for family in parse_open(text)] == ["requests", "free_bytes", "things"]


@pytest.mark.parametrize("open_metrics", [False, True])
@pytest.mark.parametrize(
    "name",
    ["plain", "", 'a"b', "back\\slash", "two\nlines", "\\n", '\\"', "日本語", "{},= #", "tab\tand\rreturn"],
)
def test_any_name_comes_back_as_it_was(name: str, open_metrics: bool) -> None:
    text = write(
        [Family("lag", GAUGE, "Lag.", [(labels(("group", name), ("topic", "t")), 3)])], open_metrics=open_metrics
    )
    (family,) = (parse_open if open_metrics else parse_plain)(text.decode())
    (sample,) = family.samples
    assert (sample.labels, sample.value) == ({"group": name, "topic": "t"}, 3)


def test_a_name_that_is_no_unicode_shows_its_bytes() -> None:
    text = write([Family("lag", GAUGE, "Lag.", [(labels(("group", "a\udcff")), 3)])], open_metrics=False)
    (family,) = parse_plain(text.decode())
    assert family.samples[0].labels == {"group": "a\\udcff"}


def test_large_figures_are_whole() -> None:
    text = write([gauge("offset", "An offset.", (1 << 63) - 1)], open_metrics=False).decode()
    assert text.splitlines()[-1] == "offset 9223372036854775807"


def test_rows_tell_what_is_so_now() -> None:
    """Whatever changed, and wherever: what was told before is not told again in its place."""
    count = 1500
    where = [labels(("row", str(row))) for row in range(count)]
    rows = Rows(where)
    figures: list[int | None] = [0] * count
    for row, figure in [(0, 1), (700, 2), (700, None), (count - 1, 3), (0, 0), (0, 0)]:
        figures[row] = figure
        doubled = [None if each is None else 2 * each for each in figures]
        page = [
            Family(name, GAUGE, "A figure.", columns=[Column(rows, list(some))])
            for name, some in {"once": figures, "twice": doubled}.items()
        ]
        wanted = [
            Family(name, GAUGE, "A figure.", [pair for pair in zip(where, some, strict=True) if pair[1] is not None])
            for name, some in {"once": figures, "twice": doubled}.items()
        ]
        assert write(page, open_metrics=False) == write(wanted, open_metrics=False)


def test_rows_without_a_figure_are_no_family() -> None:
    rows = Rows(['{a="1"}', '{a="2"}'])
    assert write([Family("none", GAUGE, "None.", columns=[Column(rows, [None, None])])], open_metrics=False) == b""
    assert write([Family("none", GAUGE, "None.", columns=[])], open_metrics=False) == b""

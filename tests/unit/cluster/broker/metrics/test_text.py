"""Figures as text: what Prometheus's own parsers read of it."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from cluster.broker.metrics.text import COUNTER, GAUGE, Family, by_label, counter, gauge, labels, write

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

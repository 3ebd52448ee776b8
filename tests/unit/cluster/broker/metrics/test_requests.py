"""Figures of requests: histograms as Prometheus reads them, and percentiles of the last minutes."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from cluster.broker.metrics.requests import WINDOW_S, Recent, quantile, request_families
from cluster.broker.metrics.text import write
from pylog._engine import FOLLOWER_FETCH, RequestTimes, time_bounds_us

BOUNDS = time_bounds_us()
PRODUCE, FETCH, METADATA = 0, 1, 3


def times(total: dict[int, int], ours: dict[int, int] | None = None, *, waited_ms: int = 0) -> RequestTimes:
    """total, ours: how many answers by the bound, in microseconds, that they did not exceed."""
    ours = total if ours is None else ours

    def buckets(counts: dict[int, int]) -> list[int]:
        return [counts.get(bound, 0) for bound in [*BOUNDS, 0]]

    count = sum(total.values())
    total_ns = sum(bound * 1000 * each for bound, each in total.items())
    return RequestTimes(
        count, 100, 50, total_ns, waited_ms * 1_000_000, count if waited_ms else 0, buckets(total), buckets(ours)
    )


def test_bounds_rise_by_two_to_an_octave() -> None:
    assert BOUNDS[:5] == [16, 24, 32, 48, 64] and BOUNDS[-1] == 1 << 24
    assert all(later == 2 * earlier for earlier, later in zip(BOUNDS, BOUNDS[2:], strict=False))


@pytest.mark.parametrize("open_metrics", [False, True])
def test_histograms(open_metrics: bool) -> None:
    told = {
        PRODUCE: times({16: 3, 96: 2}),
        FETCH: times({1 << 19: 4}, {24: 4}, waited_ms=2000),
        FOLLOWER_FETCH: times({32: 1}),
        METADATA: times({64: 7}),
    }
    text = write(request_families(told), open_metrics=open_metrics).decode()
    families = {family.name: family for family in (parse_open if open_metrics else parse_plain)(text)}
    samples = {
        (sample.name, sample.labels["request"], sample.labels.get("le")): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert families["pylog_request_seconds"].type == "histogram"
    assert samples["pylog_request_seconds_bucket", "Produce", "0.000016"] == 3
    assert samples["pylog_request_seconds_bucket", "Produce", "0.000064"] == 3
    assert samples["pylog_request_seconds_bucket", "Produce", "0.000096"] == 5
    assert samples["pylog_request_seconds_bucket", "Produce", "+Inf"] == 5
    assert samples["pylog_request_seconds_count", "Produce", None] == 5
    assert samples["pylog_request_seconds_sum", "Produce", None] == pytest.approx(0.00024)
    assert samples["pylog_request_own_seconds_bucket", "FetchConsumer", "0.000024"] == 4
    assert samples["pylog_request_own_seconds_sum", "FetchConsumer", None] == pytest.approx(4 * 0.524288 - 2)
    assert samples["pylog_request_wait_seconds_total", "FetchConsumer", None] == 2
    assert samples["pylog_requests_waited_total", "FetchConsumer", None] == 4
    assert samples["pylog_requests_waited_total", "Produce", None] == 0
    assert ("pylog_request_own_seconds_count", "Metadata", None) not in samples  # it waits for nothing
    requests = {key[1]: value for key, value in samples.items() if key[0].startswith("kafka_network")}
    assert requests == {"Produce": 5, "FetchConsumer": 4, "FetchFollower": 1, "Fetch": 5, "Metadata": 7}


def test_a_quantile_is_on_a_line_between_bounds() -> None:
    counts = times({16: 50, 32: 50}).total
    assert quantile(BOUNDS, counts, 0.25) == 8
    assert quantile(BOUNDS, counts, 0.5) == 16
    assert quantile(BOUNDS, counts, 0.75) == 28  # those of the second half are between 24 and 32
    assert quantile(BOUNDS, counts, 1.0) == 32
    beyond = [0] * len(BOUNDS) + [5]
    assert quantile(BOUNDS, beyond, 0.5) == 1 << 24


def quantiles(recent: Recent, told: dict[int, RequestTimes], now_s: float) -> dict[str, float]:
    """0.99, by request."""
    text = write([recent.family(told, now_s)], open_metrics=False).decode()
    found = {}
    for family in parse_plain(text):
        for sample in family.samples:
            if sample.labels["quantile"] == "0.99":
                found[sample.labels["request"]] = sample.value
    return found


def test_what_is_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    recent = Recent()
    slow, fast = {1 << 20: 1000}, {1 << 20: 1000, 16: 1}
    assert quantiles(recent, {PRODUCE: times(slow)}, 1010.0)["Produce"] > 786
    assert quantiles(recent, {PRODUCE: times(slow)}, 1060.0)["Produce"] > 786
    assert quantiles(recent, {PRODUCE: times(slow)}, 1060.0 + WINDOW_S - 1)["Produce"] > 786
    assert quantiles(recent, {PRODUCE: times(slow)}, 1060.0 + WINDOW_S) == {}  # nothing was answered since
    assert quantiles(recent, {PRODUCE: times(fast)}, 1070.0 + WINDOW_S) == {"Produce": pytest.approx(0.016, abs=0.001)}


def test_fetch_is_told_together_and_apart() -> None:
    told = {FETCH: times({16: 99}), FOLLOWER_FETCH: times({1 << 20: 99})}
    found = quantiles(Recent(), told, 0.0)
    assert found["FetchConsumer"] < 1 < found["FetchFollower"] == pytest.approx(found["Fetch"], rel=0.05)

"""Figures of requests: how many came, how long they took, and how much of that was waiting that they asked for.

What stays true:
- a request is of one kind, so that sums over the label are right; Kafka's own names have Fetch twice, as Kafka has it:
  all of it, and told apart who fetches;
- percentiles under Kafka's name are of the last WINDOW_S, and as much more as lies between scrapes: Kafka forgets too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from cluster.broker.metrics.text import COUNTER, GAUGE, HISTOGRAM, Family, by_label, inner
from cluster.protocol.api_keys import ApiKey
from pylog._engine import FOLLOWER_FETCH, time_bounds_us
from pylog.facts import NamedTuple
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pylog._engine import RequestTimes

WINDOW_S: Final = 300.0
_REMEMBER_EACH_S: Final = 30.0
#: As the JMX exporter shows Kafka's.
_QUANTILES: Final = (("0.50", 0.5), ("0.75", 0.75), ("0.95", 0.95), ("0.98", 0.98), ("0.99", 0.99), ("0.999", 0.999))
_FETCH: Final = int(ApiKey.FETCH)
_NAMES: Final = {int(key): key.name.title().replace("_", "") for key in ApiKey} | {
    _FETCH: "FetchConsumer",
    FOLLOWER_FETCH: "FetchFollower",
}
#: Of these it is told without the wait, whether or not any has waited yet; of others when one has.
_MAY_WAIT: Final = frozenset((int(ApiKey.PRODUCE), _FETCH, FOLLOWER_FETCH, int(ApiKey.OFFSET_COMMIT)))

Buckets = Sequence[int]


def request_families(times: Mapping[int, RequestTimes]) -> list[Family]:
    """times: by kind."""
    known = {_NAMES[kind]: each for kind, each in times.items() if kind in _NAMES}
    counts = {name: each.requests for name, each in known.items()}
    fetches = sum(times[kind].requests for kind in (_FETCH, FOLLOWER_FETCH) if kind in times)
    waiting = {_NAMES[kind]: times[kind] for kind in times if kind in _NAMES and may_wait(kind, times[kind])}
    bounds = time_bounds_us()
    return [
        by_label(
            "kafka_network_requestmetrics_requests",
            COUNTER,
            "Requests by what they ask for; Fetch is FetchConsumer and FetchFollower.",
            "request",
            counts | {"Fetch": fetches} if fetches else counts,
        ),
        by_label(
            "pylog_request_bytes",
            COUNTER,
            "Bytes of requests.",
            "request",
            {name: each.bytes_in for name, each in known.items()},
        ),
        by_label(
            "pylog_response_bytes",
            COUNTER,
            "Bytes of their answers.",
            "request",
            {name: each.bytes_out for name, each in known.items()},
        ),
        Family(
            "pylog_request_seconds",
            HISTOGRAM,
            "From when a request was there until the kernel had its answer.",
            _histograms(bounds, [(name, each.total, each.total_ns) for name, each in known.items()]),
        ),
        Family(
            "pylog_request_own_seconds",
            HISTOGRAM,
            "The same without what the request waited for by intention, of those that may.",
            _histograms(bounds, [(name, each.ours, each.total_ns - each.waited_ns) for name, each in waiting.items()]),
        ),
        by_label(
            "pylog_request_wait_seconds",
            COUNTER,
            "What requests waited for by intention: records, the high watermark, the disk, the members of a group.",
            "request",
            {name: each.waited_ns / 1e9 for name, each in waiting.items()},
        ),
        by_label(
            "pylog_requests_waited",
            COUNTER,
            "How many of them did.",
            "request",
            {name: each.waited for name, each in waiting.items()},
        ),
    ]


def may_wait(kind: int, times: RequestTimes) -> bool:
    return kind in _MAY_WAIT or times.waited > 0


def _histograms(bounds_us: Sequence[int], kinds: Iterable[tuple[str, Buckets, int]]) -> list[tuple[str, int | float]]:
    """kinds: name, counts, the sum in nanoseconds."""
    bounds = [f"{bound / 1e6:.6f}".rstrip("0") for bound in bounds_us] + ["+Inf"]
    samples: list[tuple[str, int | float]] = []
    for name, counts, sum_ns in kinds:
        which = inner(("request", name))
        so_far = 0
        for bound, count in zip(bounds, counts, strict=True):
            so_far += count
            samples.append((f'_bucket{{{which},le="{bound}"}}', so_far))
        samples.append((f"_sum{{{which}}}", sum_ns / 1e9))
        samples.append((f"_count{{{which}}}", so_far))
    return samples


class _Remembered(NamedTuple):
    at_s: float
    counts: dict[int, Buckets]


class Recent:
    """How long requests took lately. One thread."""

    def __init__(self) -> None:
        self._known = [_Remembered(time.monotonic(), {})]

    def family(self, times: Mapping[int, RequestTimes], now_s: float) -> Family:
        """Kinds of which none was answered lately are not there."""
        while len(self._known) > 1 and now_s - self._known[1].at_s >= WINDOW_S:
            del self._known[0]
        before = self._known[0].counts
        bounds = time_bounds_us()
        samples: list[tuple[str, int | float]] = []
        lately = {kind: _less(each.total, before.get(kind)) for kind, each in times.items() if kind in _NAMES}
        named = [(_NAMES[kind], counts) for kind, counts in lately.items()]
        fetches = [lately[kind] for kind in (_FETCH, FOLLOWER_FETCH) if kind in lately]
        if fetches:
            named.append(("Fetch", [sum(counts) for counts in zip(*fetches, strict=True)]))
        for name, counts in named:
            if any(counts):
                which = inner(("request", name))
                samples += [
                    (f'{{{which},quantile="{label}"}}', round(quantile(bounds, counts, share) / 1000, 3))
                    for label, share in _QUANTILES
                ]
        if now_s - self._known[-1].at_s >= _REMEMBER_EACH_S:
            self._known.append(_Remembered(now_s, {kind: each.total for kind, each in times.items()}))
        return Family(
            "kafka_network_requestmetrics_totaltimems",
            GAUGE,
            "Milliseconds from when a request was there until the kernel had its answer, in the last five minutes.",
            samples,
        )


def _less(counts: Buckets, before: Buckets | None) -> Buckets:
    return counts if before is None else [now - then for now, then in zip(counts, before, strict=True)]


def quantile(bounds_us: Sequence[int], counts: Buckets, share: float) -> float:
    """Microseconds that this share of requests did not exceed, on a line between bounds; at most the last of these."""
    rank = share * sum(counts)
    lower, below = 0, 0
    for upper, count in zip(bounds_us, counts, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        lower, below = upper, below + count
    return bounds_us[-1]

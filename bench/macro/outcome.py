"""One row of a comparison with Kafka: the figures of both sides, and how they are told."""

from bench.macro.side import Figures

# What a row of librdkafka says beside its figure, for a record where it is CPU.
PRODUCER_DETAILS = {"broker_us": "broker µs", "client_us": "client µs", "per_request": "records a request"}


class Outcome:
    """One row: the figures of both sides by round, and how they compare. `target`: how many times better than Kafka's
    ours is to be; if it is absolute, what ours is to be at most."""

    def __init__(
        self, name: str, unit: str, target: float, *, more_is_better: bool = False, is_absolute: bool = False
    ) -> None:
        self.name = name
        self.unit = unit
        self.target = target
        self.more_is_better = more_is_better
        self.is_absolute = is_absolute
        self.figures: dict[str, list[float]] = {"pylog": [], "kafka": []}
        self.details: dict[str, list[Figures]] = {"pylog": [], "kafka": []}

    def add(self, name: str, figure: float, details: Figures | None = None) -> None:
        self.figures[name].append(figure)
        self.details[name].append(details or {})

    def best(self, name: str) -> float:
        """Of the rounds: what disturbs a machine only ever adds to CPU and time, on either side."""
        return (max if self.more_is_better else min)(self.figures[name])

    def spread(self, name: str) -> float:
        """Largest over smallest."""
        return max(self.figures[name]) / max(min(self.figures[name]), 1e-9)

    def ratio(self) -> float:
        """How many times better ours is."""
        ours, kafka = self.best("pylog"), self.best("kafka")
        return ours / kafka if self.more_is_better else kafka / max(ours, 1e-9)

    def detail(self, name: str, key: str) -> float | None:
        values = [entry[key] for entry in self.details[name] if key in entry]
        if not values:
            return None
        return max(values) if key == "rate" else min(values)

    def wall_ratio(self) -> float | None:
        ours, kafka = self.detail("pylog", "rate"), self.detail("kafka", "rate")
        return ours / kafka if ours and kafka else None

    def met(self) -> bool:
        if self.is_absolute:
            return self.best("pylog") <= self.target
        wall = self.wall_ratio()
        return self.ratio() >= self.target and (wall is None or wall >= 1)

    def line(self) -> str:
        goal = f"≤ {self.target:g} {self.unit}" if self.is_absolute else f"≥ {self.target:g}×"
        text = f"{self.name:46} {self.best('pylog'):10.3g} {self.best('kafka'):10.3g} {self.unit:10}"
        text += f" {self.ratio():7.2f}× {goal:10} {'met' if self.met() else 'MISSED':6}"
        wall = self.wall_ratio()
        if wall is not None:
            text += f"  wall {wall:.2f}×"
        ours, kafka = self.detail("pylog", "broker_cpu_ms"), self.detail("kafka", "broker_cpu_ms")
        if ours and kafka:
            text += f"  CPU {ours:.3g}/{kafka:.3g} ms, {kafka / ours:.2f}×"
        for key in ("p50_us", "p99_us"):
            ours, kafka = self.detail("pylog", key), self.detail("kafka", key)
            if ours is not None and kafka is not None:
                text += f"  {key[:3]} {ours:.0f}/{kafka:.0f} µs"
        for key, words in PRODUCER_DETAILS.items():
            ours, kafka = self.detail("pylog", key), self.detail("kafka", key)
            if ours is not None and kafka is not None:
                text += f"  {words} {ours:.3g}/{kafka:.3g}"
        return text

    def record(self) -> dict[str, object]:
        keys = (
            "rate",
            "p50_us",
            "p90_us",
            "p99_us",
            "p999_us",
            "seconds",
            "broker_cpu_seconds",
            "broker_cpu_ms",
            *PRODUCER_DETAILS,
        )
        details = {name: {key: self.detail(name, key) for key in keys} for name in self.details}
        return {
            "row": self.name,
            "unit": self.unit,
            "target": self.target,
            "met": self.met(),
            "pylog": self.best("pylog"),
            "kafka": self.best("kafka"),
            "ratio": self.ratio(),
            "spread": {name: self.spread(name) for name in self.figures},
            "details": details,
        }

"""Lives of transactions: two producers that write, commit offsets of a live group, end, fence one another and ask
again, rightly and wrongly, and everything that an administrator may ask about them.

What stays true: what a broker carries on after its answer is waited for (`ended`, `stable`), so that no answer depends
on how soon it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.differential.offsets import OffsetScript
from tests.differential.scripts import Ranges
from tests.differential.session import Session, ask, batches, placeholder
from tests.differential.values import T0

_SOON = [14, 15, 16]  # what is said while a coordinator is not there yet
#: Above these versions a producer means the transactions of Kafka 4 (KIP-890), which 3.9 has not.
_LAST_OLD = {"Produce": 11, "TxnOffsetCommit": 4, "EndTxn": 4}
_ENDED_WITH_EPOCH = 5  # of EndTxn: the answer says which epoch to go on with
_TOPIC_IDS_SINCE = 13  # of Produce
_STATES = ("Ongoing", "Empty", "CompleteCommit", "CompleteAbort", "PrepareCommit", "Dead", "ongoing", "Nonsense", "")


class TransactionScript(OffsetScript):
    """Builds one session."""

    def __init__(self, seed: int, prefix: str, ranges: Ranges) -> None:
        super().__init__(seed, prefix, ranges)
        self.sequences = {"x": 0, "y": 0}
        #: Which transactions the producers mean; what is odd about "mixed" is that a producer changes its mind.
        of_4 = ranges["EndTxn"][1] >= _ENDED_WITH_EPOCH
        self.style = self.random.choice(["old", "new", "new", "mixed"]) if of_4 else "old"

    def build(self) -> Session:
        topics = [{"name": name, "num_partitions": 2, "replication_factor": 1} for name in self.world.topics]
        self.steps.append(ask("CreateTopics", 7, {"topics": topics, "timeout_ms": 15_000}))
        self.steps.append(ask("FindCoordinator", 2, {"key": self.named("x"), "key_type": 1}, again=_SOON))
        if self.chance(0.5):
            self.enter()
        self.init("x")
        doing: list[Callable[[str], None]] = [
            *[self.whole] * 3,
            *[self.add_partitions] * 3,
            *[self.produce] * 3,
            *[self.add_offsets] * 2,
            *[self.commit_within] * 3,
            *[self.end] * 2,
            *[self.init] * 2,
            *[self.ask_about] * 4,
            *[self.of_the_group] * 2,
        ]
        for _ in range(self.random.randint(20, 30)):
            self.random.choice(doing)(self.random.choice(["x", "x", "y"]))
        for label in ("x", "y"):
            self.init(label)
            self.settle(label)
        self.describe_producers()
        self.everything()
        self.add("ListTransactions", 0, {})
        return self.steps

    # ------------------------------------------------------------------------------------------------- pieces

    def named(self, label: str) -> str:
        return f"{self.world.prefix}-{label}"

    def spoken(self, api: str, low: int = 0) -> int:
        """A version of one of those APIs by which a producer says which transactions it means."""
        last = _LAST_OLD[api]
        style = self.random.choice(["old", "new"]) if self.style == "mixed" else self.style
        return self.version(api, low, last) if style == "old" else self.version(api, last + 1)

    def producer(self, label: str, odd: bool) -> dict[str, Any]:
        """Who it says it is; odd: with another epoch or id, or one that another has."""
        wrong = self.random.choice(["epoch", "epoch", "id", "owner", "name"]) if odd else ""
        epoch = {"add": self.random.choice([1, -1, 7])} if wrong == "epoch" else {}
        other = {"x": "y", "y": "x"}[label] if wrong == "owner" else label
        number: Any = placeholder("producer", other, **({"add": 3_000_000} if wrong == "id" else {}))
        name = self.random.choice([self.named("never"), ""]) if wrong == "name" else self.named(label)
        return {"transactional_id": name, "producer_id": number, "producer_epoch": placeholder("epoch", label, **epoch)}

    def settle(self, label: str) -> None:
        self.steps.append({"ended": self.named(label)})
        ids = [self.named("x"), self.named("y")]
        self.steps.append({"stable": self.group, "topics": self.world.topics, "ids": ids})

    # ------------------------------------------------------------------------------------------------- the producer

    def init(self, label: str) -> None:
        """Mostly as a producer that starts; sometimes with what it has, or had (KIP-360), or what nobody has."""
        version = self.version("InitProducerId")
        body: dict[str, Any] = {"transactional_id": self.named(label), "transaction_timeout_ms": 60_000}
        kind = self.random.choice(["new", "new", "known", "known", "odd"])
        if version >= 3 and kind != "new":
            step = self.random.choice([0, 0, 0, -1, 1, 5]) if kind == "odd" else 0
            body["producer_id"] = placeholder("producer", label)
            body["producer_epoch"] = placeholder("epoch", label, add=step)
        if kind == "odd" and self.chance(0.7):
            self.wrong_init(body)
        self.add("InitProducerId", version, body, save=label, keep=True, again=_SOON)
        self.sequences[label] = 0
        self.settle(label)
        if self.chance(0.5):  # whoever fenced somebody is told to come again
            self.add("InitProducerId", version, body, save=label, keep=True, again=_SOON)
            self.settle(label)

    def wrong_init(self, body: dict[str, Any]) -> None:
        changes: list[dict[str, Any]] = [
            {"transaction_timeout_ms": 0},
            {"transaction_timeout_ms": -1},
            {"transaction_timeout_ms": 900_000},
            {"transaction_timeout_ms": 900_001},
            {"transactional_id": ""},
            {"transactional_id": None},
        ]
        if "producer_id" in body:
            changes += [
                {"producer_id": -1},
                {"producer_id": -2},
                {"producer_id": 4_000_000},
                {"producer_epoch": -1},
                {"producer_epoch": -2},
                {"producer_epoch": 32_767},
            ]
        body |= self.random.choice(changes)

    def add_partitions(self, label: str, odd: bool | None = None) -> None:
        odd = self.chance(0.3) if odd is None else odd
        if self.chance(0.15):
            self.add_for_many(label)
            return
        owner = self.producer(label, odd and self.chance(0.7))
        body = {f"v3_and_below_{key}": value for key, value in owner.items()}
        body["v3_and_below_topics"] = self.wanted(odd)
        self.add("AddPartitionsToTxn", self.version("AddPartitionsToTxn", 0, 3), body)

    def wanted(self, odd: bool) -> list[dict[str, Any]]:
        names = [*self.world.topics, "nope", "__consumer_offsets"] if odd else self.world.topics
        parts = [0, 1, 7] if odd and self.chance(0.5) else [0, 1]
        return [
            {"name": name, "partitions": [*dict.fromkeys(self.some(parts, 1, 2))]}
            for name in dict.fromkeys(self.some(names, 0 if odd else 1, 2))
        ]

    def add_for_many(self, label: str) -> None:
        """As a broker asks for producers, to add or only to see whether it is added."""
        version = self.version("AddPartitionsToTxn", 4)
        transactions = [
            {**self.producer(each, self.chance(0.2)), "verify_only": self.chance(0.6), "topics": self.wanted(False)}
            for each in dict.fromkeys([label, *self.random.sample(["x", "y"], 1)])
        ]
        named = {each["transactional_id"]: each for each in transactions}
        self.add("AddPartitionsToTxn", version, {"transactions": [*named.values()]})

    def produce(self, label: str, odd: bool | None = None) -> None:
        """To a partition that may have been added. The sequence goes on where the script believes it stands."""
        odd = self.chance(0.25) if odd is None else odd
        version = self.spoken("Produce", 3)
        epoch = placeholder("epoch", label, add=self.random.choice([0, 0, 1, -1]) if odd else 0)
        sequence = self.sequences[label] + (self.random.choice([0, 1, -1]) if odd else 0)
        if version > _LAST_OLD["Produce"]:
            # Kafka remembers the lowest that was asked about beyond the marker that came between.
            sequence = max(0, sequence)
        attributes = 0 if odd and self.chance(0.2) else 0x10
        spec = {
            "records": [["k", "v"]],
            "timestamp": T0,
            "attributes": attributes,
            "producer": [label, epoch, sequence],
        }
        part = {"index": 0, "records": batches(spec)}
        topic_name = self.world.topics[0 if label == "x" else 1]
        known = {"name": topic_name}
        if version >= _TOPIC_IDS_SINCE:
            known = {"topic_id": placeholder("topic_id", topic_name)}
        topic = {**known, "partition_data": [part]}
        name = self.random.choice([None, self.named("never"), ""]) if odd and self.chance(0.2) else self.named(label)
        body = {"transactional_id": name, "acks": -1, "timeout_ms": 5_000, "topic_data": [topic]}
        self.add("Produce", version, body)
        self.sequences[label] += 0 if odd else 1

    def add_offsets(self, label: str, odd: bool | None = None) -> None:
        odd = self.chance(0.3) if odd is None else odd
        group = self.any_group() if odd else self.group
        self.add("AddOffsetsToTxn", self.version("AddOffsetsToTxn"), {**self.producer(label, odd), "group_id": group})

    def commit_within(self, label: str, odd: bool | None = None) -> None:
        odd = self.chance(0.4) if odd is None else odd
        version = self.spoken("TxnOffsetCommit")
        owner = self.producer(label, odd and self.chance(0.4))
        who: dict[str, Any] = {}
        if version >= 3 and self.chance(0.6):
            who = self.who(static=True, odd=odd) | {"generation_id": self.generation(odd=odd)}
        group = self.any_group() if odd and self.chance(0.3) else self.group
        # Which of the topics exist 3.9 says also to who names no group at all.
        some = bool(group) and odd and self.chance(0.5)
        topics = self.topics(version, odd=some, by_id_since=99, epochs_since=2)
        self.add("TxnOffsetCommit", version, {**owner, **who, "group_id": group, "topics": topics})
        if self.chance(0.5):
            self.fetch()

    def end(self, label: str, odd: bool | None = None) -> None:
        odd = self.chance(0.3) if odd is None else odd
        version = self.spoken("EndTxn")
        body = {**self.producer(label, odd), "committed": self.chance(0.6)}
        bumps = version >= _ENDED_WITH_EPOCH
        heard = not odd and bumps and self.chance(0.8)
        self.add("EndTxn", version, body, **({"save": label, "keep": True} if heard else {}))
        self.settle(label)
        if self.chance(0.3):  # the answer was lost, or another end is wanted
            again = {**body, "committed": body["committed"] != self.chance(0.5)}
            self.add("EndTxn", version, again, **({"save": label, "keep": True} if bumps and not odd else {}))
            self.settle(label)
        if bumps and not odd:
            self.sequences[label] = 0

    def whole(self, label: str) -> None:
        """A transaction as producers make it, with questions meanwhile."""
        old = self.style == "old"  # later ones need not announce what they write to
        if old or self.chance(0.1):
            self.add_partitions(label, odd=False)
        self.produce(label, odd=False)
        if self.chance(0.6):
            if old or self.chance(0.1):
                self.add_offsets(label, odd=False)
            self.commit_within(label, odd=False)
        self.ask_about(label)
        self.end(label, odd=False)

    # ------------------------------------------------------------------------------------------------- questions

    def of_the_group(self, label: str) -> None:
        self.random.choice([self.commit, self.fetch, self.fetch, self.live, self.look])()

    def ask_about(self, label: str) -> None:
        self.random.choice([self.describe_transactions, self.list_transactions, self.describe_producers])()

    def describe_transactions(self) -> None:
        names = self.some([self.named("x"), self.named("x"), self.named("y"), self.named("never"), ""], 0, 3)
        self.add("DescribeTransactions", 0, {"transactional_ids": [*dict.fromkeys(names)]})

    def list_transactions(self) -> None:
        version = self.version("ListTransactions")
        ids: list[Any] = [placeholder("producer", "x"), placeholder("producer", "y"), 4_000_000, -1]
        body: dict[str, Any] = {
            "state_filters": [*dict.fromkeys(self.some(_STATES, 0, 2))],
            "producer_id_filters": self.some(ids, 0, 2),
        }
        body |= {"duration_filter": self.random.choice([-1, -1, 0, 3_600_000, -5])} if version >= 1 else {}
        if version >= 2:
            body["transactional_id_pattern"] = self.random.choice([None, "", ".*-x", "never", "("])
        self.add("ListTransactions", version, body)

    def describe_producers(self) -> None:
        topics = [
            {"name": name, "partition_indexes": [*dict.fromkeys(self.some([0, 0, 1, 7, -1], 1, 3))]}
            for name in dict.fromkeys(self.some([*self.world.topics, *self.world.topics, "nope", ""], 1, 3))
        ]
        self.add("DescribeProducers", 0, {"topics": topics})

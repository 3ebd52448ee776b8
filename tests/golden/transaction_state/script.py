"""Commands to a transaction coordinator, spoken to Apache Kafka when its answers were captured, and to ours since.

    init NAME vN [timeout=MS] [as=WHO[+-E]]     `as`: with the producer id and epoch that WHO was told last (KIP-360)
    add|verify NAME vN TOPIC-N ... [as=WHO]     `NAME-`: with an epoch one lower than NAME was told; `NAME+`: higher
    offsets NAME vN GROUP [as=WHO]
    end NAME vN commit|abort [as=WHO]
    settle NAME                                 wait until no end is prepared any more
    until NAME STATE                            wait until its transaction is in this state
    gone NAME ...                               wait until nobody knows of these any more
    exhaust NAME                                begin anew until there is no epoch left but one
    describe NAME | list vN [states=A,B] [of=NAME,...] [older=MS] [pattern=P]

The transactional id is NAME up to a dot: `a.2` is another producer that uses the id `a`. Producer ids are told as P0,
P1 and so on in the order of their first appearance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from cluster.protocol import messages as m
from cluster.protocol.message import Message
from pylog.errors import ErrorCode
from tests.transcripts.transaction_driver import add_request, end_request, init_request

Response = TypeVar("Response", bound=Message)
LAST_EPOCH = 32_766


class World(Protocol):
    def ask(self, request: Message, version: int, kind: type[Response]) -> Response: ...

    def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until the condition holds."""

    def exhaust(self, init: Callable[[], tuple[int, int]], transactional_id: str) -> None:
        """Use up the epochs of an id, by `init` or otherwise."""


class Script:
    def __init__(self, world: World) -> None:
        self.world = world
        self.known: dict[str, tuple[int, int]] = {}
        self.names: dict[int, str] = {-1: "-"}

    def say(self, command: str) -> str:
        verb, *words = command.split()
        told: str = getattr(self, "do_" + verb)(*words)
        return told

    def name(self, producer_id: int) -> str:
        return self.names.setdefault(producer_id, f"P{len(self.names) - 1}")

    def producer(self, name: str, words: list[str]) -> tuple[int, int]:
        """Whose id and epoch a request carries; the words lose it."""
        for word in words:
            if word.startswith("as="):
                words.remove(word)
                name = word[3:]
        shift = {"-": -1, "+": 1}.get(name[-1], 0)
        producer_id, epoch = self.known[name.rstrip("+-")]
        return producer_id, epoch + shift

    def do_init(self, name: str, version: str, *words: str) -> str:
        options = dict(word.split("=", 1) for word in words)
        known = self.producer(name, [f"as={options['as']}"]) if "as" in options else (-1, -1)
        request = init_request(_id(name), timeout_ms=int(options.get("timeout", 60_000)), known=known)
        answer = self.world.ask(request, _version(version), m.InitProducerIdResponse)
        if not answer.error_code:
            self.known[name] = answer.producer_id, answer.producer_epoch
        return f"{_error(answer.error_code)} {self.name(answer.producer_id)} {answer.producer_epoch}"

    def do_add(self, name: str, version: str, *words: str, verify: bool = False) -> str:
        rest = list(words)
        producer = self.producer(name, rest)
        partitions = [(topic, int(number)) for topic, _, number in (word.rpartition("-") for word in rest)]
        request = add_request(_id(name), producer, partitions, _version(version), verify=verify)
        answer = self.world.ask(request, _version(version), m.AddPartitionsToTxnResponse)
        topics = [
            *answer.results_by_topic_v3_and_below,
            *(topic for result in answer.results_by_transaction for topic in result.topic_results),
        ]
        told = sorted(
            f"{topic.name}-{each.partition_index}={_error(each.partition_error_code)}"
            for topic in topics
            for each in topic.results_by_partition
        )
        return " ".join([_error(answer.error_code), *told])

    def do_verify(self, name: str, version: str, *words: str) -> str:
        return self.do_add(name, version, *words, verify=True)

    def do_offsets(self, name: str, version: str, *words: str) -> str:
        rest = list(words)
        producer_id, epoch = self.producer(name, rest)
        request = m.AddOffsetsToTxnRequest(
            transactional_id=_id(name), producer_id=producer_id, producer_epoch=epoch, group_id=rest[0]
        )
        return _error(self.world.ask(request, _version(version), m.AddOffsetsToTxnResponse).error_code)

    def do_end(self, name: str, version: str, how: str, *words: str) -> str:
        request = end_request(_id(name), self.producer(name, list(words)), commit=how == "commit")
        answer = self.world.ask(request, _version(version), m.EndTxnResponse)
        if not answer.error_code and answer.producer_id != -1:
            self.known[name] = answer.producer_id, answer.producer_epoch
        return f"{_error(answer.error_code)} {self.name(answer.producer_id)} {answer.producer_epoch}"

    def do_settle(self, name: str) -> str:
        self.world.until(lambda: not self._described(name).transaction_state.startswith("Prepare"))
        return self._described(name).transaction_state

    def do_until(self, name: str, state: str) -> str:
        self.world.until(lambda: self._described(name).transaction_state == state)
        return "there"

    def do_gone(self, *names: str) -> str:
        unknown = ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
        self.world.until(lambda: all(self._described(name).error_code == unknown for name in names))
        return "gone"

    def do_exhaust(self, name: str) -> str:
        def init() -> tuple[int, int]:
            answer = self.world.ask(init_request(_id(name)), 4, m.InitProducerIdResponse)
            assert not answer.error_code, ErrorCode(answer.error_code)
            return answer.producer_id, answer.producer_epoch

        self.world.exhaust(init, _id(name))
        self.known[name] = self.known[name][0], LAST_EPOCH
        return "exhausted"

    def do_describe(self, name: str) -> str:
        state = self._described(name)
        partitions = sorted(f"{topic.topic}-{each}" for topic in state.topics for each in topic.partitions)
        start = "-" if state.transaction_start_time_ms in (-1, 0) else "begun"
        return " ".join(
            [
                _error(state.error_code),
                state.transaction_state or "-",
                self.name(state.producer_id) if state.transaction_state else "-",
                str(state.producer_epoch),
                str(state.transaction_timeout_ms),
                start,
                *partitions,
            ]
        )

    def do_list(self, version: str, *words: str) -> str:
        options = dict(word.split("=", 1) for word in words)
        request = m.ListTransactionsRequest(
            state_filters=options["states"].split(",") if "states" in options else [],
            producer_id_filters=[self.known[name][0] for name in options["of"].split(",")] if "of" in options else [],
            duration_filter=int(options.get("older", -1)),
            transactional_id_pattern=options.get("pattern"),
        )
        answer = self.world.ask(request, _version(version), m.ListTransactionsResponse)
        found = sorted(
            f"{each.transactional_id}={each.transaction_state}/{self.name(each.producer_id)}"
            for each in answer.transaction_states
        )
        unknown = ["unknown:" + ",".join(sorted(answer.unknown_state_filters))] if answer.unknown_state_filters else []
        return " ".join([_error(answer.error_code), *found, *unknown])

    def _described(self, name: str) -> m.DescribeTransactionsResponse.TransactionState:
        request = m.DescribeTransactionsRequest(transactional_ids=[_id(name)])
        (state,) = self.world.ask(request, 0, m.DescribeTransactionsResponse).transaction_states
        return state


def _id(name: str) -> str:
    return "" if name == "-" else name.split(".")[0]


def _version(word: str) -> int:
    assert word[0] == "v"
    return int(word[1:])


def _error(code: int) -> str:
    return ErrorCode(code).name

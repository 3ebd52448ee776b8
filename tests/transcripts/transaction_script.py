"""Speaks the commands of the transaction transcripts to a driven coordinator, and tells its effects in words.

    init WHO [timeout=MS] [version=N] [known] [unheard]   `known`: with the producer id and epoch that WHO has;
                                       `unheard`: WHO does not get the answer, here and below
    add WHO TOPIC-N ... [version=N]             verify WHO TOPIC-N ...: as a broker asks
    offsets WHO GROUP
    commit WHO [version=N] [unheard] | abort WHO [version=N] [unheard]
    describe ID
    advance MS
    markers hold|write                 `hold`: keep those asked for; `write`: write what is held, and all from now on
    markers CODE                       answer what is held with this error
    ids hold|give|CODE                 the same for producer ids
    replication off|on                 whether appends commit at once; `on` commits what is there
    disk CODE|ok                       what appends fail with
    epochs ID N                        the id has used up the epochs up to this one: its record says so
    version N                          the transaction version of the cluster, from the next failover on
    failover [cut] | elected | unload | load

WHO is a producer; its transactional id is its name up to a dot: `a.2` is another one that uses the id `a`. Times are
told as `+ms` from when they are set.
"""

from __future__ import annotations

from cluster.coordinator.questions import NewProducerId, WriteMarkers
from cluster.coordinator.runtime import AskKey, TimerKey
from cluster.coordinator.transaction_records import TransactionStored, decode, encode
from cluster.coordinator.transaction_state import name_of
from cluster.effects import Append, Ask, CancelAsk, CancelTimer, Effect, Note, Reply, SetTimer, Shard
from cluster.protocol import messages as m
from pylog.errors import ErrorCode
from tests.transcripts.transaction_driver import STATE, Driver, add_request, added, end_request, init_request


class TransactionScript:
    def __init__(self) -> None:
        self.driver = Driver()
        self.forget_effects()
        self.producers: dict[str, tuple[int, int]] = {}
        self.unheard: set[int] = set()
        self.requests = 0

    def say(self, command: str) -> list[str]:
        verb, *words = command.split()
        answer = getattr(self, "do_" + verb)(*words)
        lines = [self.tell(*each) for each in zip(self.driver.seen, self.driver.seen_ms, strict=True)]
        self.forget_effects()
        if answer is not None:
            lines.append(answer)
        return [line for line in lines if line] or ["nothing"]

    # Commands -----------------------------------------------------------------------------------------------------

    def do_init(self, who: str, *words: str) -> None:
        options = dict(word.split("=", 1) for word in words if "=" in word)
        known = self.producers[who] if "known" in words else (-1, -1)
        request = init_request(_id(who), timeout_ms=int(options.get("timeout", 60_000)), known=known)
        self.driver.send(self.name(who, words), request, int(options.get("version", 4)))

    def do_add(self, who: str, *words: str, verify: bool = False) -> None:
        options, names = _options(words)
        partitions = [(topic, int(number)) for topic, _, number in (name.rpartition("-") for name in names)]
        version = int(options.get("version", 4 if verify else 3))
        request = add_request(_id(who), self.producers[who], partitions, version, verify=verify)
        self.driver.send(self.name(who), request, version)

    def do_verify(self, who: str, *words: str) -> None:
        self.do_add(who, *words, verify=True)

    def do_offsets(self, who: str, group: str) -> None:
        producer_id, epoch = self.producers[who]
        request = m.AddOffsetsToTxnRequest(
            transactional_id=_id(who), producer_id=producer_id, producer_epoch=epoch, group_id=group
        )
        self.driver.send(self.name(who), request, 3)

    def do_commit(self, who: str, *words: str, commit: bool = True) -> None:
        options, _ = _options(words)
        request = end_request(_id(who), self.producers[who], commit=commit)
        self.driver.send(self.name(who, words), request, int(options.get("version", 3)))

    def do_abort(self, who: str, *words: str) -> None:
        self.do_commit(who, *words, commit=False)

    def do_describe(self, transactional_id: str) -> str:
        state = self.driver.describe(transactional_id)
        self.forget_effects()
        if state.error_code:
            return ErrorCode(state.error_code).name
        partitions = "".join(f" {topic.topic}-{each}" for topic in state.topics for each in topic.partitions)
        return f"{state.transaction_state} producer={state.producer_id}/{state.producer_epoch}{partitions}"

    def do_advance(self, ms: str) -> None:
        self.driver.advance(int(ms))

    def do_markers(self, how: str) -> None:
        self.answer(WriteMarkers, how)

    def do_ids(self, how: str) -> None:
        self.answer(NewProducerId, how)

    def answer(self, kind: type[WriteMarkers] | type[NewProducerId], how: str) -> None:
        driver = self.driver
        if how in ("hold", "write", "give"):
            if kind is WriteMarkers:
                driver.marks = how == "write"
            else:
                driver.gives_ids = how == "give"
            driver.answer_questions()
            return
        for key in [key for key, question in driver.questions.items() if isinstance(question, kind)]:
            driver.tell(key, ErrorCode[how])

    def do_replication(self, how: str) -> None:
        self.driver.commits = how == "on"
        if self.driver.commits:
            self.driver.commit()

    def do_disk(self, what: str) -> None:
        self.driver.write_error = None if what == "ok" else ErrorCode[what]

    def do_epochs(self, transactional_id: str, last: str) -> None:
        stored = [each for each in self.driver.stored() if each and each.transactional_id == transactional_id][-1]
        assert isinstance(stored, TransactionStored)
        flexible = self.driver.config.transaction_version > 0
        self.driver.logs[Shard(STATE, 0)].append(encode(stored._replace(epoch=int(last)), flexible=flexible))
        self.driver.restart()
        self.producers[transactional_id] = stored.producer_id, int(last)

    def do_version(self, number: str) -> None:
        self.driver.config = self.driver.config._replace(transaction_version=int(number))

    def do_failover(self, *words: str) -> None:
        self.driver.restart(cut="cut" in words)

    def do_elected(self) -> None:
        self.driver.leader_epoch += 1
        assert not self.driver.runtime.load_start(STATE, 0, self.driver.leader_epoch)

    def do_unload(self) -> None:
        self.driver.unload()

    def do_load(self) -> None:
        self.driver.load()

    # Effects ------------------------------------------------------------------------------------------------------

    def forget_effects(self) -> None:
        self.driver.seen.clear()
        self.driver.seen_ms.clear()

    def name(self, who: str, words: tuple[str, ...] = ()) -> tuple[str, int]:
        self.requests += 1
        if "unheard" in words:
            self.unheard.add(self.requests)
        return who, self.requests

    def tell(self, effect: Effect, at_ms: int) -> str:
        if isinstance(effect, Reply):
            return self.tell_reply(effect)
        if isinstance(effect, SetTimer):
            key = tell_key(effect.key)
            # These come again and again, whatever happens.
            return "" if key in ("overdue", "expiry") else f"timer {key} +{effect.deadline_ms - at_ms}"
        if isinstance(effect, CancelTimer):
            return f"cancel {tell_key(effect.key)}"
        if isinstance(effect, Append):
            return "\n".join(f"append {effect.shard}: {tell_record(*record)}" for record in effect.records)
        if isinstance(effect, Ask):
            return tell_question(effect.question)
        if isinstance(effect, CancelAsk):
            assert isinstance(effect.key, AskKey)
            return f"call off {' '.join(map(str, effect.key.inner))}"  # type: ignore[call-overload]
        assert isinstance(effect, Note)
        fields = "".join(f" {name}={value}" for name, value in effect.fields)
        return f"log {effect.subject}: {effect.message}{fields}"

    def tell_reply(self, reply: Reply) -> str:
        assert isinstance(reply.reply_to, tuple)
        who, number = reply.reply_to
        answer = self.driver.answers[reply.reply_to]
        name = type(answer).__name__.removesuffix("Response")
        if isinstance(answer, m.AddPartitionsToTxnResponse):
            return f"{who}: {name} {' '.join(each.name for each in added(answer))}"
        assert isinstance(answer, (m.InitProducerIdResponse, m.AddOffsetsToTxnResponse, m.EndTxnResponse))
        error = ErrorCode(answer.error_code)
        if isinstance(answer, m.AddOffsetsToTxnResponse) or error or answer.producer_id == -1:
            return f"{who}: {name} {error.name}"
        if number not in self.unheard:
            self.producers[who] = answer.producer_id, answer.producer_epoch
        return f"{who}: {name} producer={answer.producer_id}/{answer.producer_epoch}"


def tell_key(key: object) -> str:
    assert isinstance(key, TimerKey)
    return "writes" if key.inner is None else " ".join(map(str, key.inner))  # type: ignore[call-overload]


def tell_question(question: object) -> str:
    if isinstance(question, WriteMarkers):
        partitions = " ".join(f"{topic}-{number}" for topic, number in question.partitions)
        end = "commit" if question.commit else "abort"
        return (
            f"markers {question.transactional_id}: {end} producer={question.producer_id}/{question.producer_epoch}"
            f" coordinator={question.coordinator_epoch} {partitions}"
        )
    assert isinstance(question, NewProducerId)
    return f"id wanted for {question.transactional_id}"


def tell_record(key: bytes, value: bytes | None) -> str:
    fact = decode(key, value)
    assert fact is not None
    if not isinstance(fact, TransactionStored):
        return f"no {fact.transactional_id}"
    partitions = "".join(f" {topic}-{number}" for topic, number in fact.partitions)
    following = f" next={fact.next_producer_id}" if fact.next_producer_id != -1 else ""
    return (
        f"{fact.transactional_id} {name_of(fact.state)} producer={fact.producer_id}/{fact.epoch}{following}{partitions}"
    )


def _options(words: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    return dict(word.split("=", 1) for word in words if "=" in word), [word for word in words if "=" not in word]


def _id(who: str) -> str:
    return who.split(".")[0]

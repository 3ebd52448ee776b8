"""The transaction coordinator where transcripts and Kafka's captured answers do not reach: many shards and ids at once,
shards that are not there, records that cannot be read, large numbers."""

from __future__ import annotations

import pytest

from cluster.coordinator.find_coordinator import partition_of_key
from cluster.coordinator.questions import WriteMarkers
from cluster.coordinator.transaction_config import TransactionConfig
from cluster.coordinator.transaction_records import TransactionalIdDeleted, TransactionStored, decode, encode
from cluster.coordinator.transaction_state import may_follow, name_of, named
from cluster.effects import Append, Shard
from cluster.protocol import messages as m
from cluster.protocol.errors import DecodeError
from pylog.errors import ErrorCode
from pylog.transaction_log import TransactionState
from tests.transcripts.transaction_driver import STATE, Driver, added, end_request, init_request

HOUR_MS = 3_600_000
WEEK_MS = 7 * 24 * HOUR_MS
FORGETFUL = TransactionConfig(expiry_interval_ms=HOUR_MS, id_expiration_ms=WEEK_MS, abort_interval_ms=HOUR_MS)


def on_partition(partition: int, count: int = 4) -> str:
    """A transactional id that is coordinated there."""
    return next(name for name in map("id{}".format, range(100)) if partition_of_key(name, count) == partition)


# Many at once ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_whole_and_in_order() -> None:
    driver = Driver(partitions=4)
    names = [on_partition(partition) for partition in (2, 0, 3)]
    producers = [driver.begun(transactional_id=name) for name in names]
    driver.unload(3)
    transactions = [
        m.AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction(
            transactional_id=name,
            producer_id=producer[0],
            producer_epoch=producer[1],
            verify_only=number == 1,
            topics=[m.AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name="t", partitions=[number])],
        )
        for number, (name, producer) in enumerate(zip(names, producers, strict=True))
    ]
    request = m.AddPartitionsToTxnRequest(transactions=transactions)
    answer = driver.ask(request, 5, m.AddPartitionsToTxnResponse)
    assert [each.transactional_id for each in answer.results_by_transaction] == names
    assert added(answer) == [ErrorCode.NONE, ErrorCode.TRANSACTION_ABORTABLE, ErrorCode.NOT_COORDINATOR]


def test_a_batch_waits_for_the_slowest() -> None:
    driver = Driver(partitions=4)
    slow, quick = on_partition(1), on_partition(2)
    producers = {name: driver.begun(transactional_id=name) for name in (slow, quick)}
    driver.commits = False
    transactions = [
        m.AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction(
            transactional_id=name,
            producer_id=producers[name][0],
            producer_epoch=producers[name][1],
            topics=[m.AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name="t", partitions=[0])],
        )
        for name in (slow, quick)
    ]
    driver.send("both", m.AddPartitionsToTxnRequest(transactions=transactions), 5)
    driver.commit(2)
    assert "both" not in driver.answers
    driver.commit(1)
    assert added(driver.answer("both", m.AddPartitionsToTxnResponse)) == [ErrorCode.NONE, ErrorCode.NONE]


def test_no_client_adds_partitions_of_internal_topics() -> None:
    driver = Driver()
    producer = driver.begun()
    internal = ("__consumer_offsets", 0), ("__transaction_state", 99)
    refused, others = ErrorCode.TOPIC_AUTHORIZATION_FAILED, ErrorCode.OPERATION_NOT_ATTEMPTED
    assert driver.add(producer, ("t", 0), *internal) == [others, refused, refused]
    assert driver.add(producer, internal[0], verify=True, version=4) != [refused], "a broker may ask"


def test_ids_are_described_in_the_order_asked() -> None:
    driver = Driver(partitions=4)
    names = [on_partition(3), "", on_partition(0), on_partition(1)]
    driver.begun(("t", 1), ("u", 0), transactional_id=names[0])
    driver.unload(1)
    answer = driver.ask(m.DescribeTransactionsRequest(transactional_ids=names), 0, m.DescribeTransactionsResponse)
    assert [each.transactional_id for each in answer.transaction_states] == names
    assert [ErrorCode(each.error_code) for each in answer.transaction_states] == [
        ErrorCode.NONE,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.TRANSACTIONAL_ID_NOT_FOUND,
        ErrorCode.NOT_COORDINATOR,
    ]
    found = answer.transaction_states[0]
    assert {(topic.topic, *topic.partitions) for topic in found.topics} == {("t", 1), ("u", 0)}
    assert (found.transaction_timeout_ms, found.transaction_start_time_ms) == (60_000, driver.now_ms)


def test_all_shards_are_listed_or_none() -> None:
    driver = Driver(partitions=4)
    names = sorted(on_partition(partition) for partition in range(4))
    for name in names:
        driver.begun(transactional_id=name)
    answer = driver.ask(m.ListTransactionsRequest(), 0, m.ListTransactionsResponse)
    assert sorted(each.transactional_id for each in answer.transaction_states) == names
    driver.unload(2)
    assert driver.runtime.load_start(STATE, 2, 7)
    answer = driver.ask(m.ListTransactionsRequest(state_filters=["Lost"]), 0, m.ListTransactionsResponse)
    assert ErrorCode(answer.error_code) is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert answer.transaction_states == []


def test_unknown_words_are_told_where_there_is_no_shard() -> None:
    driver = Driver(host=False)
    request = m.ListTransactionsRequest(state_filters=["Lost", "Ongoing", "Lost"])
    answer = driver.ask(request, 0, m.ListTransactionsResponse)
    assert (answer.error_code, answer.unknown_state_filters) == (0, ["Lost"])


# Shards that are not there ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loading", "error"), [(False, ErrorCode.NOT_COORDINATOR), (True, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)]
)
def test_nobody_is_there(loading: bool, error: ErrorCode) -> None:
    driver = Driver(host=False)
    if loading:
        assert driver.runtime.load_start(STATE, 0, 1)
    assert driver.init() == (error, -1, -1)
    assert driver.add((1, 0), ("t", 0)) == [error]
    assert driver.add((1, 0), ("t", 0), version=5, verify=True) == [error]
    assert driver.add_offsets((1, 0)) is error
    assert driver.end((1, 0)) == (error, -1, -1)
    assert driver.state() == error.name


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (init_request("a", known=(1, -1)), ErrorCode.INVALID_REQUEST),
        (init_request("a", known=(-1, 1)), ErrorCode.INVALID_REQUEST),
        (init_request(""), ErrorCode.INVALID_REQUEST),
        (init_request("a", timeout_ms=0), ErrorCode.INVALID_TRANSACTION_TIMEOUT),
        (init_request("a", timeout_ms=900_001), ErrorCode.INVALID_TRANSACTION_TIMEOUT),
    ],
)
def test_what_is_wrong_anyway_is_told_by_anybody(request_: m.InitProducerIdRequest, error: ErrorCode) -> None:
    driver = Driver(host=False)
    assert ErrorCode(driver.ask(request_, 5, m.InitProducerIdResponse).error_code) is error


def test_who_waits_is_told_when_the_shard_goes() -> None:
    driver = Driver(partitions=4)
    name, other, third = on_partition(0), on_partition(1), on_partition(2)
    producer = driver.begun(("t", 0), transactional_id=name)
    driver.marks = driver.gives_ids = driver.commits = False
    driver.send("end", end_request(name, producer, commit=True), 3)
    driver.send("id", init_request(other), 4)
    driver.gives_ids = True
    driver.send("write", init_request(third), 4)
    driver.gives_ids = False
    for partition in range(4):
        driver.unload(partition)
    assert ErrorCode(driver.answer("end", m.EndTxnResponse).error_code) is ErrorCode.NOT_COORDINATOR
    assert ErrorCode(driver.answer("write", m.InitProducerIdResponse).error_code) is ErrorCode.NOT_COORDINATOR
    assert driver.questions == {}


# Time ---------------------------------------------------------------------------------------------------------------


def test_thousands_of_ids_expire_in_several_batches() -> None:
    driver = Driver(FORGETFUL)
    for number in range(1_001):
        driver.init(f"id{number}")
    driver.seen.clear()
    driver.advance(WEEK_MS + HOUR_MS)
    tombstones = [len(effect.records) for effect in driver.seen if isinstance(effect, Append)]
    assert sum(tombstones) == 1_001
    assert 1 < len(tombstones) < 20
    assert all(isinstance(fact, TransactionalIdDeleted) for fact in driver.stored()[1_001:])
    driver.restart()
    assert driver.ask(m.ListTransactionsRequest(), 0, m.ListTransactionsResponse).transaction_states == []


def test_an_id_that_is_being_forgotten_is_not_given_out() -> None:
    driver = Driver(FORGETFUL)
    _, *before = driver.init()
    driver.commits = False
    driver.advance(WEEK_MS)
    assert driver.init()[0] is ErrorCode.CONCURRENT_TRANSACTIONS
    driver.commits = True
    driver.commit()
    error, *after = driver.init()
    assert error is ErrorCode.NONE
    assert after[0] > before[0]
    assert after[1] == 0


def test_tombstones_that_cannot_be_written_leave_the_ids() -> None:
    driver = Driver(FORGETFUL)
    _, *known = driver.init()
    driver.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    driver.advance(WEEK_MS)
    driver.write_error = None
    assert driver.init(known=(known[0], known[1])) == (ErrorCode.NONE, known[0], known[1] + 1)


# Markers ------------------------------------------------------------------------------------------------------------


def test_markers_say_with_which_version_the_transaction_ran() -> None:
    driver = Driver(TransactionConfig(transaction_version=2))
    driver.marks = False
    producer = driver.begun()
    assert driver.add(producer, ("t", 3), ("u", 1), version=5) == [ErrorCode.NONE, ErrorCode.NONE]
    driver.end(producer, version=5)
    (question,) = driver.questions.values()
    assert question == WriteMarkers("a", producer[0], 1, 0, True, (("t", 3), ("u", 1)), 2)


def test_a_marker_is_the_epoch_of_the_shards_leader() -> None:
    driver = Driver()
    driver.leader_epoch = 4
    driver.unload()
    driver.load()
    producer = driver.begun(("t", 0))
    driver.leader_epoch = 9
    assert not driver.runtime.load_start(STATE, 0, 9)
    driver.end(producer)
    assert [each.coordinator_epoch for each in driver.marked] == [9]
    assert not driver.runtime.load_start(STATE, 0, 5), "an older epoch comes too late"
    driver.end(driver.begun(("t", 0)))
    assert driver.marked[-1].coordinator_epoch == 9


def test_what_completes_is_written_as_soon_as_it_can_be_and_once() -> None:
    driver = Driver()
    producer = driver.begun(("t", 0))
    driver.marks = False
    driver.end(producer)
    driver.write_error = ErrorCode.NOT_ENOUGH_REPLICAS
    driver.marks = True
    driver.answer_questions()
    driver.advance(2 * driver.config.abort_interval_ms)
    assert driver.init()[0] is ErrorCode.CONCURRENT_TRANSACTIONS
    driver.write_error = None
    driver.advance(100)
    assert driver.state() == "CompleteCommit"
    assert len(driver.marked) == 1
    driver.advance(2 * driver.config.abort_interval_ms)
    assert [fact.state.name for fact in driver.stored() if isinstance(fact, TransactionStored)] == [
        "EMPTY",
        "ONGOING",
        "PREPARE_COMMIT",
        "COMPLETE_COMMIT",
    ]


# Records ------------------------------------------------------------------------------------------------------------


def test_what_only_flexible_records_can_say_is_lost_in_plain_ones() -> None:
    fact = TransactionStored(
        "a", 5, 3, 60_000, TransactionState.ONGOING, (("t", 1), ("u", 0), ("t", 0)), 9, 8, 4, 6, 1, 2
    )
    assert decode(*encode(fact, flexible=True)) == fact._replace(partitions=(("t", 1), ("t", 0), ("u", 0)))
    plain = decode(*encode(fact, flexible=False))
    assert plain == TransactionStored("a", 5, 3, 60_000, TransactionState.ONGOING, (("t", 1), ("t", 0), ("u", 0)), 9, 8)


def test_records_of_others_and_of_the_future() -> None:
    key, value = encode(TransactionStored("a", 1, 0, 1, TransactionState.EMPTY, (), 0, -1), flexible=False)
    assert value is not None
    assert decode(b"\x00\x07" + key[2:], value) is None
    assert decode(key, None) == TransactionalIdDeleted("a")
    with pytest.raises(DecodeError, match="unknown version 2"):
        decode(key, b"\x00\x02" + value[2:])
    strange = bytearray(value)
    strange[16] = 9
    with pytest.raises(DecodeError, match="unknown transaction status 9"):
        decode(key, bytes(strange))


def test_states_have_kafkas_numbers_and_names() -> None:
    names = ["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead"]
    assert [name_of(TransactionState(number)) for number in range(8)] == [*names, "PrepareEpochFence"]
    assert all(named(name_of(state)) is state for state in TransactionState)
    assert named("Nonsense") is None


def test_an_end_cannot_be_taken_back() -> None:
    state = TransactionState
    assert [each for each in state if may_follow(state.PREPARE_COMMIT, each)] == [state.COMPLETE_COMMIT]
    assert [each for each in state if may_follow(state.PREPARE_ABORT, each)] == [state.COMPLETE_ABORT]
    assert not any(may_follow(state.DEAD, each) for each in state)


def test_kafkas_record_of_an_open_transaction_is_taken_over() -> None:
    """Our shard begins where Kafka's log ends: an open transaction can be ended, and times out."""
    driver = Driver(host=False)
    kafkas = TransactionStored("k", 77, 4, 5_000, TransactionState.ONGOING, (("t", 2),), 999_000, 998_000)
    driver.logs[Shard(STATE, 0)] = [encode(kafkas, flexible=False)]
    driver.load()
    assert driver.add((77, 4), ("u", 0), transactional_id="k") == [ErrorCode.NONE]
    driver.advance(10_000)
    assert driver.state("k") == "CompleteAbort"
    (marker,) = driver.marked
    assert (marker.producer_id, marker.producer_epoch, marker.commit) == (77, 5, False)
    assert set(marker.partitions) == {("t", 2), ("u", 0)}

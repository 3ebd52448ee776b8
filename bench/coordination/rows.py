"""The rows of the comparison of coordinators: one broker of either kind, the same requests to both.

`target` is how many times better than Kafka we mean to be.
"""

from typing import NamedTuple

GROUPS = 1_000
MEMBERS_OF_EACH = 10
OFFSETS = 1_000_000
STORM_MEMBERS = 100
STORM_RATE = 3  # rebalances a second: as many for both, or the one that does more would have the heavier storm
PRODUCERS = (1, 16)


class Row(NamedTuple):
    name: str
    unit: str
    target: float
    more_is_better: bool = True
    is_absolute: bool = False


JOINS = Row(f"joins: {GROUPS} groups of {MEMBERS_OF_EACH}", "per CPU-s", 1)
HEARTBEATS = Row(f"heartbeats of {GROUPS * MEMBERS_OF_EACH} members", "per CPU-s", 1)
COMMITS = Row(f"offset commits of {GROUPS * MEMBERS_OF_EACH} members", "per CPU-s", 1)
REBALANCE = Row(f"{STORM_MEMBERS} members to the next generation when one joins", "ms", 1, more_is_better=False)
TRANSACTIONS = tuple(
    Row(f"transactions of one record, {count} producer{'s' * (count > 1)}", "per CPU-s", 1) for count in PRODUCERS
)
LOADING = Row(f"restart to an offset fetched of {OFFSETS}", "ms", 1, more_is_better=False)
STORM = Row("p99 of a record to its readers in a storm, over without", "×", 1.1, more_is_better=False, is_absolute=True)
# The consumer protocol, which 3.9.1 does not serve with ZooKeeper: beside 4.3.1.
CONSUMER_JOINS = Row(f"consumer protocol: joins, {GROUPS} groups of {MEMBERS_OF_EACH}", "per CPU-s", 1)
CONSUMER_HEARTBEATS = Row(f"consumer protocol: heartbeats, {GROUPS * MEMBERS_OF_EACH} members", "per CPU-s", 1)
CONSUMER_COMMITS = Row(f"consumer protocol: commits, {GROUPS * MEMBERS_OF_EACH} members", "per CPU-s", 1)
CONSUMER_ADMISSION = Row("consumer protocol: a newcomer's partition, of 100", "ms", 1, more_is_better=False)
CONSUMER_REBALANCE = Row(
    f"consumer protocol: {STORM_MEMBERS} members to the next epoch when one joins", "ms", 1, more_is_better=False
)
CONSUMER_STORM = STORM._replace(name=f"consumer protocol: {STORM.name}")
CONSUMERS = (
    CONSUMER_JOINS,
    CONSUMER_HEARTBEATS,
    CONSUMER_COMMITS,
    CONSUMER_ADMISSION,
    CONSUMER_REBALANCE,
    CONSUMER_STORM,
)
NEWCOMERS, UNTIMED_NEWCOMERS = 10, 10  # in a lap; the untimed ones come first

CLASSIC = (JOINS, HEARTBEATS, COMMITS, REBALANCE, *TRANSACTIONS, LOADING, STORM)
ALL = (*CLASSIC, *CONSUMERS)

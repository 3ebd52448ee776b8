"""Figures of the groups and transactional ids that a broker coordinates.

What stays true: each group is told of by its coordinator alone, so that sums over brokers are right.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.broker.metrics.lag import Lag
from cluster.broker.metrics.snapshot import GroupTotals, Snapshot
from cluster.broker.metrics.text import COUNTER, GAUGE, Column, Family, by_label, counter, gauge, labels
from cluster.coordinator.group_figures import CLASSIC, CONSUMER, GroupSeen
from cluster.coordinator.transaction_state import ONGOING, PREPARED, name_of
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.coordinator.transaction_records import TransactionStored

#: Kafka's gauges of classic groups, by the state.
_CLASSIC_STATES: Final = {
    "numgroupspreparingrebalance": "PreparingRebalance",
    "numgroupscompletingrebalance": "CompletingRebalance",
    "numgroupsstable": "Stable",
    "numgroupsempty": "Empty",
}
_CONSUMER_STATES: Final = ("Empty", "Assigning", "Reconciling", "Stable")


def group_families(groups: Sequence[GroupSeen]) -> list[Family]:
    manager, coordinator = "kafka_coordinator_group_groupmetadatamanager", "kafka_server_group_coordinator_metrics"
    protocols = dict.fromkeys((CLASSIC, CONSUMER), 0)
    states: dict[tuple[str, str], int] = {}
    for group in groups:
        protocols[group.protocol] += 1
        states[group.protocol, group.state] = states.get((group.protocol, group.state), 0) + 1
    return [
        gauge(f"{manager}_numgroups", "Groups coordinated here.", len(groups)),
        gauge(
            f"{manager}_numoffsets", "Offsets that they have committed.", sum(len(each.committed) for each in groups)
        ),
        *[
            gauge(f"{manager}_{name}", f"Classic groups in state {state}.", states.get((CLASSIC, state), 0))
            for name, state in _CLASSIC_STATES.items()
        ],
        by_label(f"{coordinator}_group_count", GAUGE, "Groups by protocol.", "protocol", protocols),
        by_label(
            f"{coordinator}_consumer_group_count",
            GAUGE,
            "Groups of the consumer protocol by state.",
            "state",
            {state.lower(): states.get((CONSUMER, state), 0) for state in _CONSUMER_STATES},
        ),
        Family(
            "pylog_group_members",
            GAUGE,
            "Members of a group.",
            [(labels(("group", each.group_id)), each.members) for each in groups],
        ),
    ]


def total_families(totals: GroupTotals) -> list[Family]:
    return [
        by_label(
            "pylog_group_rebalances",
            COUNTER,
            "Rebalances that began, by why.",
            "cause",
            totals.rebalances,
        ),
        counter("pylog_group_rebalances_ended", "Rebalances that came to their end.", totals.rebalances_ended),
        counter("pylog_group_rebalance_seconds", "What these took.", totals.rebalance_ms / 1000),
        counter("pylog_group_offset_commits", "Offsets committed, one for each partition.", totals.offsets_committed),
    ]


def lag_families(lags: Sequence[Lag]) -> list[Family]:
    """`pylog groups describe` shows the same."""
    return [
        Family(
            "pylog_group_committed_offset",
            GAUGE,
            "Where a group stands in a partition.",
            columns=[Column(lag.rows, lag.committed) for lag in lags],
        ),
        Family(
            "pylog_group_lag_records",
            GAUGE,
            "Records of a partition that a group has not committed.",
            columns=[Column(lag.rows, lag.records) for lag in lags],
        ),
        Family(
            "pylog_group_lag_seconds",
            GAUGE,
            "How long ago the first of these came; 0 without any.",
            columns=[Column(lag.rows, lag.seconds) for lag in lags],
        ),
    ]


def transaction_families(snapshot: Snapshot) -> list[Family]:
    states: dict[str, int] = {}
    for stored in snapshot.transactions:
        state = name_of(stored.state)
        states[state] = states.get(state, 0) + 1
    oldest_ms = min((each.start_ms for each in snapshot.transactions if _is_open(each)), default=snapshot.now_ms)
    return [
        by_label("pylog_transactional_ids", GAUGE, "Transactional ids coordinated here, by state.", "state", states),
        gauge(
            "pylog_transaction_oldest_seconds",
            "How long ago the oldest transaction began that is not complete; 0 without any.",
            max(0, snapshot.now_ms - oldest_ms) / 1000,
        ),
    ]


def _is_open(stored: TransactionStored) -> bool:
    return stored.state is ONGOING or stored.state in PREPARED

"""Both brokers made ready: the same settings, coordinators loaded, the versions that both serve."""

from __future__ import annotations

import time
from typing import Any

from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.served import SERVED
from tests.broker.raw import Raw
from tests.differential.player import Player
from tests.support import wire
from tests.support.brokers import Broker

READY_TIMEOUT_S = 60
KAFKA_SETTLES_S = 0.08

SETTINGS = {
    "auto.create.topics.enable": "false",
    "num.partitions": "2",
    "transaction.state.log.num.partitions": "1",
    "fetch.max.bytes": "57671680",
    "offsets.topic.num.partitions": "1",
    "group.max.size": "3",
}


def message_name(key: ApiKey) -> str:
    """ApiKey.LIST_OFFSETS → ListOffsets, as the messages are called."""
    return "".join(word.capitalize() for word in key.name.split("_"))


def served_ranges() -> dict[str, tuple[int, int]]:
    """API → versions that ours serves and that have a meaning (Produce 0 to 2 are advertised and refused)."""
    ranges = {message_name(key): versions for key, versions in SERVED.items()}
    return {**ranges, "Produce": (3, ranges["Produce"][1])}


def common_ranges(ours: dict[str, tuple[int, int]], port: int) -> dict[str, tuple[int, int]]:
    """Those of ours that the broker at port serves too."""
    theirs = {message_name(ApiKey(key)): versions for key, versions in wire.api_versions(port).items()}
    return {
        name: (max(low, theirs[name][0]), min(high, theirs[name][1]))
        for name, (low, high) in ours.items()
        if name in theirs
    }


def player(broker: Broker) -> Player:
    """A player of a broker whose coordinator and producer ids are there."""
    raw = Raw(broker.port)
    deadline = time.monotonic() + READY_TIMEOUT_S

    def until_zero(request: Any, version: int) -> Any:
        while True:
            answer = raw.ask(request, version)
            if answer.error_code == 0:
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f"{broker.kind} is not ready: {answer}")

    until_zero(m.FindCoordinatorRequest(key="s0-warm", key_type=0), 2)
    until_zero(m.InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000), 1)
    join = m.JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"")
    joining = m.JoinGroupRequest(
        group_id="s0-warm",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        protocol_type="consumer",
        protocols=[join],
    )
    member = until_zero(joining, 2).member_id
    raw.ask(m.LeaveGroupRequest(group_id="s0-warm", member_id=member), 1)
    raw.close()
    return Player(broker.port, 0.0 if broker.kind == "pylog" else KAFKA_SETTLES_S)

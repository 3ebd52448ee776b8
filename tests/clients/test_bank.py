"""A bank whose tellers read, process and write in transactions, struck by kills of everything: each sum is right.

Longer runs with strikes at random: python -m tests.support.bank --minutes 10 --seed 7 [--brokers 3]
"""

from pathlib import Path

import pytest

from tests.support import brokers, zookeeper
from tests.support.bank import OneBroker, ThreeBrokers


@pytest.mark.timeout(300)
def test_on_one_broker(tmp_path: Path) -> None:
    reason = brokers.unavailable()
    if reason:
        pytest.skip(reason)
    with OneBroker(tmp_path, seed=1) as office:
        strikes = office.strikes().all
        for strike in ("kill a teller", "kill the broker", "stall a teller", "replace a teller"):
            office.bank.stage(strikes[strike])
        office.bank.close()


@pytest.mark.timeout(300)
def test_on_a_cluster(tmp_path: Path) -> None:
    reason = zookeeper.unavailable()
    if reason:
        pytest.skip(reason)
    with (
        zookeeper.running(tmp_path / "zookeeper") as ensemble,
        ThreeBrokers(tmp_path, ensemble.fresh(), seed=1) as office,
    ):
        strikes = office.strikes().all
        for strike in (
            "kill a transaction coordinator",
            "kill the group coordinator",
            "stop a transaction coordinator",
        ):
            office.bank.stage(strikes[strike])
        office.bank.close()

"""Nothing is wrong with what Kafka brokers left, stopped or killed: verification does not cry wolf."""

from pathlib import Path

import pytest

from pylog.partition_files import log_directory
from pylog.verify import Verification


@pytest.mark.parametrize(("name", "partitions"), [("broker1-clean", 30), ("broker2-killed", 29), ("oldformat", 3)])
def test_a_kafka_directory_verifies(golden: Path, name: str, partitions: int) -> None:
    verification = Verification(log_directory(str(golden / name)))
    assert [str(found) for found in verification.findings()] == []
    assert verification.verified.partitions == partitions

"""One ZooKeeper for all tests of clusters; each takes a chroot of its own."""

from collections.abc import Iterator

import pytest

from tests.support import zookeeper
from tests.support.zookeeper import ZooKeeper


@pytest.fixture(scope="session")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    reason = zookeeper.unavailable()
    if reason is not None:
        pytest.skip(reason)
    with zookeeper.running(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server

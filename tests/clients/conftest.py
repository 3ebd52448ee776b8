"""One broker for the whole folder, on a port of its own: ours, or Apache Kafka where PYLOG_TEST_BROKER=kafka39.

Every test uses topics and groups of its own, so none can see another's.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.support import brokers, confluent
from tests.support.brokers import Broker
from tests.support.closing import Closing

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    reason = brokers.unavailable()
    if reason:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("broker")
    with brokers.start_broker(directory, {"auto.create.topics.enable": "false"}) as running:
        yield running
        assert running.process.running(), "the broker ended during the tests"
        running.stop()
    brokers.remove(directory)


@pytest.fixture
def fresh_name(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Names no other test has: fresh_name("orders") → orders-17."""
    return lambda what: f"{what}-{next(_numbers)}"


@pytest.fixture
def new_topic(broker: Broker, fresh_name: Callable[[str], str]) -> Iterator[Callable[..., str]]:
    """new_topic(partitions=1, **config) creates a topic and gives its name; it is deleted after the test."""
    made: list[str] = []

    def make(partitions: int = 1, **config: str) -> str:
        name = fresh_name("topic")
        confluent.create_topic(broker.bootstrap, name, partitions, config)
        made.append(name)
        return name

    yield make
    if made:
        confluent.delete_topics(broker.bootstrap, made)


@pytest.fixture
def closing(broker: Broker) -> Iterator[Closing]:
    """closing(client) gives the client back; it is closed after the test and before the broker."""
    with contextlib.closing(Closing()) as opened:
        yield opened

"""Whatever a message can hold in a version comes back from its bytes, for every message and version."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.protocol import messages as m
from cluster.protocol.message import Message
from tests.unit.cluster.protocol import made


@pytest.mark.parametrize("name", m.names())
@given(st.data())
@settings(max_examples=3, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
def test_round_trip(name: str, data: st.DataObject) -> None:
    message_class = m.message_class(name)
    low, high = message_class.valid_versions
    for version in range(low, high + 1):
        message = data.draw(made.values(name, version))
        assert isinstance(message, Message)
        encoded = message.encode(version)
        assert message_class.decode(encoded, version) == message
        assert message_class.decode(memoryview(b"head" + encoded), version, 4) == message

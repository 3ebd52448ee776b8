"""Every version of every message against the bytes Apache Kafka's own classes write (golden.txt.gz).

tests/tools/golden_messages.py made that file with Kafka 3.9.1 and 4.3.1, which agree wherever both know a version; the
values are made here again by the same rule (filled.py).
"""

import gzip
import pathlib
from collections import defaultdict

import pytest

from cluster.protocol import messages as m
from tests.unit.cluster.protocol import filled

GOLDEN = pathlib.Path(__file__).with_name("golden.txt.gz")


def load() -> dict[str, dict[tuple[int, str], bytes]]:
    golden: dict[str, dict[tuple[int, str], bytes]] = defaultdict(dict)
    for line in gzip.decompress(GOLDEN.read_bytes()).decode().splitlines():
        name, version, kind, encoded = line.split(" ")
        golden[name][int(version), kind] = bytes.fromhex(encoded)
    return golden


ALL = load()


def test_there_is_golden_data_for_every_version_of_every_message() -> None:
    known = {(name, version) for name in ALL for version, _ in ALL[name]}
    ours = set()
    for name in m.names():
        low, high = m.message_class(name).valid_versions
        ours |= {(name, version) for version in range(low, high + 1)}
    assert known == ours
    assert sum(len(versions) for versions in ALL.values()) == 2 * len(ours)


@pytest.mark.parametrize("name", sorted(ALL))
def test_bytes_are_kafkas(name: str) -> None:
    message_class = m.message_class(name)
    for (version, kind), encoded in ALL[name].items():
        message = filled.bare(message_class, version) if kind == "bare" else filled.full(message_class, version)
        assert message.encode(version) == encoded, (version, kind)
        assert message_class.decode(encoded, version) == message, (version, kind)

"""Every file that a Kafka broker left reads here as kafka-dump-log says, line for line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cli.log.decoders import decode_group_record, decode_transaction_record
from pylog.dump import Dump, DumpOptions

# decoded: records of each kind that coordinators write. damaged: a flipped bit in the second batch, a torn fourth.
# kafka-dump-log fails on an index that holds only zeros beside an empty log; ours says that it is empty.
_TOOL_FAILS = "TOOL ERROR"


def dumps(golden: Path, broker: str) -> Iterator[tuple[Path, str]]:
    for text in sorted((golden / f"{broker}.dumps").glob("*/*.txt")):
        yield golden / broker / text.parent.name / text.name.removesuffix(".txt"), text.read_text("utf-8")


def options(partition: str) -> DumpOptions:
    """As the captured dumps were made."""
    if partition.startswith("__consumer_offsets-"):
        return DumpOptions(deep_iteration=True, decoder=decode_group_record)
    if partition.startswith("__transaction_state-"):
        return DumpOptions(deep_iteration=True, decoder=decode_transaction_record)
    return DumpOptions(deep_iteration=True, print_data_log=True)


@pytest.mark.parametrize(
    ("broker", "files", "least_lines"),
    [
        ("broker1-clean", 200, 6000),
        ("broker2-killed", 200, 6000),
        ("oldformat", 3, 65),
        ("decoded", 2, 80),
        ("damaged", 1, 35),
    ],
)
def test_every_file_reads_as_kafka_says(golden: Path, broker: str, files: int, least_lines: int) -> None:
    compared = 0
    lines = 0
    for path, expected in dumps(golden, broker):
        dump = Dump(str(path), options(path.parent.name))
        text = "\n".join(dump.lines()).replace(str(golden / broker), ".")
        if _TOOL_FAILS in expected:
            assert text.endswith("is empty.")
        else:
            assert text == expected.removesuffix("\n"), path
        assert bool(dump.problems) == (broker == "damaged"), path
        compared += 1
        lines += text.count("\n") + 1
    assert compared >= files
    assert lines > least_lines

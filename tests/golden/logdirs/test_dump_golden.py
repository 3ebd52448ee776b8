"""Every file that a Kafka broker left reads here as kafka-dump-log says, line for line."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylog.dump import Dump, DumpOptions

# Their dumps were made with decoders for what is in keys and values: what comes before that is compared.
_DECODED = ("__consumer_offsets-", "__transaction_state-")
# kafka-dump-log fails on an index that holds only zeros beside an empty log; ours says that it is empty.
_TOOL_FAILS = "TOOL ERROR"


def dumps(golden: Path, broker: str) -> Iterator[tuple[Path, str]]:
    for text in sorted((golden / f"{broker}.dumps").glob("*/*.txt")):
        yield golden / broker / text.parent.name / text.name.removesuffix(".txt"), text.read_text("utf-8")


def without_data(text: str) -> str:
    return re.sub(r"(?m)(headerKeys: \[[^\]]*\]) (key|payload): .*$", r"\1", text)


@pytest.mark.parametrize("broker", ["broker1-clean", "broker2-killed"])
def test_every_file_reads_as_kafka_says(golden: Path, broker: str) -> None:
    compared = 0
    lines = 0
    for path, expected in dumps(golden, broker):
        decoded = path.parent.name.startswith(_DECODED)
        dump = Dump(str(path), DumpOptions(deep_iteration=True, print_data_log=not decoded))
        text = "\n".join(dump.lines()).replace(str(golden / broker), ".")
        if _TOOL_FAILS in expected:
            assert text.endswith("is empty.")
        else:
            assert text == (without_data(expected) if decoded else expected).removesuffix("\n"), path
        assert dump.problems == [], path
        compared += 1
        lines += text.count("\n") + 1
    assert compared > 200
    assert lines > 6000

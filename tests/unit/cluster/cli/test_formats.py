"""Lines in and lines out: formats, JSON, parsing of arguments, Java's partitioner."""

import argparse
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.cli.arguments import duration_ms, escaped, key_value, positive_int, positive_seconds, timestamp_ms
from cluster.cli.client import Address, parse_addresses
from cluster.cli.errors import CommandError, UsageError
from cluster.cli.membership import assign_ranges
from cluster.cli.offsets import TopicPartition
from cluster.cli.partitioner import murmur2, partition_for_key
from cluster.cli.record_format import DEFAULT_FORMAT, render_json, text_renderer
from cluster.cli.record_input import parse_json, read_lines
from pylog.records import Header, Record

TP = TopicPartition("orders", 3)
RECORD = Record(17, 1_700_000_000_123, b"k", b"v", (Header("a", b"1"), Header("b", None)))
BARE = Record(18, 5, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEFAULT_FORMAT, b"v\nnull\n"),
        ("%v", b"vnull"),
        (r"%t-%p@%o %T\t%k=%v|%h\n", b"orders-3@17 1700000000123\tk=v|a=1,b=null\norders-3@18 5\tnull=null|\n"),
        (r"100%% %%%v\n", b"100% %v\n100% %null\n"),
        (r"plain\n", b"plain\nplain\n"),
    ],
)
def test_text_formats(text: str, expected: bytes) -> None:
    assert text_renderer(text)(TP, [RECORD, BARE]) == expected


def test_a_token_that_is_none() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="there is no %z"):
        text_renderer("%v %z")


_headers = st.lists(st.builds(Header, st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3)


@given(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=20), _headers, st.integers(0, 2**60))
def test_json_out_and_in_is_the_same_record(
    key: bytes | None, value: bytes | None, headers: list[Header], timestamp: int
) -> None:
    line = render_json(TP, [Record(1, timestamp, key, value, tuple(headers))])
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert parse_json(line, 1) == (key, value, tuple(headers), timestamp)


def test_a_header_name_that_is_not_utf8_survives() -> None:
    headers = (Header("\udcff", b""),)
    assert parse_json(render_json(TP, [Record(1, 2, None, None, headers)]), 1).headers == headers
    assert text_renderer("%h")(TP, [Record(1, 2, None, None, headers)]) == b"\xff="


def test_json_written_by_hand() -> None:
    line = b'{"key": "k", "value": {"a": [1, null]}, "headers": {"h": "x"}}'
    assert parse_json(line, 1) == (b"k", b'{"a":[1,null]}', (Header("h", b"x"),), None)
    assert parse_json(b"{}", 1) == (None, None, (), None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"nope", r"line 7: Expecting value.* in 'nope'"),
        (b"[1]", "line 7: not an object"),
        (b'{"value": {"base64": "/w"}}', "bad base64"),
        (b'{"value": {"base64": 1}}', "bad base64"),
        (b'{"headers": ["a"]}', "the headers are not a list of"),
        (b'{"timestamp": "now"}', "'now' is not an integer"),
        (b'{"timestamp": true}', "True is not an integer"),
        (b"\xff" * 100, r"line 7: .*\.\.\.'"),
    ],
)
def test_json_that_is_no_record(line: bytes, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        parse_json(line, 7)


@given(st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=6), st.booleans())
def test_every_line_is_read_once(lines: list[bytes], ends_with_newline: bool) -> None:
    text = b"\n".join(lines) + (b"\n" if ends_with_newline and lines else b"")
    reader, writer = os.pipe()
    try:
        os.write(writer, text)
        os.close(writer)
        read = [line for some in read_lines(reader, 10) for line in some]
    finally:
        os.close(reader)
    expected = text.split(b"\n")
    assert read == (expected[:-1] if expected[-1] == b"" else expected)


def test_a_quiet_input_is_told_and_a_line_may_come_in_pieces() -> None:
    reader, writer = os.pipe()
    lines = read_lines(reader, 0.01)
    os.write(writer, b"one\ntw")
    assert next(lines) == [b"one"]
    assert next(lines) == []
    os.write(writer, b"o\nthree")
    assert next(lines) == [b"two"]
    os.close(writer)
    assert list(lines) == [[b"three"]]
    os.close(reader)


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.cli.record_input._MAX_LINE_BYTES", 100)
    reader, writer = os.pipe()
    os.write(writer, b"x" * 101)
    with pytest.raises(CommandError, match="a line of more than"):
        next(read_lines(reader, 10))
    os.close(reader)
    os.close(writer)


# Values of org.apache.kafka.common.utils.Utils.murmur2 in Kafka 3.9.1, as signed numbers.
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"21", -973932308),
        (b"abc", 479470107),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    ],
)
def test_murmur2_is_javas(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected % 2**32
    assert partition_for_key(data, 7) == (expected & 0x7FFFFFFF) % 7
    assert partition_for_key(data, 1) == 0


@given(st.dictionaries(st.text(max_size=3), st.sets(st.sampled_from("xyz")), max_size=5))
def test_ranges_share_every_partition_once_and_evenly(wanted: dict[str, set[str]]) -> None:
    counts = {"x": 7, "y": 2, "z": 0}
    assigned = assign_ranges({member: sorted(topics) for member, topics in wanted.items()}, counts)
    assert assigned.keys() == wanted.keys()
    for topic, count in counts.items():
        shares = {member: [tp for tp in tps if tp.topic == topic] for member, tps in assigned.items()}
        given_out = sorted(tp.partition for share in shares.values() for tp in share)
        members = [member for member, topics in wanted.items() if topic in topics]
        assert given_out == (list(range(count)) if members else [])
        assert all(not share for member, share in shares.items() if member not in members)
        if members:
            assert {len(shares[member]) for member in members} <= {count // len(members), -(-count // len(members))}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", [Address("localhost", 9092)]),
        ("a:1, b:2 ,", [Address("a", 1), Address("b", 2)]),
        ("[::1]:9093", [Address("::1", 9093)]),
        ("::1", [Address("::1", 9092)]),
        (":29092", [Address("localhost", 29092)]),
    ],
)
def test_addresses(text: str, expected: list[Address]) -> None:
    assert parse_addresses(text) == expected


@pytest.mark.parametrize("text", ["", ",", "a:", "a:b", "a:0", "a:65536", "a:-1"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--bootstrap-server"):
        parse_addresses(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 250),
        ("90s", 90_000),
        ("15m", 900_000),
        ("7d", 604_800_000),
        ("PT1H30M", 5_400_000),
        ("P1DT0.5S", 86_400_500),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert duration_ms(text) == expected


def test_what_converters_take_and_refuse() -> None:
    assert key_value("a=b=c") == ("a", "b=c")
    assert key_value("a=") == ("a", "")
    assert escaped(r"\t\x00\\ä") == b"\t\0\\" + b"\xc3\xa4"
    assert timestamp_ms("1700000000000") == timestamp_ms("2023-11-14T22:13:20+00:00") == 1_700_000_000_000
    assert timestamp_ms("1969-12-31T23:59:59.999+00:00") == 0  # not -1, which would be the end
    for convert, text in [
        (duration_ms, "soon"),
        (duration_ms, "P"),
        (duration_ms, "PT"),
        (duration_ms, "5x"),
        (key_value, "a"),
        (key_value, "=b"),
        (escaped, "\\x"),
        (timestamp_ms, "noon"),
        (timestamp_ms, "9" * 20),
        (positive_int, "0"),
        (positive_int, "-1"),
        (positive_int, "x"),
        (positive_seconds, "0"),
        (positive_seconds, "nan"),
    ]:
        with pytest.raises(argparse.ArgumentTypeError):
            convert(text)

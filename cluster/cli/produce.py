"""`pylog produce`: lines of stdin or a file become records."""

from __future__ import annotations

import argparse
import os
import stat
import sys
import time
from collections.abc import Callable

from cluster.cli.arguments import add_connection, connect, escaped, key_value, non_negative_int, positive_int
from cluster.cli.errors import CommandError, UsageError
from cluster.cli.output import RecordMeter, notice
from cluster.cli.producer import ACKS_ALL, Producer
from cluster.cli.record_input import parse_json, read_lines, shown
from pylog.compression import Codec, codec_named
from pylog.records import Header

_ACKS = {"all": ACKS_ALL, "-1": ACKS_ALL, "1": 1, "0": 0}
_DEFAULT_BATCH_BYTES = 256 * 1024
_LINGER_S = 0.005

# Lines, the number of the first, and the time in ms.
_Feed = Callable[[list[bytes], int, int], None]


def separator(text: str) -> bytes:
    """What stands between key and value: a text with escapes, not empty."""
    found = escaped(text)
    if not found:
        raise argparse.ArgumentTypeError("it must not be empty")
    return found


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="pylog produce", description="Write each line of the input as a record. Ends with the input (Ctrl-D)."
    )
    parser.add_argument("topic")
    parser.add_argument("-f", "--file", metavar="PATH", help="read this instead of stdin")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "-K", "--key-separator", type=separator, metavar="TEXT", help=r"lines are KEY TEXT VALUE; \t is a tabulator"
    )
    form.add_argument("--json", action="store_true", help="lines are what `pylog consume --json` writes")
    parser.add_argument(
        "-H", "--header", type=key_value, action="append", default=[], metavar="NAME=VALUE", help="on every record"
    )
    parser.add_argument(
        "--null", type=escaped, metavar="TEXT", help="a value that is TEXT means: no value (a tombstone)"
    )
    parser.add_argument(
        "-p",
        "--partition",
        type=non_negative_int,
        metavar="N",
        help="default: by the key, as Java's clients do; without a key batch by batch in turn",
    )
    parser.add_argument(
        "-z",
        "--compression",
        choices=[codec.kafka_name for codec in Codec],
        default="none",
        help="default: %(default)s",
    )
    parser.add_argument("-a", "--acks", choices=list(_ACKS), default="all", help="default: %(default)s")
    parser.add_argument(
        "--no-idempotence",
        action="store_true",
        help="records may be doubled when a broker fails; always so unless acks=all",
    )
    parser.add_argument(
        "--batch-size", type=positive_int, default=_DEFAULT_BATCH_BYTES, metavar="BYTES", help="default: %(default)s"
    )
    parser.set_defaults(run=_run)
    add_connection(parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    fd = _open_input(options.file)
    status = os.fstat(fd)
    total_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None
    acks = _ACKS[options.acks]
    with (
        connect(options) as cluster,
        RecordMeter("produced", enabled=not os.isatty(fd), total_bytes=total_bytes) as meter,
    ):
        producer = Producer(
            cluster,
            options.topic,
            acks=acks,
            codec=codec_named(options.compression),
            idempotent=acks == ACKS_ALL and not options.no_idempotence,
            batch_bytes=options.batch_size,
            on_acknowledged=meter.add,
        )
        if options.partition is not None and options.partition >= producer.partition_count:
            last = producer.partition_count - 1
            raise UsageError(f"--partition: topic {options.topic!r} has partitions 0 to {last}")
        if os.isatty(fd):
            notice(f"each line becomes a record of {options.topic}; Ctrl-D ends")
        try:
            _produce(producer, fd, options)
        except BaseException:
            notice(f"stopped after {meter.counted}")
            raise
    if meter.drawn:
        notice(f"produced {meter.summary()}")
    return 0


def _open_input(path: str | None) -> int:
    if path is None or path == "-":
        return sys.stdin.fileno()
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def _produce(producer: Producer, fd: int, options: argparse.Namespace) -> None:
    """Feed every line to the producer. Whatever is wrong with a line, those before it are written first."""
    feed = _feed(producer, options)
    number = 1
    for lines in read_lines(fd, _LINGER_S):
        if not lines:
            producer.flush()
            continue
        try:
            feed(lines, number, time.time_ns() // 1_000_000)
        except CommandError:
            producer.flush()
            raise
        number += len(lines)
    producer.flush()


def _feed(producer: Producer, options: argparse.Namespace) -> _Feed:
    """What makes records of lines. The common forms have loops of their own: this is where the time goes."""
    headers = tuple(Header(name, value.encode()) for name, value in options.header)
    separator, null, partition, add = options.key_separator, options.null, options.partition, producer.add

    def feed_json(lines: list[bytes], number: int, now_ms: int) -> None:
        for place, line in enumerate(lines, number):
            record = parse_json(line, place)
            timestamp = now_ms if record.timestamp is None else record.timestamp
            add(record.key, record.value, record.headers + headers, timestamp, partition)

    def feed_keyed(lines: list[bytes], number: int, now_ms: int) -> None:
        for place, line in enumerate(lines, number):
            key, found, value = line.partition(separator)
            if not found:
                raise CommandError(f"line {place}: no key separator {separator.decode()!r} in {shown(line)}")
            add(key, None if value == null else value, headers, now_ms, partition)

    def feed_values(lines: list[bytes], number: int, now_ms: int) -> None:
        for line in lines:
            add(None, None if line == null else line, headers, now_ms, partition)

    if options.json:
        return feed_json
    return feed_values if separator is None else feed_keyed

"""`pylog produce`: lines of stdin or a file become records."""

from __future__ import annotations

import argparse
import os
import stat
import sys
import time

from cluster.cli.arguments import add_connection, connect, escaped, key_value, non_negative_int, positive_int
from cluster.cli.errors import CommandError, UsageError
from cluster.cli.output import RecordMeter, notice
from cluster.cli.producer import ACKS_ALL, Producer
from cluster.cli.record_input import Parser, line_parser, parse_json, read_lines
from pylog.compression import Codec, codec_named
from pylog.records import Header

_ACKS = {"all": ACKS_ALL, "-1": ACKS_ALL, "1": 1, "0": 0}
_DEFAULT_BATCH_BYTES = 256 * 1024
_LINGER_S = 0.005


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="pylog produce", description="Write each line of the input as a record. Ends with the input (Ctrl-D)."
    )
    parser.add_argument("topic")
    parser.add_argument("-f", "--file", metavar="PATH", help="read this instead of stdin")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "-K", "--key-separator", type=escaped, metavar="TEXT", help=r"lines are KEY TEXT VALUE; \t is a tabulator"
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
            notice(f"stopped after {meter.summary()}")
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
    headers = tuple(Header(name, value.encode()) for name, value in options.header)
    separator, null = options.key_separator, options.null
    if options.json or separator is not None or null is not None:
        parse: Parser | None = parse_json if options.json else line_parser(separator, headers, null)
    else:
        parse = None
    add = producer.add
    number = 0
    for lines in read_lines(fd, _LINGER_S):
        if not lines:
            producer.flush()
            continue
        now_ms = time.time_ns() // 1_000_000
        if parse is None:
            for line in lines:
                add(None, line, headers, now_ms, options.partition)
            continue
        for line in lines:
            number += 1
            try:
                record = parse(line)
            except CommandError as error:
                producer.flush()
                raise CommandError(f"line {number}: {error}") from error
            add(
                record.key,
                record.value,
                record.headers + headers if options.json else headers,
                now_ms if record.timestamp is None else record.timestamp,
                options.partition,
            )
    producer.flush()

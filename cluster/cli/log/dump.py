"""`pylog log dump`: what is in the files, in the words of kafka-dump-log."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cluster.cli.log.target import add_target, target

if TYPE_CHECKING:
    from pylog.dump import DumpOptions
    from pylog.partition_files import LogDirectory, PartitionFiles

_OFFSETS_TOPIC = "__consumer_offsets"
_TRANSACTION_TOPIC = "__transaction_state"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb, by the names they have in kafka-dump-log."""
    add_target(parser)
    parser.add_argument("--deep-iteration", action="store_true", help="also the records of each batch")
    parser.add_argument("--print-data-log", action="store_true", help="also keys and values")
    parser.add_argument(
        "--offsets-decoder", action="store_true", help=f"read what is in the records of {_OFFSETS_TOPIC}"
    )
    parser.add_argument(
        "--transaction-log-decoder", action="store_true", help=f"read what is in the records of {_TRANSACTION_TOPIC}"
    )


def run(options: argparse.Namespace) -> int:
    """Print the files, then on stderr what is wrong with them. Exit code 1 when something is."""
    from pylog.dump import Dump
    from pylog.errors import KafkaError
    from pylog.files import CorruptFileError

    wrong = 0
    for files, path in _files(target(options)):
        dump = Dump(path, _dump_options(options, files))
        try:
            sys.stdout.writelines(f"{line}\n" for line in dump.lines())
        except FileNotFoundError:
            continue  # a running broker has just removed it
        except (CorruptFileError, KafkaError) as error:
            wrong += 1
            print(f"pylog: {error}", file=sys.stderr)
        for problem in dump.problems:
            wrong += 1
            print(f"pylog: {problem.path}: {problem.what}", file=sys.stderr)
    return 1 if wrong else 0


def _files(directory: LogDirectory) -> Iterator[tuple[PartitionFiles, str]]:
    """Every file that can be dumped, segment by segment."""
    from pylog.dump import is_dumpable

    for files in directory.partitions:
        if directory.only_file is not None:
            yield files, directory.only_file
            continue
        for name in sorted(os.listdir(files.path)):
            path = files.side_file(name)
            if is_dumpable(path):
                yield files, path


def _dump_options(options: argparse.Namespace, files: PartitionFiles) -> DumpOptions:
    from cluster.cli.log.decoders import decode_group_record, decode_transaction_record
    from pylog.dump import DumpOptions

    topic = files.partition.topic if files.partition is not None else ""
    decoder = None
    if options.offsets_decoder and topic in (_OFFSETS_TOPIC, ""):
        decoder = decode_group_record
    elif options.transaction_log_decoder and topic in (_TRANSACTION_TOPIC, ""):
        decoder = decode_transaction_record
    return DumpOptions(options.deep_iteration, options.print_data_log, decoder)

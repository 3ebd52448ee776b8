"""`pylog log`: look into Kafka's directories and files, ours or a Kafka broker's, running or dead.

Keeps true: only `recover --yes` writes, and only it takes the lock. Each verb is a file here with `add_arguments` and
`run`; what it needs for its work it imports when it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cluster.cli.errors import CommandError, UsageError
from cluster.cli.log import dump, export, ls, recover, stats, tail, verify


def build_parser() -> argparse.ArgumentParser:
    """The options of all its verbs."""
    parser = argparse.ArgumentParser(
        prog="pylog log",
        description="Look into a Kafka data directory. No broker is needed, and a running one not disturbed.",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for module in (ls, dump, verify, recover, tail, stats, export):
        name = module.__name__.rpartition(".")[2]
        summary = (module.__doc__ or "").partition(": ")[2].partition("\n")[0].rstrip(".")
        verb = verbs.add_parser(name, help=summary)
        module.add_arguments(verb)
        verb.set_defaults(run=_guarded(module.run))
    return parser


def _guarded(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """What the directory does not let us do is one line, not a traceback."""

    def guarded(options: argparse.Namespace) -> int:
        from pylog.data_dir import DirectoryInUse
        from pylog.files import CorruptFileError
        from pylog.partition_files import NotALogDirectory

        try:
            return run(options)
        except NotALogDirectory as error:
            raise UsageError(str(error)) from error
        except (CorruptFileError, DirectoryInUse) as error:
            raise CommandError(str(error)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            what = (error.strerror or str(error)).lower()
            raise CommandError(f"{error.filename}: {what}" if error.filename else what) from error

    return guarded

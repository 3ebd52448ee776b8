"""`pylog cluster`: a cluster on this machine, to try out: ZooKeeper and some brokers as background processes.

Keeps true: everything is in one directory: settings, data, logs, process ids; a process is only taken for ours, and
only ended, when its id and the time of its start are those that were noted. Each verb is a file here with
`add_arguments` and `run`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cluster.cli.cluster import start, status, stop
from cluster.cli.errors import CommandError


def build_parser() -> argparse.ArgumentParser:
    """The options of all its verbs."""
    parser = argparse.ArgumentParser(
        prog="pylog cluster",
        description="Run a cluster on this machine: ZooKeeper and several brokers, each with its own data and port.",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for module in (start, status, stop):
        name = module.__name__.rpartition(".")[2]
        summary = (module.__doc__ or "").partition(": ")[2].partition("\n")[0].rstrip(".")
        verb = verbs.add_parser(name, help=summary)
        verb.add_argument(
            "--dir", metavar="DIR", default="pylog-cluster", help="where everything is kept (default: %(default)s)"
        )
        module.add_arguments(verb)
        verb.set_defaults(run=_guarded(module.run))
    return parser


def _guarded(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """What the system does not let us do is one line, not a traceback."""

    def guarded(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except BrokenPipeError:
            raise
        except OSError as error:
            what = (error.strerror or str(error)).lower()
            raise CommandError(f"{error.filename}: {what}" if error.filename else what) from error

    return guarded

"""`pylog groups`: list, describe, reset, delete. Each verb is in a file of its own."""

from __future__ import annotations

import argparse

from cluster.cli.group_delete import add_delete
from cluster.cli.group_describe import add_describe
from cluster.cli.group_list import add_list
from cluster.cli.group_reset import add_reset


def build_parser() -> argparse.ArgumentParser:
    """The options of all its verbs."""
    parser = argparse.ArgumentParser(prog="pylog groups", description="Consumer groups, their offsets and their lag.")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    add_list(verbs)
    add_describe(verbs)
    add_reset(verbs)
    add_delete(verbs)
    return parser

"""Where reading starts: the beginning, the end, an offset, the last so many records, or a moment."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from enum import Enum

from cluster.cli.arguments import timestamp_ms
from cluster.cli.client import ClusterClient
from cluster.cli.offsets import EARLIEST, LATEST, NO_OFFSET, TopicPartition, list_offsets
from pylog.facts import NamedTuple


class Anchor(Enum):
    """What the number of a start position counts from."""

    BEGINNING = "beginning"
    END = "end"
    OFFSET = "offset"
    TIME = "time"


class StartPosition(NamedTuple):
    """`number`: of an offset, of records before the end, or of ms since 1970."""

    anchor: Anchor
    number: int = 0


def start_position(text: str) -> StartPosition:
    """beginning, end, 42, -10 or a time. Raises argparse.ArgumentTypeError."""
    if text in (Anchor.BEGINNING.value, "earliest"):
        return StartPosition(Anchor.BEGINNING)
    if text in (Anchor.END.value, "latest"):
        return StartPosition(Anchor.END)
    if text.isdecimal():
        return StartPosition(Anchor.OFFSET, int(text))
    if text.startswith("-") and text[1:].isdecimal():
        return StartPosition(Anchor.END, int(text[1:]))
    try:
        return StartPosition(Anchor.TIME, timestamp_ms(text.removeprefix("@")))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not `beginning`, `end`, an offset, -N for the last N records, a time, or @ms since 1970"
        ) from error


def resolve(
    cluster: ClusterClient, partitions: Collection[TopicPartition], start: StartPosition, isolation: int
) -> dict[TopicPartition, int]:
    """The offset of each partition to start at."""
    if start.anchor is Anchor.BEGINNING:
        return list_offsets(cluster, partitions, EARLIEST)
    if start.anchor is Anchor.OFFSET:
        return dict.fromkeys(partitions, start.number)
    end = list_offsets(cluster, partitions, LATEST, isolation)
    if start.anchor is Anchor.END and not start.number:
        return end
    if start.anchor is Anchor.END:
        first = list_offsets(cluster, partitions, EARLIEST)
        return {tp: max(first[tp], end[tp] - start.number) for tp in partitions}
    found = list_offsets(cluster, partitions, start.number)
    return {tp: end[tp] if found[tp] == NO_OFFSET else found[tp] for tp in partitions}

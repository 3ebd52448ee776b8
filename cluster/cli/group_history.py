"""The journal of rebalances as `pylog groups describe --history` shows it."""

from __future__ import annotations

import sys

from cluster.cli.group_output import counted, member_text, moment_text
from cluster.cli.group_view import GroupView, Rebalance
from cluster.cli.output import print_line, print_table

_UNDER_WAY = "under way"
_COLUMNS = ("WHEN", "TOOK", "JOINING", "OUTCOME", "GENERATION", "MEMBERS", "WHY", "WHO", "HOST", "CLIENT", "REASON")
_NUMBERS = ("TOOK", "JOINING", "GENERATION", "MEMBERS")


def print_history(views: list[GroupView]) -> None:
    """A table for each group, oldest rebalance first. Piped: a row for each cause, with the group before."""
    for view in views:
        kept = view.rebalances or []
        if not sys.stdout.isatty():
            print_table((), [(view.group, *row) for each in kept for row in _rows(each)])
            continue
        print_line(f"group {view.group}: {view.state}, {counted(len(view.members), 'member')}")
        if kept:
            print_table(_COLUMNS, [row for each in kept for row in _drawn(each)], numbers=_NUMBERS)
        else:
            print_line(f"  no rebalance since {view.coordinator} became its coordinator")
        print_line()


def rebalance_document(each: Rebalance) -> dict[str, object]:
    """A rebalance for JSON."""
    return {
        "begun_ms": each.begun_ms,
        "took_ms": _known(each.took_ms),
        "joining_ms": _known(each.joining_ms),
        "outcome": each.outcome or _UNDER_WAY,
        "generation": each.generation,
        "members": each.members,
        "causes": [
            {
                "at_ms": cause.at_ms,
                "kind": cause.kind,
                "member": cause.member_id or None,
                "client": cause.client_id or None,
                "host": cause.client_host.removeprefix("/") or None,
                "reason": cause.reason or None,
            }
            for cause in each.causes
        ],
        "causes_omitted": each.omitted,
    }


def _rows(each: Rebalance) -> list[tuple[object, ...]]:
    """A row for each cause, all of them with what the rebalance was."""
    was = (
        moment_text(each.begun_ms),
        _seconds(each.took_ms),
        _seconds(each.joining_ms),
        each.outcome or _UNDER_WAY,
        each.generation,
        each.members,
    )
    return [
        (
            *was,
            cause.kind,
            member_text(cause.member_id) or None,
            cause.client_host.removeprefix("/") or None,
            cause.client_id or None,
            cause.reason or None,
        )
        for cause in each.causes
    ]


def _drawn(each: Rebalance) -> list[tuple[object, ...]]:
    """Only the first row says what the rebalance was; the others are what happened in its course."""
    first, *others = _rows(each)
    blank = ("",) * 6
    rows = [first, *((*blank, *row[6:]) for row in others)]
    if each.omitted:
        rows.append((*blank, f"and {each.omitted} more", "", "", "", ""))
    return rows


def _known(duration_ms: int) -> int | None:
    return None if duration_ms < 0 else duration_ms


def _seconds(duration_ms: int) -> str | None:
    if duration_ms < 0:
        return None
    return f"{duration_ms / 1000:.3f}" + (" s" if sys.stdout.isatty() else "")

"""Two outcomes of one step, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.differential.session import Session, Step, Tree

MISSING = "<missing>"


class Difference(NamedTuple):
    """`path`: fields from the top, list positions left out: topics.partitions.error_code. `context`: the structs on the
    way in both answers, innermost last, for rules that depend on neighbours."""

    api: str
    version: int
    path: str
    ours: Tree
    theirs: Tree
    context: tuple[tuple[Any, Any], ...]

    def __str__(self) -> str:
        return f"{self.api} v{self.version} {self.path or '(outcome)'}: ours {self.ours!r}, Kafka {self.theirs!r}"


def faults(
    session: Session, ours: list[Tree], theirs: list[Tree], oracle: str = "kafka39"
) -> Iterator[tuple[int, Difference]]:
    """What differs without a reason in known.py, with the place of its step. oracle: the kind that theirs is."""
    from tests.differential.known import reason

    for at, step in enumerate(session[: comparable(session, ours, theirs)]):
        for difference in differences(step, ours[at], theirs[at]):
            if reason(difference, oracle) is None:
                yield at, difference


def comparable(session: Session, ours: list[Tree], theirs: list[Tree]) -> int:
    """How many steps can be compared: until two groups are led by different members, which is chance, or one of two
    producers has begun anew, which known.py excuses, or a group that has changed its protocol is not the same any more,
    which is meant (DECISIONS 44)."""
    converted = Conversions()
    for at, step in enumerate(session):
        if "poll" in step and _leaders(ours[at]) != _leaders(theirs[at]):
            return at
        if converted.excuse(step, ours[at], theirs[at]):
            return at
        if step.get("api") == "InitProducerId" and (_code(ours[at]) == 0) != (_code(theirs[at]) == 0):
            return at + 1
    return len(session)


class Conversions:
    """What the answers say of the protocol of a session's group."""

    def __init__(self) -> None:
        self._kind = ""
        self._changed = False  # while it lived, as far as can be seen

    def excuse(self, step: Step, ours: Tree, theirs: Tree) -> bool:
        """Whether this is where two groups part because they changed it, or one of the classic protocol, who is no
        member any more, is taken for one."""
        from tests.differential.known import reason

        if "poll" in step:
            answers = [(each, theirs[conn]) for conn, each in ours.items() if isinstance(theirs.get(conn), dict)]
            if any((_code(one), _code(other)) == (25, 0) for one, other in answers):
                return True
            if _leaders(theirs):
                self._is("classic")
        elif step.get("api") == "ConsumerGroupHeartbeat" and isinstance(theirs, dict):
            if "is not a consumer group" in (theirs["error_message"] or "") and self._kind:
                self._is("classic")
            elif _code(theirs) == 0 and step["body"]["member_epoch"] == 0:
                self._is("consumer")
        return self._changed and any(reason(each, "kafka4") is None for each in differences(step, ours, theirs))

    def _is(self, kind: str) -> None:
        self._changed = self._changed or self._kind not in ("", kind)
        self._kind = kind


def differences(step: Step, ours: Tree, theirs: Tree) -> list[Difference]:
    kind = next((f"({kind})" for kind in ("poll", "stable", "settled", "ended", "receive") if kind in step), "")
    return list(_walk(step.get("api", kind), step.get("version", -1), "", ours, theirs, ()))


def _code(outcome: Tree) -> Tree:
    return outcome.get("error_code") if isinstance(outcome, dict) else outcome


def _leaders(found: Tree) -> set[Tree]:
    """Who is said to lead in the answers that a poll found."""
    return {each["leader"] for each in found.values() if isinstance(each, dict) and each.get("leader")}


def _walk(
    api: str, version: int, path: str, ours: Tree, theirs: Tree, context: tuple[tuple[Any, Any], ...]
) -> Iterator[Difference]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        inside = (*context, (ours, theirs))
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            deeper = f"{path}.{key}" if path else key
            yield from _walk(api, version, deeper, ours.get(key, MISSING), theirs.get(key, MISSING), inside)
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            yield Difference(api, version, path + ".#", ours, theirs, context)
            return
        for one, other in zip(ours, theirs, strict=True):
            yield from _walk(api, version, path, one, other, context)
    elif ours != theirs or type(ours) is not type(theirs):
        yield Difference(api, version, path, ours, theirs, context)

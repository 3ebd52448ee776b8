"""Subscriptions by pattern (KIP-848, in RE2's syntax): which are in use, and when they are to be resolved again.

What stays true: a pattern that does not compile never becomes part of a group; which topics match is found elsewhere
(`ResolveRegexes`), never by the thread that coordinates; a group has one resolution under way, and all of its patterns
are resolved together, so that they cost one rebalance and not one each.
"""

from __future__ import annotations

from cluster.coordinator.consumer_env import Change, ConsumerEnv
from cluster.coordinator.consumer_group import ConsumerGroup, add
from cluster.coordinator.consumer_member import ConsumerMember
from cluster.coordinator.consumer_records import GroupEpoch, RegexDeleted, RegexResolved
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.typed import Protocol, cast

_SHORTEST_REFRESH_MS = 10_000
_LARGEST_PROGRAM_BYTES = 1 << 20
"""What a compiled pattern may take: one that needs more is refused, before it can take time."""


class ResolveRegexes(NamedTuple):
    """Which topics match each of these. Answer: `Resolved`."""

    regexes: tuple[str, ...]


class Resolved(NamedTuple):
    """`topics`: by pattern, those whose whole name matches. `version`: of the metadata looked at; `made_ms`: when."""

    topics: dict[str, frozenset[str]]
    version: int
    made_ms: int


class Regexes:
    """What is remembered of a group's patterns beside its records."""

    __slots__ = ("is_resolving",)

    def __init__(self) -> None:
        self.is_resolving = False


class Followed(NamedTuple):
    """`is_resolved`: the member's pattern changed, and what the new one matches is known."""

    is_changed: bool
    is_resolved: bool


def follow_regex(
    env: ConsumerEnv,
    group: ConsumerGroup,
    regexes: Regexes,
    before: ConsumerMember,
    after: ConsumerMember,
    now_ms: int,
    change: Change,
) -> Followed:
    """Take notice of a member's pattern, and have the group's resolved when it is time. Raises KafkaError."""
    old, new = before.topic_regex, after.topic_regex
    is_changed, is_resolved, must_resolve = old != new, False, False
    if is_changed:
        if old and group.regex_readers.get(old, 0) == 1:
            change.facts.append(RegexDeleted(group.group_id, old))
        if new and not group.regex_readers.get(new, 0):
            check_regex(new)
            must_resolve = True
        else:
            is_resolved = new in group.regexes if new else bool(old)
    followed = Followed(is_changed, is_resolved)
    if (not must_resolve and not group.regex_readers) or regexes.is_resolving:
        return followed
    last_ms = max((each.made_ms for each in group.regexes.values()), default=-_SHORTEST_REFRESH_MS - 1)
    if now_ms <= last_ms + _SHORTEST_REFRESH_MS:
        return followed
    readers = dict(group.regex_readers)
    if old:
        add(readers, old, -1)
    if new:
        add(readers, new, 1)
    known_version = max((each.version for each in group.regexes.values()), default=0)
    must_resolve = (
        must_resolve
        or len(readers) != len(group.regexes)
        or known_version < env.topics.version()
        or now_ms > last_ms + env.config.consumer.regex_refresh_interval_ms
    )
    if must_resolve and readers:
        change.regexes = tuple(readers)
    return followed


def take_resolved(env: ConsumerEnv, group: ConsumerGroup, resolved: Resolved, change: Change) -> None:
    """What was resolved becomes part of the group; a new epoch, if that changes what its members read."""
    names = dict(group.topic_readers)
    must_bump = False
    for regex in group.regex_readers:
        known = group.regexes.get(regex)
        topics = frozenset() if known is None else known.topics
        if regex in resolved.topics:
            must_bump = must_bump or topics != resolved.topics[regex]
            topics = resolved.topics[regex]
            change.facts.append(RegexResolved(group.group_id, regex, topics, resolved.version, resolved.made_ms))
        for name in topics:
            add(names, name, 1)
    value = env.metadata_hash(names)
    if must_bump or value != group.metadata_hash:
        change.facts.append(GroupEpoch(group.group_id, group.epoch + 1, value))


class _Pattern(Protocol):
    def fullmatch(self, text: str) -> object | None: ...


def _compile(regex: str) -> _Pattern:
    import re2

    options = re2.Options()
    options.max_mem = _LARGEST_PROGRAM_BYTES
    options.log_errors = False
    return cast("_Pattern", re2.compile(regex, options))


def check_regex(regex: str) -> None:
    """Raises KafkaError(INVALID_REGULAR_EXPRESSION)."""
    import re2

    try:
        _compile(regex)
    except re2.error as error:
        why = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        text = f"SubscribedTopicRegex `{regex}` is not a valid regular expression: {why}."
        raise KafkaError(ErrorCode.INVALID_REGULAR_EXPRESSION, text) from error


def matching(regexes: tuple[str, ...], names: list[str]) -> dict[str, frozenset[str]]:
    """By pattern, the names that match as a whole: in time proportional to their length, whatever the pattern. Any
    thread."""
    import re2

    found: dict[str, frozenset[str]] = {}
    for regex in regexes:
        try:
            compiled = _compile(regex)
        except re2.error:  # another broker took it, of whose syntax we know less
            found[regex] = frozenset()
            continue
        found[regex] = frozenset(name for name in names if compiled.fullmatch(name) is not None)
    return found

"""Ours beside the standard library's: whatever is asked of both, both say the same."""

from __future__ import annotations

import copy
import enum
import inspect
import typing
from collections.abc import Callable
from typing import Any

import pytest

from pylog import facts


def make_facts(base: Any) -> Any:
    class Fact(base):  # type: ignore[misc]
        """A fact."""

        name: str
        size: int
        tags: tuple[str, ...] = ()
        rack: str | None = None

        @property
        def doubled(self) -> int:
            return 2 * self.size

        @classmethod
        def empty(cls) -> Any:
            return cls("", 0)

        def __str__(self) -> str:
            return f"{self.name}/{self.size}"

    return Fact


def make_enum(base: Any) -> Any:
    class Code(base):  # type: ignore[misc]
        """Codes."""

        UNKNOWN = -1
        NONE = 0
        FAILED = 7
        BROKEN = 7

        @property
        def bad(self) -> bool:
            return self != 0

    return Code


OURS, THEIRS = make_facts(facts.NamedTuple), make_facts(typing.NamedTuple)
OFTEN_MADE = make_facts(facts.NamedTuple)
CODE, CODE_THEIRS = make_enum(facts.IntEnum), make_enum(enum.IntEnum)
for _ in range(1_000):
    OFTEN_MADE("a", 1)


def outcome(question: Callable[[Any], Any], subject: Any) -> Any:
    """The answer, or the kind of exception."""
    try:
        return question(subject)
    except Exception as error:  # what is compared is which
        return type(error)


@pytest.mark.parametrize("ours", [OURS, OFTEN_MADE], ids=["ours", "often_made"])
@pytest.mark.parametrize(
    "question",
    [
        lambda c: tuple(c("a", 1)),
        lambda c: tuple(c("a", 1, ("x",))),
        lambda c: tuple(c("a", 1, ("x",), "r")),
        lambda c: tuple(c(size=1, name="a")),
        lambda c: tuple(c("a", size=1, rack="r")),
        lambda c: tuple(c("a", 1, rack="r")),
        lambda c: c("a"),
        lambda c: c(),
        lambda c: c("a", 1, (), None, 5),
        lambda c: c("a", 1, name="b"),
        lambda c: c("a", 1, (), None, name="b"),
        lambda c: c("a", 1, other=2),
        lambda c: c(size=1),
        lambda c: c("a", 1) == ("a", 1, (), None),
        lambda c: c("a", 1) == c("a", 2),
        lambda c: hash(c("a", 1)),
        lambda c: c("a", 1) < c("a", 2),
        lambda c: len(c("a", 1)),
        lambda c: c("a", 1)[1],
        lambda c: c("a", 1).rack,
        lambda c: c("a", 1).nothing,
        lambda c: setattr(c("a", 1), "name", "b"),
        lambda c: setattr(c("a", 1), "nothing", "b"),
        lambda c: repr(c("a", 1)),
        lambda c: str(c("a", 1)),
        lambda c: f"{c('a', 1)}",
        lambda c: c("a", 1).doubled,
        lambda c: tuple(c.empty()),
        lambda c: c._fields,
        lambda c: c._field_defaults,
        lambda c: c.__match_args__,
        lambda c: c.__slots__,
        lambda c: c.__doc__,
        lambda c: list(c.__annotations__),
        lambda c: issubclass(c, tuple),
        lambda c: [(p.name, p.kind, p.default) for p in inspect.signature(c).parameters.values()],
        lambda c: tuple(c("a", 1)._replace(size=3)),
        lambda c: c("a", 1)._replace(nothing=3),
        lambda c: type(c("a", 1)._replace(size=3)) is c,
        lambda c: tuple(c._make(["a", 1, (), None])),
        lambda c: c._make(["a", 1]),
        lambda c: c("a", 1)._asdict(),
        lambda c: tuple(copy.copy(c("a", 1))),
        lambda c: tuple(copy.deepcopy(c("a", 1))),
        lambda c: type(copy.copy(c("a", 1))) is c,
        lambda c: c("a", 1) in {c("a", 1)},
        lambda c: [name for name, *_ in (c("a", 1),)],
        lambda c: type("Wider", (c,), {"extra": 5})("a", 1).extra,
        lambda c: repr(type("Wider", (c,), {})("a", 1)),
    ],
)
def test_a_fact_answers_like_a_named_tuple(question: Callable[[Any], Any], ours: Any) -> None:
    assert outcome(question, ours) == outcome(question, THEIRS)


def test_a_class_of_which_many_are_made_gets_a_function_that_makes_them() -> None:
    assert "__new__" not in vars(OURS)
    assert "__new__" in vars(OFTEN_MADE)
    wider = type("Wider", (make_facts(facts.NamedTuple),), {})
    for number in range(1_000):
        assert tuple(wider("a", number)) == ("a", number, (), None)
    assert type(wider("a", 1)) is wider
    assert "__new__" in vars(wider.__mro__[1])

    class Empty(facts.NamedTuple):
        """No field."""

    assert {Empty() for _ in range(1_000)} == {()}


def test_a_fact_is_matched_by_position_and_name() -> None:
    match OURS("a", 1):
        case OURS("a", size, rack=None):
            assert size == 1
        case _:
            pytest.fail("no match")


def test_a_field_without_default_may_not_follow_one_with() -> None:
    def wrong(base: Any) -> Any:
        class Wrong(base):  # type: ignore[misc]
            first: int = 1
            second: int

        return Wrong

    assert outcome(wrong, facts.NamedTuple) is outcome(wrong, typing.NamedTuple) is TypeError


def test_a_field_may_not_be_private() -> None:
    def wrong(base: Any) -> Any:
        class Wrong(base):  # type: ignore[misc]
            _first: int

        return Wrong

    assert outcome(wrong, facts.NamedTuple) is outcome(wrong, typing.NamedTuple) is ValueError


@pytest.mark.parametrize(
    "question",
    [
        lambda c: [int(each) for each in c],
        lambda c: [each.name for each in c],
        lambda c: len(c),
        lambda c: c(7).name,
        lambda c: c(-1).name,
        lambda c: c(7) is c.FAILED,
        lambda c: c.BROKEN is c.FAILED,
        lambda c: c["NONE"] is c.NONE,
        lambda c: c["BROKEN"].name,
        lambda c: c["nothing"],
        lambda c: c(8),
        lambda c: c("NONE"),
        lambda c: c([]),
        lambda c: c(c.FAILED) is c.FAILED,
        lambda c: c.nothing,
        lambda c: c.NONE.nothing,
        lambda c: type(c.FAILED.value),
        lambda c: type(c.FAILED) is c,
        lambda c: isinstance(c.FAILED, int),
        lambda c: c.FAILED in c,
        lambda c: c.FAILED == 7,
        lambda c: c.FAILED == 7,
        lambda c: c.FAILED + 1,
        lambda c: type(c.FAILED + 1),
        lambda c: c.NONE < c.FAILED,
        lambda c: bool(c.NONE),
        lambda c: hash(c.FAILED) == hash(7),
        lambda c: {7: "x"}[c.FAILED],
        lambda c: repr(c.FAILED),
        lambda c: str(c.FAILED),
        lambda c: f"{c.FAILED} {c.FAILED:3d} {c.FAILED!r}",
        lambda c: "%d %s" % (c.FAILED, c.FAILED),  # noqa: UP031
        lambda c: c.FAILED.bad,
        lambda c: c.NONE.bad,
        lambda c: c.__doc__,
        lambda c: c.__name__,
        lambda c: copy.copy(c.FAILED) is c.FAILED,
        lambda c: copy.deepcopy(c.FAILED) is c.FAILED,
        lambda c: int.to_bytes(c.FAILED, 2, "big"),
    ],
)
def test_a_member_answers_like_one_of_an_int_enum(question: Callable[[Any], Any]) -> None:
    assert outcome(question, CODE) == outcome(question, CODE_THEIRS)

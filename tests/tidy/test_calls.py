"""Calls that hide defects, or make tests slow and shaky."""

import ast
import re

import pytest

from tests.tidy.sources import inside, module, name, nodes, python_files, text

# Any is for the border with cffi, for tables that are decoded, and where messages of every API pass.
ANY_ALLOWED = (
    "pylog.typed",
    "pylog._native",
    "pylog._columns",
    "pylog._engine",
    "pylog._cleaning",
    "cluster.protocol",
    "cluster.broker.apis",
    "tests",
    "bench",
)
EXEC_ALLOWED = ("cluster.protocol",)
ASYNCIO_ALLOWED = ("tests.clients", "tests.kill", "tests.support.load")


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(wanted: set[str]) -> list[tuple[str, str, int, str]]:
    """(module, file, line, text of the line) of every call of a dotted name."""
    found = []
    for path in python_files():
        lines = text(path).splitlines()
        for node in nodes(path):
            if isinstance(node, ast.Call) and dotted(node.func) in wanted:
                found.append((module(path), name(path), node.lineno, lines[node.lineno - 1]))
    return found


def test_nothing_sleeps() -> None:
    """Wait on a condition, an event or a descriptor, with a bound. `# sleep: why` excuses a line."""
    wrong = [f"{file}:{line}" for _, file, line, body in calls({"time.sleep", "sleep"}) if "# sleep:" not in body]
    assert not wrong, f"sleeps: {wrong}"


def test_no_code_is_made_at_run_time() -> None:
    found = calls({"eval", "exec", "os.system", "pickle.loads", "pickle.load"})
    wrong = [f"{file}:{line}" for own, file, line, _ in found if not any(inside(own, ok) for ok in EXEC_ALLOWED)]
    assert not wrong, f"{wrong}"


def test_no_error_is_swallowed() -> None:
    wrong = []
    for path in python_files():
        for node in nodes(path):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or dotted(node.type) in ("Exception", "BaseException")
            silent = all(isinstance(part, ast.Pass | ast.Continue) for part in node.body)
            if broad and silent:
                wrong.append(f"{name(path)}:{node.lineno}")
    assert not wrong, f"except Exception: pass, in {wrong}"


def test_no_test_that_cannot_fail() -> None:
    wrong = [
        f"{name(path)}:{node.lineno}"
        for path in python_files()
        for node in nodes(path)
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant | ast.Tuple)
    ]
    assert not wrong, f"assert of a constant: {wrong}"


def test_no_asyncio_in_the_product() -> None:
    wrong = [
        f"{name(path)}:{node.lineno}"
        for path in python_files()
        if not any(inside(module(path), ok) for ok in ASYNCIO_ALLOWED)
        for node in nodes(path)
        if isinstance(node, ast.AsyncFunctionDef)
    ]
    assert not wrong, f"{wrong}"


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("an ignored type error says which", re.compile(r"#\s*type:\s*ignore(?!\[)")),
        ("a silenced lint says which", re.compile(r"#\s*noqa(?!:)")),
        ("something unfinished", re.compile(r"\b(?:FIXME|XXX)\b|raise NotImplementedError")),
    ],
    ids=["type-ignore", "noqa", "unfinished"],
)
def test_lines_that_hide_something(what: str, pattern: re.Pattern[str]) -> None:
    wrong = [
        f"{name(path)}:{number}: {what}"
        for path in python_files()
        if name(path) != "tests/tidy/test_calls.py"
        for number, line in enumerate(text(path).splitlines(), 1)
        if pattern.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_any_stays_at_the_border() -> None:
    wrong = [
        f"{name(path)}:{node.lineno}"
        for path in python_files()
        if not any(inside(module(path), ok) for ok in ANY_ALLOWED)
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom) and node.module in ("typing", "pylog.typed")
        if "Any" in [part.name for part in node.names]
    ]
    assert not wrong, f"{wrong}"

"""Every file says first what it keeps true, and neither functions nor files grow past what a reader can hold.

Length is a ratchet: what is longer stands in long.txt with its length and the reason. It may shrink, not grow, and an
entry that is no longer needed has to go.
"""

import ast

from tests.tidy.sources import ROOT, Function, c_files, c_functions, name, python_files, python_functions, text, tree

FUNCTION_LINES = 70
FILE_LINES = 900


def ratchet() -> dict[str, int]:
    """`file` or `file:function` → the length it may have."""
    entries = {}
    for line in (ROOT / "tests" / "tidy" / "long.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            subject, length, reason = line.split(None, 2)
            assert reason, f"long.txt: {subject} has no reason"
            entries[subject] = int(length)
    return entries


def test_every_python_file_says_what_it_is() -> None:
    wrong = [name(path) for path in python_files() if text(path).strip() and not ast.get_docstring(tree(path))]
    assert not wrong, f"no docstring: {wrong}"


def test_every_c_file_says_what_it_is() -> None:
    wrong = []
    for path in c_files():
        start = text(path)[:400].lstrip()
        if not start.startswith("/*") and not (path.suffix == ".c" and path.with_suffix(".h").exists()):
            wrong.append(name(path))
    assert not wrong, f"no comment at the top, and no header of the same name that has one: {wrong}"


def functions() -> list[Function]:
    found = [function for path in python_files() for function in python_functions(path)]
    return found + [function for path in c_files() for function in c_functions(path)]


def test_functions_are_short() -> None:
    allowed = ratchet()
    wrong = [
        f"{found.file}:{found.line}: {found.name} has {found.length} lines"
        for found in functions()
        if found.length > allowed.get(f"{found.file}:{found.name}", FUNCTION_LINES)
    ]
    assert not wrong, f"longer than {FUNCTION_LINES} lines, or than long.txt allows:\n" + "\n".join(wrong)


def file_lengths() -> dict[str, int]:
    return {name(path): text(path).count("\n") for path in [*python_files(), *c_files()]}


def test_files_are_one_noun() -> None:
    allowed = ratchet()
    wrong = [
        f"{file} has {length} lines"
        for file, length in file_lengths().items()
        if length > allowed.get(file, FILE_LINES)
    ]
    assert not wrong, f"longer than {FILE_LINES} lines, or than long.txt allows:\n" + "\n".join(wrong)


def test_the_ratchet_has_no_slack() -> None:
    lengths: dict[str, int] = {}
    for found in functions():
        subject = f"{found.file}:{found.name}"
        lengths[subject] = max(lengths.get(subject, 0), found.length)
    files = file_lengths()
    wrong = []
    for subject, length in ratchet().items():
        now = lengths.get(subject, 0) if ":" in subject else files.get(subject, 0)
        limit = FUNCTION_LINES if ":" in subject else FILE_LINES
        if now < length:
            wrong.append(f"{subject} has {now} lines: " + ("remove the entry" if now <= limit else f"write {now}"))
    assert not wrong, "\n".join(wrong)

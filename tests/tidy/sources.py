"""The files tidy looks at, parsed once: Python as syntax trees, C without comments and strings."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("pylog", "cluster")
PYTHON_FOLDERS = ("pylog", "cluster", "tests", "bench", "csrc")
C_FOLDERS = ("csrc", "pylog", "tests", "bench")
GENERATED = {"pylog/_plog.c"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _files(folders: tuple[str, ...], endings: tuple[str, ...]) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in endings)
    return sorted(path for path in found if path.is_file() and name(path) not in GENERATED)


@cache
def python_files() -> list[Path]:
    return [*_files(PYTHON_FOLDERS, (".py",)), ROOT / "setup.py"]


@cache
def c_files() -> list[Path]:
    return _files(C_FOLDERS, (".c", ".h"))


@cache
def text(path: Path) -> str:
    return path.read_text("utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path), str(path))


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Every node of the file's tree."""
    return list(ast.walk(tree(path)))


def module(path: Path) -> str:
    """The dotted name a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of everything a file imports, wherever in the file; `from a import b` gives a and a.b."""
    found: list[tuple[int, str]] = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module(path).split(".")
                if path.name != "__init__.py":
                    package.pop()
                package = package[: len(package) - (node.level - 1)]
                base = ".".join([*package, base] if base else package)
            found.append((node.lineno, base))
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def inside(module_name: str, package: str) -> bool:
    return module_name == package or module_name.startswith(package + ".")


_C_NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


@cache
def c_code(path: Path) -> str:
    """The text of a C file with comments and literals blanked out; lines keep their numbers."""
    return _C_NOISE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text(path))


class Function(NamedTuple):
    """One function: where it starts and how long its code is. The docstring is not code."""

    file: str
    name: str
    line: int
    length: int


def python_functions(path: Path) -> list[Function]:
    found = []
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node, clean=False) is not None:
                length -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            found.append(Function(name(path), node.name, node.lineno, length))
    return found


_C_FUNCTION = re.compile(
    r"""^(?!\#|typedef|struct|enum|union|extern\ ")[A-Za-z_][^;{}=\#]*?  # result type, from the first column
        \b(\w+)\s*\([^;{}]*\)\s*\{                                     # name, arguments, body""",
    re.MULTILINE | re.VERBOSE,
)


def c_functions(path: Path) -> list[Function]:
    """Functions as our layout writes them: the head starts a line, the closing brace is alone in column 0."""
    code = c_code(path)
    found = []
    for head in _C_FUNCTION.finditer(code):
        end = code.find("\n}", head.end())
        first = code.count("\n", 0, head.start()) + 1
        found.append(Function(name(path), head.group(1), first, code.count("\n", head.start(), end) + 2))
    return found

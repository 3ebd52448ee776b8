"""Imports point one way: a module imports from the layers below its own, and siblings leave one another alone."""

import pytest

from tests.tidy.sources import ROOT, imports, inside, module, name, python_files

# Lowest first. Names in one group are siblings.
LAYERS: list[tuple[str, ...]] = [
    ("pylog",),
    ("cluster.model", "cluster.config"),
    ("cluster.protocol",),
    ("cluster.effects",),
    ("cluster.replication", "cluster.controller", "cluster.coordinator", "cluster.metadata", "cluster.security"),
    ("cluster.broker",),
    ("cluster.cli", "cluster.console", "cluster.testing"),
]
RANK = {package: rank for rank, group in enumerate(LAYERS) for package in group}

# State machines decide; whoever drives them has the clock, the threads and the sockets.
SANS_IO = ("cluster.replication", "cluster.controller", "cluster.coordinator")
NOT_SANS_IO = {"threading", "socket", "select", "time", "random", "secrets", "kazoo", "sqlite3", "subprocess", "queue"}

NATIVE_IMPORTERS = {"pylog/_native.py", "pylog/_engine.py", "pylog/_columns.py", "pylog/_cleaning.py"}


def layer(module_name: str) -> str | None:
    return next((package for package in RANK if inside(module_name, package)), None)


def product_files() -> list[str]:
    return [name(path) for path in python_files() if name(path).startswith(("pylog/", "cluster/"))]


@pytest.mark.parametrize("file", product_files())
def test_a_module_imports_only_from_below(file: str) -> None:
    path = ROOT / file
    own = layer(module(path))
    wrong = []
    for line, imported in imports(path):
        if inside(imported, "tests") or inside(imported, "bench"):
            wrong.append(f"{file}:{line}: the product imports {imported}")
        if imported == "cluster" and file == "cluster/__init__.py":
            continue
        other = layer(imported)
        if own is None and other is not None:
            wrong.append(f"{file}:{line}: belongs to no layer and imports {imported}")
        elif own is not None and other is not None and own != other and RANK[other] >= RANK[own]:
            wrong.append(f"{file}:{line}: {own} imports {imported}, which is not below it")
    assert not wrong, "\n".join(wrong)


def test_every_product_module_has_a_layer() -> None:
    lost = [file for file in product_files() if layer(module(ROOT / file)) is None and file != "cluster/__init__.py"]
    assert not lost, f"name their layer in tests/tidy/test_layers.py or move them: {lost}"


def test_state_machines_do_no_io() -> None:
    wrong = [
        f"{name(path)}:{line}: {imported}"
        for path in python_files()
        if any(inside(module(path), package) for package in SANS_IO)
        for line, imported in imports(path)
        if imported.split(".")[0] in NOT_SANS_IO
    ]
    assert not wrong, "\n".join(wrong)


def test_the_c_module_has_few_importers() -> None:
    wrong = [
        f"{name(path)}:{line}"
        for path in python_files()
        if name(path) not in NATIVE_IMPORTERS and not name(path).startswith("csrc/")
        for line, imported in imports(path)
        if inside(imported, "pylog._plog") or inside(imported, "pylog._rows")
    ]
    assert not wrong, "\n".join(wrong)


def test_no_dead_modules() -> None:
    """Every module is imported by another, or is named in a string by what imports it late."""
    texts = {name(path): path.read_text("utf-8") for path in python_files()}
    imported = {target for path in python_files() for _, target in imports(path)}
    dead = []
    for file in product_files():
        own = module(ROOT / file)
        if file.endswith("__init__.py") or own in imported:
            continue
        last = own.rpartition(".")[2]
        if inside(own, "cluster.cli") and f'"{last}"' in texts["cluster/cli/main.py"]:
            continue
        if any(f'"{own}' in body for file_name, body in texts.items() if file_name != file):
            continue
        dead.append(file)
    dead = [file for file in dead if file != "cluster/cli/main.py"]
    assert not dead, f"nothing imports them: {dead}"

"""messages.pyi says what the tables say: every class, its structs, and their fields in order."""

import ast
import pathlib

from cluster.protocol import messages as m
from cluster.protocol import tables


def fields_of(node: ast.ClassDef) -> list[str]:
    names = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            assert isinstance(item.target, ast.Name)
            names.append(item.target.id)
    return names


def parameters_of(node: ast.ClassDef) -> list[str]:
    (init,) = (item for item in node.body if isinstance(item, ast.FunctionDef))
    assert init.name == "__init__"
    return [argument.arg for argument in init.args.kwonlyargs]


def test_the_stub_is_complete() -> None:
    stub = ast.parse(pathlib.Path(m.__file__).with_suffix(".pyi").read_text())
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    assert sorted(classes) == m.names() == tables.message_names()
    for name, node in classes.items():
        table = tables.read_table(name)
        nested = {item.name: item for item in node.body if isinstance(item, ast.ClassDef)}
        assert sorted(nested) == sorted(table.structs), name
        for struct, said in [(table.struct, node), *((table.structs[key], nested[key]) for key in nested)]:
            expected = [field.name for field in struct.fields]
            assert fields_of(said) == expected, struct.name
            assert parameters_of(said) == expected, struct.name

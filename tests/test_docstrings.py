"""Every public module, class and function says what it is for."""

import ast
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src" / "textgym"
FILES = sorted(SOURCES.rglob("*.py"))


def public(tree):
    """`(name, node)` of a module, its public classes and functions, and their public methods."""
    yield "module", tree
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_"):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                is_function = isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                if is_function and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method


def fault(name, node):
    """What is wrong with a docstring, or None."""
    text = (ast.get_docstring(node) or "").strip()
    first = text.split("\n\n")[0]
    if not text:
        return f"{name}: no docstring"
    if len(first.split()) < 2 and "`" not in first:
        return f"{name}: {first!r} says nothing"
    if any(word in text for word in ("TODO", "FIXME", "XXX")):
        return f"{name}: unfinished"
    if text.replace(" ", "").rstrip(".").lower() == name.replace("_", "").lower():
        return f"{name}: repeats its name"
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_what_is_public_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [found for name, node in public(tree) if (found := fault(name, node))] == []


def test_the_check_finds_what_is_missing():
    code = (
        '"""A module with one class."""\nclass Good:\n    """A class."""\n    def bad(self): pass\n'
    )
    found = [fault(name, node) for name, node in public(ast.parse(code))]
    assert found == [None, None, "Good.bad: no docstring"]
    lazy = ast.parse('def do_it():\n    """Do it."""\n').body[0]
    assert fault("do_it", lazy) == "do_it: repeats its name"

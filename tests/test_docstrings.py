"""Docstrings of public names say what is taken, in which shapes, and what is raised."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator

import pytest

from docs.hooks import reference

NAMES = reference.documented()
# "arguments as `X`", "as in `X`", "those of `X`", "made by `X`", "see `X`": another docstring has them.
REFERS = re.compile(r"\b(?:as|by|in|of|see|than) `|arguments as there")
# What stands in the brackets of jaxtyping has its shape; what is left has none.
SHAPED = re.compile(r"\w+\[(?:np\.ndarray|jax\.Array|Array), [\"'][^\"']*[\"']\]")
BARE = re.compile(r"\bnp\.ndarray\b|\bjax\.Array\b|(?<![\w.])Array\b")


def functions(name: str) -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """Public functions and methods that are written here: name, tree, and the docstrings that speak of it."""
    value = reference.resolve(name)
    try:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body  # type: ignore[arg-type]
    except TypeError:  # a constant, or a type alias
        return
    own = reference.docstring(value)
    if isinstance(node, ast.FunctionDef):
        yield name, node, own
    elif isinstance(node, ast.ClassDef):
        for method in node.body:
            if not isinstance(method, ast.FunctionDef) or "overload" in map(ast.unparse, method.decorator_list):
                continue
            if not method.name.startswith("_"):
                yield f"{name}.{method.name}", method, ast.get_docstring(method) or ""
            elif method.name in ("__init__", "__call__"):
                yield f"{name}.{method.name}", method, f"{own}\n{ast.get_docstring(method) or ''}"


def parameters(node: ast.FunctionDef) -> list[ast.arg]:
    return [one for one in (*node.args.args, *node.args.kwonlyargs) if one.arg not in ("self", "cls")]


def says(text: str, name: str) -> bool:
    return re.search(rf"^\s*(?:\w+, )*{name}(?:, \w+)*:|`{name}`", text, re.MULTILINE) is not None


def faults(name: str) -> Iterator[str]:
    if not reference.docstring(reference.resolve(name)):
        yield f"{name} has no docstring"
    for full, node, text in functions(name):
        if not text.strip():
            yield f"{full} has no docstring"
            continue
        raised = [one.exc for one in ast.walk(node) if isinstance(one, ast.Raise) and isinstance(one.exc, ast.Call)]
        if raised and "Raises:" not in text and not REFERS.search(text):
            yield f"{full} raises {ast.unparse(raised[0])[:60]}, and says nothing of it"
        given = parameters(node)
        silent = [one.arg for one in given if not says(text, one.arg)]
        if len(given) > 1 and silent and not REFERS.search(text):
            yield f"{full} says nothing of {', '.join(silent)}"
        annotations = [one.annotation for one in given if one.annotation] + ([node.returns] if node.returns else [])
        for annotation in map(ast.unparse, annotations):
            if BARE.search(SHAPED.sub("", annotation)):
                yield f"{full} takes or gives an array without a shape: {annotation}"


@pytest.mark.parametrize("module", [*reference.MODULES, "returned"])
def test_public_docstrings_are_complete(module):
    names = reference.RETURNED if module == "returned" else reference.public_names(module)
    assert [fault for name in names for fault in faults(name)] == []


def test_an_incomplete_docstring_is_told():
    """The rules find what they are for."""
    code = "def f(a: np.ndarray, b: Float[np.ndarray, 'x']):\n    '''Sum.'''\n    raise ValueError('no')"
    (node,) = ast.parse(code).body
    assert isinstance(node, ast.FunctionDef)
    assert not says("Sum.", "a") and says("Args:\n    a: one.", "a") and says("a, b: both.", "b")
    bare = [BARE.search(SHAPED.sub("", ast.unparse(one.annotation))) for one in parameters(node) if one.annotation]
    assert bare[0] is not None and bare[1] is None
    assert NAMES and len(set(NAMES)) == len(NAMES)

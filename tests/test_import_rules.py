"""Imports point one way: between the packages inside `omni`, and between any two modules."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each imports from those above it alone; those of one line do not know each other. Modules that lie in no folder stand
# where what they import ends: a ModelConfig holds the decoder's config, and loading makes a Model.
ORDER = """
    _guard _moved errors program_cache
    decoder
    generation_fields
    config response_format
    options call_options
    families
    checkpoint
    media
    prompt
    generation
    runtime
    tasks
    chat
    model
    loading
    bulk training
    tools
    server
    cli
    __main__
"""
LEVELS = {name: level for level, line in enumerate(ORDER.split("\n")) for name in line.split()}


def modules(package: str) -> dict[str, Path]:
    """Dotted name -> file."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


EVERY = {name: path for package in ("processors", "encoders", "omni") for name, path in modules(package).items()}


def imported(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, in functions too; not what is there for type checkers alone."""
    nodes = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in EVERY)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in EVERY or node.module in EVERY:
                    yield whole if whole in EVERY else str(node.module)
        else:
            nodes += ast.iter_child_nodes(node)


@cache
def all_imports() -> dict[str, list[str]]:
    """Module -> the modules of ours that it imports."""
    return {name: sorted(set(imported(path))) for name, path in EVERY.items()}


def unit(name: str) -> str:
    """The package or module directly below `omni`."""
    return name.split(".")[1] if "." in name else ""


def test_every_part_of_omni_has_a_place_in_the_order():
    assert {unit(name) for name in EVERY if name.startswith("omni.")} == set(LEVELS)


def test_parts_of_omni_import_only_what_stands_above_them():
    wrong = [
        f"{name} imports {other}"
        for name, others in all_imports().items()
        for other in others
        if name.startswith("omni.") and other.startswith("omni.") and unit(name) != unit(other)
        if LEVELS[unit(other)] >= LEVELS[unit(name)]
    ]
    assert wrong == []


def circle(imports: dict[str, list[str]]) -> list[str]:
    """Modules that import one another in a circle; empty where there is none."""
    done: set[str] = set()

    def visit(name: str, above: list[str]) -> list[str]:
        if name in above:
            return [*above[above.index(name) :], name]
        if name in done:
            return []
        for other in imports.get(name, []):
            if found := visit(other, [*above, name]):
                return found
        done.add(name)
        return []

    return next((found for name in imports if (found := visit(name, []))), [])


def test_no_module_imports_itself_by_way_of_others():
    assert circle(all_imports()) == []


@pytest.mark.parametrize(
    "imports, found",
    [({"a": ["b"], "b": ["c"], "c": []}, []), ({"a": ["b"], "b": ["c"], "c": ["b"]}, ["b", "c", "b"])],
)
def test_a_circle_is_told(imports, found):
    assert circle(imports) == found

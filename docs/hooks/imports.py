"""Which module of ours imports which: the graph that the architecture page draws."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("processors", "encoders", "omni")
# Part of every module, and of no idea.
_APART = "_guard _moved errors program_cache generation_fields call_options"
_LEFT_OUT = {"omni", *(f"omni.{name}" for name in _APART.split())}


def _imported(path: Path) -> Iterator[str]:
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            nodes += ast.iter_child_nodes(node)


def unit(name: str) -> str:
    """What a module belongs to in the drawing: one of the other packages, or the part of `omni` that it lies in."""
    parts = name.split(".")
    return parts[0] if parts[0] != "omni" else ".".join(parts[:2])


def package_graph() -> dict[str, set[str]]:
    """Unit -> the units that it imports, without those that follow from others."""
    graph: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = unit(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
            others = {unit(other) for other in _imported(path) if other.split(".")[0] in PACKAGES}
            if name not in _LEFT_OUT:
                graph.setdefault(name, set()).update(others)
    graph = {name: {other for other in others if other in graph} - {name} for name, others in graph.items()}
    return {name: others - {far for near in others for far in reached(graph, near)} for name, others in graph.items()}


def reached(graph: dict[str, set[str]], name: str) -> set[str]:
    """All that a unit imports, by way of others too."""
    found: set[str] = set()
    waiting = list(graph[name])
    while waiting:
        if (one := waiting.pop()) not in found:
            found.add(one)
            waiting += graph[one]
    return found


def levels(graph: dict[str, set[str]]) -> list[list[str]]:
    """Units by height: what imports nothing is the first row, and each stands above all that it imports."""
    height: dict[str, int] = {}

    def measure(name: str) -> int:
        if name not in height:
            height[name] = 1 + max(map(measure, graph[name]), default=-1)
        return height[name]

    rows: list[list[str]] = [[] for _ in range(1 + max(map(measure, graph), default=-1))]
    for name, level in height.items():
        rows[level].append(name)
    return [sorted(row) for row in rows]

"""Changes to a source, one at a time: comparisons, constants, arithmetic, conditions, returns, statements, slices."""

import ast
import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.Pow: ast.Mult,
    ast.BitXor: ast.BitAnd,
}


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        identity: of the change, whatever lines stand above it.
        path: of the module, from the root of the project.
        line: where it is.
        last_line: where the statement that holds it ends.
        change: what was, and what is.
        number: among the changes of its module.
    """

    identity: str
    path: str
    line: int
    last_line: int
    change: str
    number: int


def mutants(root: Path, path: str) -> list[Mutant]:
    """Every change of a module."""
    tree = ast.parse((root / path).read_text(encoding="utf-8"))
    scopes = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    found, seen = [], {}
    for number, (old, new, _) in enumerate(_changes(tree)):
        change = f"{_short(old)} -> {_short(new)}"
        key = f"{path}|{_owner(scopes, old)}|{change}"
        seen[key] = seen.get(key, 0) + 1
        identity = hashlib.sha256(f"{key}|{seen[key]}".encode()).hexdigest()[:12]
        line = getattr(old, "lineno", 0)
        found.append(Mutant(identity, path, line, getattr(old, "end_lineno", line), change, number))
    return found


def mutated(root: Path, mutant: Mutant) -> bytes:
    """The source of the module with the change in it."""
    tree = ast.parse((root / mutant.path).read_text(encoding="utf-8"))
    for number, (_, _, apply) in enumerate(_changes(tree)):
        if number == mutant.number:
            apply()
            break
    return ast.unparse(ast.fix_missing_locations(tree)).encode()


def _owner(scopes: list[Any], wanted: ast.AST) -> str:
    """The functions and classes that hold a node."""
    line = getattr(wanted, "lineno", 0)
    return ".".join(scope.name for scope in scopes if scope.lineno <= line <= scope.end_lineno)


def _skipped(tree: ast.AST) -> set[int]:
    """Nodes that no test can tell: annotations, messages, documentation, what only type checkers read."""
    out: set[int] = set()

    def leave(node: ast.AST | None) -> None:
        if node is not None:
            out.update(id(inner) for inner in ast.walk(node))

    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            leave(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            leave(node.returns)
            for decorator in node.decorator_list:
                leave(decorator)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            leave(node.annotation)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            leave(node)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("isinstance", "overload", "TypeVar")
        ):
            leave(node.args[1] if len(node.args) > 1 else None)
        elif isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id in ("__all__", "__omni__") for t in node.targets
        ):
            leave(node)
        elif isinstance(node, ast.Raise) and node.cause is not None:
            leave(node.cause)  # what a traceback shows of an error's cause
    return out


def _changes(tree: ast.AST) -> Iterator[tuple[ast.AST, ast.AST, Any]]:
    """Every change of a tree in order: what was, what is, and a function that does it in place."""
    skipped = _skipped(tree)
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            places = [(parent, field, None, value)] if isinstance(value, ast.AST) else []
            if isinstance(value, list):
                places = [
                    (value, field, place, inner) for place, inner in enumerate(value) if isinstance(inner, ast.AST)
                ]
            for holder, name, place, node in places:
                if id(node) in skipped:
                    continue
                for new in _replacements(node, parent):
                    yield node, new, _setter(holder, name, place, new)


def _setter(holder: object, name: str, place: int | None, new: ast.AST) -> object:
    def apply() -> None:
        if place is None:
            setattr(holder, name, new)
        else:
            holder[place] = new  # type: ignore[index]

    return apply


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else text[:60] + " ... " + text[-25:]


def _replacements(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[operator], comparators=[_]):
            for other in _COMPARISONS.get(type(operator), ()):
                yield _with(node, ops=[other()])
        case ast.Compare(ops=operators):
            for place, operator in enumerate(operators):
                if other := _COMPARISONS.get(type(operator)):
                    yield _with(node, ops=[*operators[:place], other[0](), *operators[place + 1 :]])
        case ast.Constant(value=bool() as value):
            yield ast.copy_location(ast.Constant(not value), node)
        case ast.Constant(value=int() | float() as value) if value == value and abs(value) < 1e15:
            yield ast.copy_location(ast.Constant(value + 1), node)
            if value:
                yield ast.copy_location(ast.Constant(value - 1), node)
        case ast.BinOp(op=operator) if other := _ARITHMETIC.get(type(operator)):
            yield _with(node, op=other())
        case ast.AugAssign(op=operator) if other := _ARITHMETIC.get(type(operator)):
            yield _with(node, op=other())
        case ast.BoolOp(op=operator):
            yield _with(node, op=ast.And() if isinstance(operator, ast.Or) else ast.Or())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.UnaryOp(op=ast.USub(), operand=operand) if not isinstance(operand, ast.Constant):
            yield operand
        case ast.If(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp | ast.BoolOp):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.IfExp(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp | ast.BoolOp):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Return(value=value) if value is not None and not (
            isinstance(value, ast.Constant) and value.value is None
        ):
            yield _with(node, value=ast.Constant(None))
        case ast.Raise() | ast.Continue() | ast.Break():
            yield ast.copy_location(ast.Pass(), node)
        case ast.Expr(value=ast.Call()):
            yield ast.copy_location(ast.Pass(), node)
        case ast.Slice(lower=lower, upper=upper):
            if lower is not None:
                yield _with(node, lower=None)
            if upper is not None:
                yield _with(node, upper=ast.BinOp(upper, ast.Sub(), ast.Constant(1)))


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new

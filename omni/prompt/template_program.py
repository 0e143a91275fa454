"""Programs of chat templates: Jinja source, compiled within bounds, with what it tells of itself."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from omni.errors import CheckpointError
from omni.prompt.sandbox import BoundedEnvironment, TemplateLimit

# Published templates have up to 30,000 characters, and brackets up to 10 deep.
LONGEST_SOURCE, _MOST_TOKENS, _DEEPEST, _DEEPEST_TREE = 1 << 18, 30_000, 100, 300
_ADDRESS = re.compile(r"( at)? 0x[0-9a-fA-F]+")


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled template.

    Attributes:
        template: Jinja's; it runs within `metered`.
        names: keys, attributes and other texts that the source names.
        variables: what it reads beside what it sets itself.
        constants: texts that it may look for in messages.
        reads_argument_text: whether it writes the arguments of tool calls as they are where they are text.
    """

    template: jinja2.Template
    names: frozenset[str]
    variables: frozenset[str]
    constants: Sequence[str]
    reads_argument_text: bool


class _Generation(Extension):
    """`{% generation %}` encloses what a model is trained to write; for rendering it is a scope like any other."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


@cache
def _environment() -> BoundedEnvironment:
    """What published templates are written for: the settings and helpers that transformers gives them."""
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    environment.bound()
    return environment


def compile_template(source: str) -> Program:
    """Compiles a template; nothing of it runs.

    Raises:
        CheckpointError: the source is not a template, or is longer or deeper than any that are used.
    """
    if len(source) > LONGEST_SOURCE:
        raise CheckpointError(
            f"the chat template has {len(source):,} characters, the limit is {LONGEST_SOURCE:,}", code="bad_template"
        )
    environment = _environment()
    try:
        depth = 0
        for number, (_, kind, value) in enumerate(environment.lex(source)):
            if number > _MOST_TOKENS:
                raise CheckpointError(f"the chat template has more than {_MOST_TOKENS:,} tokens", code="bad_template")
            depth += (kind == "operator") * ((value in "([{") - (value in ")]}"))
            if depth > _DEEPEST:
                raise CheckpointError(f"the chat template has brackets more than {_DEEPEST} deep", code="bad_template")
        tree = environment.parse(source)
        _check_depth(tree)
        constants = {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
        names = constants | {node.attr for node in tree.find_all(nodes.Getattr)}
        searched = [text for text in sorted(constants) if 1 < len(text) <= 64]
        variables = frozenset(meta.find_undeclared_variables(tree))
        reads_text = _reads_argument_text(tree, names)
        return Program(environment.from_string(tree), frozenset(names), variables, searched, reads_text)
    except CheckpointError:
        raise
    except jinja2.TemplateSyntaxError as error:
        raise CheckpointError(
            f"the chat template, line {error.lineno}: {(error.message or '')[:300]}", code="bad_template"
        ) from None
    except RecursionError:
        raise CheckpointError("the chat template is nested too deeply", code="bad_template") from None
    except Exception as error:  # Jinja hands on what Python says of the program that it makes
        reason = " ".join(_ADDRESS.sub("", str(error)[:300]).split()) or type(error).__name__
        raise CheckpointError(f"the chat template cannot be compiled: {reason}", code="bad_template") from None


def _check_depth(tree: nodes.Node) -> None:
    level, depth = [tree], 0
    while level:
        depth += 1
        if depth > _DEEPEST_TREE:
            raise CheckpointError(f"the chat template is nested more than {_DEEPEST_TREE} deep", code="bad_template")
        level = [child for node in level for child in node.iter_child_nodes()]


def _reads_argument_text(tree: nodes.Node, names: set[str]) -> bool:
    """Whether it asks if arguments are text, or else does nothing that needs a dict."""
    for test in tree.find_all(nodes.Test):
        read = test.node
        key = read.attr if isinstance(read, nodes.Getattr) else None
        if isinstance(read, nodes.Getitem) and isinstance(read.arg, nodes.Const):
            key = read.arg.value
        if test.name in ("string", "mapping") and key == "arguments":
            return True
    needs_dict = any(filter.name in ("tojson", "items", "dictsort") for filter in tree.find_all(nodes.Filter))
    return not needs_dict and "items" not in names


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes <, > and & for HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    if len(format) > 200:
        raise TemplateLimit("its form of a date is longer than 200 characters")
    return datetime.now().strftime(format)

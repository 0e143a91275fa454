"""Compiler of the sandbox: code that counts what Jinja's own would just do, and folds nothing."""

from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator


class BoundedGenerator(CodeGenerator):
    """Generates code that counts what Jinja's own would just do."""

    def _tick(self, body: Iterable[nodes.Node]) -> None:
        data = [child for node in body if isinstance(node, nodes.Output) for child in node.nodes]
        written = sum(len(child.data) for child in data if isinstance(child, nodes.TemplateData))
        self.writeline(f"environment.tick({written})")

    def blockvisit(self, nodes: Iterable[Any], frame: Any) -> None:
        body = list(nodes)
        self._tick(body)
        super().blockvisit(body, frame)

    def _output_child_to_const(self, node: nodes.Expr, frame: Any, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible()
        return super()._output_child_to_const(node, frame, finalize)

    def _within(self, function: str, visit: Callable[[Any, Any], None], node: nodes.Node, frame: Any) -> None:
        self.write(f"environment.{function}(")
        visit(node, frame)
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:
        name = "markup_join" if frame.eval_ctx.autoescape else "str_join"
        if frame.eval_ctx.volatile:
            name = "(markup_join if context.eval_ctx.volatile else str_join)"
        self.write(f"environment.take({name}(environment.shown((")
        for child in node.nodes:
            self.visit(child, frame)
            self.write(", ")
        self.write("))))")

    def visit_Compare(self, node: nodes.Compare, frame: Any) -> None:
        self.write("(environment.tick(0) or ")
        super().visit_Compare(node, frame)
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: Any) -> None:
        if isinstance(node.arg, nodes.Slice):
            self._within("take", super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)

    def visit_List(self, node: nodes.List, frame: Any) -> None:
        self._within("take", super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Any) -> None:
        self._within("take", super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Any) -> None:
        if node.ctx == "load":
            self._within("take", super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

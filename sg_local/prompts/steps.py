"""A chat template's tree as the sandbox runs it: with a step where it loops or writes, and what it builds weighed."""

from __future__ import annotations

import jinja2
import jinja2.ext
import jinja2.parser
from jinja2 import nodes
from jinja2.visitor import NodeTransformer


class GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant says, for trainers that mask by it; its body is rendered as it is."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[nodes.Node]:
        """The tag's body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


EXTENSIONS = ("jinja2.ext.loopcontrols", GenerationTag)


def check_syntax(source: str) -> nodes.Template:
    """The template's tree, as it was written. Raises jinja2.TemplateSyntaxError."""
    return jinja2.Environment(extensions=EXTENSIONS).parse(source)


class Watched(NodeTransformer):
    """Puts steps where a template loops or writes, and weighs what it puts together."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja calls it by the node's name
        self.generic_visit(node)
        node.body.insert(0, _statement(node, nodes.Const(0)))
        return node

    def visit_Output(self, node: nodes.Output) -> list[nodes.Node]:  # noqa: N802
        self.generic_visit(node)
        size = sum(len(one.data) for one in node.nodes if isinstance(one, nodes.TemplateData))
        return [_statement(node, nodes.Const(size)), node]

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _own_call(node, "joined", node.nodes)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _own_call(node, "weighed", [node])

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _own_call(node, "weighed", [node])

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _own_call(node, "weighed", [node]) if node.ctx == "load" else node


def _own_call(node: nodes.Node, name: str, args: list[nodes.Expr]) -> nodes.Call:
    """A call of one of the sandbox's own methods, in the place of a node."""
    call = nodes.Call(nodes.EnvironmentAttribute(name), args, [], None, None)
    call.set_lineno(node.lineno)
    return call


def _statement(node: nodes.Node, size: nodes.Expr) -> nodes.Node:
    return nodes.ExprStmt(_own_call(node, "step", [size])).set_lineno(node.lineno)

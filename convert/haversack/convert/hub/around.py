"""Nodes put in front of the one that they say in other words."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import initializer, insert
from haversack.runtimes.engines import Array

_BOOLEAN = frozenset({"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor"})


class Around:
    """Inserts nodes before one; their results have its output's element type unless said otherwise, and no shape yet.

    Args:
        node: What is said in other words.
        suffix: How the names of the inserted values end.
    """

    def __init__(self, node: ir.Node, suffix: str = ""):
        self.node, self.suffix = node, suffix
        self.made = 0

    def __call__(
        self, op: str, *inputs: ir.Value | None, to: ir.DataType | None = None, **attributes: object
    ) -> ir.Value:
        """The first output of `op` of `inputs`, of type `to` (which a Cast has as its attribute)."""
        if op == "Cast":
            assert to is not None
            attributes["to"] = int(to)
        self.made += 1
        name = f"{self.node.name}/{op}_{self.made}{self.suffix}"
        y = insert(self.node, op, inputs, name, self.node.outputs[0], **attributes)
        y.shape = None
        if op in _BOOLEAN:
            y.type = ir.TensorType(ir.DataType.BOOL)
        elif to is not None:
            y.type = ir.TensorType(to)
        return y

    def const(self, array: Array) -> ir.Value:
        """An initializer."""
        assert self.node.graph is not None
        return initializer(self.node.graph, f"{self.node.name}/constant", array)

    def become(self, result: ir.Value) -> None:
        """Remove the node; `result` computes its first output from now on, under its name, with its type and shape."""
        old = self.node.outputs[0]
        result.type, result.shape, name = old.type, old.shape, old.name
        old.replace_all_uses_with(result, replace_graph_outputs=True)
        assert self.node.graph is not None
        self.node.graph.remove(self.node, safe=True)
        result.name = name

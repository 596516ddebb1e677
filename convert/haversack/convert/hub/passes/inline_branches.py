"""Branches that are always, or never, taken."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant, nodes
from haversack.convert.hub.subgraphs import inline


def inline_branches(model: ir.Model) -> bool:
    """Replace an If whose condition is known by the branch that is taken.

    Given:
        c = Equal(Gather(Shape(x), 1), 1)              x is [N, 1, 8], so c is true
        y = If<then: Squeeze(x, [1]), else: Identity(x)>(c)

    Result:
        y = Squeeze(x, [1])

    PyTorch's exporters ask so what a shape is; the other branch may not even be legal for it. What only that branch
    read goes with it.
    """
    changed = False
    for node in nodes(model, "If"):
        condition = constant(node.inputs[0])
        if condition is None or condition.size != 1:
            continue
        taken = node.attributes["then_branch" if condition.reshape(-1)[0] else "else_branch"].as_graph()
        outputs = inline(taken.clone(allow_outer_scope_values=True), [], node, node.name or "If")
        replace(node, outputs)
        changed = True
    return changed


def replace(node: ir.Node, values: list[ir.Value]) -> None:
    """Put values in place of what a node gives, and remove it.

    Identities give them first; `remove_identities` knows where a graph output needs one.
    """
    graph = node.graph
    assert graph is not None
    for old, value in zip(list(node.outputs), values, strict=True):
        identity = ir.node("Identity", [value], name=f"{node.name}/{old.name}")
        result = identity.outputs[0]
        result.type, name = value.type or old.type, old.name
        result.shape = value.shape if value.shape is not None else old.shape
        graph.insert_before(node, identity)
        old.replace_all_uses_with(result, replace_graph_outputs=True)
        old.name = None
        result.name = name
    graph.remove(node, safe=True)

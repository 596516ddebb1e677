"""Reshapes that stand for a move of the channel axis."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import nodes


def reshape_to_transpose(model: ir.Model) -> bool:
    """Write a Reshape that moves a channel axis of size 1 as the Transpose that it equals.

    Given:
        y = Reshape(x, [-1, 1, 49, 10])               x is [N, 49, 10, 1]

    Result:
        y = Transpose<perm=[0, 3, 1, 2]>(x)

    Exporters turn channels-last into channels-first this way where there is one channel. As a Transpose it is part
    of the layout, and goes away with it; as a Reshape it would hide the layout.
    """
    changed = False
    for node in nodes(model, "Reshape"):
        source = node.inputs[0]
        before = source.shape if source is not None else None
        after = node.outputs[0].shape
        if before is None or after is None or len(before) != len(after) or len(before) < 3:
            continue
        old, new = list(before), list(after)
        if any(isinstance(dim, ir.SymbolicDim) and dim.value is None for dim in old) or old == new:
            continue
        rank = len(old)
        to_first = [0, rank - 1, *range(1, rank - 1)]
        to_last = [0, *range(2, rank), 1]
        permutation = None
        if old[-1] == 1 and new == [old[axis] for axis in to_first]:
            permutation = to_first
        elif old[1] == 1 and new == [old[axis] for axis in to_last]:
            permutation = to_last
        if permutation is None:
            continue
        graph, output = node.graph, node.outputs[0]
        assert graph is not None
        turned = ir.node("Transpose", [source], attributes={"perm": permutation}, name=node.name)
        result = turned.outputs[0]
        result.type, result.shape, name = output.type, output.shape, output.name
        graph.insert_before(node, turned)
        output.replace_all_uses_with(result, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        result.name = name
        changed = True
    return changed

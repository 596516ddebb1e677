"""Constants as initializers."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from haversack.convert.hub.passes.rewriting import nodes


def lift_constants(model: ir.Model) -> bool:
    """Make every Constant node an initializer.

    Given:
        c = Constant<value>()
        y = Add(x, c)

    Result:
        y = Add(x, c)        c is an initializer

    A Constant that is a graph output becomes an Identity of an initializer, so that the output stays computed.
    """
    changed = False
    for node in nodes(model, "Constant"):
        output = node.outputs[0]
        if output.is_graph_output():
            assert node.graph is not None
            identity = ir.node("Identity", [output], name=f"{node.name}/output")
            result = identity.outputs[0]
            result.type, result.shape, name = output.type, output.shape, output.name
            node.graph.insert_after(node, identity)
            for index, value in enumerate(node.graph.outputs):
                if value is output:
                    node.graph.outputs[index] = result
            output.name = f"{name}/value"
            result.name = name
            changed = True
    lifted = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return changed or lifted.modified

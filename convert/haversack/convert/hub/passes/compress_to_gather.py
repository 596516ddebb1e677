"""Compress by a known condition is a Gather of known places, whose size is known too."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant, initializer, insert, nodes


def compress_to_gather(model: ir.Model) -> bool:
    """Say which elements a constant condition keeps.

    Given:
        y = Compress<axis=1>(x, [True, False, True])

    Result:
        y = Gather<axis=1>(x, [0, 2])

    Without an axis, x is flattened first. A condition may be shorter than its axis; the rest is left out.
    """
    changed = False
    for node in nodes(model, "Compress"):
        x, condition = node.inputs[0], constant(node.inputs[1])
        if x is None or condition is None or node.graph is None:
            continue
        axis = node.attributes.get_int("axis", 0)
        if "axis" not in node.attributes:
            flat = initializer(node.graph, f"{node.name}/flat", np.array([-1], np.int64))
            x = insert(node, "Reshape", [x, flat], f"{node.name}/Reshape", x)
            x.shape = None
        places = initializer(node.graph, f"{node.name}/places", np.flatnonzero(condition).astype(np.int64))
        gathered = ir.node("Gather", [x, places], attributes={"axis": axis}, name=node.name)
        y = node.outputs[0]
        gathered.outputs[0].type, name = y.type, y.name
        node.graph.insert_before(node, gathered)
        y.replace_all_uses_with(gathered.outputs[0], replace_graph_outputs=True)
        node.graph.remove(node, safe=True)
        gathered.outputs[0].name = name
        changed = True
    return changed

"""Identity nodes gone."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import bypass, nodes


def remove_identities(model: ir.Model) -> bool:
    """Remove every Identity.

    Given:
        a = Relu(x)
        b = Identity(a)
        y = Exp(b)

    Result:
        a = Relu(x)
        y = Exp(a)

    One stays where a graph output is a graph input, an initializer, or a value that is an output already. (onnx-ir's
    own pass would make an initializer a graph output, and of two outputs that are equal lose one's name.)
    """
    changed = False
    for node in nodes(model, "Identity"):
        if isinstance(node.outputs[0].type, ir.TensorType | None):
            changed |= bypass(node)
    return changed

"""Sums of two as additions."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import nodes


def canonical_sum(model: ir.Model) -> bool:
    """Write a Sum of two terms as the Add that it is.

    Given:
        y = Sum(a, b)

    Result:
        y = Add(a, b)
    """
    changed = False
    for node in nodes(model, "Sum"):
        if len(node.inputs) == 2:
            node.op_type = "Add"
            changed = True
    return changed

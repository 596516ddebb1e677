"""Batch normalisation at inference as what it is: a multiplication and an addition a channel."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant, initializer, insert, nodes, replace


def split_batch_norm(model: ir.Model) -> bool:
    """Write BatchNormalization as Mul and Add, which `fold_scale` and `fold_bias` merge into a layer before it.

    Given:
        y = BatchNormalization<epsilon>(x, scale, bias, mean, variance)        x is [N, C, H, W]

    Result:
        a = Mul(x, f)        f = scale / sqrt(variance + epsilon), as [C, 1, 1]
        y = Add(a, b)        b = bias - mean * f, as [C, 1, 1]

    The factors are computed in float64 and rounded once.
    """
    changed = False
    for node in nodes(model, "BatchNormalization"):
        x = node.inputs[0]
        parameters = [constant(value) for value in node.inputs[1:]]
        unread = not any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
        if x is None or x.shape is None or len(x.shape) < 2 or any(p is None for p in parameters) or not unread:
            continue
        if node.attributes.get_int("training_mode", 0):
            continue
        scale, bias, mean, variance = (p.astype(np.float64) for p in parameters if p is not None)
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        factor = scale / np.sqrt(variance + epsilon)
        offset = bias - mean * factor
        dtype = x.dtype.numpy() if x.dtype is not None else np.dtype(np.float32)
        column = (-1,) + (1,) * (len(x.shape) - 2)
        graph, output = node.graph, node.outputs[0]
        assert graph is not None
        f = initializer(graph, f"{node.name}/scale", factor.astype(dtype).reshape(column))
        b = initializer(graph, f"{node.name}/offset", offset.astype(dtype).reshape(column))
        scaled = insert(node, "Mul", [x, f], f"{node.name}/scaled", like=output)
        replace(node, "Add", [scaled, b])
        changed = True
    return changed

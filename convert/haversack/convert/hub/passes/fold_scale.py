"""A multiplication a channel, merged into the weights before it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.channels import layer_before, merged, per_channel
from haversack.convert.hub.passes.rewriting import constant, initializer, nodes
from haversack.runtimes.engines import Array


def fold_scale(model: ir.Model) -> bool:
    """Merge a Mul (or Div) by constants into the layer before it.

    Given:
        a = Conv(x, w, b)
        y = Mul(a, f)          f is a constant, one value or one a channel

    Result:
        y = Conv(x, w * f, b * f)

    Likewise for ConvTranspose, Gemm and MatMul with plain constant weights (stored ones, behind a DequantizeLinear,
    are left as they are), and with a Transpose or Reshape between the two. The product is computed in
    float64 and rounded once.
    """
    changed = False
    for node in nodes(model, "Mul", "Div"):
        for index in (0, 1) if node.op_type == "Mul" else (0,):
            layer_output, factor = node.inputs[index], constant(node.inputs[1 - index])
            if layer_output is not None and factor is not None and _fold(node, layer_output, factor):
                changed = True
                break
    return changed


def _fold(node: ir.Node, layer_output: ir.Value, factor: Array) -> bool:
    found = layer_before(layer_output, factor)
    if found is None:
        return False
    layer, moved = found
    spread = per_channel(layer, moved)
    weights = constant(layer.inputs[1]) if len(layer.inputs) > 1 else None
    bias_value = layer.inputs[2] if len(layer.inputs) > 2 else None
    bias = constant(bias_value)
    if spread is None or weights is None or weights.dtype.kind != "f" or (bias_value is not None and bias is None):
        return False
    values = spread.astype(np.float64)
    if node.op_type == "Div":
        if not values.all():
            return False
        values = 1.0 / values
    graph = layer.graph
    assert graph is not None
    scaled = weights.astype(np.float64) * _along_weights(layer, weights, values)
    old = layer.inputs[1]
    assert old is not None
    layer.replace_input_with(1, initializer(graph, f"{old.name}_scaled", scaled.astype(weights.dtype)))
    if bias is not None:
        assert bias_value is not None
        held = (bias.astype(np.float64) * values).astype(bias.dtype)
        layer.replace_input_with(2, initializer(graph, f"{bias_value.name}_scaled", held))
    merged(node, layer_output, layer)
    return True


def _along_weights(layer: ir.Node, weights: Array, values: Array) -> Array:
    """Reshape one value an output channel so that it multiplies `weights`."""
    if layer.op_type == "Conv":
        return values.reshape((-1,) + (1,) * (weights.ndim - 1))
    if layer.op_type == "ConvTranspose":
        # Weights are [in, out / group, ...]: output channel g * (out / group) + o belongs to the inputs of group g.
        group = layer.attributes.get_int("group", 1)
        a_group = np.repeat(values.reshape(group, -1), weights.shape[0] // group, axis=0)
        return a_group.reshape(weights.shape[:2] + (1,) * (weights.ndim - 2))
    if layer.op_type == "Gemm" and layer.attributes.get_int("transB", 0) != 0:
        return values.reshape(-1, 1)
    return values.reshape(1, -1) if weights.ndim == 2 else values

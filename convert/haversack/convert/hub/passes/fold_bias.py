"""An addition a channel, merged into the bias before it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.channels import layer_before, merged, per_channel
from haversack.convert.hub.passes.rewriting import absorb, constant, initializer, insert, nodes
from haversack.runtimes.engines import Array


def fold_bias(model: ir.Model) -> bool:
    """Merge an Add (or Sub) of constants into the layer before it.

    Given:
        a = Conv(x, w)
        y = Add(a, b)          b is a constant, one value or one a channel

    Result:
        y = Conv(x, w, b)

    Likewise for ConvTranspose and Gemm, on top of a bias that is there, and with a Transpose or Reshape between.
    `canonical_gemm` makes MatMul and Add a Gemm; here the Add moves to the MatMul where a Reshape or Transpose is
    between. A bias stored quantized is left as it is.
    """
    changed = False
    for node in nodes(model, "Add", "Sub"):
        for index in (0, 1) if node.op_type == "Add" else (0,):
            layer_output, offset = node.inputs[index], constant(node.inputs[1 - index])
            if layer_output is not None and offset is not None and _fold(node, layer_output, offset):
                changed = True
                break
    return changed


def _fold(node: ir.Node, layer_output: ir.Value, offset: Array) -> bool:
    found = layer_before(layer_output, offset)
    if found is None or found[0].op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return False
    layer, moved = found
    spread = per_channel(layer, moved)
    if layer.op_type == "MatMul":
        return spread is not None and _move(node, layer_output, layer.outputs[0], spread)
    bias_value = layer.inputs[2] if len(layer.inputs) > 2 else None
    bias = constant(bias_value)
    if spread is None or offset.dtype.kind != "f" or (bias_value is not None and bias is None):
        return False
    total = spread.astype(np.float64) * (-1 if node.op_type == "Sub" else 1)
    if bias is not None:
        if bias.size not in (1, total.size):
            return False
        total = total + bias.astype(np.float64).reshape(-1)
    assert layer.graph is not None
    # Gemm and Conv take a bias of the output's type.
    value = initializer(layer.graph, f"{layer.name}/bias", total.astype(offset.dtype))
    if len(layer.inputs) < 3:
        layer.resize_inputs(3)
    layer.replace_input_with(2, value)
    merged(node, layer_output, layer)
    return True


def _move(node: ir.Node, after: ir.Value, product: ir.Value, offset: Array) -> bool:
    """Given Add(Reshape(product), b), result Reshape(Add(product, b)), for a product of two axes."""
    between = after.producer()
    if product is after or between is None or product.shape is None or len(product.shape) != 2 or node.graph is None:
        return False
    row = initializer(node.graph, f"{node.name}/bias", offset * (-1 if node.op_type == "Sub" else 1))
    between.replace_input_with(0, insert(between, "Add", [product, row], f"{node.name}/sum", like=product))
    absorb(node, after)
    return True

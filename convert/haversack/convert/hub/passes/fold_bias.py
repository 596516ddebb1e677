"""An addition a channel, merged into the bias before it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.channels import per_channel
from haversack.convert.hub.passes.rewriting import absorb, constant, has_one_use, initializer, nodes
from haversack.runtimes.engines import Array


def fold_bias(model: ir.Model) -> bool:
    """Merge an Add (or Sub) of constants into the layer before it.

    Given:
        a = Conv(x, w)
        y = Add(a, b)          b is a constant, one value or one a channel

    Result:
        y = Conv(x, w, b)

    Likewise for ConvTranspose and Gemm, and on top of a bias that is there. (`canonical_gemm` makes MatMul and Add
    a Gemm.) A bias stored quantized is left as it is.
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
    layer = layer_output.producer()
    if layer is None or layer.op_type not in ("Conv", "ConvTranspose", "Gemm") or layer.domain != "":
        return False
    if not has_one_use(layer_output) or layer.graph is not node.graph:
        return False
    spread = per_channel(layer, offset)
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
    absorb(node, layer_output)
    return True

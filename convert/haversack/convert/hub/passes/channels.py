"""Which constants act on a layer's output channels alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import absorb, has_one_use
from haversack.convert.hub.shapes import static_shape
from haversack.runtimes.engines import Array


def layer_before(value: ir.Value) -> tuple[ir.Node, list[int] | None] | None:
    """The node whose result an elementwise node alone reads, directly or through a Transpose.

    Exporters of channels-last frameworks leave a Transpose between a convolution and what follows it.

    Args:
        value: An input of the elementwise node.

    Returns:
        The node and the Transpose's permutation, None where there is none; None alone where others read the result
        too, or it is computed in another graph.
    """
    reader = next(iter(value.uses())).node if has_one_use(value) else None
    layer, permutation = value.producer(), None
    if layer is not None and layer.op_type == "Transpose" and layer.domain == "" and value.shape is not None:
        inner = layer.inputs[0]
        assert inner is not None
        permutation = list(layer.attributes.get_ints("perm", range(len(value.shape))[::-1]))
        layer = inner.producer() if has_one_use(inner) else None
    if reader is None or layer is None or layer.domain != "" or layer.graph is not reader.graph:
        return None
    return layer, permutation


def merged(node: ir.Node, layer_output: ir.Value, layer: ir.Node) -> None:
    """Remove an elementwise node that now is part of `layer`, whose result `layer_output` is, maybe transposed."""
    absorb(node, layer_output)
    inner = layer.outputs[0]
    if inner is not layer_output:  # its old name would say that it is what it was
        inner.name = f"{layer_output.name}/before_transpose"


def per_channel(layer: ir.Node, values: Array, permutation: Sequence[int] | None = None) -> Array | None:
    """Spread a constant that is broadcast against a layer's output to one value an output channel.

    Args:
        layer: A Conv, ConvTranspose, Gemm or MatMul.
        values: The other operand of an elementwise node that reads the layer's output.
        permutation: Of the Transpose between the two, where there is one.

    Returns:
        Shape [channels], or None where the operator is another, the constant varies along another axis, or it would
        broadcast the output to a larger shape.
    """
    output = layer.outputs[0].shape
    if output is None or len(layer.inputs) < 2 or layer.inputs[1] is None:
        return None
    weights = static_shape(layer.inputs[1])
    if weights is None or values.ndim > len(output):
        return None
    rank = len(output)
    if layer.op_type == "Conv":
        axis, channels = 1, weights[0]
    elif layer.op_type == "ConvTranspose":
        axis, channels = 1, weights[1] * layer.attributes.get_int("group", 1)
    elif layer.op_type == "Gemm":
        axis, channels = 1, weights[0] if layer.attributes.get_int("transB", 0) else weights[1]
        # alpha scales the product, beta the bias: they must be canonical before anything is merged.
        if any(name in layer.attributes and layer.attributes[name].as_float() != 1 for name in ("alpha", "beta")):
            return None
    elif layer.op_type == "MatMul" and len(weights) == 2 and rank >= 2:
        axis, channels = rank - 1, weights[1]
    else:
        return None
    full = values.reshape((1,) * (rank - values.ndim) + values.shape)
    if permutation is not None:
        full = full.transpose(np.argsort(permutation))
    if any(size != 1 for position, size in enumerate(full.shape) if position != axis):
        return None
    if full.shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(full.reshape(-1), (channels,)) if full.size == 1 else full.reshape(-1)

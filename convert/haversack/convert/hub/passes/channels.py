"""Which constants act on a layer's output channels alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import absorb, has_one_use, sole_reader
from haversack.convert.hub.shapes import static_shape
from haversack.runtimes.engines import Array


def layer_before(value: ir.Value, values: Array) -> tuple[ir.Node, Array] | None:
    """The node whose result an elementwise node alone reads, directly or through a Transpose or a Reshape.

    Exporters of channels-last frameworks leave a Transpose between a convolution and what follows it, and Reshapes
    around a dense layer of more than two axes.

    Args:
        value: An input of the elementwise node.
        values: Its other operand, a constant.

    Returns:
        The node, and the constant as it would broadcast against the node's own result; None where others read that
        too, it is computed in another graph, or the constant varies along axes that a Reshape merges.
    """
    reader, layer = sole_reader(value), value.producer()
    moved: Array | None = values
    if layer is not None and layer.op_type in ("Transpose", "Reshape") and layer.domain == "":
        inner = layer.inputs[0]
        assert inner is not None
        moved = _before(layer, values)
        layer = inner.producer() if has_one_use(inner) else None
    if reader is None or layer is None or moved is None or layer.domain != "" or layer.graph is not reader.graph:
        return None
    return layer, moved


def _before(node: ir.Node, values: Array) -> Array | None:
    """A constant that broadcasts against the result of a Transpose or Reshape, as it does against its input."""
    source, result = node.inputs[0], node.outputs[0].shape
    if source is None or source.shape is None or result is None or values.ndim > len(result):
        return None
    if node.op_type == "Transpose":
        full = values.reshape((1,) * (len(result) - values.ndim) + values.shape)
        return full.transpose(np.argsort(node.attributes.get_ints("perm", range(len(result))[::-1])))
    kept = bool(len(result) and len(source.shape)) and isinstance(result[-1], int) and source.shape[-1] == result[-1]
    return values.reshape(-1) if kept and values.size == (values.shape or (1,))[-1] else None


def merged(node: ir.Node, layer_output: ir.Value, layer: ir.Node) -> None:
    """Remove an elementwise node that now is part of `layer`, whose result is `layer_output`, maybe reshaped."""
    absorb(node, layer_output)
    inner = layer.outputs[0]
    if inner is not layer_output:  # its old name would say that it is what it was
        inner.name = f"{layer_output.name}/{layer.op_type}"


def per_channel(layer: ir.Node, values: Array) -> Array | None:
    """Spread a constant that is broadcast against a layer's output to one value an output channel.

    Args:
        layer: A Conv, ConvTranspose, Gemm or MatMul.
        values: The other operand of an elementwise node that reads the layer's output.

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
    if any(size != 1 for position, size in enumerate(full.shape) if position != axis):
        return None
    if full.shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(full.reshape(-1), (channels,)) if full.size == 1 else full.reshape(-1)

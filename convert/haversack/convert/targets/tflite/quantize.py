"""The quantized view of a hub graph: QuantizeLinear and DequantizeLinear as properties of tensors.

In the hub, int8 is written as float operators between DequantizeLinear and QuantizeLinear. A TFLite tensor of int8 with
a scale stands for the float tensor itself, so:

    Given    x_quantized → DequantizeLinear → x → Conv → y → Relu → z → QuantizeLinear → z_quantized
    Result   x: int8 tensor → CONV_2D → y: int8 tensor of z's scale → RELU → z: int8 tensor

A DequantizeLinear is then a name for its input, a QuantizeLinear one for a tensor that has its scale already, and what
is left of both are true conversions (at the edges, around float islands, between scales).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.targets.tflite.graph import Quantization
from haversack.runtimes.engines import Array

TRANSPARENT = frozenset({"Relu", "Clip", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Operators that commute with rounding: quantizing what they read by their result's scale changes nothing."""


MOVING = frozenset(
    """DepthToSpace Expand Flatten Gather Identity MaxPool Reshape Slice SpaceToDepth Split Squeeze Tile Transpose
    Unsqueeze""".split()  # noqa: SIM905
)
"""Operators that give integers of their first input back as they are."""


def stands_for_floats(value: ir.Value) -> bool:
    """Whether integers are read by DequantizeLinear alone, moved about before it or not; else they are numbers."""
    return all(
        use.node.op_type == "DequantizeLinear"
        or (use.node.op_type in MOVING and use.idx == 0 and all(map(stands_for_floats, use.node.outputs)))
        for use in value.uses()
    )


def constant(value: ir.Value | None) -> Array | None:
    """The array of an initializer, None for an activation."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return np.asarray(value.const_value.numpy())


def parameters(node: ir.Node, rank: int) -> Quantization | None:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear; None where they are computed or in blocks."""
    scale = constant(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero_point = constant(given)
    block = node.attributes.get("block_size")
    if scale is None or (given is not None and zero_point is None) or (block is not None and block.as_int()):
        return None
    if zero_point is None:
        zero_point = np.zeros_like(scale, np.int64)
    axis = node.attributes.get("axis")
    place = (1 if axis is None else axis.as_int()) % rank if rank and scale.size > 1 else 0
    zeros = np.broadcast_to(zero_point.astype(np.int64).reshape(-1), scale.size)
    return Quantization(scale.astype(np.float32).reshape(-1), np.ascontiguousarray(zeros), place)


def result_quantization(value: ir.Value) -> tuple[Quantization, str] | None:
    """The scale in which every reader takes `value`, and the integers' type; None where some reader takes floats."""
    if value.is_graph_output():
        return None
    readers = [usage.node for usage in value.uses()]
    if not readers:
        return None
    if all(node.op_type == "QuantizeLinear" for node in readers):
        found = [parameters(node, len(value.shape or ())) for node in readers]
        first, dtype = found[0], readers[0].outputs[0].dtype
        if first is None or dtype is None or first.per_channel:
            return None
        if all(q is not None and q.same(first) for q in found) and all(n.outputs[0].dtype == dtype for n in readers):
            return first, dtype.numpy().name
        return None
    if len(readers) == 1 and readers[0].op_type in TRANSPARENT and readers[0].inputs[0] is value:
        return result_quantization(readers[0].outputs[0])
    return None

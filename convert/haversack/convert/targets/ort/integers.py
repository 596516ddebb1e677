"""Say on integers what onnxruntime would compute on integers anyway, in fewer nodes and bytes.

- Given x_quantized → DequantizeLinear → Transpose → QuantizeLinear (the same scale) → y_quantized, the result is
  x_quantized → Transpose → y_quantized: what moves numbers about does not care what they stand for.
- The zero points of a convolution's weights are left out, since they are zero (QGemm wants its own).
- A bias of int32 whose numbers are small is stored as int16 and cast when the model is loaded: Cast is folded there
  before integer kernels are fused, so the kernels see int32.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.editing import Editor
from haversack.convert.compress.operators import constant

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

MOVING = frozenset("Concat Flatten Gather Identity MaxPool Reshape Slice Squeeze Transpose Unsqueeze".split())  # noqa: SIM905
"""Operators that give integers of their data back as they are, and have kernels for int8 and uint8."""

NARROW = 24
"""A bias of at least this many numbers is worth a Cast, which takes some 30 bytes."""


def move_integers(editor: Editor) -> int:
    """Take DequantizeLinear and QuantizeLinear away from around operators that only move numbers, in place.

    Returns:
        How many operators were changed.
    """
    count = 0
    for node in list(editor.graph):
        if node.op_type not in MOVING or node.domain not in ("", "ai.onnx"):
            continue
        result = node.outputs[0]
        if any(value.uses() for value in node.outputs[1:]) or result.is_graph_output() or len(result.uses()) != 1:
            continue
        last = result.consumers()[0]
        data = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        makers = [None if value is None else value.producer() for value in data]
        if last.op_type != QUANTIZE or not all(maker is not None and _undoes(last, maker) for maker in makers):
            continue
        for position, maker in enumerate(makers):
            if maker is not None:
                node.replace_input_with(position, maker.inputs[0])
        integers = last.outputs[0]
        name = integers.name
        result.type = integers.type
        integers.replace_all_uses_with(result, replace_graph_outputs=True)
        editor.graph.remove(last, safe=True)
        result.name = name
        for maker in dict.fromkeys(makers):
            if maker is not None and not maker.outputs[0].uses() and not maker.outputs[0].is_graph_output():
                editor.graph.remove(maker, safe=True)
        count += 1
    return count


def _undoes(quantize: ir.Node, dequantize: ir.Node) -> bool:
    """Whether the pair maps integers to themselves."""
    if dequantize.op_type != DEQUANTIZE or dequantize.inputs[0] is None:
        return False
    if dequantize.inputs[0].dtype != quantize.outputs[0].dtype or constant(dequantize.inputs[0]) is not None:
        return False
    for index in (1, 2):
        pair = [each.inputs[index] if index < len(each.inputs) else None for each in (quantize, dequantize)]
        one, two = map(constant, pair)
        if one is None or two is None or one.ndim or one.dtype != two.dtype or one != two:
            return False
    return True


def drop_zero_points(editor: Editor) -> None:
    """Leave out zero points of zero where only convolutions take the numbers as their weights, in place."""
    for node in editor.graph:
        if node.op_type != DEQUANTIZE or len(node.inputs) < 3 or not node.outputs[0].uses():
            continue
        zero_point = constant(node.inputs[2])
        weights = all(use.node.op_type == "Conv" and use.idx == 1 for use in node.outputs[0].uses())
        if weights and zero_point is not None and zero_point.dtype == np.int8 and not zero_point.any():
            node.resize_inputs(2)


def narrow_biases(editor: Editor) -> int:
    """Store int32 constants that DequantizeLinear reads as int16 where they fit, in place.

    Returns:
        How many.
    """
    count = 0
    for node in list(editor.graph):
        value = node.inputs[0] if node.op_type == DEQUANTIZE else None
        array = constant(value)
        if value is None or array is None or array.dtype != np.int32 or array.size < NARROW:
            continue
        if len(value.uses()) > 1 or np.any(array != array.astype(np.int16)):
            continue
        stored = editor.initializer(f"{value.name}_int16", array.astype(np.int16))
        wide = ir.DataType.INT32
        cast = editor.node("Cast", [stored], f"{value.name}_int32", wide, value.shape, {"to": int(wide)})
        editor.before(node, [cast])
        node.replace_input_with(0, cast.outputs[0])
        count += 1
    return count

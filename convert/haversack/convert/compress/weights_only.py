"""The recipe `int8-weights`: int8 weights, float32 arithmetic.

Each weight `w` becomes `w_quantized` (int8, symmetric) → DequantizeLinear → `w`, with one scale a channel where the
operator has channels. Small tensors (biases, addends) stay float32: they weigh little and cost accuracy.
"""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.compress import forms, weights
from haversack.convert.compress.editing import Editor
from haversack.convert.compress.operators import weight_axis, weight_values
from haversack.convert.compress.recipes import Recipe


def compress_weights(model: ir.Model, recipe: Recipe) -> tuple[ir.Model, list[str]]:
    """Store the weights of a copy of `model` in int8.

    `auto` means per-channel here: without activations to quantize it is never the less accurate one.

    Returns:
        The compressed hub graph, and notes.

    Raises:
        UsageError: There are NaN or infinite weights.
    """
    copy = model.clone()
    editor = Editor(copy.graph)
    kept = 0
    for value in weight_values(copy.graph):
        tensor = value.const_value
        assert tensor is not None
        axes = {weight_axis(use.node, use.idx) for use in value.uses()}
        if len(tensor.shape) < 2 or axes == {None}:
            kept += 1
            continue
        axis = axes.pop() if len(axes) == 1 and recipe.weights != "per-tensor" else None
        made = weights.quantize(str(value.name), tensor.numpy(), axis)
        forms.integer(editor, value, made.quantized, made.scale, made.axis)
    return copy, [f"{kept} constants that are no layer's weights stay float32"] if kept else []

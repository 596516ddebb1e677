"""The recipe `int8-weights`: int8 weights, float32 arithmetic.

Each weight `w` becomes `w_quantized` (int8, symmetric) → DequantizeLinear → `w`, with one scale a channel where the
operator has channels. Small tensors (biases, addends) stay float32: they weigh little and cost accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from haversack.convert.compress import weights
from haversack.convert.compress.editing import Editor, replace_initializer
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
        dequantize_weights(editor, value, axis)
    return copy, [f"{kept} constants that are no layer's weights stay float32"] if kept else []


def dequantize_weights(editor: Editor, value: ir.Value, axis: int | None) -> None:
    """Replace the initializer `value` by int8 and a DequantizeLinear."""
    tensor = value.const_value
    assert tensor is not None
    made = weights.quantize(str(value.name), tensor.numpy(), axis)
    inputs = [
        editor.initializer(f"{value.name}_quantized", made.quantized),
        editor.initializer(f"{value.name}_scale", made.scale),
        editor.initializer(f"{value.name}_zero_point", np.zeros(made.scale.shape, np.int8)),
    ]
    attributes: Mapping[str, int] = {} if made.axis is None else {"axis": made.axis}
    node = editor.node(
        "DequantizeLinear", inputs, f"{value.name}_dequantized", ir.DataType.FLOAT, value.shape, attributes
    )
    replace_initializer(editor, value, node)

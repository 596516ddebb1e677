"""The recipe `fp16`: float16 weights, float32 arithmetic.

Each float32 initializer `w` becomes `w_fp16` (float16) → Cast(to=FLOAT) → `w`. Targets with float16 arithmetic drop
the Cast; onnxruntime folds it when it loads the model.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.editing import Editor, replace_initializer
from haversack.convert.compress.operators import weight_values
from haversack.runtimes.engines import Array

LARGEST = 65504.0
"""The largest finite float16."""

ERROR_LIMIT = 2.0**-11
"""Relative rounding error of a normal float16; a tensor with more is too small: float16 is subnormal below 2^-14."""


def compress_float16(model: ir.Model) -> tuple[ir.Model, list[str]]:
    """Store the float32 weights of a copy of `model` in float16.

    A tensor stays float32, with a note, where float16 would overflow or lose its values: its rounding error, as a
    share of its largest value, must not pass that of a normal float16 number. Scalars stay too: they are no smaller
    with a Cast beside them, and often are epsilons.

    Returns:
        The float16 hub graph, and notes.
    """
    copy = model.clone()
    editor = Editor(copy.graph)
    notes = []
    for value in weight_values(copy.graph):
        reason = store_float16(editor, value)
        if reason:
            notes.append(f"{value.name} stays float32: {reason}")
    return copy, notes


def store_float16(editor: Editor, value: ir.Value) -> str | None:
    """Store one float32 initializer in float16; or say why float16 cannot hold it."""
    tensor = value.const_value
    assert tensor is not None
    array = tensor.numpy()
    reason = unfit(array)
    if reason:
        return reason
    stored = editor.initializer(f"{value.name}_fp16", array.astype(np.float16))
    cast = editor.node(
        "Cast", [stored], f"{value.name}_from_fp16", ir.DataType.FLOAT, value.shape, {"to": int(ir.DataType.FLOAT)}
    )
    replace_initializer(editor, value, cast)
    return None


def unfit(array: Array) -> str | None:
    """Why `array` (float32, any shape) cannot be held in float16, or None."""
    if not np.isfinite(array).all():
        return "it holds NaN or infinite values"
    largest = float(np.abs(array).max(initial=0.0))
    if largest > LARGEST:
        return f"{largest:.4g} is above float16's largest value, 65504"
    error = float(np.abs(array.astype(np.float16).astype(np.float64) - array).max(initial=0.0))
    if error > ERROR_LIMIT * largest:
        return f"its values, at most {largest:.4g}, are too small for float16"
    return None

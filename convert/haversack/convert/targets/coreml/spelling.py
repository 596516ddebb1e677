"""Operations said otherwise, so that they mean the same at every size: `same` padding, and factors instead of sizes.

MIL wants padding and target sizes to be constants. Where they depend on the input's size as a padding of `same` or a
constant factor does, there is another way to say them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from haversack.convert.targets.coreml.builder import Var

Shapes = Sequence[tuple[int, ...]]
"""Of one variable, at each of the sizes."""
Said = tuple[str, dict[str, Any]]
"""An operation's type, and the constant inputs that it has instead of its own; None where it lacks one."""


def spelled(operations: Sequence[Any], shapes: Shapes) -> Said:
    """How the first of these operations, which do the same at several sizes, is said for all of them.

    Args:
        operations: One operation, at each of the sizes.
        shapes: Of its input `x`.
    """
    first = operations[0]
    if first.op_type in ("conv", "max_pool", "avg_pool") and _varies(operations, "pad"):
        return first.op_type, _same(operations, shapes)
    if first.op_type == "conv_transpose" and _varies(operations, "output_shape"):
        return first.op_type, {"output_shape": None} if _usual(operations, shapes) else {}
    if first.op_type == "resize_bilinear":
        return _upsampled(operations, shapes)
    return first.op_type, {}


def _varies(operations: Sequence[Any], name: str) -> bool:
    values = [_value(op, name) for op in operations]
    return all(value is not None for value in values) and any(not np.array_equal(v, values[0]) for v in values)


def _value(operation: Any, name: str) -> Any:
    var: Var = operation.inputs.get(name)
    return None if var is None else var.val


def _same(operations: Sequence[Any], shapes: Shapes) -> dict[str, Any]:
    """The padding of ceil(size / stride) windows, the odd element at the end, where it is that at each size.

    (MIL's `conv`: `same`.)
    """
    for op, shape in zip(operations, shapes, strict=True):
        kernel = op.inputs["weight"].shape[2:] if op.op_type == "conv" else _value(op, "kernel_sizes")
        strides, dilations = _value(op, "strides"), _value(op, "dilations")
        pad, spatial = _value(op, "pad"), shape[2:]
        if _value(op, "pad_type") != "custom" or _value(op, "ceil_mode"):
            return {}
        for axis, size in enumerate(spatial):
            stride = 1 if strides is None else int(strides[axis])
            extent = (int(kernel[axis]) - 1) * (1 if dilations is None else int(dilations[axis])) + 1
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
            if (int(pad[2 * axis]), int(pad[2 * axis + 1])) != (total // 2, total - total // 2):
                return {}
    return {"pad_type": "same", "pad": None}


def _usual(operations: Sequence[Any], shapes: Shapes) -> bool:
    """Whether a transposed convolution has the size that follows from its input's: then MIL needs not be told."""
    for op, shape in zip(operations, shapes, strict=True):
        wanted, strides, dilations = (_value(op, name) for name in ("output_shape", "strides", "dilations"))
        pad = _value(op, "pad") if _value(op, "pad_type") == "custom" else np.zeros(2 * len(shape), int)
        if _value(op, "pad_type") not in ("custom", "valid"):
            return False
        for axis, (size, kernel) in enumerate(zip(shape[2:], op.inputs["weight"].shape[2:], strict=True)):
            extent = (int(kernel) - 1) * (1 if dilations is None else int(dilations[axis])) + 1
            full = (size - 1) * (1 if strides is None else int(strides[axis])) + extent
            if int(wanted[2 + axis]) != full - int(pad[2 * axis]) - int(pad[2 * axis + 1]):
                return False
    return True


def _upsampled(operations: Sequence[Any], shapes: Shapes) -> Said:
    """`upsample_bilinear` by a factor samples where `resize_bilinear` does with aligned corners or half pixels."""
    first = operations[0]
    sizes = ("target_size_height", "target_size_width")
    ratios = [
        {int(_value(op, name)) / shape[axis] for op, shape in zip(operations, shapes, strict=True)}
        for name, axis in zip(sizes, (-2, -1), strict=True)
    ]
    mode = _value(first, "sampling_mode")
    whole = all(len(ratio) == 1 and max(ratio).is_integer() for ratio in ratios)
    if not whole or not any(_varies(operations, name) for name in sizes) or mode == "DEFAULT":
        return first.op_type, {}
    factors = {f"scale_factor_{name}": np.float32(max(r)) for name, r in zip(("height", "width"), ratios, strict=True)}
    corners = {"align_corners": mode == "STRICT_ALIGN_CORNERS"}
    return "upsample_bilinear", {**dict.fromkeys((*sizes, "sampling_mode")), **factors, **corners}

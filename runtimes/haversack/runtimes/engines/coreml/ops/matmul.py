"""Matrix products: fully connected layers, batched products, einsum and attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.ops.activation import softmax
from haversack.runtimes.engines.coreml.registry import Arrays, Context, op


@op("linear")
def linear(context: Context, x: Array, weight: Array, bias: Array | None = None) -> Any:
    """Return x times the transposed weight [D_out, D_in], plus bias [D_out]; in the dtype of x, see `matmul`."""
    result = np.matmul(x, weight.T)
    return _declared(result if bias is None else result + bias, context)


@op("matmul")
def matmul(context: Context, x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Any:
    """Return the product of the last two dimensions, the others broadcast; 1-D operands are promoted as in NumPy.

    Since iOS 17 a constant operand may have another dtype. The result has that of the other one; from float to integer
    it is truncated, as `cast` does.
    """
    if transpose_x and x.ndim > 1:
        x = x.swapaxes(-1, -2)
    if transpose_y and y.ndim > 1:
        y = y.swapaxes(-1, -2)
    return _declared(np.matmul(x, y), context)


def _declared(result: Array, context: Context) -> Array:
    """Give floats as integers where an operation that mixes both declares that."""
    storage = context.outputs[0].storage
    return result.astype(storage) if result.dtype.kind == "f" and np.dtype(storage).kind in "iu" else result


@op("einsum")
def einsum(values: Arrays, equation: str) -> Any:
    """Return the sum of products that the equation names; a dimension of 1 broadcasts against the other operand's."""
    inputs = equation.replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for labels, value in zip(inputs, values, strict=True):
        for label, size in zip(labels, value.shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    operands = [
        np.broadcast_to(value, tuple(sizes[label] for label in labels))
        for labels, value in zip(inputs, values, strict=True)
    ]
    return np.einsum(equation.replace(" ", ""), *operands, optimize=True)


@op("scaled_dot_product_attention")
def scaled_dot_product_attention(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Any:
    """Return softmax(query key^T / sqrt(E) + mask) value; where a boolean mask is false, nothing is attended to."""
    scores = np.matmul(query, key.swapaxes(-1, -2)) / np.float32(np.sqrt(query.shape[-1]))
    if attn_mask is not None:
        if attn_mask.dtype == bool:
            attn_mask = np.where(attn_mask, np.float32(0), np.float32(-np.inf))
        scores = scores + attn_mask
    return np.matmul(softmax(scores), value)

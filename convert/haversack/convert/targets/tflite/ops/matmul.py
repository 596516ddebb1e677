"""Matrix products: FULLY_CONNECTED where one side is a constant matrix, BATCH_MATMUL elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers


@lowers("Gemm")
def gemm(
    b: Builder,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's name
    transB: int = 0,  # noqa: N803
) -> Tensor:
    """`alpha * A @ B + beta * C`."""
    if transA:
        x = steps.transpose(b, x, (1, 0))
    if not transB:
        weights = steps.transpose(b, weights, (1, 0))
    out = b.result.shape
    fits = bias is not None and bias.constant and bias.size == out[1] and bias.shape[-1] == out[1]
    if bias is not None and alpha == 1 and beta == 1 and fits:
        return b.op("FULLY_CONNECTED", [x, weights, steps.reshape(b, bias, (out[1],))], out)
    y = b.op("FULLY_CONNECTED", [x, weights], out)
    if alpha != 1:
        y = steps.scalar(b, "MUL", y, alpha)
    if bias is None or beta == 0:
        return y
    return steps.binary(b, "ADD", y, bias if beta == 1 else steps.scalar(b, "MUL", bias, beta))


@lowers("MatMul")
def matmul(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """NumPy's matmul: stacks of matrices, broadcast; vectors take part as one row or column."""
    out = b.result.shape
    if len(x.shape) == 1:
        x = steps.reshape(b, x, (1, *x.shape))
    if len(y.shape) == 1:
        y = steps.reshape(b, y, (*y.shape, 1))
    shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
    if np.dtype(x.nominal).kind in "iu":  # no kernel multiplies matrices of integers
        left = steps.reshape(b, x, (*x.shape, 1))
        right = steps.reshape(b, y, (*y.shape[:-2], 1, *y.shape[-2:]))
        product = steps.binary(b, "MUL", left, right)
        return steps.reshape(b, steps.reduce(b, "SUM", product, [len(product.shape) - 2]), out)
    if y.constant and not x.constant and len(y.shape) == 2 and y.nominal == "float32":
        weights = steps.transpose(b, y, (1, 0))
        if len(x.shape) > 6:  # the most that XNNPACK takes
            x = steps.reshape(b, x, (int(np.prod(x.shape[:-1])), x.shape[-1]))
            shape = (x.shape[0], shape[-1])
        keep: dict[str, Any] = {"keep_num_dims": True} if len(x.shape) > 2 else {}
        return steps.reshape(b, b.op("FULLY_CONNECTED", [x, weights], shape, **keep), out)
    return steps.reshape(b, _batched(b, x, y, shape), out)


def _batched(b: Builder, x: Tensor, y: Tensor, shape: tuple[int, ...]) -> Tensor:
    batch = shape[:-2]
    if max(len(x.shape), len(y.shape)) > 4 or (len(x.shape) != len(y.shape) and batch):
        count = int(np.prod(batch))
        x = _stacked(b, x, batch, count)
        y = _stacked(b, y, batch, count)
    merged = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), *shape[-2:])
    product = b.op("BATCH_MATMUL", [x, y], merged)
    if b.mode == "integer":
        b.note("LiteRT 2.0 and 2.1.0 multiply int8 matrices wrong with XNNPACK; older ones and 2.1.6 do it right.")
    return steps.reshape(b, product, shape)


def _stacked(b: Builder, x: Tensor, batch: tuple[int, ...], count: int) -> Tensor:
    """One batch axis: the only one, or of size 1 where the matrices are the same throughout."""
    if int(np.prod(x.shape[:-2])) == 1:
        return steps.reshape(b, x, (1, *x.shape[-2:]))
    return steps.reshape(b, steps.broadcast_to(b, x, (*batch, *x.shape[-2:])), (count, *x.shape[-2:]))

"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear as arithmetic, where they are no tensor's quantization."""

# ruff: noqa: ARG001 - the signature is the operator's schema, needed or not
from __future__ import annotations

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers


def spread(b: Builder, parameter: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """A scale or zero point in a shape that broadcasts to `x`: one number, one along `axis`, or one a block of it."""
    rank = len(x.shape)
    if parameter.size == 1 and not block_size:
        return steps.reshape(b, parameter, ())
    axis = steps.axis_of(axis, rank)
    if block_size:
        blocks = np.arange(x.shape[axis]) // block_size
        return steps.gather(b, parameter, b.ints(blocks.tolist()), axis)
    return steps.reshape(b, parameter, [x.shape[axis] if n == axis else 1 for n in range(rank)])


@lowers("QuantizeLinear")
def quantize_linear(
    b: Builder,
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    saturate: int = 1,
) -> Tensor:
    """`saturate(round(x / scale) + zero_point)`, halves to even."""
    dtype = b.result.dtype
    if np.dtype(dtype).kind not in "iu":
        raise b.refuse(f"quantization to {dtype}", "quantize to int8")
    real = b.cast(x, "float32")
    divided = steps.binary(b, "DIV", real, spread(b, b.cast(scale, "float32"), x, axis, block_size))
    return rounded(b, divided, None if zero_point is None else spread(b, zero_point, x, axis, block_size), dtype)


def rounded(b: Builder, x: Tensor, zero_point: Tensor | None, dtype: str) -> Tensor:
    """`saturate(round(x) + zero_point)` as integers of `dtype`."""
    y = steps.unary(b, "ROUND", x)
    if zero_point is not None:
        y = steps.binary(b, "ADD", y, b.cast(zero_point, "float32"))
    limits = np.iinfo(dtype)
    y = steps.scalar(b, "MINIMUM", steps.scalar(b, "MAXIMUM", y, limits.min), limits.max)
    return b.cast(b.cast(y, "int32"), dtype)


@lowers("DequantizeLinear")
def dequantize_linear(
    b: Builder,
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    """`(x - zero_point) * scale`."""
    y = b.cast(x, "int32")
    if zero_point is not None:
        y = steps.binary(b, "SUB", y, b.cast(spread(b, zero_point, x, axis, block_size), "int32"))
    factor = spread(b, b.cast(scale, "float32"), x, axis, block_size)
    return b.cast(steps.binary(b, "MUL", b.cast(y, "float32"), factor), b.result.dtype)


@lowers("DynamicQuantizeLinear")
def dynamic_quantize_linear(b: Builder, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 over the range of the tensor, which is made to hold 0."""
    axes = range(len(x.shape))
    low = steps.scalar(b, "MINIMUM", steps.reduce(b, "REDUCE_MIN", x, axes, keepdims=False), 0)
    high = steps.scalar(b, "MAXIMUM", steps.reduce(b, "REDUCE_MAX", x, axes, keepdims=False), 0)
    scale = steps.scalar(b, "DIV", steps.binary(b, "SUB", high, low), 255)
    offset = steps.binary(b, "DIV", steps.unary(b, "NEG", low), scale)
    zero_point = rounded(b, offset, None, "uint8")
    return rounded(b, steps.binary(b, "DIV", x, scale), zero_point, "uint8"), scale, zero_point

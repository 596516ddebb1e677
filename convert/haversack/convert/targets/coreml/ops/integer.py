"""Integer products that stand alone: `matmul` on int32; convolutions of whole numbers as floats, where that is exact.

A product of two bytes, each less its zero point, is at most 2^16 in size, and float32 holds every integer up to 2^24:
sums of 256 such products are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, NeedsFloat32, Value, Var
from haversack.convert.targets.coreml.ops import lowers
from haversack.convert.targets.coreml.ops.conv import conv
from haversack.convert.targets.coreml.ops.quantization import rounded

EXACT = 256


def _centred(b: Builder, x: Value, zero_point: Value | None, axis: int) -> Var:
    """`x - zero_point` as int32; zero points are one number, or one along `axis`."""
    if zero_point is None:
        return b.var(x)
    return b.op("sub", x=x, y=_along(b, zero_point, axis, x.rank))


def _along(b: Builder, value: Value, axis: int, rank: int) -> Var:
    """One number, or one along `axis`, shaped to broadcast to `rank` axes."""
    size = math.prod(value.shape)
    if size == 1:
        return b.reshape(b.var(value), ())
    if value.rank > 1:
        return b.var(value)
    return b.reshape(b.var(value), [size if n == axis % rank else 1 for n in range(rank)])


def _product(b: Builder, x: Var, y: Var, shape: Sequence[int]) -> Var:
    left = b.reshape(x, (1, *x.shape)) if len(x.shape) == 1 else x
    right = b.reshape(y, (*y.shape, 1)) if len(y.shape) == 1 else y
    return b.reshape(b.op("matmul", x=left, y=right, transpose_x=False, transpose_y=False), shape)


@lowers("MatMulInteger")
def matmul_integer(b: Builder, x: Value, y: Value, x_zero: Value | None = None, y_zero: Value | None = None) -> Var:
    """`(x - x_zero) @ (y - y_zero)`; zero points along the rows of x and the columns of y."""
    return _product(b, _centred(b, x, x_zero, -2), _centred(b, y, y_zero, -1), b.outputs[0].shape)


def _requantized(b: Builder, sums: Var, scales: Sequence[Var], y_scale: Value, y_zero: Value) -> Var:
    """Sums of integer products as integers of the result's scale."""
    if b.half:  # sums are beyond float16
        raise NeedsFloat32
    ratio = b.op("real_div", x=b.op("mul", x=scales[0], y=scales[1]), y=b.reshape(b.var(y_scale), ()))
    real = b.op("mul", x=b.cast(sums, b.float_name), y=ratio)
    return rounded(b, real, b.reshape(b.var(y_zero), ()), b.outputs[0].dtype)


@lowers("QLinearMatMul")
def q_linear_matmul(
    b: Builder,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    y: Value,
    y_scale: Value,
    y_zero: Value,
    out_scale: Value,
    out_zero: Value,
) -> Var:
    """An exact integer product, requantized."""
    if math.prod(out_scale.shape) > 1:
        b.refuse("several output scales", "use one output scale")
    shape = b.outputs[0].shape
    sums = _product(b, _centred(b, x, x_zero, -2), _centred(b, y, y_zero, -1), shape)
    scales = [_along(b, x_scale, -2, len(shape)), _along(b, y_scale, -1, len(shape))]
    return _requantized(b, sums, scales, out_scale, out_zero)


def _convolved(
    b: Builder, x: Value, weights: Value, x_zero: Value | None, w_zero: Value | None, given: dict[str, object]
) -> Var:
    """The sums, as int32."""
    if math.prod(weights.shape[1:]) > EXACT:
        b.refuse(f"an integer convolution that sums more than {EXACT} products", "use a float Conv")
    if b.half:
        raise NeedsFloat32
    kernel = b.array(weights, "weights").astype(np.int32)
    if w_zero is not None:
        zeros = b.array(w_zero, "weights' zero point").astype(np.int32)
        kernel = kernel - zeros.reshape((-1,) + (1,) * (weights.rank - 1) if zeros.size > 1 else ())
    data = Value("", x.shape, np.dtype(np.float32), var=b.cast(_centred(b, x, x_zero, -1), b.float_name))
    floats = Value("", weights.shape, np.dtype(np.float32), array=kernel.astype(np.float32))
    return b.cast(conv(b, data, floats, None, **given), "int32")


@lowers("ConvInteger")
def conv_integer(
    b: Builder, x: Value, weights: Value, x_zero: Value | None = None, w_zero: Value | None = None, **given: object
) -> Var:
    """A convolution of whole numbers."""
    return _convolved(b, x, weights, x_zero, w_zero, given)


@lowers("QLinearConv")
def q_linear_conv(
    b: Builder,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    weights: Value,
    w_scale: Value,
    w_zero: Value,
    out_scale: Value,
    out_zero: Value,
    bias: Value | None = None,
    **given: object,
) -> Var:
    """A convolution of whole numbers, requantized; weights have one scale or one a filter."""
    sums = _convolved(b, x, weights, x_zero, w_zero, given)
    if bias is not None:
        sums = b.op("add", x=sums, y=_along(b, bias, 1, x.rank))
    return _requantized(b, sums, [_along(b, x_scale, 1, x.rank), _along(b, w_scale, 1, x.rank)], out_scale, out_zero)

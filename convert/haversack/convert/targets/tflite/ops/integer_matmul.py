"""Integer products that stand alone: exact sums of integers, computed by float kernels in parts that stay exact.

A product of two bytes, each less its zero point, is below 2**16, and float32 holds integers up to 2**24: sums of 256
such products are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers
from haversack.convert.targets.tflite.ops.conv import conv
from haversack.convert.targets.tflite.ops.quantization import rounded

EXACT = 256


def _centred(b: Builder, x: Tensor, zero_point: Tensor | None, axis: int) -> Tensor:
    """`x - zero_point` as float32; zero points are one number, or one along `axis`."""
    if x.data is not None and (zero_point is None or zero_point.data is not None):
        zero = np.zeros((), np.int32) if zero_point is None else np.asarray(zero_point.data, np.int32)
        shaped = zero.reshape(()) if zero.size == 1 else _along(zero, axis, len(x.shape))
        return b.const(x.data.astype(np.int32) - shaped, "float32")
    y = b.cast(x, "float32")
    if zero_point is None:
        return y
    zero_tensor = b.cast(zero_point, "float32")
    if zero_point.size == 1:
        shape: list[int] = []
    elif len(zero_point.shape) > 1:
        shape = list(zero_point.shape)
    else:
        shape = [zero_point.size if n == axis % len(x.shape) else 1 for n in range(len(x.shape))]
    return steps.binary(b, "SUB", y, steps.reshape(b, zero_tensor, shape))


def _along(
    zero: np.ndarray[tuple[int, ...], np.dtype[np.int32]], axis: int, rank: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    if zero.ndim > 1:
        return zero
    return zero.reshape([-1 if n == axis % rank else 1 for n in range(rank)])


def _product(b: Builder, x: Tensor, y: Tensor, shape: Sequence[int]) -> Tensor:
    """The matrix product of whole numbers, as int32."""
    if min(len(x.shape), len(y.shape)) < 2 or max(len(x.shape), len(y.shape)) > 4:
        raise b.refuse("an integer product of vectors or of more than four axes", "reshape to matrices")
    rank = max(len(x.shape), len(y.shape))
    x, y = (steps.reshape(b, t, (1,) * (rank - len(t.shape)) + t.shape) for t in (x, y))
    depth = x.shape[-1]
    sizes = [EXACT] * (depth // EXACT) + ([depth % EXACT] if depth % EXACT else [])
    total: Tensor | None = None
    for left, right in zip(steps.split(b, x, rank - 1, sizes), steps.split(b, y, rank - 2, sizes), strict=True):
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        part = b.op("BATCH_MATMUL", [left, right], (*batch, left.shape[-2], right.shape[-1]))
        whole = b.cast(part, "int32")
        total = whole if total is None else steps.binary(b, "ADD", total, whole)
    assert total is not None
    return steps.reshape(b, total, shape)


@lowers("MatMulInteger")
def matmul_integer(
    b: Builder, x: Tensor, y: Tensor, x_zero: Tensor | None = None, y_zero: Tensor | None = None
) -> Tensor:
    """`(x - x_zero) @ (y - y_zero)`; zero points along the rows of x and the columns of y."""
    return _product(b, _centred(b, x, x_zero, -2), _centred(b, y, y_zero, -1), b.result.shape)


def _requantized(
    b: Builder, sums: Tensor, scales: Sequence[Tensor], y_scale: Tensor, y_zero: Tensor, axis: int
) -> Tensor:
    """Sums of integer products as integers of the result's scale."""
    wide = [b.cast(scale, "float32") for scale in scales]
    rank = len(sums.shape)
    shaped = [
        steps.reshape(b, s, () if s.size == 1 else [s.size if n == place % rank else 1 for n in range(rank)])
        for s, place in zip(wide, (-2, axis), strict=True)
    ]
    out = steps.reshape(b, b.cast(y_scale, "float32"), ())
    ratio = steps.binary(b, "DIV", steps.binary(b, "MUL", shaped[0], shaped[1]), out)
    real = steps.binary(b, "MUL", b.cast(sums, "float32"), ratio)
    return rounded(b, real, steps.reshape(b, y_zero, ()), b.result.dtype)


@lowers("QLinearMatMul")
def q_linear_matmul(
    b: Builder,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    y: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
    out_scale: Tensor,
    out_zero: Tensor,
) -> Tensor:
    """An exact integer product, requantized."""
    if out_scale.size > 1:
        raise b.refuse("several output scales", "use one output scale")
    sums = _product(b, _centred(b, x, x_zero, -2), _centred(b, y, y_zero, -1), b.result.shape)
    return _requantized(b, sums, (x_scale, y_scale), out_scale, out_zero, -1)


def _convolved(
    b: Builder,
    x: Tensor,
    weights: Tensor,
    x_zero: Tensor | None,
    w_zero: Tensor | None,
    bias: Tensor | None,
    **given: object,
) -> Tensor:
    if int(np.prod(weights.shape[1:])) > EXACT:
        raise b.refuse(f"an integer convolution that sums more than {EXACT} products", "use a float Conv")
    y = conv(b, _centred(b, x, x_zero, -1), _centred(b, weights, w_zero, 0), None, **given)
    sums = b.cast(y, "int32")
    return sums if bias is None else steps.binary(b, "ADD", sums, bias)


@lowers("ConvInteger")
def conv_integer(
    b: Builder, x: Tensor, weights: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None, **given: object
) -> Tensor:
    """A convolution of whole numbers."""
    return _convolved(b, x, weights, x_zero, w_zero, None, **given)


@lowers("QLinearConv")
def q_linear_conv(
    b: Builder,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    weights: Tensor,
    w_scale: Tensor,
    w_zero: Tensor,
    out_scale: Tensor,
    out_zero: Tensor,
    bias: Tensor | None = None,
    **given: object,
) -> Tensor:
    """A convolution of whole numbers, requantized; weights have one scale or one a filter."""
    sums = _convolved(b, x, weights, x_zero, w_zero, bias, **given)
    return _requantized(b, sums, (x_scale, w_scale), out_scale, out_zero, -1)

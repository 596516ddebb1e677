"""QuantizeLinear and DequantizeLinear.

Weights stay integers in the package and are floats once loaded (`stored`), activations pass through `quantize` and
`dequantize` (iOS 17). MIL has no ops on int8 tensors: what lies between the two computes on floats, as
the hub's own graph does, so both round at the same places.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.convert.compress.float16 import unfit
from haversack.convert.targets.coreml import stored
from haversack.convert.targets.coreml.builder import Builder, NeedsFloat32, Value, Var
from haversack.convert.targets.coreml.ops import lowers
from haversack.runtimes.engines import Array


@lowers("QuantizeLinear")
def quantize_linear(
    b: Builder,
    x: Value,
    scale: Value,
    zero_point: Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,  # noqa: ARG001  (the hub has inferred the result's type)
    saturate: int = 1,  # noqa: ARG001  (float8 only)
    precision: int = 0,  # noqa: ARG001
) -> Var:
    """round(x / scale) + zero_point, saturated; halves to even."""
    dtype = b.outputs[0].dtype
    if not _native(b, dtype, scale, zero_point, block_size):
        if b.half:  # a quotient beyond float16 saturates
            raise NeedsFloat32
        divided = b.op("real_div", x=x, y=_spread(b, scale, x, axis, block_size))
        return rounded(b, divided, None if zero_point is None else _spread(b, zero_point, x, axis, block_size), dtype)
    scales, zeros = _parameters(b, x, scale, zero_point, dtype)
    return b.raw(
        "quantize",
        input=b.var(x),
        scale=b.constant(scales),
        zero_point=None if not zeros.any() and dtype == np.int8 else b.constant(zeros, exact=True),
        axis=b.constant(axis % x.rank) if scales.ndim else None,
        output_dtype=b.constant(str(dtype)),
    )


@lowers("DequantizeLinear")
def dequantize_linear(
    b: Builder,
    x: Value,
    scale: Value,
    zero_point: Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,  # noqa: ARG001
) -> Var | Value | Array:
    """(x - zero_point) · scale. Of an int32 constant (a bias) it is computed here."""
    if x.array is not None and x.dtype == np.int32:
        return _dequantized(x.array, b.array(scale, "scale"), None, axis)
    if x.array is None and not _native(b, x.dtype, scale, zero_point, block_size):
        y = b.var(x)
        if zero_point is not None:
            y = b.op("sub", x=y, y=_spread(b, zero_point, x, axis, block_size))
        return b.op("mul", x=b.cast(y, b.float_name), y=_spread(b, scale, x, axis, block_size))
    if x.array is not None:
        return _weights(b, x, scale, zero_point, axis, block_size)
    scales, zeros = _parameters(b, x, scale, zero_point, x.dtype)
    if x.var is not None and b.kind(x.var) == "int32":
        # A quantized model input: Core ML has it as int32, which `dequantize` does not take.
        shape = (-1,) + (1,) * (x.rank - 1 - axis % x.rank) if scales.ndim else ()
        centered = b.op("sub", x=x.var, y=zeros.astype(np.int32).reshape(shape))
        return b.op("mul", x=b.cast(centered, b.float_name), y=scales.reshape(shape))
    return b.raw(
        "dequantize",
        input=x.var,
        scale=b.constant(scales),
        zero_point=None if not zeros.any() and x.dtype == np.int8 else b.constant(zeros, exact=True),
        axis=b.constant(axis % x.rank) if scales.ndim else None,
    )


def _weights(b: Builder, x: Value, scale: Value, zero_point: Value | None, axis: int, block_size: int) -> Value | Array:
    """Integers known at conversion: stored as such, floats once loaded."""
    assert x.array is not None
    if str(x.dtype) not in ("int8", "uint8", "int4", "uint4"):
        b.refuse(f"Core ML stores weights as integers of 4 and 8 bits, not as {x.dtype}", "quantize to int8")
    scales = b.array(scale, "scale").astype(np.float32)
    zeros = np.zeros(scales.shape, x.dtype) if zero_point is None else b.array(zero_point, "zero point")
    zeros = zeros.reshape(scales.shape)
    if scales.size == 1:
        scales, zeros, block_size = scales.reshape(()), zeros.reshape(()), 0
    axis = axis % x.rank if scales.ndim else 0
    wide, narrow = np.int32, x.array
    if block_size:
        blocks = np.arange(x.shape[axis]) // block_size
        array = (narrow.astype(wide) - zeros.astype(wide).take(blocks, axis)) * scales.take(blocks, axis)
    else:
        array = _dequantized(narrow, scales, zeros, axis)
    if not x.rank:
        return array

    def written() -> Var:
        if b.half and unfit(scales):
            raise NeedsFloat32
        return stored.integers(b, narrow, scales, zeros, axis, block_size)

    return Value(x.name, x.shape, np.dtype(np.float32), array=array.astype(np.float32), stored=written)


@lowers("DynamicQuantizeLinear")
def dynamic_quantize_linear(b: Builder, x: Value) -> tuple[Var, Var, Var]:
    """uint8 over the range of the tensor, which is made to hold 0."""
    if b.half:
        raise NeedsFloat32
    axes = list(range(x.rank))
    low = b.op("minimum", x=b.op("reduce_min", x=x, axes=axes, keep_dims=False), y=0.0)
    high = b.op("maximum", x=b.op("reduce_max", x=x, axes=axes, keep_dims=False), y=0.0)
    scale = b.op("real_div", x=b.op("sub", x=high, y=low), y=255.0)
    byte = np.dtype(np.uint8)
    zero_point = rounded(b, b.op("real_div", x=b.op("sub", x=0.0, y=low), y=scale), None, byte)
    return rounded(b, b.op("real_div", x=x, y=scale), zero_point, byte), scale, zero_point


def rounded(b: Builder, x: Var, zero_point: Var | None, dtype: np.dtype[Any]) -> Var:
    """`saturate(round(x) + zero_point)` as int32 within the range of `dtype`; halves to even."""
    y = b.op("round", x=x)
    if zero_point is not None:
        y = b.op("add", x=y, y=b.cast(zero_point, b.float_name))
    limits = np.iinfo(dtype)
    y = b.op("minimum", x=b.op("maximum", x=y, y=float(limits.min)), y=float(limits.max))
    return b.cast(y, "int32")


def _native(b: Builder, dtype: np.dtype[Any], scale: Value, zero_point: Value | None, block_size: int) -> bool:
    """Whether `quantize` and `dequantize` take it; else it is written out as arithmetic."""
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        b.refuse(f"Core ML quantizes to integers of 8 and 16 bits, not to {dtype}", "quantize to int8")
    known = scale.array is not None and (zero_point is None or zero_point.array is not None)
    return known and not block_size and dtype.itemsize == 1


def _spread(b: Builder, parameter: Value, x: Value, axis: int, block_size: int) -> Var:
    """A scale or zero point shaped to broadcast to `x`: one number, one along `axis`, or one a block of it."""
    if block_size:
        blocks = np.arange(x.shape[axis % x.rank]) // block_size
        return b.op("gather", x=parameter, indices=blocks, axis=axis % x.rank, batch_dims=0)
    if np.prod(parameter.shape) == 1:
        return b.reshape(b.var(parameter), ())
    return b.reshape(b.var(parameter), [x.shape[n] if n == axis % x.rank else 1 for n in range(x.rank)])


def _dequantized(array: Array, scale: Array, zero_point: Array | None, axis: int) -> Array:
    if scale.ndim:
        shape = [-1 if position == axis % array.ndim else 1 for position in range(array.ndim)]
        scale = scale.reshape(shape)
        zero_point = None if zero_point is None else zero_point.reshape(shape)
    centered = array.astype(np.int32) - (0 if zero_point is None else zero_point.astype(np.int32))
    # asarray: NumPy turns a product of rank-0 arrays into a scalar that is no array.
    return np.asarray(centered.astype(np.float32) * scale.astype(np.float32))


def _parameters(
    b: Builder, x: Value, scale: Value, zero_point: Value | None, dtype: np.dtype[Any]
) -> tuple[Array, Array]:
    """Scale and zero point as arrays, checked against what Core ML's 8-bit ops take."""
    if str(dtype) not in ("int8", "uint8"):
        b.refuse(f"Core ML quantizes to int8 and uint8, not to {dtype}", "quantize to int8")
    if x.array is None and b.ios < 17:
        b.refuse("quantized activations need iOS 17", "compress by int8-weights, or raise the deployment target")
    scales = b.array(scale, "scale").astype(np.float32)
    zeros = np.zeros(scales.shape, dtype) if zero_point is None else b.array(zero_point, "zero point").astype(dtype)
    if scales.size == 1:
        scales, zeros = scales.reshape(()), zeros.reshape(())
    return scales, zeros

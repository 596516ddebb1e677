"""Compressed constants: quantized, palettized, sparse, and their combinations.

All of these run once, when the package is opened. Where iOS 16 and iOS 18 define different parameters under one name,
both forms are here, told apart by the parameters present.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.ops.quantization import along
from haversack.runtimes.engines.coreml.registry import Ints, op
from haversack.runtimes.engines.coreml.weights import unpack
from haversack.runtimes.errors import EngineError


@op("constexpr_affine_dequantize")
def constexpr_affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: int) -> Any:
    """Return scale * (quantized_data - zero_point), with vectors along the axis."""
    rank = quantized_data.ndim
    centred = quantized_data.astype(np.float32) - along(zero_point, rank, axis).astype(np.float32)
    return along(scale, rank, axis) * centred


@op("constexpr_cast")
def constexpr_cast(source_val: Array, output_dtype: str) -> Any:
    """Return float16 values as float32."""
    if output_dtype != "fp32":
        raise EngineError(f"constexpr_cast to {output_dtype} is not known")
    return source_val.astype(np.float32)


@op("constexpr_lut_to_dense")
def constexpr_lut_to_dense(
    indices: Array, lut: Array, shape: Ints | None = None, vector_axis: int | None = None
) -> Any:
    """Return the palette's entries that the indices name.

    iOS 16: one palette, indices packed in bytes (lowest bit first), `shape` the result's. iOS 18: a palette for each
    block of the indices, [*blocks, entries, vector], and a vector's elements lying along `vector_axis`.
    """
    if shape is not None:
        bits = int(math.log2(lut.size))
        return lut[unpack(indices, bits, math.prod(shape))].reshape(shape)
    return _palette(indices, lut, vector_axis)


def _palette(indices: Array, lut: Array, vector_axis: int | None) -> Array:
    """Look up the entries of one palette a block (iOS 18)."""
    rank = indices.ndim
    if lut.ndim != rank + 2:
        raise EngineError(f"the palette has rank {lut.ndim}, the indices rank {rank}: it must be two more")
    where = np.ogrid[tuple(slice(size) for size in indices.shape)]
    block = tuple(
        grid // (size // count) for grid, size, count in zip(where, indices.shape, lut.shape[:rank], strict=True)
    )
    entries: Array = lut[(*block, indices.astype(np.int64))]
    if lut.shape[-1] == 1:
        return entries[..., 0]
    if vector_axis is None:
        raise EngineError("a palette of vectors needs vector_axis")
    axis = vector_axis % rank
    sizes = list(indices.shape)
    sizes[axis] *= lut.shape[-1]
    return np.moveaxis(entries, -1, axis + 1).reshape(sizes)


@op("constexpr_sparse_to_dense")
def constexpr_sparse_to_dense(nonzero_data: Array, mask: Array, shape: Ints | None = None) -> Any:
    """Return the values where the mask is set, in row-major order, and zero elsewhere.

    iOS 16: the mask is packed in bytes and `shape` is the result's; iOS 18: the mask has the result's shape.
    """
    if shape is not None:
        mask = unpack(mask, 1, math.prod(shape)).reshape(shape)
    return _dense(nonzero_data, mask)


def _dense(values: Array, mask: Array) -> Array:
    if int(np.count_nonzero(mask)) != values.size:
        raise EngineError(f"the mask has {np.count_nonzero(mask)} elements set for {values.size} values")
    result = np.zeros(mask.shape, values.dtype)
    result[mask != 0] = values.reshape(-1)
    return result


@op("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Any:
    """Return scale * (data - offset), each scale and offset covering a block of data.shape / scale.shape."""
    return _shift_scale(data, scale, offset)


def _shift_scale(data: Array, scale: Array, offset: Array | None) -> Array:
    if data.ndim != scale.ndim or any(d % s for d, s in zip(data.shape, scale.shape, strict=True)):
        raise EngineError(f"scales of shape {list(scale.shape)} do not divide data of shape {list(data.shape)}")
    values = data.astype(np.float32)
    if offset is not None:
        values = values - _spread(offset.astype(np.float32), data.shape)
    result: Array = values * _spread(scale, data.shape)
    return result


def _spread(parameter: Array, shape: tuple[int, ...]) -> Array:
    """Repeat each element over its block."""
    for axis, (size, count) in enumerate(zip(shape, parameter.shape, strict=True)):
        if count not in (1, size):
            parameter = np.repeat(parameter, size // count, axis)
    return parameter


@op("constexpr_lut_to_sparse")
def constexpr_lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: int | None = None
) -> Any:
    """Look up the set elements only; return their mask (repeated along `vector_axis`) and their values."""
    dense = _palette(_dense(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1 and vector_axis is not None:
        mask = np.repeat(mask, lut.shape[-1], axis=vector_axis)
    return mask, dense[mask != 0]


@op("constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> Any:
    """Dequantize the set elements only; return their mask and their values."""
    dense = _shift_scale(_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]

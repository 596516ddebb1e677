"""Tensors made from a shape, a range or indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import Context, Ints, op


@op("fill", moves=True)
def fill(shape: Ints, context: Context, value: Array | None = None) -> Any:
    """Return a tensor of this shape full of one value (0 by default)."""
    return np.full(shape, 0 if value is None else value, context.outputs[0].storage)


@op("fill_like", moves=True)
def fill_like(ref_tensor: Array, context: Context, value: Array | None = None) -> Any:
    """Return a tensor of the shape of another full of one value (0 by default)."""
    return np.full(ref_tensor.shape, 0 if value is None else value, context.outputs[0].storage)


@op("range_1d")
def range_1d(start: Array, end: Array, step: Array) -> Any:
    """Return start, start + step, ... short of end."""
    first, last, by = (np.asarray(value).item() for value in (start, end, step))
    count = max(0, int(np.ceil((last - first) / by)))
    return (first + by * np.arange(count)).astype(start.dtype)


@op("one_hot", moves=True)
def one_hot(
    indices: Array,
    one_hot_vector_size: int,
    context: Context,
    axis: int = -1,
    on_value: Array | None = None,
    off_value: Array | None = None,
) -> Any:
    """Return, along a new axis, `on_value` at each index and `off_value` elsewhere; an index outside lights nothing."""
    dtype = context.outputs[0].storage
    on = np.asarray(1 if on_value is None else on_value).astype(dtype)
    off = np.asarray(0 if off_value is None else off_value).astype(dtype)
    lit = np.expand_dims(indices, axis) == _along(np.arange(one_hot_vector_size), indices.ndim + 1, axis)
    return np.where(lit, on, off)


def _along(values: Array, rank: int, axis: int) -> Array:
    """Shape a vector so that it lies along one axis of an array of this rank."""
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)

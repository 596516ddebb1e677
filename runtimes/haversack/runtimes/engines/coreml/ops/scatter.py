"""Scatters: gathers' opposite, with a choice of what to do with the value that is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.ops.indexing import checked
from haversack.runtimes.engines.coreml.registry import Context, op
from haversack.runtimes.errors import EngineError

# Unbuffered, so that an index that occurs twice is applied twice.
MODES: dict[str, Callable[..., Any]] = {
    "add": np.add.at,
    "sub": np.subtract.at,
    "mul": np.multiply.at,
    "div": np.divide.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _apply(data: Array, index: tuple[Any, ...], updates: Array, mode: str) -> Array:
    if mode == "update":
        result = data.copy()
        result[index] = updates
        return result
    if mode not in MODES:
        raise EngineError(f"scatter has no mode {mode}")
    if mode == "div" and data.dtype.kind in "iu":
        quotient = data.astype(np.float64)
        np.divide.at(quotient, index, updates)
        return np.trunc(quotient).astype(data.dtype)
    result = data.copy()
    MODES[mode](result, index, updates)
    return result


@op("scatter")
def scatter(
    data: Array,
    indices: Array,
    updates: Array,
    context: Context,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,  # noqa: ARG001 - indices are always validated
) -> Any:
    """Combine slice i of `updates` into the slice of `data` that indices[i] names along the axis."""
    axis %= data.ndim
    index = (slice(None),) * axis + (checked(indices, data.shape[axis], context),)
    return _apply(data, index, updates, mode)


@op("scatter_along_axis")
def scatter_along_axis(
    data: Array,
    indices: Array,
    updates: Array,
    context: Context,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,  # noqa: ARG001 - indices are always validated
) -> Any:
    """Combine each element of `updates` into `data` at its own position but at `indices` along the axis."""
    axis %= data.ndim
    grid: list[Any] = list(np.ogrid[tuple(slice(size) for size in indices.shape)])
    grid[axis] = checked(indices, data.shape[axis], context)
    return _apply(data, tuple(grid), updates, mode)


@op("scatter_nd")
def scatter_nd(
    data: Array,
    indices: Array,
    updates: Array,
    context: Context,
    mode: str = "add",
    validate_indices: bool = False,  # noqa: ARG001 - indices are always validated
) -> Any:
    """Combine each slice of `updates` into the slice of `data` whose leading indices stand in `indices`' last axis."""
    index = tuple(checked(indices[..., i], data.shape[i], context) for i in range(indices.shape[-1]))
    return _apply(data, index, updates, mode)

"""Order, counts and running sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import op


def order(x: Array, axis: int, ascending: bool) -> Array:
    """Return the indices that sort x along an axis; among equals the lower index comes first."""
    if ascending:
        return np.argsort(x, axis=axis, kind="stable")
    if x.dtype.kind == "u":
        return np.argsort(~x, axis=axis, kind="stable")
    # Negating would overflow the lowest integer, which its bitwise complement does not.
    return np.argsort(~x if x.dtype.kind == "i" else -x, axis=axis, kind="stable")


@op("argsort")
def argsort(x: Array, axis: int = -1, ascending: bool = False) -> Any:
    """Return the indices that sort x along an axis, descending unless asked otherwise."""
    return order(x, axis, ascending).astype(np.int32)


@op("topk")
def topk(
    x: Array,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,  # noqa: ARG001 - unsorted, any order is right
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Any:
    """Return the k largest (`ascending`: smallest) elements along an axis and their indices; k = -1 is all."""
    count = x.shape[axis] if k == -1 else k
    indices = np.take(order(x, axis, ascending), np.arange(count), axis=axis)
    values = np.take_along_axis(x, indices, axis=axis)
    return (values, indices.astype(output_indices_dtype)) if return_indices else values


@op("non_zero")
def non_zero(x: Array) -> Any:
    """Return the indices of the elements that are not zero, one a row."""
    return np.argwhere(x).astype(np.int32)


@op("cumsum")
def cumsum(x: Array, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    """Return running sums along an axis: of the elements up to each, or (`exclusive`) before it; or from the end."""
    data = np.flip(x, axis) if reverse else x
    result = np.cumsum(data, axis=axis, dtype=x.dtype)
    if exclusive:
        result = result - data if x.dtype.kind in "iu" else _shift(result, axis)
    return np.flip(result, axis) if reverse else result


def _shift(sums: Array, axis: int) -> Array:
    """Move running sums on by one and start with 0, which keeps infinities out of differences."""
    moved = np.moveaxis(np.zeros_like(sums), axis, 0)
    moved[1:] = np.moveaxis(sums, axis, 0)[:-1]
    return np.moveaxis(moved, 0, axis)

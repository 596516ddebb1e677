"""Slices and gathers."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import Context, Ints, op
from haversack.runtimes.errors import EngineError


def slices(
    shape: tuple[int, ...],
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Ints | None,
    end_mask: Ints | None,
    squeeze_mask: Ints | None,
) -> tuple[slice | int, ...]:
    """Return the NumPy index of MIL's slice: a masked begin or end means from or to the edge in the stride's direction.

    A squeezed dimension is indexed at its begin, whatever its end.
    """
    index: list[slice | int] = []
    for axis, size in enumerate(shape):
        if squeeze_mask is not None and squeeze_mask[axis]:
            index.append(begin[axis])
            continue
        step = stride[axis] if stride is not None else 1
        first = None if begin_mask is not None and begin_mask[axis] else begin[axis]
        last = None if end_mask is not None and end_mask[axis] else end[axis]
        if first is not None and first < -size:
            first = 0 if step > 0 else -size - 1
        if last is not None and step < 0 and last < -size:
            last = None
        index.append(slice(first, last, step))
    return tuple(index)


@op("slice_by_index", moves=True)
def slice_by_index(
    x: Array,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Ints | None = None,
    end_mask: Ints | None = None,
    squeeze_mask: Ints | None = None,
) -> Any:
    """Return x[begin:end:stride] in every dimension."""
    return x[slices(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


@op("slice_update", moves=True)
def slice_update(
    x: Array,
    update: Array,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Ints | None = None,
    end_mask: Ints | None = None,
    squeeze_mask: Ints | None = None,
) -> Any:
    """Return x with the slice x[begin:end:stride] replaced by `update`."""
    result = x.copy()
    index = slices(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result[index] = update.reshape(result[index].shape)
    return result


@op("slice_by_size", moves=True)
def slice_by_size(x: Array, begin: Ints, size: Ints) -> Any:
    """Return so many elements from `begin` on in every dimension; -1 takes all that follow."""
    index = []
    for axis, (start, count) in enumerate(zip(begin, size, strict=True)):
        first = start + x.shape[axis] if start < 0 else start
        index.append(slice(first, None if count == -1 else first + count))
    return x[tuple(index)]


def checked(indices: Array, size: int, context: Context) -> Array:
    """Return indices with negative ones counted from the end.

    iOS 17 made negative indices out of bounds; out of bounds is undefined behaviour (or an error with
    `validate_indices`), which a reference must not give a value to.

    Raises:
        EngineError: An index lies out of bounds.
    """
    lowest = 0 if context.opset >= 17 else -size
    whole = indices.astype(np.int64)
    if whole.size and (whole.min() < lowest or whole.max() >= size):
        raise EngineError(f"indices from {whole.min()} to {whole.max()} do not lie in [{lowest}, {size})")
    return np.where(whole < 0, whole + size, whole)


@op("gather", moves=True)
def gather(
    x: Array,
    indices: Array,
    context: Context,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,  # noqa: ARG001 - indices are always validated
) -> Any:
    """Return the slices of x along an axis that the indices name, the first `batch_dims` dimensions in parallel."""
    axis %= x.ndim
    chosen = checked(indices, x.shape[axis], context)
    if batch_dims == 0:
        return np.take(x, chosen, axis=axis)
    batch = x.shape[:batch_dims]
    flat_x = x.reshape(-1, *x.shape[batch_dims:])
    flat_indices = chosen.reshape(-1, *chosen.shape[batch_dims:])
    rows = [np.take(a, i, axis=axis - batch_dims) for a, i in zip(flat_x, flat_indices, strict=True)]
    return np.stack(rows).reshape(*batch, *rows[0].shape)


@op("gather_along_axis", moves=True)
def gather_along_axis(
    x: Array,
    indices: Array,
    context: Context,
    axis: int = 0,
    validate_indices: bool = False,  # noqa: ARG001 - indices are always validated
) -> Any:
    """Return, at each position of `indices`, the element of x that lies there but at that index along the axis."""
    return np.take_along_axis(x, checked(indices, x.shape[axis], context), axis=axis)


@op("gather_nd", moves=True)
def gather_nd(
    x: Array,
    indices: Array,
    context: Context,
    batch_dims: int = 0,
    validate_indices: bool = False,  # noqa: ARG001 - indices are always validated
) -> Any:
    """Return the slices of x whose leading indices stand along the last dimension of `indices`."""
    depth = indices.shape[-1]
    parts = tuple(checked(indices[..., i], x.shape[batch_dims + i], context) for i in range(depth))
    lead = np.ogrid[tuple(slice(size) for size in indices.shape[:batch_dims])] if batch_dims else ()
    extra = indices.ndim - 1 - batch_dims
    batch = tuple(index.reshape(index.shape + (1,) * extra) for index in lead)
    return x[(*batch, *parts)]

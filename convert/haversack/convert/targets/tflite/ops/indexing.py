"""Gathers, scatters and one-hot.

ONNX counts negative indices from the end, TFLite refuses them: constants are normalised here, computed indices by
FLOOR_MOD. Indices of every kernel are int32.
"""

# ruff: noqa: ARG001 - the signature is the operator's schema, needed or not
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers


def _normalised(b: Builder, indices: Tensor, sizes: Sequence[int] | int) -> Tensor:
    """Indices modulo the axis (or, for coordinates, each modulo its axis), as int32."""
    limit = np.array(sizes, np.int32)
    if indices.data is not None:
        return b.const((indices.data.astype(np.int64) % limit).astype(np.int32))
    return steps.binary(b, "FLOOR_MOD", steps.index(b, indices), b.const(limit))


@lowers("Gather")
def gather(b: Builder, x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """GATHER."""
    axis = steps.axis_of(axis, len(x.shape))
    return steps.gather(b, x, _normalised(b, indices, x.shape[axis]), axis)


def _flat(b: Builder, x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Positions in the flattened tensor of the elements that `indices` names along `axis`: int32, shape of indices."""
    steps_of = np.cumprod((1, *x.shape[::-1]))[-2::-1] if x.shape else np.ones(0, np.int64)
    grid = np.zeros(indices.shape, np.int64)
    for other in range(len(x.shape)):
        if other != axis:
            rows = np.arange(indices.shape[other]) * steps_of[other]
            grid = grid + rows.reshape([-1 if n == other else 1 for n in range(len(x.shape))])
    places = _normalised(b, indices, x.shape[axis])
    if places.data is not None:
        return b.const((places.data * steps_of[axis] + grid).astype(np.int32))
    scaled = steps.binary(b, "MUL", places, b.const(int(steps_of[axis]), "int32"))
    return steps.binary(b, "ADD", scaled, b.const(grid, "int32"))


@lowers("GatherElements")
def gather_elements(b: Builder, x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """One GATHER from the flattened tensor."""
    places = _flat(b, x, indices, steps.axis_of(axis, len(x.shape)))
    return steps.gather(b, steps.reshape(b, x, (x.size,)), places, 0)


@lowers("GatherND")
def gather_nd(b: Builder, x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """GATHER_ND; batch axes become coordinates."""
    depth = indices.shape[-1]
    places = _normalised(b, indices, x.shape[batch_dims : batch_dims + depth])
    if batch_dims:
        grids = np.indices(indices.shape[:batch_dims], np.int32)
        columns = grids.reshape(batch_dims, *indices.shape[:batch_dims], *([1] * (len(indices.shape) - batch_dims)))
        shape = (*indices.shape[:-1], 1)
        parts = [b.const(np.broadcast_to(column, shape)) for column in columns]
        if places.data is not None:
            data = np.concatenate([p.data for p in (*parts, places) if p.data is not None], -1)
            places = b.const(data)
        else:
            places = steps.concat(b, [*parts, places], len(shape) - 1)
    return b.op("GATHER_ND", [x, places], b.result.shape)


def _scattered(b: Builder, x: Tensor, places: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """SCATTER_ND adds into zeros; `none` replaces where a second scatter of ones says that something fell."""
    shape = b.ints(x.shape)
    if reduction == "add":
        return steps.binary(b, "ADD", x, b.op("SCATTER_ND", [places, updates, shape], x.shape))
    if reduction != "none":
        return _reduced(b, x, places, updates, reduction)
    if places.data is not None:
        hit = np.zeros(x.shape, np.bool_)
        hit[tuple(np.moveaxis(places.data, -1, 0))] = True
        mask = b.const(hit)
    else:
        ones = b.const(np.ones(updates.shape, np.int32))
        fallen = b.op("SCATTER_ND", [places, ones, shape], x.shape)
        mask = steps.binary(b, "GREATER", fallen, b.const(0, "int32"), "bool")
    return steps.elementwise(b, "SELECT_V2", [mask, b.op("SCATTER_ND", [places, updates, shape], x.shape), x])


_REDUCTIONS = {
    "mul": ("REDUCE_PROD", "MUL", 1.0),
    "max": ("REDUCE_MAX", "MAXIMUM", -np.inf),
    "min": ("REDUCE_MIN", "MINIMUM", np.inf),
}
LARGEST = 1 << 22
"""Elements that the table of `_reduced` may have."""


def _reduced(b: Builder, x: Tensor, places: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """A table of each update at its place and neutral elements elsewhere, reduced over the updates."""
    code, join, neutral = _REDUCTIONS[reduction]
    depth = places.shape[-1]
    count, outer = places.size // depth, int(np.prod(x.shape[:depth]))
    inner = x.size // outer
    if count * x.size > LARGEST:
        raise b.refuse(f"scatter with reduction {reduction!r} of so many elements", "use 'none' or 'add'")
    strides = [int(np.prod(x.shape[n + 1 : depth])) for n in range(depth)]
    scaled = steps.binary(b, "MUL", steps.reshape(b, places, (count, depth)), b.ints(strides))
    flat = steps.reduce(b, "SUM", scaled, [1])
    hit = steps.binary(b, "EQUAL", flat, b.ints(range(outer)), "bool")
    if np.dtype(x.nominal).kind in "iu" and np.isinf(neutral):
        limits = np.iinfo(x.nominal)
        neutral = limits.max if neutral > 0 else limits.min
    given = steps.reshape(b, updates, (count, 1, inner))
    empty = b.const(np.array(neutral).astype(x.nominal))
    table = steps.elementwise(b, "SELECT_V2", [steps.reshape(b, hit, (count, outer, 1)), given, empty])
    gathered = steps.reshape(b, steps.reduce(b, code, table, [0]), x.shape)
    return steps.binary(b, join, x, gathered)


@lowers("ScatterND")
def scatter_nd(b: Builder, x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """Updates at coordinates; where several fall on one place, ONNX defines the result for `add` only."""
    places = _normalised(b, indices, x.shape[: indices.shape[-1]])
    return _scattered(b, x, places, updates, reduction)


@lowers("ScatterElements")
def scatter_elements(
    b: Builder, x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    """A scatter into the flattened tensor."""
    places = _flat(b, x, indices, steps.axis_of(axis, len(x.shape)))
    flat = steps.reshape(b, x, (x.size,))
    column = steps.reshape(b, places, (indices.size, 1))
    y = _scattered(b, flat, column, steps.reshape(b, updates, (updates.size,)), reduction)
    return steps.reshape(b, y, x.shape)


@lowers("OneHot")
def one_hot(b: Builder, indices: Tensor, depth: Tensor, values: Tensor, *, axis: int = -1) -> Tensor:
    """ONE_HOT; an index outside of ±depth gives no hot place, so only negative ones are moved."""
    axis = steps.axis_of(axis, len(indices.shape) + 1)
    count = b.result.shape[axis]  # which is depth, be it known or computed
    if values.constant:
        off, on = (b.const(value) for value in values.value().reshape(-1))
    else:
        off, on = (steps.reshape(b, part, ()) for part in steps.split(b, values, 0, [1, 1]))
    places = steps.index(b, indices)
    if places.data is not None:
        places = b.const(np.where(places.data < 0, places.data + count, places.data).astype(np.int32))
    else:
        negative = steps.binary(b, "LESS", places, b.const(0, "int32"), "bool")
        moved = steps.scalar(b, "ADD", places, count)
        places = steps.elementwise(b, "SELECT_V2", [negative, moved, places])
    inputs = [places, b.const(count, "int32"), on, off]
    return b.op("ONE_HOT", inputs, b.result.shape, axis=axis)

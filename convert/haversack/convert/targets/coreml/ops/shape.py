"""Ops that move elements without changing them: shapes, axes, joining, splitting, repeating."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from haversack.convert.targets.coreml.builder import MAX_RANK, Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers
from haversack.runtimes.engines import Array


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(b: Builder, x: Value, shape: Value | None = None, *, allowzero: int = 0, axis: int = 1) -> Var:  # noqa: ARG001
    """The hub has inferred the result's shape, so how it was asked for does not matter."""
    wanted = b.outputs[0].shape
    return b.in_order(x) if len(wanted) > MAX_RANK else b.reshape(b.in_order(x), wanted)


@lowers("Transpose")
def transpose(b: Builder, x: Value, *, perm: Sequence[int] = ()) -> Var:
    """Axes permuted; reversed by default."""
    order = list(perm) or list(range(x.rank))[::-1]
    return b.transpose(b.var(x), order) if x.rank <= MAX_RANK else _permuted(b, x, order)


def _permuted(b: Builder, x: Value, perm: Sequence[int]) -> Var:
    """A value of too many axes, its elements in their new order: axes that stay neighbours count as one.

    Where more than five are left, they are brought to their places one by one.
    """
    kept = [axis for axis in range(x.rank) if x.shape[axis] != 1]
    order = [kept.index(axis) for axis in perm if axis in kept]
    runs = [[order[0]]]
    for place in order[1:]:
        if place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    sizes = {run[0]: math.prod(x.shape[kept[place]] for place in run) for run in runs}
    before, wanted = sorted(sizes), [run[0] for run in runs]
    var = b.in_order(x)
    if len(before) <= MAX_RANK:
        return b.transpose(b.reshape(var, [sizes[run] for run in before]), [before.index(run) for run in wanted])
    for place, run in enumerate(wanted):
        at = before.index(run)
        parts = (before[:place], before[place:at], [run], before[at + 1 :])
        var = b.reshape(var, [math.prod(sizes[each] for each in part) for part in parts])
        var = b.transpose(var, [0, 2, 1, 3])
        before.insert(place, before.pop(at))
    return var


@lowers("Expand")
def expand(b: Builder, x: Value, shape: Value) -> Var:  # noqa: ARG001  (the hub has inferred the result's shape)
    """Broadcast to a shape."""
    return b.expand(b.var(x), b.outputs[0].shape)


@lowers("Tile")
def tile(b: Builder, x: Value, repeats: Value) -> Var | Value:
    """Repeated along each axis."""
    counts = b.integers(repeats, "repeats")
    return x if all(count == 1 for count in counts) else b.op("tile", x=x, reps=counts)


@lowers("Concat")
def concat(b: Builder, *values: Value, axis: int) -> Var | Value:
    """Joined along one axis; inputs without elements drop out."""
    kept = [value for value in values if 0 not in value.shape]
    if len(kept) == 1:
        return kept[0]
    joined = b.op("concat", values=[b.numeric(value) for value in kept], axis=axis, interleave=False)
    return b.like(joined, values[0])


@lowers("Split")
def split(
    b: Builder,
    x: Value,
    sizes: Value | None = None,  # noqa: ARG001  (the hub has inferred the results' shapes)
    *,
    axis: int = 0,
    num_outputs: int = 0,  # noqa: ARG001
) -> tuple[Var | Value | Array, ...]:
    """Cut along one axis."""
    lengths = [value.shape[axis] for value in b.outputs]
    if max(lengths) == x.shape[axis]:
        return tuple(x if length else np.zeros(v.shape, v.dtype) for length, v in zip(lengths, b.outputs, strict=True))
    parts = iter(b.op("split", x=b.numeric(x), split_sizes=[length for length in lengths if length], axis=axis))
    return tuple(
        b.like(next(parts), x) if length else np.zeros(v.shape, v.dtype)
        for length, v in zip(lengths, b.outputs, strict=True)
    )


@lowers("DepthToSpace")
def depth_to_space(b: Builder, x: Value, *, blocksize: int, mode: str = "DCR") -> Var:
    """DCR takes the block from the outer part of the channels (`depth_to_space`), CRD from the inner."""
    kind, size = ("pixel_shuffle", "upscale_factor") if mode == "CRD" else ("depth_to_space", "block_size")
    return b.unfloats(b.op(kind, x=b.floats(x), **{size: blocksize}), x)


@lowers("SpaceToDepth")
def space_to_depth(b: Builder, x: Value, *, blocksize: int) -> Var:
    """Blocks to the outer part of the channels."""
    return b.unfloats(b.op("space_to_depth", x=b.floats(x), block_size=blocksize), x)


@lowers("Shape")
def shape_of(b: Builder, x: Value, *, start: int = 0, end: int | None = None) -> Array:  # noqa: ARG001
    """Known at conversion."""
    return np.array(x.shape[slice(start, end)], np.int64)


@lowers("Size")
def size_of(b: Builder, x: Value) -> Array:  # noqa: ARG001
    """Known at conversion."""
    return np.array(int(np.prod(x.shape)), np.int64)


@lowers("ConstantOfShape")
def constant_of_shape(b: Builder, shape: Value, *, value: Array | None = None) -> Array:
    """Known at conversion; float zeros by default."""
    sizes = b.integers(shape, "shape")
    return np.full(sizes, 0.0 if value is None else value.reshape(-1)[0], b.outputs[0].dtype)

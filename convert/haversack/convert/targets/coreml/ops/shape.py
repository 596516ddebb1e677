"""Ops that move elements without changing them: shapes, axes, joining, splitting, repeating."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers
from haversack.runtimes.engines import Array


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(b: Builder, x: Value, shape: Value | None = None, *, allowzero: int = 0, axis: int = 1) -> Var:  # noqa: ARG001
    """The hub has inferred the result's shape, so how it was asked for does not matter."""
    return b.reshape(b.var(x), b.outputs[0].shape)


@lowers("Transpose")
def transpose(b: Builder, x: Value, *, perm: Sequence[int] = ()) -> Var:
    """Axes permuted; reversed by default."""
    return b.transpose(b.var(x), list(perm) or list(range(x.rank))[::-1])


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
) -> tuple[Var | Value, ...]:
    """Cut along one axis."""
    lengths = [value.shape[axis] for value in b.outputs]
    if len(lengths) == 1:
        return (x,)
    return tuple(b.op("split", x=x, split_sizes=lengths, axis=axis))


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

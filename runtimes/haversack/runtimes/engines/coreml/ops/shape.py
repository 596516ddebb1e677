"""Ops that change the shape of a tensor or join and split tensors; none of them changes a value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import Arrays, Context, Ints, op
from haversack.runtimes.errors import EngineError


@op("shape", moves=True)
def shape_(x: Array) -> Any:
    """Return the sizes of x."""
    return np.array(x.shape, np.int32)


@op("reshape", moves=True)
def reshape(x: Array, shape: Ints, context: Context) -> Any:
    """Give x another shape: one -1 takes what is left.

    A 0 takes the size of the same dimension of x: counted from the left up to iOS 16, where the ranks must agree; from
    the right since iOS 17, where a 0 without counterpart is 1.
    """
    sizes = list(shape)
    if 0 in sizes and x.size:
        if context.opset < 17 and len(sizes) != x.ndim:
            raise EngineError(f"a 0 in the shape {sizes} needs the rank of x, {x.ndim}")
        offset = x.ndim - len(sizes)
        for index, size in enumerate(sizes):
            if size == 0:
                sizes[index] = x.shape[index + offset] if index + offset >= 0 else 1
    return x.reshape(sizes)


@op("reshape_like", moves=True)
def reshape_like(x: Array, ref_tensors: Arrays, begins: Arrays, ends: Arrays, end_masks: Arrays) -> Any:
    """Give x the shape made of slices of the shapes of other tensors."""
    sizes: list[int] = []
    for reference, begin, end, to_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        sizes.extend(reference.shape[int(begin) : None if bool(to_end) else int(end)])
    return x.reshape(sizes)


@op("expand_dims", moves=True)
def expand_dims(x: Array, axes: Ints) -> Any:
    """Insert dimensions of size 1 at these axes of the result."""
    return np.expand_dims(x, axes)


@op("squeeze", moves=True)
def squeeze(x: Array, axes: Ints | None = None) -> Any:
    """Drop dimensions of size 1: all of them, or those among the axes (others among them are kept)."""
    chosen = range(x.ndim) if axes is None else (axis % x.ndim for axis in axes)
    return np.squeeze(x, tuple(axis for axis in chosen if x.shape[axis] == 1))


@op("transpose", moves=True)
def transpose(x: Array, perm: Ints) -> Any:
    """Permute the dimensions."""
    return x.transpose(perm) if x.ndim else x


@op("flatten2d", moves=True)
def flatten2d(x: Array, axis: int = 1) -> Any:
    """Flatten the dimensions before the axis into one, and those from it on into another."""
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@op("concat", moves=True)
def concat(values: Arrays, axis: int, interleave: bool = False) -> Any:
    """Join along an axis: one tensor after the other, or element by element in turn with `interleave`."""
    if not interleave:
        return np.concatenate([np.atleast_1d(value) for value in values], axis=axis)
    axis %= values[0].ndim
    joined = np.stack(values, axis=axis + 1)
    sizes = list(values[0].shape)
    sizes[axis] *= len(values)
    return joined.reshape(sizes)


@op("stack", moves=True)
def stack(values: Arrays, axis: int) -> Any:
    """Join along a new axis."""
    return np.stack(values, axis=axis)


@op("split", moves=True)
def split(x: Array, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None) -> Any:
    """Cut along an axis into pieces of these sizes, or into so many equal ones."""
    if split_sizes is not None:
        if sum(split_sizes) != x.shape[axis]:
            raise EngineError(f"the sizes {list(split_sizes)} do not add up to {x.shape[axis]}")
        return tuple(np.split(x, np.cumsum(split_sizes)[:-1], axis=axis))
    if num_splits is None:
        raise EngineError("neither num_splits nor split_sizes is given")
    return tuple(np.split(x, num_splits, axis=axis))


@op("tile", moves=True)
def tile(x: Array, reps: Ints) -> Any:
    """Repeat x so many times along each dimension."""
    return np.tile(x, reps)


@op("pad", moves=True)
def pad_(x: Array, pad: Ints, mode: str = "constant", constant_val: Array | None = None) -> Any:
    """Pad the last dimensions, before and after each, with a constant, mirrored or edge elements."""
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    if mode == "constant":
        return np.pad(x, widths, constant_values=0 if constant_val is None else constant_val.astype(x.dtype))
    modes = {"reflect": "reflect", "replicate": "edge"}
    if mode not in modes:
        raise EngineError(f"pad has no mode {mode}")
    return np.pad(x, widths, modes[mode])  # type: ignore[call-overload]


@op("reverse", moves=True)
def reverse(x: Array, axes: Ints | None = None) -> Any:
    """Reverse the order of the elements along the axes, or along all."""
    return np.flip(x, axes)


@op("reverse_sequence", moves=True)
def reverse_sequence(x: Array, lengths: Ints, seq_axis: int = 0, batch_axis: int = 0) -> Any:
    """Reverse the first `lengths[i]` elements along `seq_axis` of slice i along `batch_axis`."""
    result = x.copy()
    source, target = (np.moveaxis(a, (batch_axis, seq_axis), (0, 1)) for a in (x, result))
    for index, length in enumerate(lengths):
        target[index, :length] = source[index, :length][::-1]
    return result


@op("sliding_windows", moves=True)
def sliding_windows(x: Array, axis: int, size: int, stride: int = 1) -> Any:
    """Return all windows along an axis, one every `stride` elements; their elements lie along the axis behind it."""
    axis %= x.ndim
    seen = np.lib.stride_tricks.sliding_window_view(x, size, axis=axis)
    return np.moveaxis(seen[(slice(None),) * axis + (slice(None, None, stride),)], -1, axis + 1)


@op("band_part", moves=True)
def band_part(x: Array, lower: int = -1, upper: int = -1) -> Any:
    """Keep so many diagonals below and above the main one of the last two dimensions (-1: all), zero elsewhere."""
    row, column = np.ogrid[: x.shape[-2], : x.shape[-1]]
    kept = np.ones(x.shape[-2:], bool)
    if lower >= 0:
        kept &= row - column <= lower
    if upper >= 0:
        kept &= column - row <= upper
    return np.where(kept, x, np.zeros((), x.dtype))

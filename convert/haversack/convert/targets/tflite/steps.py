"""The steps that lowerings are composed of: one kernel each, shapes worked out, constants folded, identities dropped.

Every function takes the builder first and returns a tensor. Shapes follow NumPy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from haversack.convert.targets.tflite import unsigned
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Quantization, Tensor
from haversack.convert.targets.tflite.kernels import KERNELS

Pads = Sequence[tuple[int, int]]

RESHAPE_OPTION_AXES = 8
"""How many sizes a RESHAPE can carry in its options; a longer shape needs a constant."""


def unary(b: Builder, code: str, x: Tensor, **options: Any) -> Tensor:
    """An elementwise kernel of one input."""
    if len(x.shape) > 6:  # LiteRT 1.1 does not load more with XNNPACK
        return reshape(b, unary(b, code, reshape(b, x, (x.size,)), **options), x.shape)
    return b.op(code, [x], x.shape, **options)


def binary(b: Builder, code: str, x: Tensor, y: Tensor, dtype: str | None = None) -> Tensor:
    """An elementwise kernel of two inputs, broadcast to each other; any number of axes."""
    return elementwise(b, code, [x, y], dtype)


def scalar(b: Builder, code: str, x: Tensor, number: float) -> Tensor:
    """An elementwise kernel with a scalar constant of the input's type on the right."""
    return binary(b, code, x, b.const(number, x.nominal))


def elementwise(b: Builder, code: str, inputs: Sequence[Tensor], dtype: str | None = None) -> Tensor:
    """An elementwise kernel of several inputs, broadcast to each other; any number of axes."""
    if code in unsigned.WRAPPING | unsigned.ORDERED and inputs[0].dtype == "uint64":
        return unsigned.elementwise(b, code, inputs, dtype, elementwise)
    shape = np.broadcast_shapes(*(t.shape for t in inputs))
    limit = KERNELS[code].max_rank
    if limit is None or len(shape) <= limit:
        return b.op(code, inputs, shape, dtype)
    merged = _merged([t.shape for t in inputs], shape)
    if len(merged[-1]) > limit:
        inputs = [broadcast_to(b, t, shape) for t in inputs]
        merged = [(int(np.prod(shape)),)] * (len(inputs) + 1)
    flat = b.op(code, [reshape(b, t, s) for t, s in zip(inputs, merged, strict=False)], merged[-1], dtype)
    return reshape(b, flat, shape)


def _merged(shapes: Sequence[tuple[int, ...]], full: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes in which neighbouring axes are merged that every input broadcasts alike; the last is the result's."""
    padded = [(1,) * (len(full) - len(s)) + tuple(s) for s in shapes]
    groups: list[tuple[tuple[bool, ...], int]] = []
    for axis, size in enumerate(full):
        if size == 1:
            continue
        kept = tuple(s[axis] != 1 for s in padded)
        if groups and groups[-1][0] == kept:
            groups[-1] = (kept, groups[-1][1] * size)
        else:
            groups.append((kept, size))
    inputs = [tuple(size if kept[n] else 1 for kept, size in groups) for n in range(len(shapes))]
    return [*inputs, tuple(size for _, size in groups)]


def reshape(b: Builder, x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in another shape."""
    shape = tuple(int(n) for n in shape)
    if shape == x.shape:
        return x
    if x.data is not None:
        return Tensor(shape, x.dtype, x.data.reshape(shape), _moved(x, _kept_axis(x, shape)), x.widened)
    if len(shape) > RESHAPE_OPTION_AXES or not shape:
        return b.op("RESHAPE", [x, b.ints(shape)], shape)
    return b.op("RESHAPE", [x], shape, new_shape=shape)


def _kept_axis(x: Tensor, shape: tuple[int, ...]) -> int:
    """Where the axis of per-channel scales went: the axis of the same size after as many elements."""
    if x.quantization is None or not x.quantization.per_channel:
        return 0
    axis = x.quantization.axis
    before = int(np.prod(x.shape[:axis]))
    for place, size in enumerate(shape):
        if size == x.shape[axis] and int(np.prod(shape[:place])) == before:
            return place
    raise ValueError(f"the axis of per-channel scales does not survive {x.shape} -> {shape}")


def _moved(x: Tensor, axis: int) -> Quantization | None:
    q = x.quantization
    return q if q is None or not q.per_channel else Quantization(q.scale, q.zero_point, axis)


def transpose(b: Builder, x: Tensor, permutation: Sequence[int]) -> Tensor:
    """`numpy.transpose`; a RESHAPE where only axes of size 1 move."""
    permutation = tuple(int(n) for n in permutation)
    shape = tuple(x.shape[n] for n in permutation)
    if permutation == tuple(range(len(shape))):
        return x
    if x.data is not None:
        axis = permutation.index(x.quantization.axis) if x.quantization and x.quantization.per_channel else 0
        data = x.data.transpose(permutation)  # a view: what writes it puts the elements in order
        return Tensor(shape, x.dtype, data, _moved(x, axis), x.widened)
    moving = [n for n in permutation if x.shape[n] != 1]
    if moving == sorted(moving):
        return reshape(b, x, shape)
    limit = KERNELS["TRANSPOSE"].max_rank or len(shape)
    if len(shape) > limit:
        return _transpose_merged(b, x, permutation, shape)
    return b.op("TRANSPOSE", [x, b.ints(permutation)], shape)


def _transpose_merged(b: Builder, x: Tensor, permutation: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Axes that stay neighbours are merged first, so that fewer axes have to move."""
    runs: list[list[int]] = []
    for axis in (n for n in permutation if x.shape[n] != 1):
        if runs and all(x.shape[n] == 1 for n in range(runs[-1][-1] + 1, axis)) and axis > runs[-1][-1]:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    order = sorted(range(len(runs)), key=lambda n: runs[n][0])
    merged = reshape(b, x, [int(np.prod([x.shape[a] for a in runs[n]])) for n in order])
    moved = [order.index(n) for n in range(len(runs))]
    result = b.op("TRANSPOSE", [merged, b.ints(moved)], [merged.shape[n] for n in moved])
    return reshape(b, result, shape)


def pad(b: Builder, x: Tensor, pads: Pads, value: float | None = None) -> Tensor:
    """Constant padding: zeros unless a value is given; `pads` has one (before, after) an axis, none negative."""
    if not any(map(any, pads)):
        return x
    shape = [n + before + after for n, (before, after) in zip(x.shape, pads, strict=True)]
    table = b.const(np.array(pads, np.int32).reshape(len(pads), 2))
    if value is None:
        return b.op("PAD", [x, table], shape)
    return b.op("PADV2", [x, table, b.const(value, x.nominal)], shape)


def slice_axes(b: Builder, x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
    """A block of the tensor."""
    if tuple(size) == x.shape:
        return x
    return b.op("SLICE", [x, b.ints(begin), b.ints(size)], size)


def _exceeds(code: str, rank: int) -> bool:
    limit = KERNELS[code].max_rank
    return limit is not None and rank > limit


def _around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """Sizes with what lies before and after an axis merged."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def concat(b: Builder, inputs: Sequence[Tensor], axis: int) -> Tensor:
    """Join along an axis."""
    if len(inputs) == 1:
        return inputs[0]
    shape = list(inputs[0].shape)
    shape[axis] = sum(t.shape[axis] for t in inputs)
    if _exceeds("CONCATENATION", len(shape)):
        return reshape(b, concat(b, [reshape(b, t, _around(t.shape, axis)) for t in inputs], 1), shape)
    return b.op("CONCATENATION", inputs, shape, axis=axis)


def split(b: Builder, x: Tensor, axis: int, sizes: Sequence[int]) -> list[Tensor]:
    """Cut along an axis into parts of the given sizes."""
    if len(sizes) == 1:
        return [x]
    shapes = [((*x.shape[:axis], size, *x.shape[axis + 1 :]), None) for size in sizes]
    if x.data is not None:
        parts = np.split(x.data, np.cumsum(sizes)[:-1], axis)
        return [_part(x, part, axis, n, sizes) for n, part in enumerate(parts)]
    if _exceeds("SPLIT", len(x.shape)):
        merged = split(b, reshape(b, x, _around(x.shape, axis)), 1, sizes)
        return [reshape(b, part, shape) for part, (shape, _) in zip(merged, shapes, strict=True)]
    if len(set(sizes)) == 1:
        return b.emit("SPLIT", [b.const(axis, "int32"), x], shapes, num_splits=len(sizes))
    return b.emit("SPLIT_V", [x, b.ints(sizes), b.const(axis, "int32")], shapes, num_splits=len(sizes))


def _part(x: Tensor, data: np.ndarray[Any, Any], axis: int, number: int, sizes: Sequence[int]) -> Tensor:
    q = x.quantization
    if q is not None and q.per_channel and q.axis == axis:
        start = sum(sizes[:number])
        rows = slice(start, start + sizes[number])
        q = Quantization(q.scale[rows], q.zero_point[rows], axis)
    return Tensor(tuple(data.shape), x.dtype, np.ascontiguousarray(data), q, x.widened)


def reduce(b: Builder, code: str, x: Tensor, axes: Sequence[int], keepdims: bool = True) -> Tensor:
    """A reduction over `axes` (non-negative)."""
    if not axes:
        return x
    kept = [1 if n in axes else size for n, size in enumerate(x.shape)]
    shape = kept if keepdims else [size for n, size in enumerate(x.shape) if n not in axes]
    runs = [list(run) for _, run in itertools.groupby(range(len(kept)), lambda n: n in axes)]
    many = _exceeds(code, len(kept)) or (x.quantization is not None and len(kept) > 4)  # LiteRT 1.1 crashes on those
    if many and len(runs) < len(kept):  # neighbours that are treated alike are merged
        merged = reshape(b, x, [math.prod(x.shape[n] for n in run) for run in runs])
        reduced = reduce(b, code, merged, [n for n, run in enumerate(runs) if run[0] in axes])
        return reshape(b, reduced, shape)
    return b.op(code, [x, b.ints(sorted(axes))], shape, keep_dims=keepdims)


def broadcast_to(b: Builder, x: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor repeated to `shape`."""
    shape = tuple(int(n) for n in shape)
    if x.shape == shape:
        return x
    if x.data is not None and not x.compressed:
        return b.const(np.broadcast_to(x.data, shape))
    if int(np.prod(shape)) == x.size:
        return reshape(b, x, shape)
    return b.op("BROADCAST_TO", [x, b.ints(shape)], shape)


def gather(b: Builder, x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """`numpy.take` with non-negative indices."""
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return b.op("GATHER", [x, indices], shape, axis=axis)


def index(b: Builder, x: Tensor) -> Tensor:
    """Indices as kernels take them: int32, constants folded."""
    return b.cast(x, "int32")


def axis_of(axis: int, rank: int) -> int:
    """A non-negative axis."""
    return axis % rank if rank else 0

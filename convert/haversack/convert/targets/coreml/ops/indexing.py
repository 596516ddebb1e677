"""Gathers, scatters and one-hot vectors.

ONNX counts negative indices from the end. On Apple's runtime a negative index is undefined from iOS 17 on, so constants
are made positive at conversion and computed ones by a selection.
"""

from __future__ import annotations

import numpy as np

from haversack.convert.compress.float16 import unfit
from haversack.convert.targets.coreml import stored
from haversack.convert.targets.coreml.builder import Builder, NeedsFloat32, Value, Var
from haversack.convert.targets.coreml.ops import lowers


def _positive(b: Builder, indices: Value, size: int) -> Var:
    """Indices along an axis of `size` elements, counted from its beginning."""
    if indices.array is not None:
        return b.constant(np.where(indices.array < 0, indices.array + size, indices.array))
    var = b.var(indices)
    if indices.dtype.kind == "u":
        return var
    if not indices.rank:
        var = b.reshape(var, (1,))
    return b.op("select", cond=b.op("less", x=var, y=0), a=b.op("add", x=var, y=size), b=var)


@lowers("Gather")
def gather(b: Builder, x: Value, indices: Value, *, axis: int = 0) -> Var | Value:
    """Entries along one axis; a single index drops the axis. Of constants it is a palette, or computed here."""
    axis %= x.rank
    if x.array is not None and indices.array is not None:
        where = np.where(indices.array < 0, indices.array + x.shape[axis], indices.array)
        entries, array = x.array, x.array.take(where, axis)

        def written() -> Var:
            if b.half and unfit(entries):
                raise NeedsFloat32
            return stored.palette(b, entries, where)

        few = x.rank == 1 and x.floating and stored.is_palette(entries, where)
        return Value(x.name, array.shape, x.dtype, array=array, stored=written if few else None)
    source = b.numeric(x)
    if indices.array is not None and indices.array.size == 1:
        at = int(indices.array.reshape(-1)[0]) % x.shape[axis]
        begin = [at if position == axis else 0 for position in range(x.rank)]
        end = [at + 1 if position == axis else size for position, size in enumerate(x.shape)]
        part = b.op("slice_by_index", x=source, begin=begin, end=end, stride=[1] * x.rank)
        return b.like(b.reshape(part, b.outputs[0].shape), x)
    where = _positive(b, indices, x.shape[axis])
    result = b.op("gather", x=source, indices=where, axis=axis, batch_dims=0)
    return b.like(b.reshape(result, b.outputs[0].shape), x)


@lowers("GatherElements")
def gather_elements(b: Builder, x: Value, indices: Value, *, axis: int = 0) -> Var:
    """One entry along `axis` for each index; `x` is cut to the indices' extent along the other axes."""
    axis %= x.rank
    source = b.numeric(x)
    end = [x.shape[axis] if position == axis else size for position, size in enumerate(indices.shape)]
    if tuple(end) != x.shape:
        source = b.op("slice_by_index", x=source, begin=[0] * x.rank, end=end, stride=[1] * x.rank)
    where = _positive(b, indices, x.shape[axis])
    return b.like(b.op("gather_along_axis", x=source, indices=where, axis=axis), x)


@lowers("GatherND")
def gather_nd(b: Builder, x: Value, indices: Value, *, batch_dims: int = 0) -> Var:
    """Entries or slices at coordinates."""
    where = _coordinates(b, indices, x.shape[batch_dims:])
    if batch_dims and b.ios < 16:  # without the parameter: each entry's place in the batch is a coordinate too
        places = np.indices(indices.shape[:-1], np.int32)[:batch_dims]
        where, batch_dims = b.op("concat", values=[np.moveaxis(places, 0, -1), where], axis=indices.rank - 1), 0
    return b.like(b.op("gather_nd", x=b.numeric(x), indices=where, batch_dims=batch_dims), x)


def _coordinates(b: Builder, indices: Value, sizes: tuple[int, ...]) -> Var:
    extent = np.array(sizes[: indices.shape[-1]], np.int32)
    if indices.array is not None:
        return b.constant(np.where(indices.array < 0, indices.array + extent, indices.array))
    var = b.var(indices)
    return b.op("select", cond=b.op("less", x=var, y=0), a=b.op("add", x=var, y=extent), b=var)


_MODES = {"none": "update", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@lowers("ScatterND")
def scatter_nd(b: Builder, x: Value, indices: Value, updates: Value, *, reduction: str = "none") -> Var:
    """`x` with entries or slices at coordinates replaced or combined."""
    where = _coordinates(b, indices, x.shape)
    result = b.op("scatter_nd", data=b.numeric(x), indices=where, updates=b.numeric(updates), mode=_MODES[reduction])
    return b.like(result, x)


@lowers("ScatterElements")
def scatter_elements(
    b: Builder, x: Value, indices: Value, updates: Value, *, axis: int = 0, reduction: str = "none"
) -> Var:
    """`x` with one entry along `axis` replaced or combined for each index."""
    axis %= x.rank
    if any(a != c for position, (a, c) in enumerate(zip(x.shape, indices.shape, strict=True)) if position != axis):
        b.refuse("Core ML scatters along an axis only where the other axes have equal sizes", "use ScatterND")
    where = _positive(b, indices, x.shape[axis])
    result = b.op(
        "scatter_along_axis",
        data=b.numeric(x),
        indices=where,
        updates=b.numeric(updates),
        axis=axis,
        mode=_MODES[reduction],
    )
    return b.like(result, x)


@lowers("OneHot")
def one_hot(b: Builder, indices: Value, depth: Value, values: Value, *, axis: int = -1) -> Var:
    """`values[1]` at the index along a new axis, `values[0]` elsewhere, everywhere if the index is out of range.

    Written as a comparison with 0 … depth-1, because MIL leaves indices out of range open.
    """
    size = b.integers(depth, "depth")[0]
    off, on = b.array(values, "values").reshape(-1)
    rank = indices.rank + 1
    axis %= rank
    shape = (*indices.shape[:axis], 1, *indices.shape[axis:])
    where = b.cast(b.var(indices), "int32")
    where = b.op("select", cond=b.op("less", x=where, y=0), a=b.op("add", x=where, y=size), b=where)
    steps = np.arange(size, dtype=np.int32).reshape([size if position == axis else 1 for position in range(rank)])
    hit = b.op("equal", x=b.reshape(where, shape), y=steps)
    if values.dtype.kind == "b":
        numbers = b.op("select", cond=hit, a=np.full(b.outputs[0].shape, int(on)), b=int(off))
        return b.cast(numbers, "bool")
    as_numbers = b.cast(hit, b.float_name if values.floating else "int32")
    span, base = (float(on) - float(off), float(off)) if values.floating else (int(on) - int(off), int(off))
    scaled = as_numbers if span == 1 else b.op("mul", x=as_numbers, y=span)
    return scaled if base == 0 else b.op("add", x=scaled, y=base)

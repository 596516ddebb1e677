"""Slices and triangles."""

from __future__ import annotations

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers


@lowers("Slice")
def slice_(
    b: Builder, x: Value, starts: Value, ends: Value, axes: Value | None = None, steps: Value | None = None
) -> Var | Value:
    """A strided part along each axis.

    ONNX clamps as Python's `slice` does, except that it wraps a negative end before clamping, which `slice.indices`
    does as well. A negative step is the same part taken forwards, then reversed.
    """
    first, last = b.integers(starts, "starts"), b.integers(ends, "ends")
    where = list(range(len(first))) if axes is None else b.integers(axes, "axes")
    stride = [1] * len(first) if steps is None else b.integers(steps, "steps")
    begin, end, step, backwards = [0] * x.rank, list(x.shape), [1] * x.rank, []
    for axis, low, high, by in zip(where, first, last, stride, strict=True):
        axis %= x.rank
        part = range(*slice(low, high, by).indices(x.shape[axis]))
        if by < 0:
            backwards.append(axis)
            part = part[::-1]
        begin[axis], end[axis], step[axis] = part[0], part[-1] + 1, part.step
    result: Var | Value = x
    if begin != [0] * x.rank or end != list(x.shape) or step != [1] * x.rank:
        result = b.op("slice_by_index", x=x, begin=begin, end=end, stride=step)
    backwards = [axis for axis in backwards if b.outputs[0].shape[axis] > 1]
    return b.op("reverse", x=result, axes=backwards) if backwards else result


@lowers("Trilu")
def triangle(b: Builder, x: Value, k: Value | None = None, *, upper: int = 1) -> Var:
    """The upper or lower triangle, from the k-th diagonal on.

    `band_part(lower, upper)` keeps so many diagonals below and above the main one (-1: all). A triangle that excludes
    the main diagonal is chosen by the complement's mask, so that infinities outside leave no NaN behind.
    """
    diagonal = 0 if k is None else b.integers(k, "k")[0]
    keep = -diagonal if upper else diagonal  # diagonals kept on the far side of the main one
    rows, columns = x.shape[-2:]
    if keep >= 0:
        lower, above = (keep, -1) if upper else (-1, keep)
        return b.op("band_part", x=x, lower=min(lower, rows - 1), upper=min(above, columns - 1))
    lower, above = (-1, -keep - 1) if upper else (-keep - 1, -1)
    ones = b.constant([[1] * columns] * rows)
    outside = b.op("band_part", x=ones, lower=min(lower, rows - 1), upper=min(above, columns - 1))
    mask = b.cast(outside, "bool")
    zero: float | int | bool = 0.0 if x.floating else False if x.dtype.kind == "b" else 0
    zeros = b.expand(b.constant(zero), x.shape)
    return b.op("select", cond=b.expand(mask, x.shape), a=zeros, b=x)

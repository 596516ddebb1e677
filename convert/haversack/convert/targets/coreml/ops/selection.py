"""Ranges, masks, and selections whose size ONNX knows only at run time.

MIL's `non_zero` finds how many elements it selects when it runs; the hub must know it too, since the package's shapes
are static.
"""

from __future__ import annotations

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers
from haversack.runtimes.engines import Array


@lowers("Range")
def range_(b: Builder, start: Value, limit: Value, delta: Value) -> Var:  # noqa: ARG001  (the hub knows the count)
    """`start + delta * n`."""
    places = np.arange(b.outputs[0].shape[0], dtype=np.float32 if start.floating else np.int32)
    return b.op("add", x=b.op("mul", x=places, y=delta), y=start)


@lowers("EyeLike")
def eye_like(b: Builder, x: Value, *, dtype: int = 0, k: int = 0) -> Array:  # noqa: ARG001  (the hub knows the type)
    """A constant."""
    rows, columns = b.outputs[0].shape
    return np.asarray(np.eye(rows, columns, k), b.outputs[0].dtype)


@lowers("Dropout")
def dropout(
    b: Builder,
    x: Value,
    ratio: Value | None = None,
    training: Value | None = None,
    *,
    seed: int = 0,  # noqa: ARG001  (of training)
) -> tuple[Value | Array, ...]:
    """Nothing is dropped in inference, or by a ratio of 0; the mask is all true then."""
    trains = training is not None and (training.array is None or bool(training.array.reshape(-1)[0]))
    share = 0.5 if ratio is None else float(b.array(ratio, "ratio").reshape(-1)[0])
    if trains and share:
        b.refuse("it drops elements at random", "export the model in inference mode")
    return (x, np.ones(x.shape, np.bool_))[: len(b.outputs)]


@lowers("ReverseSequence")
def reverse_sequence(b: Builder, x: Value, lengths: Value, *, batch_axis: int = 1, time_axis: int = 0) -> Var:
    """`reverse_sequence`."""
    return b.op("reverse_sequence", x=x, lengths=lengths, seq_axis=time_axis, batch_axis=batch_axis)


@lowers("NonZero")
def non_zero(b: Builder, x: Value) -> Var:
    """`non_zero` gives one place a row, ONNX one a column."""
    if not x.rank:
        b.refuse("the places of a scalar", "compare it with 0 instead")
    rank, count = b.outputs[0].shape
    return b.transpose(b.reshape(b.op("non_zero", x=b.numeric(x)), (count, rank)), [1, 0])


@lowers("Compress")
def compress(b: Builder, x: Value, condition: Value, *, axis: int | None = None) -> Var:
    """A gather of the places where the condition holds."""
    source = b.numeric(x)
    if axis is None:
        source, axis = b.reshape(source, (int(np.prod(x.shape)),)), 0
    axis %= len(source.shape)
    if condition.shape[0] > source.shape[axis]:
        b.refuse("its condition is longer than the axis", "shorten the condition")
    if condition.array is not None:
        where = b.constant(np.flatnonzero(condition.array))
    else:
        where = b.reshape(b.op("non_zero", x=b.numeric(condition)), (b.outputs[0].shape[axis],))
    return b.like(b.op("gather", x=source, indices=where, axis=axis, batch_dims=0), x)

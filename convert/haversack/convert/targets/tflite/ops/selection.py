"""Ranges, masks and selections whose size ONNX knows only at run time."""

# ruff: noqa: ARG001 - the signature is the operator's schema, needed or not
from __future__ import annotations

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers


@lowers("Range")
def range_(b: Builder, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """`start + delta * n`: the count is that of the result, so only the first two terms are computed."""
    dtype = start.nominal
    places = b.const(np.arange(b.result.shape[0]), dtype)
    scaled = steps.binary(b, "MUL", places, steps.reshape(b, delta, ()))
    return steps.binary(b, "ADD", scaled, steps.reshape(b, start, ()))


@lowers("EyeLike")
def eye_like(b: Builder, x: Tensor, *, dtype: int = 0, k: int = 0) -> Tensor:
    """A constant."""
    rows, columns = b.result.shape
    return b.const(np.eye(rows, columns, k), b.result.dtype)


@lowers("Dropout")
def dropout(
    b: Builder, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None, *, seed: int = 0
) -> tuple[Tensor, ...]:
    """Nothing is dropped in inference, or by a ratio of 0; the mask is all true then."""
    trains = training is not None and (training.data is None or bool(training.data.reshape(-1)[0]))
    share = 0.5 if ratio is None else float(b.known(ratio, "the ratio").reshape(-1)[0])
    if trains and share:
        raise b.refuse("a random dropout", "export the model in inference mode")
    return (x, b.const(np.ones(x.shape, np.bool_)))[: len(b.results)]


@lowers("ReverseSequence")
def reverse_sequence(b: Builder, x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """REVERSE_SEQUENCE."""
    return b.op("REVERSE_SEQUENCE", [x, steps.index(b, lengths)], x.shape, seq_dim=time_axis, batch_dim=batch_axis)


def _true_places(b: Builder, mask: Tensor, count: int) -> Tensor:
    """Coordinates of the true elements, in order: int64 [count, rank]; how many there are is found at run time."""
    return b.op("WHERE", [mask], (count, len(mask.shape)), "int64")


@lowers("NonZero")
def non_zero(b: Builder, x: Tensor) -> Tensor:
    """WHERE, transposed; the hub must know how many there are."""
    mask = x if x.nominal == "bool" else steps.binary(b, "NOT_EQUAL", x, b.const(0, x.nominal), "bool")
    count = b.result.shape[1]
    if not mask.shape:
        raise b.refuse("the places of a scalar", "compare it with 0 instead")
    found = _true_places(b, mask, count)
    return b.op("TRANSPOSE", [found, b.ints((1, 0))], b.result.shape)


@lowers("Compress")
def compress(b: Builder, x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """GATHER of the places where the condition holds."""
    if axis is None:
        x, axis = steps.reshape(b, x, (x.size,)), 0
    axis = steps.axis_of(axis, len(x.shape))
    if condition.size > x.shape[axis]:
        raise b.refuse("a condition longer than its axis", "shorten the condition")
    count = b.result.shape[axis]
    places = steps.reshape(b, steps.index(b, _true_places(b, condition, count)), (count,))
    return steps.gather(b, x, places, axis)

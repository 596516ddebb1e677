"""A case of a builtin kernel: one operator, and what it computes in NumPy; elementwise cases and reductions.

Data holds small integers, so that every type can hold it and float32 results are exact but for a few ulp; `wide` data
of int32 and int64 is large, so that a kernel that computes in floating point is found out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from haversack.convert.targets.tflite.schema import TENSOR_TYPES

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
SHAPE = (1, 4, 6, 3)
MOST_AXES = 8


@dataclass
class Case:
    """One operator.

    Attributes:
        data: Shapes of its data inputs.
        reference: What it computes from them.
        options: Fields of its options table.
        control: Its other inputs by position.
        constants: Numbers of the data inputs that are constants, as weights are.
        low, high, divisor: Range of the data, and what it is divided by to get fractions.
        wide: Numbers of the data inputs whose int32 and int64 values may be large.
        nonzero: Numbers of the data inputs that hold no zeros.
        form: What sets it apart from the others of its rank.
    """

    data: Sequence[Shape]
    reference: Callable[..., Array | tuple[Array, ...]]
    options: dict[str, Any] = field(default_factory=dict)
    control: dict[int, Array] = field(default_factory=dict)
    constants: frozenset[int] = frozenset()
    low: int = -4
    high: int = 5
    divisor: int = 1
    wide: tuple[int, ...] = ()
    nonzero: tuple[int, ...] = ()
    form: str = ""


def i32(*values: int) -> Array:
    return np.array(values, np.int32)


def scalar(value: int) -> Array:
    return np.array(value, np.int32)


def shape_of(rank: int) -> Shape:
    return (2, 3, 2, 3, 2, 2, 3, 2)[:rank]


Family = Callable[[int], list[Case]]
"""The cases of one rank."""


def one(function: Callable[[Array], Any], **more: Any) -> Family:
    """Elementwise, or along the last axis."""
    return lambda rank: [Case([shape_of(rank)], function, **more)]


def two(function: Callable[..., Any], **more: Any) -> Family:
    """Two inputs, broadcast to each other."""

    def cases(rank: int) -> list[Case]:
        full = shape_of(rank)
        thinned = tuple(1 if n % 2 else size for n, size in enumerate(full))
        forms = {
            "same": (full, full),
            "broadcast": (full, thinned),
            "swapped": (thinned, full),
            "both": (tuple(1 if n == 0 else size for n, size in enumerate(full)), (*full[:-1], 1)),
            "suffix": (full, full[1:]),
            "scalar": (full, ()),
        }
        return [Case(shapes, function, form=form, **more) for form, shapes in forms.items() if rank or form == "same"]

    return cases


def along(function: Callable[[Array, int], Any], position: int | None = None, **more: Any) -> Family:
    """Along the first and the last axis; the axis is the control input at `position`, or the option `axis`."""

    def cases(rank: int) -> list[Case]:
        found = []
        for axis in sorted({0, rank - 1}):
            given = {"options": {"axis": axis}} if position is None else {"control": {position: scalar(axis)}}
            found.append(
                Case([shape_of(rank)], lambda x, a=axis: function(x, a), form=f"axis {axis}", **{**more, **given})
            )
        return found

    return cases


def reduction(function: Callable[..., Any], **more: Any) -> Family:
    def cases(rank: int) -> list[Case]:
        found = []
        for axes in sorted({(0,), (rank - 1,), tuple(range(rank)), tuple(range(1, rank)) or (0,)}):
            for kept in (False, True):
                reference = lambda x, a=axes, k=kept: np.asarray(function(x, a, k))  # noqa: E731
                options, control = {"keep_dims": kept}, {1: i32(*axes)}
                found.append(
                    Case([shape_of(rank)], reference, options, control, form=f"axes {axes} kept {kept}", **more)
                )
        return found

    return cases


def mean(x: Array, axes: Shape, kept: bool) -> Array:
    value = x.astype(np.float64).mean(axes, keepdims=kept)
    return value.astype(x.dtype) if x.dtype.kind == "f" else np.trunc(value).astype(x.dtype)


def arg(function: Callable[[Array, int], Array]) -> Family:
    def cases(rank: int) -> list[Case]:
        return [
            Case(
                [shape_of(rank)],
                lambda x, a=axis, t=kind: np.asarray(function(x, a)).astype(t),
                {"output_type": TENSOR_TYPES[kind]},
                {1: scalar(axis)},
                form=f"axis {axis} {kind}",
                wide=(0,),
            )
            for axis in {0, rank - 1}
            for kind in ("int32", "int64")
        ]

    return cases


def topk(x: Array) -> tuple[Array, Array]:
    order = np.argsort(-x.astype(np.float64), -1, kind="stable")[..., :2]
    return np.take_along_axis(x, order, -1), order.astype(np.int32)


def softmax(x: Array) -> Array:
    grown = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(grown / grown.sum(-1, keepdims=True))


def erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x).astype(x.dtype)


def tanh_gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3))))


def c_division(x: Array, y: Array) -> Array:
    """Integers are divided as C does: towards zero."""
    return np.asarray(x / y if x.dtype.kind == "f" else np.trunc(x / y).astype(x.dtype))

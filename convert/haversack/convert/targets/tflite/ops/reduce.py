"""Reductions, arg-reductions, running sums and TopK."""

# ruff: noqa: ARG001 - the signature is the operator's schema, needed or not
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from haversack.convert.targets.registry import Lowering
from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import LOWERINGS, lowers
from haversack.convert.targets.tflite.schema import TENSOR_TYPES

Axes = Sequence[int] | Tensor
"""Axes that are known, or those that an input names at run time."""

Reduction = Callable[[Builder, Tensor, Axes, bool], Tensor]


def _native(code: str) -> Reduction:
    return lambda b, x, axes, keep: _reduced(b, code, x, axes, keep)


def _reduced(b: Builder, code: str, x: Tensor, axes: Axes, keep: bool) -> Tensor:
    """A reduction; over computed axes its shape is that of the node's result."""
    if isinstance(axes, Tensor):
        return b.op(code, [x, steps.index(b, axes)], b.result.shape, keep_dims=keep)
    return steps.reduce(b, code, x, axes, keep)


def _l1(b: Builder, x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _reduced(b, "SUM", steps.unary(b, "ABS", x), axes, keep)


def _sum_square(b: Builder, x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _reduced(b, "SUM", steps.binary(b, "MUL", x, x), axes, keep)


def _l2(b: Builder, x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return steps.unary(b, "SQRT", _sum_square(b, x, axes, keep))


def _log_sum(b: Builder, x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return steps.unary(b, "LOG", _reduced(b, "SUM", x, axes, keep))


def _log_sum_exp(b: Builder, x: Tensor, axes: Axes, keep: bool) -> Tensor:
    """The maximum is taken out first, so that no exponential overflows."""
    if isinstance(axes, Tensor) and not keep:
        raise b.refuse("axes is computed at run time", "make axes an initializer, or set keepdims")
    top = _reduced(b, "REDUCE_MAX", x, axes, True)
    rest = _log_sum(b, steps.unary(b, "EXP", steps.binary(b, "SUB", x, top)), axes, True)
    y = steps.binary(b, "ADD", rest, top)
    if isinstance(axes, Tensor):
        return y
    return y if keep else steps.reshape(b, y, [n for a, n in enumerate(y.shape) if a not in axes])


def _identity(b: Builder, neutral: float) -> Tensor:
    """A reduction of nothing: the value that changes no result."""
    dtype = np.dtype(b.result.dtype)
    if dtype.kind in "iu" and np.isinf(neutral):
        limits = np.iinfo(dtype)
        neutral = limits.max if neutral > 0 else limits.min
    if dtype.kind == "b":
        neutral = neutral > 0
    return b.const(np.full(b.result.shape, neutral, dtype))


def _reduction(row: tuple[Reduction, float | None]) -> Lowering:
    reduction, neutral = row

    def lowering(
        b: Builder, x: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        rank = len(x.shape)
        if x.size == 0:
            if neutral is None:
                raise b.refuse("a mean of nothing", "remove the empty axis")
            return _identity(b, neutral)
        if axes is not None and axes.size and not axes.constant:
            return reduction(b, x, axes, bool(keepdims))
        given = (
            []
            if axes is None or not axes.size
            else [steps.axis_of(int(a), rank) for a in b.known(axes, "axes").reshape(-1)]
        )
        chosen = sorted(set(given)) or ([] if noop_with_empty_axes else list(range(rank)))
        return reduction(b, x, chosen, bool(keepdims))

    return lowering


LOWERINGS.table(
    _reduction,
    {
        "ReduceL1": (_l1, 0),
        "ReduceL2": (_l2, 0),
        "ReduceLogSum": (_log_sum, -np.inf),
        "ReduceLogSumExp": (_log_sum_exp, -np.inf),
        "ReduceMax": (_native("REDUCE_MAX"), -np.inf),
        "ReduceMean": (_native("MEAN"), None),
        "ReduceMin": (_native("REDUCE_MIN"), np.inf),
        "ReduceProd": (_native("REDUCE_PROD"), 1),
        "ReduceSum": (_native("SUM"), 0),
        "ReduceSumSquare": (_sum_square, 0),
    },
)


def _arg(code: str) -> Lowering:
    def lowering(b: Builder, x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        axis = steps.axis_of(axis, len(x.shape))
        shape = tuple(n for a, n in enumerate(x.shape) if a != axis)
        if select_last_index:
            x = b.op("REVERSE_V2", [x, b.ints([axis])], x.shape)
        y = b.op(code, [x, b.ints([axis])], shape, "int64", output_type=TENSOR_TYPES["int64"])
        if select_last_index:
            y = steps.binary(b, "SUB", b.const(x.shape[axis] - 1, "int64"), y)
        return steps.reshape(b, y, (*x.shape[:axis], 1, *x.shape[axis + 1 :])) if keepdims else y

    return lowering


LOWERINGS.table(_arg, {"ArgMax": "ARG_MAX", "ArgMin": "ARG_MIN"})


@lowers("CumSum")
def cumulative_sum(b: Builder, x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """CUMSUM; a computed axis may be negative too."""
    if axis.constant:
        place = b.const(steps.axis_of(int(axis.value().reshape(-1)[0]), len(x.shape)), "int32")
    else:
        place = steps.reshape(b, steps.index(b, axis), ())
    return b.op("CUMSUM", [x, place], x.shape, exclusive=bool(exclusive), reverse=bool(reverse))


@lowers("TopK")
def top_k(
    b: Builder, x: Tensor, k: Tensor, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Tensor, Tensor]:
    """TOPK_V2 takes the largest along the last axis; the smallest are the largest of the negatives."""
    rank = len(x.shape)
    axis = steps.axis_of(axis, rank)
    count = b.result.shape[axis]  # which is k, be it known or computed
    order = [n for n in range(rank) if n != axis] + [axis]
    moved = steps.transpose(b, x, order)
    if not largest:
        moved = steps.unary(b, "NEG", moved)
    shape = (*moved.shape[:-1], count)
    values, places = b.emit("TOPK_V2", [moved, b.const(count, "int32")], [(shape, None), (shape, "int32")])
    if not largest:
        values = steps.unary(b, "NEG", values)
    back = np.argsort(order).tolist()
    return steps.transpose(b, values, back), b.cast(steps.transpose(b, places, back), "int64")

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

Reduction = Callable[[Builder, Tensor, Sequence[int], bool], Tensor]


def _native(code: str) -> Reduction:
    return lambda b, x, axes, keep: steps.reduce(b, code, x, axes, keep)


def _l1(b: Builder, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    return steps.reduce(b, "SUM", steps.unary(b, "ABS", x), axes, keep)


def _sum_square(b: Builder, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    return steps.reduce(b, "SUM", steps.binary(b, "MUL", x, x), axes, keep)


def _l2(b: Builder, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    return steps.unary(b, "SQRT", _sum_square(b, x, axes, keep))


def _log_sum(b: Builder, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    return steps.unary(b, "LOG", steps.reduce(b, "SUM", x, axes, keep))


def _log_sum_exp(b: Builder, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    """The maximum is taken out first, so that no exponential overflows."""
    top = steps.reduce(b, "REDUCE_MAX", x, axes)
    rest = _log_sum(b, steps.unary(b, "EXP", steps.binary(b, "SUB", x, top)), axes, True)
    y = steps.binary(b, "ADD", rest, top)
    return y if keep else steps.reshape(b, y, [n for a, n in enumerate(y.shape) if a not in axes])


def _reduction(reduction: Reduction) -> Lowering:
    def lowering(
        b: Builder, x: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        rank = len(x.shape)
        given = [] if axes is None else [steps.axis_of(int(a), rank) for a in b.known(axes, "axes").reshape(-1)]
        if not given and noop_with_empty_axes:
            return x
        chosen = sorted(set(given)) or list(range(rank))
        if x.size == 0:
            raise b.refuse("a reduction of nothing", "remove the empty axis")
        return reduction(b, x, chosen, bool(keepdims))

    return lowering


LOWERINGS.table(
    _reduction,
    {
        "ReduceL1": _l1,
        "ReduceL2": _l2,
        "ReduceLogSum": _log_sum,
        "ReduceLogSumExp": _log_sum_exp,
        "ReduceMax": _native("REDUCE_MAX"),
        "ReduceMean": _native("MEAN"),
        "ReduceMin": _native("REDUCE_MIN"),
        "ReduceProd": _native("REDUCE_PROD"),
        "ReduceSum": _native("SUM"),
        "ReduceSumSquare": _sum_square,
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
    """CUMSUM."""
    place = steps.axis_of(int(b.known(axis, "axis").reshape(-1)[0]), len(x.shape))
    return b.op("CUMSUM", [x, b.const(place, "int32")], x.shape, exclusive=bool(exclusive), reverse=bool(reverse))


@lowers("TopK")
def top_k(
    b: Builder, x: Tensor, k: Tensor, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Tensor, Tensor]:
    """TOPK_V2 takes the largest along the last axis; the smallest are the largest of the negatives."""
    rank, count = len(x.shape), int(b.known(k, "k").reshape(-1)[0])
    axis = steps.axis_of(axis, rank)
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

"""Reductions over axes, running sums, and the largest entries."""

from __future__ import annotations

from typing import Any

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import LOWERINGS, lowers
from haversack.convert.targets.coreml.ops.elementwise import wide


def _axes(b: Builder, x: Value, axes: Value | None, noop_with_empty_axes: int) -> list[int] | None:
    """The reduced axes; None where the op only applies its function to each element."""
    given = [] if axes is None else b.integers(axes, "axes")
    if given:
        return sorted(axis % x.rank for axis in given)
    return None if noop_with_empty_axes or not x.rank else list(range(x.rank))


def _reduction(kind: str) -> Any:
    def lowering(
        b: Builder, x: Value, axes: Value | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Var | Value:
        where = _axes(b, x, axes, noop_with_empty_axes)
        if where is None:
            return x
        return b.like(b.op(kind, x=b.numeric(x), axes=where, keep_dims=bool(keepdims)), x)

    return lowering


LOWERINGS.table(_reduction, {"ReduceMax": "reduce_max", "ReduceMin": "reduce_min"})


def _arithmetic(kind: str, elementwise: str | None) -> Any:
    def lowering(
        b: Builder, x: Value, axes: Value | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Var | Value:
        wide(b, x)
        if kind == "reduce_mean" and not x.floating:
            b.refuse("an integer mean rounds differently in Core ML", "cast to float before it")
        where = _axes(b, x, axes, noop_with_empty_axes)
        if where is None:
            return x if elementwise is None else b.op(elementwise, x=x)
        return b.op(kind, x=x, axes=where, keep_dims=bool(keepdims))

    return lowering


LOWERINGS.table(
    lambda row: _arithmetic(*row),
    {
        "ReduceL1": ("reduce_l1_norm", "abs"),
        "ReduceMean": ("reduce_mean", None),
        "ReduceProd": ("reduce_prod", None),
        "ReduceSum": ("reduce_sum", None),
        "ReduceSumSquare": ("reduce_sum_square", "square"),
    },
)


@lowers("ReduceL2")
def reduce_l2(
    b: Builder, x: Value, axes: Value | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Var:
    """Square root of the sum of squares."""
    where = _axes(b, x, axes, noop_with_empty_axes)
    if where is None:
        return b.op("abs", x=x)
    if not x.floating:
        b.refuse("an integer norm rounds differently in Core ML", "cast to float before it")
    return b.op("reduce_l2_norm", x=x, axes=where, keep_dims=bool(keepdims))


@lowers("ReduceLogSum")
def reduce_log_sum(
    b: Builder, x: Value, axes: Value | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Var:
    """Logarithm of the sum; MIL's own op leaves its epsilon open."""
    where = _axes(b, x, axes, noop_with_empty_axes)
    total = x if where is None else b.op("reduce_sum", x=x, axes=where, keep_dims=bool(keepdims))
    return b.op("log", x=total, epsilon=0.0)


@lowers("ReduceLogSumExp")
def reduce_log_sum_exp(
    b: Builder, x: Value, axes: Value | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Var | Value:
    """The maximum + log(sum(exp(x - max))): exp of the numbers themselves would overflow from 89 (float16: 12) on."""
    where = _axes(b, x, axes, noop_with_empty_axes)
    if where is None:
        return x
    top = b.op("reduce_max", x=x, axes=where, keep_dims=True)
    total = b.op("reduce_sum", x=b.op("exp", x=b.op("sub", x=x, y=top)), axes=where, keep_dims=True)
    result = b.op("add", x=b.op("log", x=total, epsilon=0.0), y=top)
    return result if keepdims else b.op("squeeze", x=result, axes=where)


def _arg(kind: str) -> Any:
    def lowering(b: Builder, x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Var:
        axis %= x.rank
        source = b.numeric(x)
        if not select_last_index:
            return b.op(kind, x=source, axis=axis, keep_dims=bool(keepdims))
        reversed_ = b.op("reverse", x=source, axes=[axis])
        from_end = b.op(kind, x=reversed_, axis=axis, keep_dims=bool(keepdims))
        return b.op("sub", x=x.shape[axis] - 1, y=from_end)

    return lowering


LOWERINGS.table(_arg, {"ArgMax": "reduce_argmax", "ArgMin": "reduce_argmin"})


@lowers("CumSum")
def cumulative_sum(b: Builder, x: Value, axis: Value, *, exclusive: int = 0, reverse: int = 0) -> Var:
    """Running sum along one axis."""
    wide(b, x)
    where = b.integers(axis, "axis")[0] % x.rank
    return b.op("cumsum", x=x, axis=where, exclusive=bool(exclusive), reverse=bool(reverse))


@lowers("TopK")
def top_k(
    b: Builder,
    x: Value,
    k: Value,
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,
) -> tuple[Var, ...]:
    """The k largest or smallest entries along one axis, and their indices."""
    return tuple(
        b.op(
            "topk",
            x=x,
            k=b.integers(k, "k")[0],
            axis=axis % x.rank,
            ascending=not largest,
            sort=bool(sorted),
            return_indices=True,
        )
    )

"""Reductions over axes; without `axes`, over all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import Ints, op

Reduction = Callable[[Array, tuple[int, ...], bool], Any]


def _log_sum_exp(x: Array, axes: tuple[int, ...], keep: bool) -> Any:
    top = x.max(axis=axes, keepdims=True)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    total = np.log(np.exp(x - top).sum(axis=axes, keepdims=True)) + top
    return total if keep else total.squeeze(axes)


REDUCTIONS: dict[str, Reduction] = {
    "reduce_l1_norm": lambda x, axes, keep: np.abs(x).sum(axis=axes, keepdims=keep),
    "reduce_l2_norm": lambda x, axes, keep: np.sqrt(np.square(x).sum(axis=axes, keepdims=keep)),
    "reduce_log_sum": lambda x, axes, keep: np.log(x.sum(axis=axes, keepdims=keep)),
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_max": lambda x, axes, keep: x.max(axis=axes, keepdims=keep),
    "reduce_mean": lambda x, axes, keep: x.mean(axis=axes, keepdims=keep),
    "reduce_min": lambda x, axes, keep: x.min(axis=axes, keepdims=keep),
    "reduce_prod": lambda x, axes, keep: x.prod(axis=axes, keepdims=keep),
    "reduce_sum": lambda x, axes, keep: x.sum(axis=axes, keepdims=keep),
    "reduce_sum_square": lambda x, axes, keep: np.square(x).sum(axis=axes, keepdims=keep),
}


def _reduction(name: str, function: Reduction) -> None:
    @op(name)
    def apply(x: Array, axes: Ints | None = None, keep_dims: bool = False) -> Any:
        chosen = tuple(range(x.ndim)) if axes is None else tuple(axis % x.ndim for axis in axes)
        result = function(x, chosen, keep_dims)
        return np.asarray(result).astype(x.dtype) if x.dtype.kind in "iu" else result


for _name, _function in REDUCTIONS.items():
    _reduction(_name, _function)


@op("reduce_argmax")
def reduce_argmax(x: Array, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Any:
    """Return the index of the first largest element along the axis."""
    return x.argmax(axis=axis, keepdims=keep_dims).astype(output_dtype)


@op("reduce_argmin")
def reduce_argmin(x: Array, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Any:
    """Return the index of the first smallest element along the axis."""
    return x.argmin(axis=axis, keepdims=keep_dims).astype(output_dtype)

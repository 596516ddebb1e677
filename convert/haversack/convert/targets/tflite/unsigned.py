"""Arithmetic on uint64 by kernels for int64.

Sums, differences and products have the same 64 bits either way. Order is kept by moving the middle of the range to
zero: unsigned `x` compares as signed `x - 2**63`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor

WRAPPING = frozenset({"ADD", "SUB", "MUL", "EQUAL", "NOT_EQUAL"})
ORDERED = frozenset({"GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "MAXIMUM", "MINIMUM"})
_MIDDLE = np.iinfo(np.int64).min

Elementwise = Callable[[Builder, str, Sequence[Tensor], "str | None"], Tensor]


def bitcast(b: Builder, x: Tensor, dtype: str) -> Tensor:
    """The same bits as another type: as wide, or half as wide with a new last axis of two, or the way back."""
    if x.dtype == dtype:
        return x
    given, made = np.dtype(x.dtype).itemsize, np.dtype(dtype).itemsize
    shape = x.shape if given == made else (*x.shape, given // made) if given > made else x.shape[:-1]
    if x.data is not None:
        return b.const(np.ascontiguousarray(x.data).view(dtype).reshape(shape))
    return b.op("BITCAST", [x], shape, dtype)


def elementwise(b: Builder, code: str, inputs: Sequence[Tensor], dtype: str | None, signed: Elementwise) -> Tensor:
    """An elementwise kernel among `WRAPPING` or `ORDERED` on uint64, given the one for signed types."""
    moved = code in ORDERED
    words = [_moved(b, bitcast(b, x, "int64"), signed) if moved else bitcast(b, x, "int64") for x in inputs]
    y = signed(b, code, words, dtype)
    if dtype is not None:
        return y
    return bitcast(b, _moved(b, y, signed) if moved else y, "uint64")


def _moved(b: Builder, x: Tensor, signed: Elementwise) -> Tensor:
    if x.data is not None:
        return b.const(x.data ^ np.int64(_MIDDLE))
    return signed(b, "ADD", [x, b.const(_MIDDLE, "int64")], None)  # wraps, so the same moves back

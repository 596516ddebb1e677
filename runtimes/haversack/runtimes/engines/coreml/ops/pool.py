"""Average, maximum and L2 pooling in one, two or three dimensions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.ops.conv import pad_spatial, padding, windows
from haversack.runtimes.engines.coreml.registry import Ints, op

Pads = tuple[tuple[int, int], ...]


def _pads(
    sizes: Ints, kernel: Ints, strides: Ints, pad_type: str, pad: Ints | None, ceil_mode: bool
) -> tuple[Pads, Pads]:
    """Return the padding asked for, and the padding with what ceil mode adds behind it.

    Ceil mode keeps a last, partial window unless it would start in the padding behind the input (MIL's rule, which
    is PyTorch's).
    """
    asked = padding(pad_type, pad, sizes, kernel, strides, (1,) * len(sizes))
    if not ceil_mode:
        return asked, asked
    extended = []
    for size, window, stride, (before, after) in zip(sizes, kernel, strides, asked, strict=True):
        count = math.ceil((size + before + after - window) / stride) + 1
        if (count - 1) * stride >= size + before and before + after > 0:
            count -= 1
        extended.append((before, max(after, (count - 1) * stride + window - size - before)))
    return asked, tuple(extended)


def _fold(seen: Array, rank: int, combine: Callable[..., Any]) -> Array:
    """Combine all kernel positions of windows [N, C, *K, *O] into [N, C, *O]."""
    kernel = seen.shape[2 : 2 + rank]
    if math.prod(kernel) > math.prod(seen.shape[2 + rank :]):
        whole: Array = combine.reduce(seen, axis=tuple(range(2, 2 + rank)))  # type: ignore[attr-defined]
        return whole
    every: tuple[Any, ...] = (slice(None), slice(None))
    positions = itertools.product(*map(range, kernel))
    result: Array = seen[(*every, *next(positions))].copy()
    for position in positions:
        combine(result, seen[(*every, *position)], out=result)
    return result


@op("max_pool")
def max_pool(
    x: Array,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Any:
    """Return the largest element of each window; padding never wins."""
    rank = x.ndim - 2
    strides = strides or (1,) * rank
    _, pads = _pads(x.shape[2:], kernel_sizes, strides, pad_type, pad, ceil_mode)
    padded = pad_spatial(x, pads, -np.inf)
    return _fold(windows(padded, kernel_sizes, strides, (1,) * rank), rank, np.maximum)


@op("avg_pool")
def avg_pool(
    x: Array,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Any:
    """Return the mean of each window.

    Padding counts as zeros, or not at all with `exclude_padding_from_average`; what ceil mode adds behind the padding
    never counts.
    """
    rank = x.ndim - 2
    strides = strides or (1,) * rank
    asked, pads = _pads(x.shape[2:], kernel_sizes, strides, pad_type, pad, ceil_mode)
    ones = (1,) * rank
    total = _fold(windows(pad_spatial(x, pads), kernel_sizes, strides, ones), rank, np.add)
    if not any(b or a for b, a in pads):
        return total / np.float32(math.prod(kernel_sizes))
    counted = np.ones((1, 1, *x.shape[2:]), np.float32)
    if not exclude_padding_from_average:
        counted = pad_spatial(counted, asked, 1.0)
        pads = tuple((0, after - a) for (_, after), (_, a) in zip(pads, asked, strict=True))
    return total / _fold(windows(pad_spatial(counted, pads), kernel_sizes, strides, ones), rank, np.add)


@op("l2_pool")
def l2_pool(
    x: Array,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Any:
    """Return the square root of the sum of squares in each window."""
    rank = x.ndim - 2
    strides = strides or (1,) * rank
    _, pads = _pads(x.shape[2:], kernel_sizes, strides, pad_type, pad, ceil_mode)
    padded = pad_spatial(np.square(x), pads)
    return np.sqrt(_fold(windows(padded, kernel_sizes, strides, (1,) * rank), rank, np.add))

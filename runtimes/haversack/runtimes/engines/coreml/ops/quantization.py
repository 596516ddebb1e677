"""Quantization of activations (iOS 17): exact, because a device computes it exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import op
from haversack.runtimes.engines.coreml.weights import STORAGE


def along(parameter: Array, rank: int, axis: int | None) -> Array:
    """Shape a scale or zero point so that it broadcasts: a vector lies along the axis."""
    if parameter.ndim == 0 or axis is None:
        return parameter
    shape = [1] * rank
    shape[axis] = -1
    return parameter.reshape(shape)


@op("quantize")
def quantize(
    input: Array,
    scale: Array,
    output_dtype: str,
    zero_point: Array | None = None,
    axis: int | None = None,
) -> Any:
    """Return clip(round(input / scale) + zero_point), halves rounded to even, in int8 or uint8."""
    limits = np.iinfo(STORAGE[output_dtype][0])
    whole = np.rint(input / along(scale, input.ndim, axis))
    if zero_point is not None:
        whole = whole + along(zero_point, input.ndim, axis).astype(np.float32)
    return np.clip(np.nan_to_num(whole, nan=0.0), limits.min, limits.max).astype(limits.dtype)


@op("dequantize")
def dequantize(
    input: Array,
    scale: Array,
    zero_point: Array | None = None,
    axis: int | None = None,
) -> Any:
    """Return scale * (input - zero_point)."""
    whole = input.astype(np.float32)
    if zero_point is not None:
        whole = whole - along(zero_point, input.ndim, axis).astype(np.float32)
    return whole * along(scale, input.ndim, axis)

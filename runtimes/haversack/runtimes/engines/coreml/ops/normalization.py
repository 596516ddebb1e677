"""Normalisation over channels, instances, layers or neighbours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.ops.activation import per_channel
from haversack.runtimes.engines.coreml.registry import Ints, op


@op("batch_norm")
def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
) -> Any:
    """Return gamma * (x - mean) / sqrt(variance + epsilon) + beta, each a channel (axis 1)."""
    scale = np.float32(1) / np.sqrt(variance + np.float32(epsilon))
    if gamma is not None:
        scale = scale * gamma
    result = (x - per_channel(mean, x.ndim)) * per_channel(scale, x.ndim)
    return result if beta is None else result + per_channel(beta, x.ndim)


@op("instance_norm")
def instance_norm(x: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: float = 1e-5) -> Any:
    """Normalise over the spatial dimensions of each channel of each element of the batch."""
    result = _standardise(x, tuple(range(2, x.ndim)), epsilon)
    if gamma is not None:
        result = result * per_channel(gamma, x.ndim)
    return result if beta is None else result + per_channel(beta, x.ndim)


@op("layer_norm")
def layer_norm(
    x: Array,
    axes: Ints | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
) -> Any:
    """Normalise over the axes (all when None), then scale and shift; gamma and beta have the shape of those axes."""
    normalised = tuple(sorted(axis % x.ndim for axis in (range(x.ndim) if axes is None else axes)))
    shape = tuple(size if axis in normalised else 1 for axis, size in enumerate(x.shape))
    result = _standardise(x, normalised, epsilon)
    if gamma is not None:
        result = result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


@op("l2_norm")
def l2_norm(x: Array, epsilon: float = 1e-6) -> Any:
    """Divide by sqrt(sum of squares + epsilon) over the last three dimensions."""
    total = np.square(x).sum(axis=(-3, -2, -1), keepdims=True)
    return x / np.sqrt(total + np.float32(epsilon))


@op("local_response_norm")
def local_response_norm(x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """Divide by (k + alpha / size * sum of squares over `size` neighbouring channels) ** beta."""
    before = size // 2
    pads = [(0, 0)] * x.ndim
    pads[1] = (before, size - 1 - before)
    seen = np.lib.stride_tricks.sliding_window_view(np.pad(np.square(x), pads), size, axis=1)
    total = seen.sum(axis=-1)
    return x / np.power(np.float32(k) + np.float32(alpha / size) * total, np.float32(beta))


def _standardise(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """Take off the mean and divide by sqrt(variance + epsilon), the variance of the whole population."""
    centred = x - x.mean(axis=axes, keepdims=True)
    count = math.prod(x.shape[axis] for axis in axes)
    variance = np.square(centred).sum(axis=axes, keepdims=True) / np.float32(count)
    result: Array = centred / np.sqrt(variance + np.float32(epsilon))
    return result

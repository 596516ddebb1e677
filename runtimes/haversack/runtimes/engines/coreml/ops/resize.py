"""Resizing and cropping of the spatial (last) dimensions.

Where samples fall is MIL's `sampling_mode`, which its `resize_bilinear` defines by formulas; they stand in
`grid_points`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import Ints, op
from haversack.runtimes.errors import EngineError


def grid_points(size: int, count: int, mode: str) -> Array:
    """Return where `count` samples fall on a dimension of `size` elements, in [0, size - 1], float64.

    Raises:
        EngineError: The sampling mode is unknown.
    """
    index = np.arange(count)
    if mode == "ALIGN_CORNERS" and count == 1:
        points = np.array([(size - 1) / 2])
    elif mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        points = index * ((size - 1) / max(count - 1, 1))
    elif mode == "DEFAULT":
        # spacing = (size - size / count) / (count - 1), which is size / count
        points = index * (size / count)
    elif mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / count
        points = 0.5 * delta + index * delta
    elif mode == "UNALIGN_CORNERS":
        points = (index + 0.5) * (size / count) - 0.5
    else:
        raise EngineError(f"the sampling mode {mode} is not known")
    clipped: Array = np.clip(points, 0, size - 1)
    return clipped


def interpolate(x: Array, axis: int, points: Array) -> Array:
    """Sample along an axis at fractional positions, linearly."""
    low = np.floor(points).astype(np.int64)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = -1
    fraction = (points - low).astype(np.float32).reshape(shape)
    below, above = np.take(x, low, axis=axis), np.take(x, high, axis=axis)
    result: Array = below * (1 - fraction) + above * fraction
    return result


def _linear(x: Array, sizes: Ints, mode: str) -> Array:
    for axis, size in zip(range(-len(sizes), 0), sizes, strict=True):
        x = interpolate(x, axis, grid_points(x.shape[axis], size, mode))
    return x


def _nearest(x: Array, sizes: Ints) -> Array:
    """Take element floor(i * size / count), the nearest one at or before the sample."""
    for axis, size in zip(range(-len(sizes), 0), sizes, strict=True):
        x = np.take(x, (np.arange(size) * x.shape[axis]) // size, axis=axis)
    return x


@op("resize_bilinear")
def resize_bilinear(
    x: Array, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Any:
    """Resize the last two dimensions, interpolating linearly."""
    return _linear(x, (target_size_height, target_size_width), sampling_mode)


@op("resize_nearest_neighbor", moves=True)
def resize_nearest_neighbor(x: Array, target_size_height: int, target_size_width: int) -> Any:
    """Resize the last two dimensions, taking the nearest element."""
    return _nearest(x, (target_size_height, target_size_width))


@op("upsample_bilinear")
def upsample_bilinear(
    x: Array,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Any:
    """Resize the last two dimensions to floor(size * factor), interpolating linearly.

    `half_pixel_centers` is the opposite of `align_corners` unless given (iOS 16); without either, samples start at 0.
    """
    half = not align_corners if half_pixel_centers is None else half_pixel_centers
    if align_corners and half:
        raise EngineError("upsample_bilinear cannot align corners and use half-pixel centres at once")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half else "DEFAULT"
    sizes = (_scaled(x.shape[-2], scale_factor_height), _scaled(x.shape[-1], scale_factor_width))
    return _linear(x, sizes, mode)


@op("upsample_nearest_neighbor", moves=True)
def upsample_nearest_neighbor(x: Array, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Any:
    """Resize the last two dimensions to floor(size * factor), taking the nearest element."""
    return _nearest(x, (_scaled(x.shape[-2], scale_factor_height), _scaled(x.shape[-1], scale_factor_width)))


def _scaled(size: int, factor: float) -> int:
    # float32, in which the program keeps the factor
    return math.floor(np.float32(factor) * np.float32(size))


@op("resize")
def resize(
    x: Array,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Any:
    """Resize the last `resized_dims` dimensions to the last entries of `shape`; a 0 there keeps the size of x.

    The nearest element is the one at the sample's position rounded, halves upward; `resize_nearest_neighbor` rounds
    down instead.
    """
    sizes = tuple(
        wanted or x.shape[x.ndim - resized_dims + i] for i, wanted in enumerate(shape[len(shape) - resized_dims :])
    )
    if interpolation_mode == "LINEAR":
        result = _linear(x.astype(np.float32), sizes, sampling_mode)
        return result if x.dtype.kind == "f" else np.rint(result).astype(x.dtype)
    if interpolation_mode != "NEAREST_NEIGHBOR":
        raise EngineError(f"resize has no interpolation mode {interpolation_mode}")
    for axis, size in zip(range(-len(sizes), 0), sizes, strict=True):
        points = grid_points(x.shape[axis], size, sampling_mode)
        x = np.take(x, np.floor(points + 0.5).astype(np.int64), axis=axis)
    return x


@op("crop", moves=True)
def crop(x: Array, crop_height: Ints, crop_width: Ints) -> Any:
    """Cut so many elements off the top and bottom, left and right of the last two dimensions."""
    height, width = x.shape[-2:]
    return x[..., crop_height[0] : height - crop_height[1], crop_width[0] : width - crop_width[1]]

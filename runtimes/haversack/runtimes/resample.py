"""Resizing 8-bit images with NumPy, to the values that Pillow gives, so that a device needs no Pillow.

Training pipelines resize with Pillow's filters, and a model judged on other pixels is judged on other inputs.
Bilinear here is Pillow's `Image.Resampling.BILINEAR`: a triangle filter whose support grows with the reduction (so it
antialiases), fixed-point weights of 22 bits, rounded to 8 bits between the two passes. The width is resized first,
always; Pillow 13 takes the cheaper order, which moves some pixels by one level where both sides change.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

from haversack.runtimes.engines import Array

Interpolation = Literal["nearest", "bilinear"]

_BITS = 22  # of a weight; 255 * 2**22 still fits an int32


def resize(image: Array, height: int, width: int, interpolation: Interpolation) -> Array:
    """Resize an image.

    Args:
        image: uint8 [H, W, C].
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        interpolation: `bilinear` as above; `nearest` takes column floor((x + 1/2) * W / width) for column x, with the
            steps added up in double precision as Pillow does, which decides the ties.

    Returns:
        uint8 [height, width, C].
    """
    if interpolation == "nearest":
        rows, columns = _nearest(image.shape[0], height), _nearest(image.shape[1], width)
        return image[rows[:, None], columns[None, :]]
    if image.shape[1] != width:
        image = _pass(image.transpose(1, 0, 2), width).transpose(1, 0, 2)
    if image.shape[0] != height:
        image = _pass(image, height)
    return image


def _pass(image: Array, size: int) -> Array:
    """Resize axis 0 of a uint8 array to `size`."""
    first, weights = _triangle(image.shape[0], size)
    total = np.full((size, *image.shape[1:]), 1 << (_BITS - 1), np.int32)  # a half, so that the shift rounds
    last = image.shape[0] - 1
    for tap in range(weights.shape[1]):
        rows = image[np.minimum(first + tap, last)]
        total += rows * weights[:, tap].reshape(-1, *[1] * (image.ndim - 1))
    pixels: Array = np.clip(total >> _BITS, 0, 255).astype(np.uint8)
    return pixels


@functools.lru_cache(maxsize=16)
def _nearest(size: int, wanted: int) -> Array:
    steps = np.full(wanted, size / wanted)
    steps[0] /= 2
    return np.cumsum(steps).astype(np.int64)


@functools.lru_cache(maxsize=16)
def _triangle(size: int, wanted: int) -> tuple[Array, Array]:
    """The first input of each output, and its int32 weights [wanted, taps] in units of 2**-22."""
    ratio = size / wanted
    stretch = max(ratio, 1.0)
    centre = (np.arange(wanted) + 0.5) * ratio
    first = np.maximum((centre - stretch + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + stretch + 0.5).astype(np.int64), size)
    position = first[:, None] + np.arange((stop - first).max())[None, :]
    weights = np.maximum(1.0 - np.abs((position - centre[:, None] + 0.5) / stretch), 0.0)
    weights[position >= stop[:, None]] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    return first, (weights * (1 << _BITS) + 0.5).astype(np.int32)

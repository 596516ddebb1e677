"""Resize as one matrix an axis: cubic and antialiased kernels, and cropping."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.runtimes.engines import Array

Kernel = Callable[[float], float]


def linear(distance: float) -> float:
    """The triangle."""
    return max(0.0, 1.0 - abs(distance))


def cubic(a: float) -> Kernel:
    """Keys' cubic convolution kernel (Resize, operator spec: `cubic_coeff_a`)."""

    def kernel(distance: float) -> float:
        d = abs(distance)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    return kernel


def weights(coordinates: Array, size: int, kernel: Kernel, support: int, shrink: float, exclude_outside: bool) -> Array:
    """What each output takes of each input element along one axis.

    Args:
        coordinates: Where the outputs lie in the input.
        size: Elements of the input.
        kernel: Weight by distance, zero from `support` on.
        support: Reach of the kernel.
        shrink: Below 1 the kernel is widened by its inverse (antialiasing) and normalised.
        exclude_outside: Whether elements beyond the ends weigh nothing, instead of being the end's copy.

    Returns:
        float32 [outputs, size].
    """
    matrix = np.zeros((len(coordinates), size), np.float64)
    reach = math.ceil(support / shrink)
    for row, coordinate in zip(matrix, np.asarray(coordinates, np.float64), strict=True):
        first = math.floor(coordinate) - reach
        taps = np.arange(first, first + 2 * reach + 2)
        shares = np.array([kernel((tap - coordinate) * shrink) for tap in taps])
        if exclude_outside:
            shares[(taps < 0) | (taps >= size)] = 0
        if exclude_outside or shrink < 1:
            shares /= shares.sum()
        np.add.at(row, np.clip(taps, 0, size - 1), shares)
    return matrix.astype(np.float32)


def apply(b: Builder, x: Tensor, axis: int, matrix: Array) -> Tensor:
    """The product of a matrix with one axis."""
    if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix), dtype=np.float32)):
        return x
    rank = len(x.shape)
    order = [n for n in range(rank) if n != axis] + [axis]
    moved = steps.transpose(b, b.cast(x, "float32"), order)
    flat = steps.reshape(b, moved, (moved.size // matrix.shape[1], matrix.shape[1]))
    y = b.op("FULLY_CONNECTED", [flat, b.const(matrix)], (flat.shape[0], matrix.shape[0]))
    shaped = steps.reshape(b, y, (*moved.shape[:-1], matrix.shape[0]))
    return b.cast(steps.transpose(b, shaped, np.argsort(order).tolist()), x.nominal)


def outside(coordinates: list[Array], size: tuple[int, ...]) -> Array:
    """Which outputs of a crop lie beyond the input: bool [1, *outputs, 1]."""
    mask = np.zeros((), np.bool_)
    for places, n in zip(coordinates, size, strict=True):
        beyond = (places < 0) | (places > n - 1)
        mask = mask[..., None] | beyond
    return mask[None, ..., None]

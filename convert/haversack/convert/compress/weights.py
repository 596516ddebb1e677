"""Weights and biases in integers, by TFLite's 8-bit quantization specification.

Weights are symmetric: int8 in [-127, 127], zero point 0, one scale a tensor or one an output channel. A bias is int32
at scale `input scale * weight scale`, zero point 0, so that it adds straight into the accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from haversack.convert.compress.scale import MIN_SCALE
from haversack.convert.errors import UsageError
from haversack.runtimes.engines import Array

LIMIT = 127

BIAS_LIMIT = 2**30
"""Half of int32's range: the other half is left to the products, 33,000 of them at 127 * 255."""

MULTIPLIER_LIMIT = 2.0**-24
"""Smallest `input scale * weight scale / output scale` that a channel gets. Kernels store this multiplier as a
31-bit mantissa and a shift, and flush it to zero from about 2^-31 on. With a smaller one, products can no longer
add up to an output step (500 of them at 127 * 255 reach 0.96 of one), so nothing is lost by the floor."""


@dataclass(frozen=True)
class Weights:
    """Quantized weights.

    Attributes:
        quantized: int8, the shape of the weights, in [-127, 127].
        scale: float32, a scalar, or [channels] along `axis`.
        axis: The output-channel axis, never negative; None with one scale a tensor.
    """

    quantized: Array
    scale: Array
    axis: int | None

    def dequantize(self) -> Array:
        """The float32 weights that the integers stand for."""
        scale = self.scale if self.axis is None else _along(self.scale, self.axis, self.quantized.ndim)
        return self.quantized.astype(np.float32) * scale


def _along(vector: Array, axis: int, rank: int) -> Array:
    return vector.reshape([-1 if i == axis else 1 for i in range(rank)])


def quantize(name: str, weights: Array, axis: int | None, floor: Array | float = 0.0) -> Weights:
    """Quantize float weights.

    A channel that is all zero takes the scale of the whole tensor: its weights are exact at any scale, and its bias
    keeps a sensible one.

    Args:
        name: The weights' name, for messages.
        weights: Float, any shape.
        axis: One scale for each index along this axis (negative counts from the end); None: one for the tensor.
        floor: No scale is smaller than this; a scalar, or one a channel.

    Raises:
        UsageError: There are NaN or infinite weights.
    """
    weights = weights.astype(np.float32)
    if not np.isfinite(weights).all():
        raise UsageError(f"{name}: NaN or infinite weights cannot be quantized; repair the model's training")
    whole = np.float32(np.abs(weights).max(initial=0.0) / LIMIT)
    if axis is None:
        scale = np.asarray(max(whole, np.float32(np.max(floor)), np.float32(MIN_SCALE)), np.float32)
        spread: Array = scale
    else:
        axis %= weights.ndim
        largest = np.abs(weights).max(axis=tuple(i for i in range(weights.ndim) if i != axis))
        scale = np.where(largest > 0, largest / np.float32(LIMIT), whole).astype(np.float32)
        scale = np.maximum(scale, np.maximum(floor, MIN_SCALE)).astype(np.float32)
        spread = _along(scale, axis, weights.ndim)
    quantized = np.clip(np.rint(weights / spread), -LIMIT, LIMIT).astype(np.int8)
    return Weights(quantized, scale, axis)


def raised(weights: Weights, floor: Array | float) -> Weights:
    """The same weights with no scale smaller than `floor`, a scalar, or one a channel; their integers only shrink."""
    least = np.max(floor) if weights.axis is None else floor
    if np.all(weights.scale >= least):
        return weights
    scale = np.maximum(weights.scale, least).astype(np.float32)
    spread = scale if weights.axis is None else _along(scale, weights.axis, weights.quantized.ndim)
    return Weights(np.rint(weights.dequantize() / spread).astype(np.int8), scale, weights.axis)


def scale_floor(bias: Array | None, input_scale: float, output_scale: float) -> Array | float:
    """The smallest weight scale that keeps a channel's bias inside int32 and its multiplier representable.

    Args:
        bias: float32 [channels], or None.
        input_scale: Scale of the activations that meet the weights.
        output_scale: Scale of the result.
    """
    floor: Array | float = MULTIPLIER_LIMIT * output_scale / input_scale
    if bias is not None:
        floor = np.maximum(np.abs(bias.astype(np.float64)) / (input_scale * BIAS_LIMIT), floor)
    return floor


def quantize_bias(bias: Array, input_scale: float, weights: Weights) -> tuple[Array, Array]:
    """Quantize a bias.

    Args:
        bias: float32 [channels].
        input_scale: Scale of the activations that meet the weights.
        weights: The quantized weights, made with the floor of `scale_floor`.

    Returns:
        int32 [channels], and its float32 scale: a scalar, or [channels].
    """
    scale = (np.float32(input_scale) * weights.scale).astype(np.float32)
    return np.rint(bias.astype(np.float64) / scale).astype(np.int32), scale

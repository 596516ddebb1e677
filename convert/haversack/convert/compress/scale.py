"""Scales and zero points: the numbers that turn a float tensor into int8 (or int16) and back.

`real = scale * (quantized - zero_point)`, the affine mapping of the ONNX operators QuantizeLinear and
DequantizeLinear (opset 21) and of TFLite's 8-bit quantization specification, with round half to even.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from haversack.runtimes.engines import Array

INT8_MIN, INT8_MAX = -128, 127
INT16_MAX = 32767

MIN_SCALE = 2.0**-60
"""No scale is smaller: a bias's scale is the product of two, and has to stay a normal float32 (above 2^-126)."""

DEGENERATE_WIDTH = 1.0
"""The width given to a range that is empty (a tensor that is all zero): any scale holds zero exactly."""


@dataclass(frozen=True)
class Scale:
    """One scale and zero point for a whole int8 or int16 tensor.

    Attributes:
        scale: A float32 value, above zero.
        zero_point: The integer that stands for 0.0: in [-128, 127], or 0 of 16 bits.
        bits: Of the integers, 8 or 16.
    """

    scale: float
    zero_point: int
    bits: int = 8

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer."""
        return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1

    @property
    def lowest(self) -> float:
        """The smallest real number that the tensor can hold."""
        return self.scale * (self.limits[0] - self.zero_point)

    @property
    def highest(self) -> float:
        """The largest real number that the tensor can hold."""
        return self.scale * (self.limits[1] - self.zero_point)

    def quantize(self, real: Array) -> Array:
        """Quantize `real` (float, any shape) as QuantizeLinear does: round half to even, saturate."""
        levels = np.rint(np.asarray(real, np.float32) / np.float32(self.scale)) + self.zero_point
        quantized: Array = np.clip(levels, *self.limits).astype(np.int8 if self.bits == 8 else np.int16)
        return quantized

    def dequantize(self, quantized: Array) -> Array:
        """The float32 values that `quantized` (any shape) stands for, as DequantizeLinear computes them."""
        return (quantized.astype(np.int32) - self.zero_point).astype(np.float32) * np.float32(self.scale)


def asymmetric(low: float, high: float) -> Scale:
    """The int8 scale of an activation whose values lie in [low, high].

    The range is widened to hold zero, and the zero point is an integer, so zero (a convolution's padding, a ReLU's
    floor) is exactly representable, as the specification asks. An empty or non-finite range gets a safe one.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if not np.isfinite(high - low) or high == low:
        low, high = 0.0, DEGENERATE_WIDTH
    scale = float(np.float32(max((high - low) / (INT8_MAX - INT8_MIN), MIN_SCALE)))
    zero_point = int(np.clip(np.rint(INT8_MIN - low / scale), INT8_MIN, INT8_MAX))
    return Scale(scale, zero_point)


def symmetric(low: float, high: float) -> Scale:
    """The int16 scale of an activation whose values lie in [low, high]: zero stands for zero, as TFLite asks."""
    largest = max(-low, high)
    if not np.isfinite(largest) or largest <= 0:
        largest = DEGENERATE_WIDTH
    return Scale(float(np.float32(max(largest / INT16_MAX, MIN_SCALE))), 0, 16)


def prescribed(scale: Scale, bits: int) -> Scale:
    """The prescribed scale of an operator's output, given its 8-bit one.

    In 16 bits TFLite prescribes 1/32768 for softmax, sigmoid and tanh; log-softmax has no such kernel.
    """
    return scale if bits == 8 else Scale(1 / 32768, 0, 16)


FIXED: dict[str, Scale] = {
    "Softmax": Scale(1 / 256, -128),
    "Sigmoid": Scale(1 / 256, -128),
    "LogSoftmax": Scale(16 / 256, 127),
    "Tanh": Scale(1 / 128, 0),
}
"""Output scales that TFLite's 8-bit quantization specification prescribes, whatever calibration saw."""

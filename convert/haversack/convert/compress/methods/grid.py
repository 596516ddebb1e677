"""The grid that a layer's weights are rounded to: whole multiples of a scale, as many as the bits allow.

Symmetric, zero among them, like TFLite's int8 weights: [-limit, limit] · scale. The limit of b bits is 2^(b-1) - 1, for
whole b and for any b between: 3.5 bits are the 11 steps of limit 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from haversack.runtimes.engines import Array

LEAST_BITS, MOST_BITS = 2.0, 8.0


def limit_of(bits: float) -> int:
    """The largest whole number on a grid of so many bits.

    Raises:
        ValueError: Not from 2 to 8.
    """
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"weights have 2 to 8 bits, not {bits}")
    largest: int = round(2.0 ** (bits - 1)) - 1
    return largest


@dataclass(frozen=True)
class Grid:
    """The grid of one layer's weights.

    Attributes:
        scale: float32, a scalar, or [channels] along `axis`; above 0.
        axis: The output-channel axis; None with one scale a tensor.
        limit: The largest whole number.
    """

    scale: Array
    axis: int | None
    limit: int

    def steps(self, shape: tuple[int, ...]) -> Array:
        """The scale of each weight, of that shape."""
        if self.axis is None:
            return np.broadcast_to(self.scale, shape)
        return np.broadcast_to(self.scale.reshape([-1 if i == self.axis else 1 for i in range(len(shape))]), shape)

    def integers(self, weights: Array) -> Array:
        """The nearest whole numbers, int8, of the weights' shape."""
        rounded: Array = np.clip(np.rint(weights / self.steps(weights.shape)), -self.limit, self.limit).astype(np.int8)
        return rounded

    def round(self, weights: Array) -> Array:
        """The nearest numbers on the grid, float32; what is on it stays exactly as it is."""
        made: Array = self.integers(weights).astype(np.float32) * self.steps(weights.shape)
        return made

"""Rounders for `reconstruct` beside the learned one: the nearest numbers, and second-order rounding.

Nearest: of the target, so that what is gained is what the target does about the errors of the layers before.

Second order: `compress/second_order.py` on a grid (Frantar et al.: "GPTQ: Accurate Post-Training Quantization for
Generative Pre-trained Transformers", ICLR 2023; then the coordinate descent of Behdin et al.: "QuantEase:
Optimization-based Quantization for Language Models", 2023).
"""

from __future__ import annotations

import numpy as np

from haversack.convert.compress.second_order import compensated
from haversack.runtimes.engines import Array


def nearest(target: Array, moment: Array, step: Array, limit: int) -> Array:
    """Choose whole numbers for weights [outputs, inputs]; see `reconstruct.Rounder`."""
    del moment
    made: Array = np.clip(np.rint(target / step), -limit, limit)
    return made


def second_order(target: Array, moment: Array, step: Array, limit: int) -> Array:
    """Choose whole numbers for weights [outputs, inputs]; see `reconstruct.Rounder`."""

    def rounded(place: int, column: Array) -> Array:
        size = step[:, place]
        stored: Array = np.clip(np.rint(column / size), -limit, limit) * size
        return stored

    made: Array = np.rint(compensated(target, moment, rounded) / step)
    return made

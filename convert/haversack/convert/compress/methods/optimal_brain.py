"""Second-order rounding on grids: `compress/second_order.py` as a rounder for `reconstruct`.

Frantar et al.: "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023; then the
coordinate descent of Behdin et al.: "QuantEase: Optimization-based Quantization for Language Models", 2023.
"""

from __future__ import annotations

import numpy as np

from haversack.convert.compress.second_order import compensated
from haversack.runtimes.engines import Array


def second_order(target: Array, moment: Array, step: Array, limit: int) -> Array:
    """Choose whole numbers for weights [outputs, inputs]; see `reconstruct.Rounder`."""

    def rounded(place: int, column: Array) -> Array:
        size = step[:, place]
        stored: Array = np.clip(np.rint(column / size), -limit, limit) * size
        return stored

    made: Array = np.rint(compensated(target, moment, rounded) / step)
    return made

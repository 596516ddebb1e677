"""The recipes: what a compression is called and what it does to the hub graph.

| recipe         | hub form                                                                             |
|----------------|--------------------------------------------------------------------------------------|
| `fp32`         | as is                                                                                |
| `fp16`         | float16 initializers where float16 holds them, each followed by a Cast to float32    |
| `int8`         | int8 QuantizeLinear/DequantizeLinear around ops that have int8 kernels; int8 weights |
| `int8-dynamic` | DynamicQuantizeLinear before MatMulInteger/ConvInteger, int8 weights                 |
| `int8-weights` | int8 weights of layers, each followed by a DequantizeLinear                          |

`compress/__init__.py` has each form in full; a target may write it otherwise where its runtime is faster so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RECIPES = ("fp32", "fp16", "int8", "int8-dynamic", "int8-weights")

RangeRule = Literal["minmax", "percentile", "mse"]
WeightGranularity = Literal["auto", "per-channel", "per-tensor"]


@dataclass(frozen=True)
class Recipe:
    """A compression as the user asks for it.

    Attributes:
        name: One of `RECIPES`.
        ranges: How an activation's range is chosen from what calibration saw.
        weights: One scale a channel, one a tensor, or whichever measures better.
    """

    name: str = "fp32"
    ranges: RangeRule = "mse"
    weights: WeightGranularity = "auto"

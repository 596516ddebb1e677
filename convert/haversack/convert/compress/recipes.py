"""The recipes: what a compression is called and what it does to the hub graph.

| recipe               | hub form                                                                             |
|----------------------|--------------------------------------------------------------------------------------|
| `fp32`               | as is                                                                                |
| `fp16`               | float16 initializers where float16 holds them, each followed by a Cast to float32    |
| `int8`               | int8 QuantizeLinear/DequantizeLinear around ops that have int8 kernels; int8 weights |
| `int16`              | the same with int16 activations, symmetric; weights stay int8                        |
| `int8-dynamic`       | DynamicQuantizeLinear before MatMulInteger/ConvInteger, int8 weights                 |
| `int8-weights`       | int8 weights of layers, each followed by a DequantizeLinear                          |
| `int4-weights`       | the same in int4, one scale a channel                                                |
| `int4-block32` …     | the same, one scale for each 16, 32, 64 or 128 weights along the input channels      |
| `palette4` …         | indices of 1, 2, 3, 4, 6 or 8 bits → Cast → Gather from a palette of 2^bits numbers  |
| `palette4-group16` … | a palette of its own for each 16 output channels                                     |
| `sparse50` …         | the smallest half (three quarters) of each layer's weights is zero                   |
| `sparse2of4`         | two of each four weights along the input channels are zero                           |
| `sparse50-palette4`, | both: what is not zero has a palette, or int8 with one scale a channel               |
| `sparse50-int8`      |                                                                                      |
| `palette4-fp16` …    | any recipe of weights with this ending: the same, for arithmetic in float16          |

`compress/__init__.py` has each form in full; a target may write it otherwise where its runtime is faster so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from haversack.convert.compress.plan import Plan

RangeRule = Literal["minmax", "percentile", "mse", "entropy"]
WeightGranularity = Literal["auto", "per-channel", "per-tensor"]


@dataclass(frozen=True)
class Storage:
    """How the weights of a layer are stored; its arithmetic stays float.

    Attributes:
        bits: Of an integer (4 or 8), or of an index into a palette (1 to 8); None for plain floats.
        palette: Whether the bits are an index into a palette.
        block: How many weights along the input channels share one scale; None for all of an output channel's.
        group: How many output channels share one palette; None for all of them.
        sparsity: The share of the weights that is zero, None to keep all; or
        pattern: (n, m), so many zeros in each m weights along the input channels.
    """

    bits: int | None = None
    palette: bool = False
    block: int | None = None
    group: int | None = None
    sparsity: float | None = None
    pattern: tuple[int, int] | None = None


STORAGES: dict[str, Storage] = {
    "int4-weights": Storage(4),
    **{f"int4-block{size}": Storage(4, block=size) for size in (16, 32, 64, 128)},
    **{f"palette{bits}": Storage(bits, palette=True) for bits in (1, 2, 3, 4, 6, 8)},
    **{f"palette{bits}-group16": Storage(bits, palette=True, group=16) for bits in (2, 3, 4)},
    "sparse50": Storage(sparsity=0.5),
    "sparse75": Storage(sparsity=0.75),
    "sparse2of4": Storage(pattern=(2, 4)),
    "sparse50-palette4": Storage(4, palette=True, sparsity=0.5),
    "sparse50-int8": Storage(8, sparsity=0.5),
}
"""The recipes that store weights otherwise than in int8 or float16, and how."""

HALF = "-fp16"
"""Ends the name of a recipe of compressed weights whose arithmetic is in float16 (Core ML)."""

WEIGHTS = ("int8-weights", *STORAGES)
"""The recipes that compress weights alone; their arithmetic is in float32."""

RECIPES = ("fp32", "fp16", "int8", "int16", "int8-dynamic", *WEIGHTS, *(name + HALF for name in WEIGHTS))


PLANNED = {"int8": "int8", "int16": "int16", "float32": "int4-weights", "float16": "int4-weights" + HALF}
"""The recipe whose contract a planned model keeps, by its arithmetic."""


@dataclass(frozen=True)
class Recipe:
    """A compression as the user asks for it.

    Attributes:
        name: One of `RECIPES`, or the plan's own name.
        ranges: How an activation's range is chosen from what calibration saw.
        weights: One scale a channel, one a tensor, or whichever measures better.
        methods: Names of `compress.methods`; None: the default ones.
        plan: Says the precision of each layer; None: all layers are held as the recipe says.
    """

    name: str = "fp32"
    ranges: RangeRule = "mse"
    weights: WeightGranularity = "auto"
    plan: Plan | None = None
    methods: tuple[str, ...] | None = None

    @property
    def family(self) -> str:
        """The recipe in `RECIPES` whose hub form, contract and target support this one has."""
        return self.name if self.plan is None else PLANNED[self.plan.arithmetic]

    @classmethod
    def of(cls, plan: Plan) -> Recipe:
        """The recipe that follows a plan."""
        return cls(plan.name, plan.ranges, plan=plan, methods=plan.methods or None)

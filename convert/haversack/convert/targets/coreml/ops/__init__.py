"""The lowerings of ONNX operators to MIL, one family a file."""

from __future__ import annotations

from haversack.convert.targets.registry import Registry

FAMILIES = (
    "activation",
    "cast",
    "control",
    "conv",
    "elementwise",
    "indexing",
    "logic",
    "matmul",
    "normalization",
    "pad",
    "pool",
    "quantization",
    "reduce",
    "resize",
    "shape",
    "slicing",
)
LOWERINGS = Registry("coreml", __name__, FAMILIES)
lowers = LOWERINGS.lowers

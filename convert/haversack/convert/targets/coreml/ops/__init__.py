"""The lowerings of ONNX operators to MIL, one family a file."""

from __future__ import annotations

from haversack.convert.targets.registry import Registry

FAMILIES = (
    "activation",
    "bits",
    "cast",
    "control",
    "conv",
    "detection",
    "elementwise",
    "indexing",
    "integer",
    "logic",
    "matmul",
    "normalization",
    "pad",
    "pool",
    "quantization",
    "recurrent",
    "reduce",
    "resize",
    "sampling",
    "selection",
    "shape",
    "slicing",
)
LOWERINGS = Registry("coreml", __name__, FAMILIES)
lowers = LOWERINGS.lowers

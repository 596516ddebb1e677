"""The lowerings of ONNX operators to TFLite, one family a file."""

from __future__ import annotations

from haversack.convert.targets.registry import Registry

FAMILIES = (
    "activation",
    "conv",
    "elementwise",
    "indexing",
    "logic",
    "matmul",
    "normalization",
    "pool",
    "recurrent",
    "reduce",
    "resize",
    "shape",
    "slicing",
)
LOWERINGS = Registry("tflite", __name__, FAMILIES)
lowers = LOWERINGS.lowers

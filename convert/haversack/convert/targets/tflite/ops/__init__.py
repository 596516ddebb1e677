"""The lowerings of ONNX operators to TFLite, one family a file."""

from __future__ import annotations

from haversack.convert.targets.registry import Registry

FAMILIES = (
    "activation",
    "bits",
    "control",
    "conv",
    "detection",
    "elementwise",
    "indexing",
    "integer_matmul",
    "logic",
    "matmul",
    "normalization",
    "pool",
    "quantization",
    "recurrent",
    "reduce",
    "resize",
    "selection",
    "shape",
    "slicing",
)
LOWERINGS = Registry("tflite", __name__, FAMILIES)
lowers = LOWERINGS.lowers

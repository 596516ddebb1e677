"""The lowerings of ONNX operators to MIL, one family a file."""

from __future__ import annotations

import importlib

from haversack.convert.targets.registry import Registry

LOWERINGS = Registry("coreml")
lowers = LOWERINGS.lowers

FAMILIES = (
    "activation",
    "cast",
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


def register() -> Registry:
    """Import every family, so that the registry is full, and return it."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
    return LOWERINGS

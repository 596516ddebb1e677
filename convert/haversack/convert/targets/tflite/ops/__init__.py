"""The lowerings, one module an operator family. Importing this package registers them all in `REGISTRY`."""

from __future__ import annotations

from haversack.convert.targets.tflite.ops.registry import REGISTRY

__all__ = ["REGISTRY", "load_all"]

FAMILIES = (
    "activation",
    "conv",
    "elementwise",
    "indexing",
    "logic",
    "matmul",
    "normalization",
    "pool",
    "reduce",
    "resize",
    "shape",
    "slicing",
)


def load_all() -> None:
    """Import every family, so that `REGISTRY` is complete."""
    import importlib

    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")

"""Comparisons, logic and selection."""

from __future__ import annotations

from haversack.convert.targets.registry import Lowering
from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import LOWERINGS, lowers


def _comparison(code: str) -> Lowering:
    def lowering(b: Builder, x: Tensor, y: Tensor) -> Tensor:
        return steps.binary(b, code, x, y, "bool")

    return lowering


LOWERINGS.table(
    _comparison,
    {
        "And": "LOGICAL_AND",
        "Equal": "EQUAL",
        "Greater": "GREATER",
        "GreaterOrEqual": "GREATER_EQUAL",
        "Less": "LESS",
        "LessOrEqual": "LESS_EQUAL",
        "Or": "LOGICAL_OR",
        "Xor": "NOT_EQUAL",  # of booleans
    },
)


@lowers("Not")
def logical_not(b: Builder, x: Tensor) -> Tensor:
    """LOGICAL_NOT."""
    return steps.unary(b, "LOGICAL_NOT", x)


@lowers("Where")
def where(b: Builder, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """SELECT_V2."""
    return steps.elementwise(b, "SELECT_V2", [condition, x, y])

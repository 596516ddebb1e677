"""Comparisons, logic and selection."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import LOWERINGS, lowers


def _comparison(kind: str) -> Any:
    def lowering(b: Builder, x: Value, y: Value) -> Var:
        return b.op(kind, x=b.numeric(x), y=b.numeric(y))

    return lowering


LOWERINGS.table(
    _comparison,
    {
        "Equal": "equal",
        "Greater": "greater",
        "GreaterOrEqual": "greater_equal",
        "Less": "less",
        "LessOrEqual": "less_equal",
    },
)


def _logical(kind: str) -> Any:
    def lowering(b: Builder, x: Value, y: Value) -> Var:
        return b.op(kind, x=x, y=y)

    return lowering


LOWERINGS.table(_logical, {"And": "logical_and", "Or": "logical_or", "Xor": "logical_xor"})


@lowers("Not")
def logical_not(b: Builder, x: Value) -> Var:
    """Negation of booleans."""
    return b.op("logical_not", x=x)


@lowers("Where")
def where(b: Builder, condition: Value, x: Value, y: Value) -> Var:
    """`select` takes its shape from the two choices alone, so one of them is broadcast to the full shape if need be."""
    shape = b.outputs[0].shape
    chosen = b.var(x)
    if np.broadcast_shapes(x.shape, y.shape) != shape:
        chosen = b.expand(chosen, shape)
    return b.op("select", cond=condition, a=chosen, b=y)

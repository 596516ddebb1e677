"""Integers of a layer's weights at any fineness, for layers that compute in integers.

The step is the largest weight over 2^(bits - 1) - 1/2: at `bits` 4 the integers lie in [-7, 7], at 3.5 in [-5, 5]. What
a uniform step leaves is entropy: a file format stores each integer in eight (or four) bits, and whatever compresses
the package stores it in about its entropy. For a given error a uniform quantizer behind an entropy coder is within a
quarter of a bit of what is possible at all (Gish, Pierce: "Asymptotically Efficient Quantizing", IEEE Transactions on
Information Theory 14(5), 1968), which is why one step for a whole layer beats palettes where the wire counts.

Weights that are whole multiples of a step already (a model trained for its plan, `qat/`) keep that step.
"""

from __future__ import annotations

import numpy as np

from haversack.convert.compress import int4, weights
from haversack.convert.compress.plan import LayerPlan
from haversack.convert.compress.qdq import Rounded
from haversack.convert.compress.scale import MIN_SCALE
from haversack.convert.compress.second_order import Solver
from haversack.convert.errors import UsageError
from haversack.runtimes.engines import Array

ON_GRID = 1e-3
"""So far from a whole number of steps, in steps, a weight may be that lies on a grid: float32 leaves 1e-5 of it."""


def rounded(
    name: str, array: Array, plan: LayerPlan, axis: int | None, importance: Array | None, solver: Solver | None
) -> Rounded:
    """Round a layer's weights.

    Args:
        name: Of the weights, for messages.
        array: float32, any shape.
        plan: Of the layer, which computes in integers.
        axis: Of the output channels; None where one scale has to serve them all.
        importance: Of each weight's squared error, broadcastable to them; None: all alike.
        solver: Of the layer, whose bias changes with the weights; None: each weight goes to its nearest integer.

    Raises:
        UsageError: There are NaN or infinite weights.
    """
    along = None if axis is None or plan.granularity != "per-channel" else axis % array.ndim
    if not np.isfinite(array).all():
        raise UsageError(f"{name}: NaN or infinite weights cannot be quantized; repair the model's training")
    scale = steps(name, array, plan, along, importance)
    largest = limit(plan)
    step = scale if along is None else scale.reshape([-1 if i == along else 1 for i in range(array.ndim)])

    def integers(some: Array, of: Array) -> Array:
        return np.clip(np.rint(some / of), -largest, largest)

    wide = np.broadcast_to(step, array.shape)
    held = array if solver is None else solver.round(array, lambda some, of: integers(some, of) * of, wide)
    made = weights.Weights(integers(held, wide).astype(np.int8), scale, along)
    return Rounded(made, four=plan.weights == "int4")


def limit(plan: LayerPlan) -> int:
    """The largest integer that a layer's weights may have."""
    return int4.LIMIT if plan.weights == "int4" else int(2 ** (plan.bits - 1) - 0.5)


def steps(name: str, array: Array, plan: LayerPlan, along: int | None, importance: Array | None) -> Array:
    """The steps of a layer's weights.

    Args:
        name: Of the weights, for messages.
        array: float32, any shape.
        plan: Of the layer, which computes in integers.
        along: The axis of the output channels for one step each; None: one for all.
        importance: Of each weight's squared error, broadcastable to them; None: all alike.

    Returns:
        float32, a scalar or [channels].

    Raises:
        UsageError: There are NaN or infinite weights.
    """
    rows = array.reshape(1, -1) if along is None else np.moveaxis(array, along, 0).reshape(array.shape[along], -1)
    if plan.weights == "int8" and plan.bits == LayerPlan.bits:
        return weights.quantize(name, array, along).scale
    if plan.weights == "int4":
        share = None
        if importance is not None:
            full = np.broadcast_to(importance, array.shape)
            share = full.reshape(1, -1) if along is None else np.moveaxis(full, along, 0).reshape(len(rows), -1)
        found = int4.scales(name, rows, share)
    else:
        largest = np.abs(rows).max(axis=1)
        # A channel of zeros is exact at any step, and its bias keeps a sensible one.
        largest = np.where(largest > 0, largest, largest.max(initial=0.0))
        fresh, kept = largest / np.float32(2 ** (plan.bits - 1) - 0.5), largest / np.float32(limit(plan))
        found = np.maximum(np.where(_on_grid(rows, kept), kept, fresh), np.float32(MIN_SCALE)).astype(np.float32)
    return np.asarray(found[0]) if along is None else found


def _on_grid(rows: Array, step: Array) -> Array:
    """Whether each row is whole multiples of its step."""
    levels = rows / np.maximum(step, np.float32(MIN_SCALE))[:, None]
    return np.asarray((np.abs(levels - np.rint(levels)) <= ON_GRID).all(axis=1))

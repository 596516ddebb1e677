"""A plan as a module that is imported in training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from haversack.convert.compress.low_bits import limit
from haversack.convert.compress.plan import LayerPlan, Plan
from haversack.convert.errors import UsageError
from haversack.convert.qat.names import Trained

EMPTY = "LAYERS: dict[str, Layer] = {}\n"
"""Stands in the modules where the table goes."""

STORED = {"int8-weights": LayerPlan("int8"), "int4-weights": LayerPlan("int4")}
"""Float arithmetic on weights that are whole multiples of a step an output channel."""

ACTIVATIONS = {"int8": 8, "int16": 16}


def module_of(plan: Plan, layers: Mapping[str, Trained], framework: str) -> str:
    """The text of the module.

    Args:
        plan: Says how each layer is held.
        layers: Every layer that the plan may name, as the training framework calls it.
        framework: `torch` or `keras`.

    Raises:
        UsageError: The plan names a layer that is none of these, or has none that could be trained for.
    """
    unknown = [name for name in plan.layers if name not in layers]
    if unknown:
        raise UsageError(f"{plan.name}: the model has no layer {', '.join(map(repr, unknown))}")
    rows, left = [], []
    for node, trained in layers.items():
        layer = plan.of(node)
        held = layer if layer.integer else STORED.get(layer.weights)
        if held is None:
            left.append(f"    # {trained.name!r}: {layer.words()}, left as it is")
            continue
        bits = ACTIVATIONS.get(plan.arithmetic) if layer.integer else None
        rows.append(
            f"    {trained.name!r}: Layer({trained.elements}, {limit(held)}, {_span(held):.9g}, "
            f"{held.granularity == 'per-channel'}, {bits}),  # {layer.words()}"
        )
    if not rows:
        raise UsageError(
            f"{plan.name}: no layer has weights in whole multiples of a step (int8, int4, int8-weights, int4-weights): "
            "there is nothing to train for"
        )
    text = Path(__file__).with_name(f"for_{framework}.py").read_text(encoding="utf-8")
    assert text.count(EMPTY) == 1
    # Names come from files: they are written as literals, which no name can end early.
    head = f"PLAN = {plan.name!r}\n\nLAYERS: dict[str, Layer] = {{\n"
    columns = "    # elements, limit, span, per channel, activations\n"
    return text.replace(EMPTY, head + columns + "\n".join((*rows, *left)) + "\n}\n")


def _span(layer: LayerPlan) -> float:
    """How many steps the largest weight has; see `compress.low_bits`."""
    if layer.weights == "int4" or layer.bits == LayerPlan.bits:
        return float(limit(layer))
    span: float = 2 ** (layer.bits - 1) - 0.5  # nine digits are what a float32 needs
    return span

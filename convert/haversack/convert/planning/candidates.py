"""What a layer may become, by what a plan is for.

| family    | arithmetic       | candidates of a layer                                                            |
|-----------|------------------|----------------------------------------------------------------------------------|
| `wire`    | integers         | int8 with steps of 2.5 to 8 bits; int8 kernels, few different integers           |
| `size`    | integers         | int8, and int4 where integers are held in four bits                              |
| `weights` | float16          | palettes of 2 to 8 bits, int8 weights, float16                                   |

Under integer arithmetic each comes with one scale a layer and with one an output channel, and any layer may stay float.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from haversack.convert.compress import operators
from haversack.convert.compress.mixed import planned_layers
from haversack.convert.compress.plan import Arithmetic, LayerPlan
from haversack.convert.targets import Target

BITS = (2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0)
"""Steps that a layer may have. Half a bit apart the error differs by a factor of two."""

GRANULARITIES = ("per-tensor", "per-channel")

FLOAT_LAYER = LayerPlan("float16")
"""A layer that integers would ruin."""


@dataclass(frozen=True)
class Family:
    """A kind of plan.

    Attributes:
        name: Of the table above; what the plans of it are called.
        arithmetic: Of its plans.
        counts: What the planner minimises: bytes on `disk` or on the `wire`.
        layers: What a layer that can compute in integers may be.
        floats: What any other layer may be.
    """

    name: str
    arithmetic: Arithmetic
    counts: str
    layers: tuple[LayerPlan, ...]
    floats: tuple[LayerPlan, ...]


def _integers(forms: Iterable[tuple[str, float]]) -> tuple[LayerPlan, ...]:
    return tuple(
        LayerPlan(weights, bits, granularity)  # type: ignore[arg-type]
        for weights, bits in forms
        for granularity in GRANULARITIES
    )


STORED = tuple(LayerPlan(name) for name in ("float16", "int8-weights"))

FAMILIES: dict[str, Family] = {
    "wire": Family("wire", "int8", "wire", (*_integers(("int8", bits) for bits in BITS), FLOAT_LAYER), STORED),
    "size": Family("size", "int8", "disk", (*_integers([("int8", 8.0), ("int4", 8.0)]), FLOAT_LAYER), STORED),
    "weights": Family(
        "weights",
        "float16",
        "disk",
        (),
        tuple(LayerPlan(f"palette{bits}") for bits in (2, 3, 4, 6, 8)) + STORED,
    ),
}


def candidates(model: ir.Model, family: Family, targets: Sequence[Target] = ()) -> dict[str, tuple[LayerPlan, ...]]:
    """What each layer of a model may become, in graph order.

    Args:
        model: The float hub graph.
        family: What the plan is for.
        targets: Those that have to hold it; what one of them cannot is left out.
    """
    found = {}
    for name, node in planned_layers(model).items():
        integer = operators.kind(node) == "weighted" and family.layers
        wanted = family.layers if integer else family.floats
        held = [set(target.precisions(node)) for target in targets]
        found[name] = tuple(
            plan for plan in wanted if all(PRECISIONS.get(plan.weights, plan.weights) in h for h in held)
        )
    return {name: plans for name, plans in found.items() if plans}


PRECISIONS = {"int4": "int8-int4"}
"""What `targets/precisions.py` calls weights that a plan calls otherwise."""

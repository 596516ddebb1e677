"""What `plan` says: the plans of a bundle, and how one of them holds each layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedLayer:
    """One layer of a plan.

    Attributes:
        layer: The name of its node, as the plan's file has it.
        held: How it is held, in words: `int8 at 3.5 bits, per-tensor`.
        trained: What the framework that trained the model calls it; empty where that is not known.
        weights: How many weights it has; None where that is not known.
    """

    layer: str
    held: str
    trained: str = ""
    weights: int | None = None


@dataclass(frozen=True)
class PlanRow:
    """One plan.

    Attributes:
        name: The plan's own.
        variants: The ids of the bundle's variants that follow it; none of a file.
        arithmetic: What activations are.
        ranges: How an activation's range is chosen.
        methods: What makes rounding better.
        default: How layers that are not listed are held.
        counts: How many layers are held how, the most frequent first.
        layers: In the model's order; those that the plan lists, where the model's own are not known.
    """

    name: str
    variants: tuple[str, ...]
    arithmetic: str
    ranges: str
    methods: tuple[str, ...]
    default: str
    counts: dict[str, int]
    layers: tuple[PlannedLayer, ...]


@dataclass(frozen=True)
class Plans:
    """The plans of a bundle or of a file.

    Attributes:
        source: The file.
        plans: All of them, or the one that was asked for.
        text: The plan's file, or the module for training, where one was asked for.
        written: Where that was written.
    """

    source: str
    plans: tuple[PlanRow, ...]
    text: str = ""
    written: str | None = None

"""The same model at other sizes of its symbolic dimensions: which sizes a target looks at, and the graph at each.

A target that writes one file for many sizes (`targets/tflite/symbolic.py`) compares what it makes of the model at a few
of them. What is true there should be true everywhere, so the sizes are neither equal to other numbers of the graph nor
alike among themselves: prime batches, and other dimensions both odd and even wherever the model itself takes both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import Blocker
from haversack.convert.flexible import Flexible
from haversack.convert.hub.formulas import formula
from haversack.convert.hub.shapes import bind, symbols, symbols_of
from haversack.runtimes.engines import Array

BATCHES = ((1, 7, 13, 19), (1, 11, 17, 23), (1, 29, 31, 37))
"""Sizes of the first, second and third batch: the default, then those to look at."""

VERIFIED_BATCH = 3
"""Size of the batch at which verification runs a resizable artifact too."""

LADDER = (
    (1, (32, 37, 43, 60, 51)),
    (1, (8, 5, 11, 14, 9)),
    (2, (8, 9, 11, 14, 13)),
    (4, (8, 9, 11, 14, 13)),
    (8, (4, 5, 7, 10, 9)),
    (16, (2, 3, 5, 6, 7)),
    (32, (2, 3, 5, 6, 7)),
)
"""A step and multiples of it: the default, three sizes to look at, and one to verify at. The first rung on which the
model runs is taken: a U-Net of four levels takes multiples of 16, and a table of 16 positions no more than 16."""

Windows = Literal["", "same", "pads"]
WINDOWS: tuple[Windows, ...] = ("same", "pads")
FIXED: tuple[Windows, ...] = ("",)
"""How windows that skip elements may be padded where their axes are free: by TFLite's SAME, or by pads written out."""

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Attempt:
    """Symbolic dimensions that stay free together.

    Attributes:
        points: Sizes of all symbolic dimensions: what to look at.
        default: The sizes that the artifact has until it is resized.
        windows: How windows are padded that skip elements, where axes beside the batch are free.
        free: What the user should know of the free dimensions.
        fixed: The batches that are fixed.
    """

    points: tuple[dict[str, int], ...]
    default: dict[str, int]
    windows: Windows
    free: str
    fixed: tuple[str, ...] = ()

    def at_default(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """A tensor's shape at the default sizes, from those at `points`, where they are formulas of the sizes."""
        if len(shapes) < 2 or self.points[0] == self.default:
            return shapes[0]
        names = {tuple(point[name] for point in self.points): name for name in reversed(self.default)}
        known = [sizes for sizes in names if len(set(sizes)) > 1]
        rows = []
        for sizes in zip(*shapes, strict=True):
            found = formula(sizes, known) if len(set(sizes)) > 1 else None
            here = [self.default[names[factor]] for factor in found.factors] if found else []
            rows.append(int(math.prod(here) * found.scale + found.offset) if found else sizes[0])
        return tuple(rows)

    def notes(self, blockers: Sequence[Blocker]) -> list[str]:
        """What is free, and what is not, for the blockers of the attempt to free it."""
        return [f"Resizable at run time: {self.free}.", *(_fixed(self.fixed, blockers) if self.fixed else ())]


def _fixed(names: Sequence[str], blockers: Sequence[Blocker]) -> list[str]:
    why = blockers[0]
    return [f"The batch ({', '.join(names)}) is fixed at 1: {why.node} ({why.op}): {why.reason}."]


@dataclass(frozen=True)
class Resizing:
    """A model with symbolic dimensions, at sizes of one's choice.

    Attributes:
        model: The hub graph before the recipe.
        default: Sizes of all symbolic dimensions in the graph that is lowered.
        batches: Names of those that are the first dimension of an input.
        points: Further sizes that the model takes; the last is kept for verification.
        repeat: Compresses another binding of the model as the graph that is lowered was.
        checked: The sizes at which verification runs the artifact beside the default.
        flexible: Dimensions for which several sizes were asked (Core ML); `points` are what a lowering looks at then.
    """

    model: ir.Model
    default: dict[str, int]
    batches: tuple[str, ...]
    points: tuple[dict[str, int], ...]
    repeat: Callable[[ir.Model], ir.Model]
    checked: tuple[dict[str, int], ...] = ()
    flexible: Mapping[str, Flexible] = field(default_factory=dict)

    @property
    def remedy(self) -> str:
        """What to do where a dimension cannot stay free."""
        return "fix the size with " + " ".join(f"--dim {name}=SIZE" for name in self.others)

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the symbolic dimensions that are no batch."""
        return tuple(name for name in self.default if name not in self.batches)

    @property
    def enumerated(self) -> list[str]:
        """Names of the inputs for which several sizes were asked that are no range."""
        several = {name for name, sizes in self.flexible.items() if not sizes.ranged}
        return [name for name, dims in symbols_of(self.model).items() if several.intersection(dims)]

    def at(self, sizes: Sizes) -> ir.Model:
        """The compressed hub graph with every symbolic dimension bound.

        Raises:
            ValueError: The graph cannot be bound at these sizes.
        """
        return self.repeat(bind(self.model, sizes))

    def attempts(self) -> Iterator[Attempt]:
        """What may stay free, most first: every dimension alone; all batches alike; all but the batches.

        Each is tried with operators that suit all sizes alike, then with those that suit a sliding window; each with
        the default sizes, then without: at a batch of 1 some transposes are reshapes.
        """
        points, others, batches = (self.default, *self.points[:-1]), bool(self.others), self.batches
        every = ", ".join(self.default)
        rows: list[tuple[tuple[dict[str, int], ...], str, tuple[str, ...]]] = [(points, every, ())]
        if len(batches) > 1:
            tied = tuple({**point, **dict.fromkeys(batches, point[batches[0]])} for point in points)
            rows.append((tied, f"{every}, with {' and '.join(batches)} alike", ()))
        if batches and others:
            once = tuple({**point, **dict.fromkeys(batches, 1)} for point in points)
            rows.append((once, ", ".join(self.others), batches))
        for looked, free, fixed in rows:
            for windows in WINDOWS if others else FIXED:
                for at in (looked if others else looked[:3], *((looked[1:],) if not fixed else ())):
                    yield Attempt(at, self.default, windows, free, fixed)

    def fixed(self, blockers: Sequence[Blocker]) -> list[str]:
        """The note that says why the batch is not free."""
        return _fixed(self.batches, blockers)

    def weights(self) -> list[Array]:
        """The constants of the model before anything was bound, largest first."""
        held = [v.const_value.numpy() for v in self.model.graph.initializers.values() if v.const_value is not None]
        return sorted(held, key=lambda array: -array.size)


def sizes_of(model: ir.Model, wanted: Sizes) -> tuple[dict[str, int], tuple[dict[str, int], ...]]:
    """The default sizes of a graph's symbolic dimensions, and those to look at beside them.

    Args:
        model: The hub graph.
        wanted: Default sizes that are given, such as those of the user's data.
    """
    names = symbols(model)
    batches = [name for name, batch in names.items() if batch]
    others = [name for name in names if name not in batches]
    taken = {d for v in (*model.graph.inputs, *(o for n in model.graph for o in n.outputs)) for d in v.shape or ()}
    batch_rows = [
        {name: BATCHES[min(place, 2)][column] for place, name in enumerate(batches)} for column in range(4)
    ] + [dict.fromkeys(batches, VERIFIED_BATCH)]
    found: list[dict[str, int]] = []
    for step, multiples in LADDER if others else LADDER[:1]:
        found = []
        for column, multiple in enumerate(multiples):
            row = dict(batch_rows[column])
            for place, name in enumerate(others):
                size = multiple + (1 + column % 3) * place
                while column and (step * size in taken or step * size in row.values()):
                    size += 2
                row[name] = step * size
            found.append({name: row[name] for name in names})
        found[0] = {**found[0], **wanted}
        if not others or all(runs(model, row) for row in found):
            break
    return found[0], tuple(found[1:])


def runs(model: ir.Model, sizes: Sizes) -> bool:
    """Whether the model itself takes these sizes."""
    from haversack.convert.hub.evaluate import Evaluator

    try:
        Evaluator(model).run(blank(model, sizes))
    except Exception:  # onnxruntime's own classes, which share no base
        return False
    return True


def blank(model: ir.Model, sizes: Sizes) -> dict[str, Array]:
    """Inputs of zeros of the given sizes."""
    feeds = {}
    for value in bound_inputs(model, sizes):
        assert value[2] is not None
        feeds[value[0]] = np.zeros(value[1], value[2].numpy())
    return feeds


def bound_inputs(model: ir.Model, sizes: Sizes) -> list[tuple[str, tuple[int, ...], ir.DataType | None]]:
    """Name, shape at the given sizes and element type of each input."""
    rows = []
    for value in model.graph.inputs:
        dims = enumerate(value.shape or ())
        shape = tuple(d if isinstance(d, int) else sizes[d.value or f"{value.name}_{n}"] for n, d in dims)
        rows.append((value.name or "", shape, value.dtype))
    return rows

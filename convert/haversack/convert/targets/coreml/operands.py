"""Constant operands that depend on sizes, computed at run time: from shapes, by tiling, or as part of a larger one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from haversack.convert.hub.formulas import Sizes, formula
from haversack.convert.targets.coreml.builder import Var
from haversack.runtimes.engines import Array

MOST_ENTRIES = 64
"""An operand of more integers than this is a table, not a shape."""
EXACT_FLOAT16 = 2048
"""Integers up to this are numbers of float16."""


def is_symbol(size: Any) -> bool:
    """Whether a dimension of a MIL type is known at run time only."""
    return not isinstance(size, (int, np.integer))


class Operands:
    """Makes operands inside the function that is being written.

    Args:
        mil: coremltools' builder.
        weights: The model's constants, of which an operand may be the leading part.
        count: The first number that no variable is named after.

    Attributes:
        known: Sizes that vary, each with a variable of the new program and its axis that has it.
        near: Those of the operation at hand, to be preferred.
    """

    def __init__(self, mil: Any, weights: Sequence[Array], count: int):
        self.mil, self.weights, self.count = mil, weights, count
        self.known: dict[Sizes, tuple[Var, int]] = {}
        self.near: set[Sizes] = set()
        self._made: dict[Any, Var] = {}

    def made(self, values: Sequence[Array]) -> Var | None:
        """The operand that has these values at the sizes that were looked at; None where no way is known."""
        if values[0].dtype.kind not in "fib":
            return None
        return next(
            (v for way in (self._integers, self._repeated, self._leading) if (v := way(values)) is not None), None
        )

    def constant(self, value: Array) -> Var:
        """A constant as it is."""
        return self.mil.const(val=value, name=self._name())

    def _integers(self, values: Sequence[Array]) -> Var | None:
        """A shape, a size or the like: every entry a formula of dimensions."""
        first = values[0]
        top = max((float(np.abs(value).max(initial=0)) for value in values), default=0.0)
        if (
            any(value.shape != first.shape or not np.array_equal(value, np.rint(value)) for value in values)
            or not 0 < first.size <= MOST_ENTRIES
            or first.dtype == np.bool_
            or (first.dtype == np.float16 and top > EXACT_FLOAT16)
        ):
            return None
        columns = list(zip(*(map(int, value.reshape(-1)) for value in values), strict=True))
        key = (first.shape, first.dtype.name, *columns)
        if key in self._made:
            return self._made[key]
        if all(len(set(column)) == 1 for column in columns):
            return self.constant(first)
        pieces = [self._entry(column) for column in columns]
        if any(piece is None for piece in pieces):
            return None
        made = pieces[0] if len(pieces) == 1 else self._emit("concat", values=pieces, axis=0)
        if not first.shape:
            made = self._emit("squeeze", x=made, axes=[0])
        elif len(first.shape) > 1:
            made = self._emit("reshape", x=made, shape=list(first.shape))
        if first.dtype.kind == "f":
            made = self._emit("cast", x=made, dtype={"float16": "fp16"}.get(first.dtype.name, "fp32"))
        self._made[key] = made
        return made

    def _entry(self, wanted: Sizes) -> Var | None:
        """One integer, as a vector of one."""
        if len(set(wanted)) == 1:
            return self.constant(np.array(wanted[:1], np.int32))
        found = formula(wanted, sorted(self.known, key=lambda size: size not in self.near))
        if found is None:
            return None
        made, *rest = (self._dim(*self.known[factor]) for factor in found.factors)
        for other in rest:
            made = self._emit("mul", x=made, y=other)
        numbers = (
            ("mul", found.scale.numerator, 1),
            ("floor_div", found.scale.denominator, 1),
            ("add", found.offset, 0),
        )
        for kind, number, idle in numbers:
            made = made if number == idle else self._emit(kind, x=made, y=np.int32(number))
        return made

    def _dim(self, var: Var, axis: int) -> Var:
        if id(var) not in self._made:
            self._made[id(var)] = self._emit("shape", x=var)
        if (id(var), axis) not in self._made:
            self._made[id(var), axis] = self._emit(
                "slice_by_index", x=self._made[id(var)], begin=[axis], end=[axis + 1], stride=[1]
            )
        return self._made[id(var), axis]

    def _repeated(self, values: Sequence[Array]) -> Var | None:
        """One copy along the axes that vary, tiled."""
        shapes = [value.shape for value in values]
        if len(set(map(len, shapes))) > 1 or not shapes[0] or 0 in shapes[0]:
            return None
        one = values[0][tuple(slice(0, 1 if len(set(sizes)) > 1 else None) for sizes in zip(*shapes, strict=True))]
        if not all(np.array_equal(value, np.broadcast_to(one, value.shape)) for value in values):
            return None
        repeats = self._integers([np.array(shape, np.int32) // np.array(one.shape, np.int32) for shape in shapes])
        if repeats is None:
            return None
        if one.dtype != np.bool_:
            return self._emit("tile", x=one, reps=repeats)
        return self._emit("cast", x=self._emit("tile", x=one.astype(np.int32), reps=repeats), dtype="bool")

    def _leading(self, values: Sequence[Array]) -> Var | None:
        """The first rows, columns … of a weight, or of what it is at the largest size: a table, a mask."""
        rank, dtype = values[0].ndim, values[0].dtype
        largest = max(values, key=lambda value: value.size)
        for table in (largest, *(weight.astype(dtype) for weight in self.weights if weight.ndim == rank)):
            if rank and all(np.array_equal(table[tuple(map(slice, value.shape))], value) for value in values):
                ends = self._integers([np.array(value.shape, np.int32) for value in values])
                if ends is None:
                    return None
                begin, stride = [0] * rank, [1] * rank
                return self._emit("slice_by_index", x=table, begin=begin, end=ends, stride=stride)
        return None

    def _emit(self, kind: str, **inputs: Any) -> Var:
        return getattr(self.mil, kind)(name=self._name(), **inputs)

    def _name(self) -> str:
        self.count += 1
        return f"v{self.count - 1}"

"""One graph for many sizes: what graphs lowered at several sizes have in common, and what depends on the sizes.

Graphs with the same operators, wired alike, differ in shapes and operands alone. Shapes need nothing, LiteRT works out
all but the inputs'. An operand that differs is a RESHAPE's with one entry that differs, which becomes -1; integers,
each a formula of dimensions, computed by SHAPE and arithmetic; a constant repeated along axes that vary, which becomes
a BROADCAST_TO; or the leading part of a weight (position tables, masks), which becomes a SLICE. Or it is an obstacle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from haversack.convert.errors import Blocker
from haversack.convert.hub.formulas import Sizes, formula
from haversack.convert.targets.tflite.graph import Graph, Operator, Tensor
from haversack.convert.targets.tflite.schema import TENSOR_TYPES
from haversack.runtimes.engines import Array

OTHER_OPERATORS = "other operators are needed at other sizes"
SLOWER = "with operands that are computed at run time it leaves XNNPACK, which slows the model"
XNNPACK = frozenset({"PAD", "RESIZE_BILINEAR", "SLICE", "STRIDED_SLICE", "TRANSPOSE_CONV"})
"""Operators that XNNPACK takes where their sizes are constants: without, a U-Net took 1.15 times as long. (A RESHAPE
whose shape is computed costs nothing: attention took 1.004 times as long.)"""
MOST_ENTRIES = 64
"""An operand of more integers than this is a table, not a shape."""


class Merge:
    """A fused graph, compared with its likes at other sizes, then rewritten to serve all of them.

    Attributes:
        blockers: Why it cannot.
        slower: Operators that do so at a cost.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.blockers: list[Blocker] = []
        self.slower: list[Blocker] = []
        self.shapes: dict[int, list[tuple[int, ...]]] = {}
        self.values: dict[tuple[int, int], list[Array]] = {}

    def add(self, other: Graph) -> bool:
        """Compare with the graph at other sizes; False where the two have different operators."""
        return self._walk(self.graph, other)

    def _walk(self, own: Graph, other: Graph) -> bool:
        twins: dict[int, int] = {}

        def same(a: Tensor, b: Tensor) -> bool:
            if id(a) not in twins:
                twins[id(a)] = id(b)
                self.shapes.setdefault(id(a), [a.shape]).append(b.shape)
            scales = a.quantization is b.quantization or (a.quantization and a.quantization.same(b.quantization))
            return twins[id(a)] == id(b) and (a.dtype, len(a.shape)) == (b.dtype, len(b.shape)) and bool(scales)

        aligned = all(same(a, b) for (_, a), (_, b) in zip(own.inputs, other.inputs, strict=True))
        for mine, theirs in zip(own.operators, other.operators, strict=False):
            aligned = (
                aligned
                and _frame(mine) == _frame(theirs)
                and all(map(same, mine.activations, theirs.activations))
                and all(map(same, mine.outputs, theirs.outputs))
                and all(map(self._walk, mine.subgraphs, theirs.subgraphs))
            )
            if not aligned:
                return self.block(mine, OTHER_OPERATORS)
            for place, (a, b) in enumerate(zip(_operands(mine), _operands(theirs), strict=True)):
                if a is not None and b is not None:  # of arrays that are equal one is kept
                    equal = np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
                    self.values.setdefault((id(mine), place), [a]).append(a if equal else b)
        longer = max(own.operators, other.operators, key=len)[min(len(own.operators), len(other.operators)) :]
        aligned = not longer and all(same(a, b) for (_, a), (_, b) in zip(own.outputs, other.outputs, strict=True))
        return aligned or self.block([*own.operators, *longer][-1], OTHER_OPERATORS)

    def block(self, operator: Operator, reason: str) -> bool:
        """Add a reason; gives False."""
        self.blockers.append(Blocker(operator.node, operator.code, reason, "fix the size"))
        return False

    def rewrite(self, weights: Sequence[Array]) -> None:
        """Compute at run time what depends on the sizes; `weights` are the model's before its sizes were bound."""
        for graph in self.graph.graphs():
            _Rewriter(self, graph, weights).run()
        for _, tensor in (*self.graph.inputs, *self.graph.outputs):
            tensor.free = tuple(self.dims(tensor))

    def dims(self, tensor: Tensor) -> dict[int, Sizes]:
        """The sizes of each axis whose size is not always the same."""
        rows = enumerate(zip(*self.shapes.get(id(tensor), [tensor.shape]), strict=True))
        return {axis: sizes for axis, sizes in rows if len(set(sizes)) > 1}


def _frame(operator: Operator) -> tuple[Any, ...]:
    """What of an operator must not differ between sizes."""
    options = {name: value for name, value in operator.options.items() if name != "new_shape"}
    inputs = [tensor is not None and (tensor.constant, tensor.dtype) for tensor in operator.inputs]
    return operator.code, options, inputs, len(operator.outputs), len(operator.subgraphs)


def _operands(operator: Operator) -> list[Array | None]:
    """The constants that an operator reads, by position; a RESHAPE's shape, where its options hold it, is the last."""
    shape = operator.options.get("new_shape")
    constants = [None if tensor is None else tensor.data for tensor in operator.inputs]
    return [*constants, None if shape is None else np.array(shape, np.int32)]


class _Rewriter:
    def __init__(self, merge: Merge, graph: Graph, weights: Sequence[Array]):
        self.merge, self.graph, self.weights = merge, graph, weights
        self.operators: list[Operator] = []
        self.known: dict[Sizes, tuple[Tensor, int]] = {}
        self.made: dict[Any, Tensor] = {}
        self.node = ""

    def run(self) -> None:
        self._see([tensor for _, tensor in self.graph.inputs])
        for operator in self.graph.operators:
            self.node = operator.node
            self.near = {size for tensor in operator.activations for size in self.merge.dims(tensor).values()}
            for place in range(len(operator.inputs) + 1):
                values = self.merge.values.get((id(operator), place), [])
                if any(value is not values[0] for value in values) and not self._operand(operator, place, values):
                    self.merge.block(operator, "a constant that it reads depends on the size")
            self.operators.append(operator)
            self._see(operator.outputs)
        self.graph.operators = self.operators

    def _see(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            for axis, size in self.merge.dims(tensor).items():
                self.known.setdefault(size, (tensor, axis))

    def _operand(self, operator: Operator, place: int, values: list[Array]) -> bool:
        source = operator.inputs[place] if place < len(operator.inputs) else None
        if operator.code in ("SLICE", "STRIDED_SLICE") and place == 2:
            values = self._ends(operator, values)
            if not values:
                return True
        if operator.code == "RESHAPE" and place:
            rows = [row.tolist() for row in values]
            varying = [len(set(column)) > 1 for column in zip(*rows, strict=True)]
            if sum(varying) == 1:
                free = np.where(varying, -1, values[0]).astype(np.int32)
                operator.options = {} if source else {"new_shape": free.tolist()}
                operator.inputs[1:] = [_const(free)] if source else []
                return True
        ways = (self._integers, self._repeated, self._leading) if source is None or not source.compressed else ()
        made = next((made for way in ways if (made := way(values)) is not None), None)
        if made is not None:
            if operator.code in XNNPACK:
                self.merge.slower.append(Blocker(operator.node, operator.code, SLOWER, "fix the size"))
            operator.options = operator.options if source else {}
            operator.inputs[place : place + 1] = [made]
        return made is not None

    def _ends(self, operator: Operator, values: list[Array]) -> list[Array]:
        """Where a slice ends, written as the end of the axis where it is that; nothing where nothing else depends."""
        x, begin = operator.inputs[:2]
        if x is None or begin is None or begin.data is None or operator.options.get("begin_mask"):
            return values
        ends = [begin.data + value if operator.code == "SLICE" else value for value in values]
        shapes = self.merge.shapes.get(id(x), [x.shape] * len(ends))
        varying = np.any([end != ends[0] for end in ends], axis=0)
        whole = varying & np.all([end == np.array(shape) for end, shape in zip(ends, shapes, strict=True)], axis=0)
        if operator.code == "SLICE" and np.array_equal(whole, varying):
            operator.inputs[2] = _const(np.where(whole, -1, values[0]).astype(np.int32))
            return []
        if operator.code == "SLICE":  # LiteRT's SLICE keeps its first size where a second is computed
            operator.code, operator.inputs[3:] = "STRIDED_SLICE", [_const(np.ones_like(begin.data))]
        operator.options = {"end_mask": sum(1 << n for n in np.flatnonzero(whole))} if whole.any() else operator.options
        return [np.where(whole, ends[0], end) for end in ends] if (varying & ~whole).any() else []

    def _integers(self, values: Sequence[Array]) -> Tensor | None:
        """A shape, a size or the like: every entry a formula of dimensions."""
        first = values[0]
        alike = all(value.shape == first.shape and np.array_equal(value, np.rint(value)) for value in values)
        if not alike or first.dtype.kind not in "if" or not 0 < first.size <= MOST_ENTRIES:
            return None
        columns = list(zip(*(map(int, value.reshape(-1)) for value in values), strict=True))
        key = (first.shape, first.dtype.name, *columns)
        if key not in self.made:
            pieces = [self._entry(column) for column in columns]
            if None in pieces:
                return None
            made = self._emit("CONCATENATION", pieces, (len(pieces),), axis=0)
            if first.shape != (len(pieces),):
                made = self._emit("RESHAPE", [made, _const(np.array(first.shape, np.int32))], first.shape)
            if first.dtype != np.int32:
                types = {"in_data_type": TENSOR_TYPES["int32"], "out_data_type": TENSOR_TYPES[first.dtype.name]}
                made = self._emit("CAST", [made], first.shape, first.dtype.name, **types)
            self.made[key] = made
        return self.made[key]

    def _entry(self, wanted: Sizes) -> Tensor | None:
        if len(set(wanted)) == 1:
            return _const(np.array(wanted[:1], np.int32))
        found = formula(wanted, sorted(self.known, key=lambda size: size not in self.near))
        if found is None:
            return None
        made, *rest = (self._dim(*self.known[factor]) for factor in found.factors)
        numbers = (
            ("MUL", found.scale.numerator, 1),
            ("FLOOR_DIV", found.scale.denominator, 1),
            ("ADD", found.offset, 0),
        )
        steps = [("MUL", other) for other in rest]
        steps += [(code, _const(np.array([n], np.int32))) for code, n, idle in numbers if n != idle]
        for code, other in steps:
            made = self._emit(code, [made, other], (1,))
        return made

    def _dim(self, tensor: Tensor, axis: int) -> Tensor:
        if (shape := self.made.get(id(tensor))) is None:
            out_type = TENSOR_TYPES["int32"]
            shape = self.made[id(tensor)] = self._emit("SHAPE", [tensor], (len(tensor.shape),), out_type=out_type)
        if (id(tensor), axis) not in self.made:
            bounds = [_const(np.array([n], np.int32)) for n in (axis, axis + 1, 1)]
            self.made[id(tensor), axis] = self._emit("STRIDED_SLICE", [shape, *bounds], (1,))
        return self.made[id(tensor), axis]

    def _repeated(self, values: Sequence[Array]) -> Tensor | None:
        """One copy along the axes that vary, broadcast."""
        shapes = [value.shape for value in values]
        if len(set(map(len, shapes))) > 1 or 0 in shapes[0]:
            return None
        one = values[0][tuple(slice(0, 1 if len(set(sizes)) > 1 else None) for sizes in zip(*shapes, strict=True))]
        if not all(np.array_equal(value, np.broadcast_to(one, value.shape)) for value in values):
            return None
        shape = self._integers([np.array(shape, np.int32) for shape in shapes])
        return None if shape is None else self._emit("BROADCAST_TO", [_const(one), shape], shapes[0], one.dtype.name)

    def _leading(self, values: Sequence[Array]) -> Tensor | None:
        """The first rows, columns … of a weight."""
        for weight in (weight for weight in self.weights if all(weight.ndim == value.ndim for value in values)):
            if all(np.array_equal(weight[tuple(map(slice, value.shape))], value) for value in values):
                shape = self._integers([np.array(value.shape, np.int32) for value in values])
                if shape is not None:
                    whole, dtype = _const(weight.astype(values[0].dtype)), values[0].dtype.name
                    start, step = (_const(np.full(weight.ndim, n, np.int32)) for n in (0, 1))
                    return self._emit("STRIDED_SLICE", [whole, start, shape, step], values[0].shape, dtype)
        return None

    def _emit(
        self, code: str, inputs: Sequence[Tensor | None], shape: Sequence[int], dtype: str = "int32", **options: Any
    ) -> Tensor:
        output = Tensor(tuple(shape), dtype)
        self.operators.append(Operator(code, list(inputs), [output], options, self.node))
        return output


def _const(data: Array) -> Tensor:
    return Tensor(tuple(data.shape), data.dtype.name, np.ascontiguousarray(data))

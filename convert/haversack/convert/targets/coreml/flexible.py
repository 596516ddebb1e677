"""One program for several sizes: the model is lowered at a few, and what these programs share becomes one.

Programs with the same operations, wired alike, differ in shapes and in constant operands. Shapes follow from the
inputs', which get symbols: coremltools infers the rest as the program is written anew. An operand that differs is a
reshape's target with one entry that differs, which becomes -1; a slice up to the end of an axis, which is said so;
integers, each a formula of dimensions, computed from `shape`; a constant repeated along axes that vary, which is tiled;
or the leading part of a weight or of what it is at the largest size, which is sliced. Or the sizes cannot be flexible.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from haversack.convert.errors import Blocker
from haversack.convert.flexible import combinations
from haversack.convert.hub.formulas import Sizes
from haversack.convert.hub.shapes import symbols_of
from haversack.convert.resizing import Resizing, runs
from haversack.convert.targets.coreml import sdk
from haversack.convert.targets.coreml.builder import Var
from haversack.convert.targets.coreml.lower import Lowered, lower
from haversack.convert.targets.coreml.operands import Operands, is_symbol
from haversack.convert.targets.coreml.spelling import spelled
from haversack.runtimes.engines import Array

_Operand = tuple[Var, ...]
"""A constant operand, or a value, in each of the programs."""


def lower_flexible(
    resizing: Resizing, ios: int, *, half: bool = False, float32_nodes: frozenset[str] = frozenset()
) -> Lowered:
    """Lower a model for all sizes that were asked for; see `lower.lower`.

    Tried with all sizes that are looked at, then without those where a dimension is 1: there a transpose may be a
    reshape, and a repetition nothing.
    """
    if refused := _unfit(resizing, ios):
        return Lowered(blockers=refused)
    points = list(resizing.points)
    wide = [point for point in points if all(point[name] > 1 for name in resizing.flexible)]
    made: dict[int, Lowered] = {}
    first: Lowered | None = None
    for looked in (points, wide)[: 2 if 2 <= len(wide) < len(points) else 1]:
        programs = []
        for point in looked:
            at = points.index(point)
            made.setdefault(at, lower(resizing.at(point), ios, half=half, float32_nodes=float32_nodes))
            if made[at].blockers:
                if not runs(resizing.model, point):
                    at_sizes = ", ".join(f"{name}={point[name]}" for name in resizing.flexible)
                    why = f"the model itself does not run at {at_sizes}"
                    return Lowered(blockers=[Blocker("", "model", why, "enumerate the sizes that it takes")])
                return made[at]
            programs.append(made[at])
        merged = _Merge(programs, resizing).run(ios)
        if not merged.blockers:
            return merged
        first = first or merged
    assert first is not None
    return first


def _unfit(resizing: Resizing, ios: int) -> list[Blocker]:
    """What Core ML cannot declare."""
    blockers = []
    for name, dims in symbols_of(resizing.model).items():
        flexible = {dim: resizing.flexible[dim] for dim in dims if dim in resizing.flexible}
        ranged = [dim for dim, sizes in flexible.items() if sizes.ranged]
        listed = [dim for dim in flexible if dim not in ranged]
        if ranged and listed:
            why = f"Core ML takes a range ({ranged[0]}) or an enumeration ({listed[0]}) of an input's sizes, not both"
            blockers.append(Blocker(name, "input", why, f"enumerate the sizes of {ranged[0]} too"))
    if len(resizing.enumerated) > 1 and ios < 18:
        why = f"enumerated sizes of several inputs ({', '.join(resizing.enumerated)}) are there from iOS 18 on"
        blockers.append(Blocker(resizing.enumerated[1], "input", why, "use iOS18, or a range of sizes"))
    return blockers


class _Merge:
    def __init__(self, programs: Sequence[Lowered], resizing: Resizing):
        self.programs, self.resizing = programs, resizing
        self.first = programs[0]
        self.functions = [lowered.program.functions["main"] for lowered in programs]
        self.columns: dict[int, _Operand] = {}
        self.blockers: list[Blocker] = []
        self.made: dict[int, Var] = {}
        self.constants: dict[int, Var] = {}
        self.masks: dict[str, Var] = {}
        self.names = symbols_of(resizing.model)

    def run(self, ios: int) -> Lowered:
        """The merged program, or why there is none."""
        coremltools = sdk.load()
        from coremltools.converters.mil.mil import Builder, Function, Program, get_new_symbol

        self.mil, self.coremltools, self.symbol = Builder, coremltools, get_new_symbol
        numbers = (int(op.name[1:]) for op in self.functions[0].operations if re.fullmatch(r"v\d+", op.name))
        self.operands = Operands(Builder, self.resizing.weights(), max(numbers, default=0) + 1)
        aligned = list(self._aligned())
        if not self.blockers:
            symbols = {name: get_new_symbol() for name in self.resizing.flexible}
            dims = {name: self.names[hub] or [""] for hub, name in self.first.inputs.items()}  # a scalar has one axis
            function = Function(
                {name: self._placeholder(var, dims[name], symbols) for name, var in self.functions[0].inputs.items()},
                opset_version=getattr(coremltools.target, f"iOS{ios}"),
            )
            with function:
                for name, var in self.functions[0].inputs.items():
                    self._see(var, function.inputs[name])
                for operations in aligned:
                    self._operation(operations)
                if not self.blockers:
                    function.set_outputs([self.made[id(var)] for var in self.functions[0].outputs])
        if self.blockers:
            return Lowered(blockers=self.blockers)
        types = [
            self._declared(name, names) for name, names in dims.items() if self.resizing.flexible.keys() & set(names)
        ]
        function.set_input_types(tuple(types))
        program = Program()
        program.add_function("main", function)
        lowered = self.first
        lowered.program, lowered.notes = program, (*lowered.notes, *self._notes())
        return lowered

    # -- the programs side by side -------------------------------------------------------------------------------------

    def _aligned(self) -> Iterator[tuple[Any, ...]]:
        """The operations of all programs, one of each; stops at the first that differ."""
        for name in self.functions[0].inputs:
            self._pair(tuple(function.inputs[name] for function in self.functions))
        rows = [[op for op in function.operations if op.op_type != "const"] for function in self.functions]
        for operations in zip(*rows, strict=False):
            if not self._alike(operations):
                self._block(operations[0], "other operations are needed at other sizes")
                return
            if operations[0].blocks:
                self._block(operations[0], "control flow has one size")
                return
            for outputs in zip(*(op.outputs for op in operations), strict=True):
                self._pair(outputs)
            yield operations
        ends = [tuple(function.outputs) for function in self.functions]
        if len({len(row) for row in rows}) > 1 or not all(map(self._same, zip(*ends, strict=True))):
            self._block(rows[0][-1], "other operations are needed at other sizes")

    def _alike(self, operations: Sequence[Any]) -> bool:
        first = operations[0]
        if any((op.op_type, op.inputs.keys()) != (first.op_type, first.inputs.keys()) for op in operations):
            return False
        for name in first.inputs:
            given = [_flat(op.inputs[name]) for op in operations]
            if len({len(vars_) for vars_ in given}) > 1 or not all(map(self._same, zip(*given, strict=True))):
                return False
        return True

    def _same(self, vars_: _Operand) -> bool:
        """Whether these are one value in all programs; constants are, whatever they hold."""
        if any(_is_constant(var) for var in vars_):
            return all(_is_constant(var) and var.dtype == vars_[0].dtype for var in vars_)
        return self.columns.get(id(vars_[0])) == vars_

    def _pair(self, vars_: _Operand) -> None:
        self.columns[id(vars_[0])] = vars_

    def _dims(self, var: Var) -> dict[int, Sizes]:
        """The sizes of each axis that varies, of a variable of the first program."""
        shapes = [tuple(map(int, each.shape)) for each in self.columns.get(id(var), (var,))]
        return {axis: sizes for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1}

    def _block(self, operation: Any, reason: str) -> None:
        node, kind = self.first.origins.get(operation.name, (operation.outputs[0].name, operation.op_type))
        fix = " ".join(f"--dim {name}={self.resizing.default[name]}" for name in self.resizing.flexible)
        self.blockers.append(Blocker(node, kind, f"{reason} (MIL `{operation.op_type}`)", f"fix the size with {fix}"))

    # -- the program written anew --------------------------------------------------------------------------------------

    def _placeholder(self, var: Var, names: Sequence[str], symbols: Mapping[str, Any]) -> Any:
        shape = [symbols.get(name, int(size)) for name, size in zip(names, var.shape, strict=True)]
        return self.mil.placeholder(shape=shape, dtype=var.dtype, name=var.name)

    def _operation(self, operations: Sequence[Any]) -> None:
        first = operations[0]
        vars_ = [var for given in first.inputs.values() for var in _flat(given)]
        self.operands.near = {sizes for var in vars_ for sizes in self._dims(var).values()}
        inputs: dict[str, Any] = {}
        try:
            x = first.inputs.get("x")
            shapes = [] if x is None else [tuple(map(int, each.shape)) for each in self.columns.get(id(x), ())]
            kind, said = spelled(operations, shapes) if shapes else (first.op_type, {})
            for name, given in first.inputs.items():
                if name in said:
                    continue
                operands = zip(*(_flat(op.inputs[name]) for op in operations), strict=True)
                held = [self._operand(first, name, row) for row in operands]
                inputs[name] = held if isinstance(given, (list, tuple)) else held[0]
            said = {name: value for name, value in said.items() if value is not None}
            result = getattr(self.mil, kind)(name=first.name, **{**inputs, **said, **self.masks})
        except (ValueError, TypeError, IndexError, KeyError, AssertionError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self._block(first, reason)
            result = [self._stand_in(var) for var in first.outputs]  # so that what follows is examined too
        self.masks = {}
        for old, new in zip(first.outputs, result if isinstance(result, (tuple, list)) else (result,), strict=True):
            new.set_name(old.name)
            self._see(old, new)
            rows = zip(*(tuple(map(int, each.shape)) for each in self.columns[id(old)]), strict=True)
            fixed = [(size, sizes) for size, sizes in zip(new.shape, rows, strict=True) if not is_symbol(size)]
            if any(set(sizes) != {int(size)} for size, sizes in fixed):
                self._block(first, f"its output would always be {list(map(str, new.shape))}")

    def _see(self, old: Var, new: Var) -> None:
        self.made[id(old)] = new
        for axis, sizes in self._dims(old).items():
            self.operands.known.setdefault(sizes, (new, axis))

    def _stand_in(self, var: Var) -> Var:
        shape = list(var.shape)
        for axis in self._dims(var):
            shape[axis] = self.symbol()
        return self.mil.placeholder(shape=shape, dtype=var.dtype, allow_rank0_input=True).outputs[0]

    def _operand(self, operation: Any, name: str, operand: _Operand) -> Var:
        """A value, or a constant: what it is at all sizes.

        Raises:
            ValueError: It depends on the sizes, and not in a way that is known.
        """
        if not _is_constant(operand[0]):
            return self.made[id(operand[0])]
        values = [var.val for var in operand]
        if all(_equal(value, values[0]) for value in values):
            if id(operand[0]) not in self.constants:
                self.constants[id(operand[0])] = self.mil.const(val=values[0], name=operand[0].name)
            return self.constants[id(operand[0])]
        arrays = [np.asarray(value) for value in values]
        if operation.op_type == "reshape" and name == "shape":
            varying = np.any([array != arrays[0] for array in arrays], axis=0)
            if varying.sum() == 1:
                return self.operands.constant(np.where(varying, -1, arrays[0]).astype(np.int32))
        if operation.op_type == "slice_by_index" and name == "end":
            arrays = self._ends(operation, arrays)
        made = self.operands.made(arrays)
        if made is None:
            raise ValueError(f"its `{name}` depends on the size in no way that is known")
        return made

    def _ends(self, operation: Any, ends: list[Array]) -> list[Array]:
        """Where a slice ends, but for the axes that it reads to their end: these are said so by `end_mask`."""
        sizes = [np.array(each.shape) for each in self.columns[id(operation.inputs["x"])]]
        given = {
            name: np.asarray(operation.inputs[name].val) for name in ("stride", "end_mask") if name in operation.inputs
        }
        varying = np.any([end != ends[0] for end in ends], axis=0)
        whole = varying & np.all([end == size for end, size in zip(ends, sizes, strict=True)], axis=0)
        whole &= given.get("stride", np.ones(len(whole))) > 0
        if whole.any():
            mask = whole | given.get("end_mask", np.zeros(len(whole), bool))
            self.masks = {"end_mask": self.operands.constant(mask)}
        return [np.where(whole, ends[0], end).astype(np.int32) for end in ends]

    # -- what is declared ----------------------------------------------------------------------------------------------

    def _declared(self, name: str, names: Sequence[str]) -> Any:
        """The shapes that an input takes, as coremltools writes them into the package's description."""
        ct, resizing = self.coremltools, self.resizing
        free = [resizing.flexible[each] for each in names if each in resizing.flexible]
        fixed = [int(size) for size in self.functions[0].inputs[name].shape]
        at = resizing.default

        def shape(sizes: Mapping[str, Any]) -> tuple[Any, ...]:
            return tuple(sizes.get(each, size) for each, size in zip(names, fixed, strict=True))

        if free[0].ranged:
            ranges = {
                each: ct.RangeDim(*sizes.sizes, default=at[each])
                for each, sizes in resizing.flexible.items()
                if sizes.ranged
            }
            return ct.TensorType(name=name, shape=ct.Shape(shape(ranges)))
        rows = combinations(resizing.flexible)
        rows.sort(key=lambda row: any(row[each] != at[each] for each in row))  # the default first, the order else kept
        shapes = [shape(row) for row in rows]
        if len(resizing.enumerated) == 1:
            shapes = list(dict.fromkeys(shapes))
        return ct.TensorType(name=name, shape=ct.EnumeratedShapes(shapes, default=shapes[0]))

    def _notes(self) -> Iterator[str]:
        for name, sizes in self.resizing.flexible.items():
            users = [each for each, dims in self.names.items() if name in dims]
            alike = f", the same for {' and '.join(users)} in each call" if len(users) > 1 else ""
            ahead = "; Core ML compiles enumerated sizes ahead, a range it does not" if sizes.ranged else ""
            yield f"{name} may be {sizes} at run time{alike}{ahead}."


def _flat(given: Any) -> list[Var]:
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _is_constant(var: Var) -> bool:
    return var.op is not None and var.op.op_type == "const"


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")

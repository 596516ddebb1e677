"""Data-dependent numbers of rows, as a static bound and a count.

NonMaxSuppression gives as many rows as boxes are left, K, so that everything computed from them has a size that only a
run knows. `bound_rows` gives such graphs static shapes: the rows are padded to the most there can be, what is computed
row by row is computed of the padding too, and the outputs are cut to K rows at the end. That is right as long as no
row's result depends on another row; an operator that mixes rows is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import Blocker
from haversack.convert.hub.passes.rewriting import constant, initializer, insert
from haversack.convert.hub.shapes import static_shape

Rows = tuple[int, ir.Value, int]
"""The axis of a value that the rows run along, how many of them count (int64 [1]), and how many there are."""

ELEMENTWISE = frozenset(
    """Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil
    Celu Clip Cos Cosh DequantizeLinear Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid
    HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu
    Pow QuantizeLinear Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Tan
    Tanh ThresholdedRelu Where Xor""".split()  # noqa: SIM905
)

BATCHED = frozenset({"AveragePool", "Conv", "ConvTranspose", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
"""Operators that treat the entries of their first input's first axis one by one."""

OTHER_AXES = frozenset({"ArgMax", "ArgMin", "Hardmax", "LogSoftmax", "Softmax", "TopK"})
"""Operators along one axis, which others go through untouched."""

PADDED = "/padded"
"""How the names of values end that have more rows than the model's."""

LEAST = 2
"""So many rows at least: an axis of one row could not be told from others of size 1 after a Reshape."""


_ALL = np.iinfo(np.int64).max
"""The end of a Slice that takes all of an axis."""


class _MixesRowsError(Exception):
    """The message says how an operator makes one row depend on others, as a clause."""


def bound_rows(model: ir.Model) -> tuple[ir.Model, list[Blocker]]:
    """Make the number of rows that NonMaxSuppression gives static.

    Given:
        k = NonMaxSuppression(boxes, scores, 20, …)        scores is [1, 3, 128], k is [K, 3]
        y = GatherND(boxes, Slice(k))                      an output, [K, 4]

    Result:
        k, n = NonMaxSuppression(boxes, scores, 20, …)     k is [60, 3], of which n rows count
        a = GatherND(boxes, Slice(k))                      [60, 4]
        y = Slice(a, [0, 0], Concat(n, [∞]))               declared [60, 4], at run time [n, 4]

    Args:
        model: A hub graph; it is not changed.

    Returns:
        `model` itself where no such node is in its main graph, else a copy. Its NonMaxSuppressions have a second output
        and are no ONNX operators any more; values with padding have names that end in `PADDED`. And a blocker for each
        node that mixes rows.
    """
    padded = pad_rows(model)
    for value, rows in padded.outputs.items():
        _cut(padded.model.graph, value, rows)
    return padded.model, padded.blockers


@dataclass(frozen=True)
class Padded:
    """A graph whose rows are padded, its outputs too.

    Attributes:
        model: The graph.
        outputs: Those of its outputs that have padding; their names end in `PADDED`.
        blockers: One for each node that mixes rows.
    """

    model: ir.Model
    outputs: dict[ir.Value, Rows]
    blockers: list[Blocker]


def pad_rows(model: ir.Model) -> Padded:
    """`bound_rows`, but that the outputs are left with their padding: for a target that cuts them itself."""
    if not any(node.op_type == "NonMaxSuppression" and node.domain == "" for node in model.graph):
        return Padded(model, {}, [])
    model = model.clone()
    graph = model.graph
    tracked: dict[ir.Value, Rows] = {}
    blockers: list[Blocker] = []
    for node in list(graph):
        if node.op_type == "NonMaxSuppression" and node.domain == "":
            _bound(node, tracked)
            continue
        given = [tracked.get(value) if value is not None else None for value in node.inputs]
        if not any(given):
            continue
        try:
            axis, rows = _followed(node, given)
        except _MixesRowsError as reason:
            told = f"{reason}, and how many of them NonMaxSuppression selects is known at run time only"
            blockers.append(Blocker(node.name or "", node.op_type, told, "compute this outside of the model"))
            continue
        for value in node.outputs:
            _track(value, axis, rows, tracked)
    for value in tracked:
        value.name = f"{value.name}{PADDED}"
    return Padded(model, {value: tracked[value] for value in graph.outputs if value in tracked}, blockers)


def _bound(node: ir.Node, tracked: dict[ir.Value, Rows]) -> None:
    scores = static_shape(node.inputs[1])
    most = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
    if scores is None:
        return  # reported for its inputs' shapes
    if most is not None and not most.any():
        node.outputs[0].shape = ir.Shape([0, 3])  # nothing is ever selected
        return
    examples, classes, count = scores
    size = examples * classes * max(LEAST, count if most is None else min(int(most.reshape(-1)[0]), count))
    node.resize_outputs(2)
    rows, number = node.outputs
    number.name = f"{rows.name}/count"
    number.shape, number.type = ir.Shape([1]), ir.TensorType(ir.DataType.INT64)
    rows.shape = ir.Shape([size, 3])
    tracked[rows] = (0, number, size)


def _track(value: ir.Value, axis: int, rows: Rows, tracked: dict[ir.Value, Rows]) -> None:
    if value.shape is None:
        return
    value.shape = ir.Shape([rows[2] if place == axis else size for place, size in enumerate(value.shape)])
    tracked[value] = (axis, rows[1], rows[2])


def _cut(graph: ir.Graph, value: ir.Value, rows: Rows) -> None:
    """Let a graph output be the rows of `value` that count."""
    axis, number, _ = rows
    assert value.shape is not None
    assert value.name is not None
    name = value.name.removesuffix(PADDED)
    sides = [np.full(axis, _ALL), np.full(len(value.shape) - axis - 1, _ALL)]
    ends = [number if n is None else initializer(graph, f"{name}/end", n) for n in (sides[0], None, sides[1])]
    end = ir.node("Concat", [part for part in ends if part is number or part.shape != (0,)], attributes={"axis": 0})
    end.name = end.outputs[0].name = f"{name}/end_of_rows"
    end.outputs[0].type, end.outputs[0].shape = number.type, ir.Shape([len(value.shape)])
    start = initializer(graph, f"{name}/start", np.zeros(len(value.shape), np.int64))
    node = ir.node("Slice", [value, start, end.outputs[0]], name=f"{name}/rows")
    result = node.outputs[0]
    result.type, result.shape, result.name = value.type, value.shape, name
    graph.extend([end, node])
    for place, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[place] = result


def _followed(node: ir.Node, given: Sequence[Rows | None]) -> tuple[int, Rows]:
    """Where a node that is given rows has them in its outputs.

    Raises:
        _MixesRowsError: A row of its result depends on more than that row.
    """
    first = next(rows for rows in given if rows is not None)
    if any(rows is not None and rows[1] is not first[1] for rows in given):
        raise _MixesRowsError("it brings together the rows of two selections")
    if node.domain != "":
        raise _MixesRowsError(f"nothing is known of how the domain {node.domain} treats rows")
    if node.op_type in ELEMENTWISE:
        return _elementwise(node, given), first
    if node.op_type == "Slice" and (head := _head(node, given)) is not None:
        return head[0], head
    rule = _RULES.get(node.op_type)
    axis = None if rule is None else rule(node, given)
    if axis is None:
        raise _MixesRowsError(f"along axis {first[0]} it mixes rows")
    return axis, first


def _elementwise(node: ir.Node, given: Sequence[Rows | None]) -> int:
    rank = _rank(node.outputs[0])
    axes = {rank - _rank(v) + rows[0] for v, rows in zip(node.inputs, given, strict=True) if v is not None and rows}
    if len(axes) > 1:
        raise _MixesRowsError("it pairs every row with every other")
    (axis,) = axes
    for value, rows in zip(node.inputs, given, strict=True):
        if value is None or rows is not None:
            continue
        place = axis - rank + _rank(value)
        if place >= 0 and value.shape is not None and value.shape[place] != 1:
            raise _MixesRowsError("it pairs rows with as many other values")
    return axis


def _rank(value: ir.Value | None) -> int:
    if value is None or value.shape is None:
        raise _MixesRowsError("how many axes it has is not known")
    return len(value.shape)


def _alone(given: Sequence[Rows | None], position: int = 0) -> int | None:
    """The axis of the input at `position`, if that is the only one with rows."""
    rows = given[position]
    return rows[0] if rows is not None and sum(each is not None for each in given) == 1 else None


def _gather(node: ir.Node, given: Sequence[Rows | None]) -> int | None:
    along = node.attributes.get_int("axis", 0) % _rank(node.inputs[0])
    if given[0] is None:
        axis = _alone(given, 1)
        return None if axis is None else along + axis
    axis = _alone(given)
    if axis is None or axis == along:
        return None
    return axis if axis < along else axis - 1 + _rank(node.inputs[1])


def _gather_nd(node: ir.Node, given: Sequence[Rows | None]) -> int | None:
    axis = _alone(given, 1)
    return axis if axis != _rank(node.inputs[1]) - 1 and not node.attributes.get_int("batch_dims", 0) else None


def _slice(node: ir.Node, given: Sequence[Rows | None]) -> int | None:
    axis, axes = _alone(given), constant(node.inputs[3]) if len(node.inputs) > 3 else None
    if axis is None or axes is None:
        return None
    return None if axis in [int(n) % _rank(node.inputs[0]) for n in axes.reshape(-1)] else axis


def _head(node: ir.Node, given: Sequence[Rows | None]) -> Rows | None:
    """What a Slice of the first so many rows leaves: the padding behind them is cut too, and fewer may count."""
    rows, bounds = given[0], [constant(value) for value in node.inputs[1:]]
    held = [int(bound.reshape(-1)[0]) for bound in bounds if bound is not None and bound.size == 1]
    if rows is None or len(held) < max(3, len(bounds)) or node.graph is None:
        return None
    start, end, axis, *step = held
    if axis % _rank(node.inputs[0]) != rows[0] or start != 0 or end < LEAST or step not in ([], [1]):
        return None
    limit = initializer(node.graph, f"{node.name}/most", np.array([end]))
    number = insert(node, "Min", [rows[1], limit], f"{node.name}/count", rows[1])
    return rows[0], number, min(end, rows[2])


def _along(node: ir.Node, given: Sequence[Rows | None]) -> int | None:
    axis, along = given[0], node.attributes.get_int("axis", 0 if node.op_type in ("Split", "Concat") else -1)
    if axis is None or along % _rank(node.inputs[0]) == axis[0]:
        return None
    if node.op_type == "Concat":
        return axis[0] if all(rows is not None and rows[0] == axis[0] for rows in given) else None
    kept = node.attributes.get_int("keepdims", 1) or along % _rank(node.inputs[0]) > axis[0]
    return _alone(given) if kept else axis[0] - 1


def _reduce(node: ir.Node, given: Sequence[Rows | None]) -> int | None:
    axis, axes = _alone(given), constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if axis is None or axes is None or not axes.size:
        return None
    along = [int(n) % _rank(node.inputs[0]) for n in axes.reshape(-1)]
    if axis in along:
        return None
    return axis if node.attributes.get_int("keepdims", 1) else axis - sum(n < axis for n in along)


def _transpose(node: ir.Node, given: Sequence[Rows | None]) -> int | None:
    axis = _alone(given)
    return None if axis is None else list(node.attributes["perm"].as_ints()).index(axis)


def _reshape(node: ir.Node, given: Sequence[Rows | None]) -> int | None:
    """The axis with as many elements before and behind it as the rows had."""
    axis = _alone(given)
    before, after = node.inputs[0], node.outputs[0]
    if axis is None or before is None or before.shape is None or after.shape is None:
        return None
    old, new = list(before.shape), list(after.shape)
    for place in range(len(new)):
        if all(_as_many(one, two) for one, two in ((old[:axis], new[:place]), (old[axis + 1 :], new[place + 1 :]))):
            return place
    return None


def _as_many(one: Sequence[int | ir.SymbolicDim], two: Sequence[int | ir.SymbolicDim]) -> bool:
    """Whether axes of these sizes hold equally many elements, as far as the sizes are known."""
    sizes = [[n for n in side if isinstance(n, int)] for side in (one, two)]
    return len(sizes[0]) == len(one) and len(sizes[1]) == len(two) and math.prod(sizes[0]) == math.prod(sizes[1])


def _batched(node: ir.Node, given: Sequence[Rows | None]) -> int | None:
    moved = node.attributes.get_int("transA", 0)
    return 0 if _alone(given) == 0 and not moved else None


def _matmul(node: ir.Node, given: Sequence[Rows | None]) -> int | None:
    axis = _alone(given)
    return axis if axis is not None and axis < _rank(node.inputs[0]) - 1 and _rank(node.inputs[1]) == 2 else None


def _roi_align(_: ir.Node, given: Sequence[Rows | None]) -> int | None:
    rois, indices = given[1], given[2]
    return 0 if given[0] is None and rois is not None and indices is not None and rois[0] == indices[0] == 0 else None


_RULES: dict[str, Callable[[ir.Node, Sequence[Rows | None]], int | None]] = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _reshape),
    **dict.fromkeys(BATCHED, _batched),
    **dict.fromkeys((*OTHER_AXES, "Split", "Concat"), _along),
    **dict.fromkeys((f"Reduce{what}" for what in ("L1", "L2", "Max", "Mean", "Min", "Prod", "Sum")), _reduce),
    "Gather": _gather,
    "GatherND": _gather_nd,
    "MatMul": _matmul,
    "RoiAlign": _roi_align,
    "Slice": _slice,
    "Transpose": _transpose,
}

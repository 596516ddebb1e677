"""What each operator allows: the one table from operator to layout rule.

`SPATIAL` operators have TFLite kernels for channels-last data only. Operators with a rule in `RULES` are free: they
run in any order once their axes are renamed (`layout_blocks`). `Transpose` is part of the problem itself
(`layout_frames`). Everything else keeps its logical order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.targets.tflite.layout_blocks import OUT, Block, Change, Free, Perms, Placed, Slot, static_shape
from haversack.convert.targets.tflite.layout_constants import array_of, is_constant
from haversack.convert.targets.tflite.layout_perms import Perm, identity, inverse, permuted
from haversack.convert.targets.tflite.layout_reshape import reshape
from haversack.runtimes.engines import Array


@dataclass(frozen=True)
class Spatial:
    """A node that reads input 0 and writes output 0 channels-last; what else it reads is logical."""


@dataclass(frozen=True)
class Transposes:
    """A Transpose, part of the problem itself."""

    perm: Perm


@dataclass(frozen=True)
class Pinned:
    """A node that keeps its operands' logical order, and why."""

    reason: str


Rule = Callable[[ir.Node], "Free | str"]

SPATIAL = frozenset(
    """Conv ConvInteger ConvTranspose QLinearConv MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool
    GlobalLpPool Resize DepthToSpace SpaceToDepth BatchNormalization InstanceNormalization GroupNormalization LRN
    GridSample""".split()  # noqa: SIM905 - forty lines of literals say no more
)
ELEMENTWISE = frozenset(
    """Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu
    Clip Cos Cosh Div DynamicQuantizeLinear Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid
    HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow
    Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh
    ThresholdedRelu Where Xor""".split()  # noqa: SIM905
)
REDUCTIONS = frozenset(
    """ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare""".split()  # noqa: SIM905
)
DATA = Slot(False, 0)


def classify(node: ir.Node) -> Spatial | Transposes | Free | Pinned:
    """What layout allows `node`."""
    if node.domain not in ("", "ai.onnx"):
        return Pinned("an operator of another domain")
    operands = [value for value in node.inputs if value is not None and not is_constant(value)] + list(node.outputs)
    if any(static_shape(value) is None for value in operands if value.name):
        return Pinned("a shape is not static")
    if node.op_type in SPATIAL:
        return _spatial(node)
    if node.op_type == "Transpose":
        perm = attribute(node, "perm", None)
        axes = perm if isinstance(perm, (list, tuple)) else reversed(range(len(_shape(node, DATA))))
        return Transposes(tuple(int(axis) for axis in axes))
    rule = RULES.get(node.op_type)
    if rule is None:
        return Pinned("no layout rule: it depends on the order of its axes")
    free = rule(node)
    return Pinned(free) if isinstance(free, str) else free


def _spatial(node: ir.Node) -> Spatial | Free | Pinned:
    data, result = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    assert data is not None
    assert result is not None
    if not 3 <= len(data) <= 5 or len(data) != len(result):
        return Pinned("its data has no spatial axes")
    if is_constant(node.inputs[0]):
        return Pinned("its data is a constant")
    if node.op_type == "Resize" and data[:2] != result[:2]:
        return Pinned("it resizes the batch or the channels")
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return Pinned(f"it has a second output in the order of its axes ({node.outputs[1].name})")
    return Spatial()


def attribute(node: ir.Node, name: str, default: object) -> object:
    """The value of an attribute, or `default`."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def _integer(node: ir.Node, name: str, default: int) -> int:
    value = attribute(node, name, default)
    assert isinstance(value, int)
    return value


def _shape(node: ir.Node, slot: Slot) -> tuple[int, ...]:
    shape = static_shape(slot.value(node))
    assert shape is not None
    return shape


def _given(node: ir.Node, index: int) -> ir.Value | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return value if value is not None and value.name else None


def _integers(node: ir.Node, index: int) -> list[int] | None:
    """A constant input as a list of integers; None where it is absent or computed."""
    array = array_of(_given(node, index))
    return None if array is None else [int(number) for number in array.reshape(-1)]


def _activations(node: ir.Node, indices: range | tuple[int, ...]) -> list[Slot]:
    return [Slot(False, i) for i in indices if (value := _given(node, i)) is not None and not is_constant(value)]


def elementwise(node: ir.Node) -> Free | str:
    """Unary operators and those that broadcast: every input is aligned to the output's last axes."""
    rank = len(_shape(node, OUT))
    slots = _activations(node, range(len(node.inputs)))
    blocks: list[Block] = []
    for axis in range(rank):
        block: dict[Slot, tuple[int, ...]] = {OUT: (axis,)}
        for slot in slots:
            if (own := axis - rank + len(_shape(node, slot))) >= 0:
                block[slot] = (own,)
        blocks.append(block)
    full = any(len(_shape(node, slot)) == rank for slot in slots)

    def change(perms: Perms) -> Change:
        placed, reshaped = {}, {}
        for index in range(len(node.inputs)):
            value, slot = _given(node, index), Slot(False, index)
            if value is None:
                continue
            if slot not in slots:
                placed[index] = Placed(rank, perms[OUT], 0 if full else rank)
                continue
            shape = _shape(node, slot)
            wanted = permuted((1,) * (rank - len(shape)) + shape, perms[OUT])
            if _without_leading_ones(wanted) != _without_leading_ones(permuted(shape, perms.get(slot, ()))):
                reshaped[index] = wanted
        return Change(placed=placed, reshaped=reshaped)

    return Free(node, tuple(blocks), change)


def _without_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    first = next((place for place, size in enumerate(shape) if size != 1), len(shape))
    return shape[first:]


def _same_axes(
    node: ir.Node,
    inputs: range | tuple[int, ...],
    change: Callable[[Perm], Change | None],
    prefers: Callable[[Perms], bool] | None = None,
) -> Free | str:
    """An operator whose data inputs and outputs all have the same axes; `change` is told their common order."""
    slots = _activations(node, inputs) + [Slot(True, i) for i, value in enumerate(node.outputs) if value.name]
    rank = len(_shape(node, slots[0]))
    if any(len(_shape(node, slot)) != rank for slot in slots):
        return "its operands have different ranks"
    if DATA not in slots and node.op_type != "Concat":
        return "its data is a constant"
    constants = {i: rank for i in inputs if _given(node, i) is not None and Slot(False, i) not in slots}

    def complete(perms: Perms) -> Change | None:
        changed = change(perms[OUT])
        if changed is None:
            return None
        placed = {i: Placed(rank, perms[OUT], rank) for i in constants} | dict(changed.placed)
        return Change(changed.attributes, changed.inputs, placed)

    blocks = tuple(dict.fromkeys(slots, (axis,)) for axis in range(rank))
    return Free(node, blocks, complete, prefers)


def _moved(perm: Perm, axis: int) -> int:
    """Where the logical axis `axis` (may be negative) stands."""
    return inverse(perm)[axis % len(perm)]


def along(default: int, inputs: tuple[int, ...] = (0,)) -> Rule:
    """Operators with an attribute `axis` whose operands all have the same axes."""

    def rule(node: ir.Node) -> Free | str:
        axis = _integer(node, "axis", default)
        data = range(len(node.inputs)) if node.op_type == "Concat" else inputs
        return _same_axes(node, data, lambda perm: Change({"axis": _moved(perm, axis)}))

    return rule


def along_last(node: ir.Node) -> Free | str:
    """Operators whose TFLite kernel works along the last axis: run in the order that puts it there, if one does."""
    axis = _integer(node, "axis", -1)

    def prefers(perms: Perms) -> bool:
        return _moved(perms[OUT], axis) == len(perms[OUT]) - 1

    return _same_axes(node, (0,), lambda perm: Change({"axis": _moved(perm, axis)}), prefers=prefers)


def quantization(node: ir.Node) -> Free | str:
    """QuantizeLinear and DequantizeLinear of activations: per-tensor is elementwise, per-axis renames the axis."""
    if _integer(node, "block_size", 0):
        return "it is quantized in blocks"
    scale = node.inputs[1]
    if static_shape(scale) in ((), (1,)):
        return _same_axes(node, (0,), lambda _: Change())
    axis = _integer(node, "axis", 1)
    return _same_axes(node, (0,), lambda perm: Change({"axis": _moved(perm, axis)}))


def reduction(node: ir.Node) -> Free | str:
    """Reduce*, ArgMax and ArgMin."""
    rank = len(_shape(node, DATA))
    if node.op_type in REDUCTIONS:
        if "axes" in node.attributes:
            return "its axes are an attribute, as they were before opset 18"
        axes = _integers(node, 1)
        if axes is None and _given(node, 1) is not None:
            return "its axes are computed"
        if not axes:
            axes = [] if _integer(node, "noop_with_empty_axes", 0) else list(range(rank))
    else:
        axes = [_integer(node, "axis", 0)]
    reduced = {axis % rank for axis in axes}
    keep = bool(_integer(node, "keepdims", 1))
    blocks: list[Block] = []
    place = 0
    for axis in range(rank):
        kept = keep or axis not in reduced
        blocks.append({DATA: (axis,), OUT: (place,)} if kept else {DATA: (axis,)})
        place += kept

    def change(perms: Perms) -> Change:
        moved = sorted(_moved(perms[DATA], axis) for axis in reduced)
        if node.op_type not in REDUCTIONS:
            return Change({"axis": moved[0]})
        return Change(inputs={1: np.array(moved, np.int64)} if moved else {})

    return Free(node, tuple(blocks), change)


def gather(node: ir.Node) -> Free | str:
    """Gather from an activation: the indices' axes (logical order) take the place of the axis."""
    if is_constant(node.inputs[0]):
        return "it looks up a constant table"
    rank, count = len(_shape(node, DATA)), len(_shape(node, Slot(False, 1)))
    axis = _integer(node, "axis", 0) % rank
    blocks: list[Block] = []
    place = 0
    for own in range(rank):
        width = count if own == axis else 1
        block: dict[Slot, tuple[int, ...]] = {DATA: (own,)}
        if width:
            block[OUT] = tuple(range(place, place + width))
        blocks.append(block)
        place += width
    return Free(node, tuple(blocks), lambda perms: Change({"axis": _moved(perms[DATA], axis)}))


def slice_(node: ir.Node) -> Free | str:
    """Slice, with its axes renamed."""
    axes = _integers(node, 3)
    if axes is None:
        if _given(node, 3) is not None:
            return "its axes are computed"
        starts = static_shape(node.inputs[1])
        axes = list(range(starts[0] if starts else 0))
    known = axes
    return _same_axes(
        node, (0,), lambda perm: Change(inputs={3: np.array([_moved(perm, axis) for axis in known], np.int64)})
    )


def pad(node: ir.Node) -> Free | str:
    """Pad, with its pads reordered, or its axes renamed where it names some."""
    if _given(node, 3) is not None:
        axes = _integers(node, 3)
        if axes is None:
            return "its axes are computed"
        return _same_axes(
            node, (0,), lambda perm: Change(inputs={3: np.array([_moved(perm, axis) for axis in axes], np.int64)})
        )
    pads = _integers(node, 1)
    if pads is None:
        return "its pads are computed"

    def change(perm: Perm) -> Change:
        begins, ends = pads[: len(perm)], pads[len(perm) :]
        return Change(inputs={1: np.array([*permuted(begins, perm), *permuted(ends, perm)], np.int64)})

    return _same_axes(node, (0,), change)


def tile(node: ir.Node) -> Free | str:
    """Tile, with its repeats reordered."""
    repeats = _integers(node, 1)
    if repeats is None:
        return "its repeats are computed"
    return _same_axes(node, (0,), lambda perm: Change(inputs={1: np.array(permuted(repeats, perm), np.int64)}))


def expand(node: ir.Node) -> Free | str:
    """Expand: elementwise with a shape."""
    rank = len(_shape(node, OUT))
    before, after = _shape(node, DATA), _shape(node, OUT)
    if is_constant(node.inputs[0]):
        return "its data is a constant"
    blocks: list[Block] = []
    for axis in range(rank):
        own = axis - rank + len(before)
        blocks.append({OUT: (axis,), DATA: (own,)} if own >= 0 else {OUT: (axis,)})

    def change(perms: Perms) -> Change:
        wanted = permuted((1,) * (rank - len(before)) + before, perms[OUT])
        stored = permuted(before, perms.get(DATA, ()))
        reshaped = {} if _without_leading_ones(wanted) == _without_leading_ones(stored) else {0: wanted}
        shape: Array = np.array(permuted(after, perms[OUT]), np.int64)
        return Change(inputs={1: shape}, reshaped=reshaped)

    return Free(node, tuple(blocks), change)


def cumulative(node: ir.Node) -> Free | str:
    """CumSum and CumProd: the axis is an input."""
    axes = _integers(node, 1)
    if axes is None:
        return "its axis is computed"
    return _same_axes(node, (0,), lambda perm: Change(inputs={1: np.array(_moved(perm, axes[0]), np.int64)}))


def layer_normalization(node: ir.Node) -> Free | str:
    """LayerNormalization: the normalised axes must stay the last ones, in whatever order."""
    rank = len(_shape(node, DATA))
    axis = _integer(node, "axis", -1) % rank
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return "its mean or deviation is used"
    parameters = {i: value for i in (1, 2) if (value := _given(node, i)) is not None}
    if not all(is_constant(value) for value in parameters.values()):
        return "its scale or bias is computed"

    def change(perms: Perms) -> Change | None:
        perm = perms[OUT]
        if set(perm[axis:]) != set(range(axis, rank)):
            return None
        if perm[axis:] == identity(rank)[axis:]:
            return Change()
        return Change(placed={i: Placed(rank, perm, rank - axis) for i in parameters})

    blocks: tuple[Block, ...] = tuple({DATA: (axis,), OUT: (axis,)} for axis in range(rank))
    return Free(node, blocks, change)


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(REDUCTIONS | {"ArgMax", "ArgMin"}, reduction),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    **dict.fromkeys(("Softmax", "LogSoftmax", "TopK", "LpNormalization"), along_last),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), quantization),
    **dict.fromkeys(("CumSum", "CumProd"), cumulative),
    "Dropout": lambda node: _same_axes(node, (0,), lambda _: Change()),  # its mask has the same axes
    "Concat": along(0),
    "Split": along(0),
    "Hardmax": along(-1),
    "GatherElements": along(0, (0, 1)),
    "ScatterElements": along(0, (0, 1, 2)),
    "Gather": gather,
    "Slice": slice_,
    "Pad": pad,
    "Tile": tile,
    "Expand": expand,
    "LayerNormalization": layer_normalization,
}

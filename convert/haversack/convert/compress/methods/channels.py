"""Which channels of which tensors may be multiplied by a factor together, without a change of what the model computes.

A channel's factor enters at a layer's output channel (its weights and bias are divided by it), passes through
operators that are positively homogeneous, f(c·x) = c·f(x) for c > 0, and leaves at an input channel of the layers that
read it (their weights are multiplied by it). What two tensors must share (an Add's operands) is one class, found by
union-find over the channels of all tensors; whatever cannot pass a factor on holds its channels at 1.

| passes a factor on                              | operators                                                   |
|-------------------------------------------------|-------------------------------------------------------------|
| its one input's                                 | `UNARY`; PRelu, Mul and Div by a constant; Mul by a gate    |
| its one input's, over axes that are no channels | Pad with zero, Slice, Reduce…, Transpose, Resize            |
| regrouped                                       | Reshape and Flatten of [N, C, H, W], Concat                 |
| all operands', which then share it              | Add, Sub, Max, Min of equal shapes; an Add of a constant    |
| enters at the output, leaves at the input       | Conv, ConvTranspose, Gemm, MatMul with weights of their own |

Clip (ReLU6) is not homogeneous, and ONNX gives it one bound for all channels: it holds its channels at 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.operators import constant
from haversack.runtimes.engines import Array

UNARY = ("Abs", "AveragePool", "Dropout", "GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu", "MaxPool",
         "Neg", "Relu", "Resize")  # fmt: skip
REDUCING = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")


@dataclass(frozen=True)
class Layer:
    """A layer whose weights take factors in.

    Attributes:
        node: Conv, ConvTranspose, Gemm or MatMul.
        into: The class of each input channel.
        out: The class of each output channel.
        groups: Of a convolution.
    """

    node: ir.Node
    into: Array
    out: Array
    groups: int = 1


@dataclass
class Channels:
    """The classes of channels that share a factor.

    Attributes:
        layers: In graph order.
        addends: Constants that are added: (node, input index, channel axis, the class of each channel).
        count: Classes are the numbers below this; class 0 is held at a factor of 1.
    """

    layers: list[Layer] = field(default_factory=list)
    addends: list[tuple[ir.Node, int, int, Array]] = field(default_factory=list)
    count: int = 1


def channels(graph: ir.Graph) -> Channels:
    """Find the classes of `graph`."""
    finder = _Finder(graph)
    for node in graph:
        finder.visit(node)
    for value in graph.outputs:
        finder.hold(value)
    for node in graph.all_nodes():
        if node.graph is not graph:  # a subgraph reads it under no rule
            for read in node.inputs:
                if read is not None:
                    finder.hold(read)
    return finder.settled()


class _Finder:
    """Gives each channel of each tensor a number, joins numbers, and knows which axis a tensor's channels lie on."""

    def __init__(self, graph: ir.Graph):
        self._parent: list[int] = [0]
        self._ids: dict[ir.Value, tuple[int, list[int]]] = {}
        self._layers: list[tuple[ir.Node, list[int], list[int], int]] = []
        self._addends: list[tuple[ir.Node, int, int, list[int]]] = []
        self._graph = graph

    def visit(self, node: ir.Node) -> None:
        """Apply the rule of one operator."""
        rule = getattr(self, f"_{node.op_type.lower()}", None) if node.domain in ("", "ai.onnx") else None
        if node.op_type in UNARY and node.domain in ("", "ai.onnx"):
            done = self._same(node)
        else:
            done = rule is not None and rule(node)
        if not done:
            for value in (*node.inputs, *node.outputs):
                if value is not None:
                    self.hold(value)

    def hold(self, value: ir.Value) -> None:
        """Keep the factors of a tensor's channels at 1, whatever their axis."""
        if value in self._ids:
            self._join(self._ids[value][1], [0] * len(self._ids[value][1]))

    def settled(self) -> Channels:
        """Number the classes."""
        numbers: dict[int, int] = {0: 0}

        def of(ids: list[int]) -> Array:
            return np.array([numbers.setdefault(self._find(one), len(numbers)) for one in ids], np.int64)

        layers = [Layer(node, of(into), of(out), groups) for node, into, out, groups in self._layers]
        addends = [(node, index, axis, of(ids)) for node, index, axis, ids in self._addends]
        return Channels(layers, addends, len(numbers))

    def _find(self, one: int) -> int:
        while one != self._parent[one]:
            self._parent[one] = self._parent[self._parent[one]]
            one = self._parent[one]
        return one

    def _join(self, first: Sequence[int], second: Sequence[int]) -> None:
        for one, other in zip(first, second, strict=True):
            low, high = sorted((self._find(one), self._find(other)))
            self._parent[high] = low

    def _fresh(self, value: ir.Value, axis: int) -> list[int] | None:
        length = _length(value, axis)
        if length is None:
            return None
        ids = list(range(len(self._parent), len(self._parent) + length))
        self._parent += ids
        self._ids[value] = (axis, ids)
        return ids

    def _give(self, value: ir.Value, axis: int, ids: list[int]) -> bool:
        """Number the channels of an output like those of its inputs."""
        if _length(value, axis) != len(ids):
            return False
        self._ids[value] = (axis, ids)
        return True

    def _reads(self, value: ir.Value | None, axis: int) -> list[int] | None:
        """The numbers of a tensor's channels, along this axis; zeros where they lie on another, or are not known."""
        length = None if value is None else _length(value, axis)
        if value is None or length is None:
            return None
        at, ids = self._ids.get(value, (axis, []))
        if not ids or at != axis:
            self.hold(value)
            return [0] * length
        return ids

    def _layer(self, node: ir.Node, axis: int, groups: int = 1) -> bool:
        weights, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
        own = constant(weights) is not None and weights is not None and len(weights.uses()) == 1
        if not own or node.inputs[0] is None or (bias is not None and constant(bias) is None):
            return False
        into = self._reads(node.inputs[0], axis)
        out = self._fresh(node.outputs[0], axis) if into is not None else None
        if into is None or out is None:
            return False
        self._layers.append((node, into, out, groups))
        return True

    def _conv(self, node: ir.Node) -> bool:
        return self._layer(node, 1, _integer(node, "group", 1))

    def _convtranspose(self, node: ir.Node) -> bool:
        return self._layer(node, 1) if _integer(node, "group", 1) == 1 else False

    def _gemm(self, node: ir.Node) -> bool:
        held = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        rows = None if node.outputs[0].shape is None else _length(node.outputs[0], 1)
        return not _integer(node, "transA", 0) and (held is None or held.size == rows) and self._layer(node, 1)

    def _matmul(self, node: ir.Node) -> bool:
        weights = constant(node.inputs[1])
        value = node.inputs[0]
        if weights is None or weights.ndim != 2 or value is None or value.shape is None:
            return False
        return self._layer(node, len(value.shape) - 1)

    def _same(self, node: ir.Node) -> bool:
        value = node.inputs[0]
        if value not in self._ids:
            return False
        axis, ids = self._ids[value]
        mode = node.attributes.get("coordinate_transformation_mode")
        if mode is not None and mode.as_string() == "tf_crop_and_resize":  # fills in a value of its own
            return False
        if node.op_type in ("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool") and axis != 1:
            return False
        if node.op_type == "MaxPool" and len(node.outputs) > 1 and node.outputs[1].uses():
            return False
        return self._give(node.outputs[0], axis, ids)

    def _spatial(self, node: ir.Node) -> bool:
        """Whether a node leaves the channel axis of its input as long as it is."""
        value, made = node.inputs[0], node.outputs[0]
        if value is None or value not in self._ids:
            return False
        axis = self._ids[value][0]
        return made.shape is not None and _length(made, axis) == _length(value, axis)

    def _prelu(self, node: ir.Node) -> bool:
        return constant(node.inputs[1]) is not None and self._same(node)

    def _div(self, node: ir.Node) -> bool:
        return constant(node.inputs[1]) is not None and self._same_rank(node, 0)

    def _mul(self, node: ir.Node) -> bool:
        for index in (0, 1):
            if constant(node.inputs[1 - index]) is not None:
                return self._same_rank(node, index)
        for index in (0, 1):  # a gate: it keeps its own scale, what it multiplies passes on
            gate = node.inputs[1 - index]
            producer = None if gate is None else gate.producer()
            if gate is not None and producer is not None and producer.op_type in ("Sigmoid", "HardSigmoid", "Softmax"):
                self.hold(gate)
                return self._same_rank(node, index)
        return False

    def _same_rank(self, node: ir.Node, index: int) -> bool:
        value, made = node.inputs[index], node.outputs[0]
        if value not in self._ids or value.shape is None or made.shape is None or len(value.shape) != len(made.shape):
            return False
        return self._give(made, *self._ids[value])

    def _add(self, node: ir.Node) -> bool:
        for index in (0, 1):
            held, value = constant(node.inputs[1 - index]), node.inputs[index]
            if held is None or value is None:
                continue
            if value not in self._ids or not self._same_rank(node, index):
                return False
            self._addends.append((node, 1 - index, *self._ids[value]))
            return held.ndim <= len(value.shape or ())
        return self._joined(node)

    def _joined(self, node: ir.Node) -> bool:
        """All operands of equal shape share their factors."""
        values = [value for value in node.inputs if value is not None]
        if any(value not in self._ids or value.shape is None for value in values):
            return False
        axis, ids = self._ids[values[0]]
        for value in values[1:]:
            if self._ids[value][0] != axis or list(value.shape or ()) != list(values[0].shape or ()):
                return False
            self._join(ids, self._ids[value][1])
        return self._give(node.outputs[0], axis, ids)

    _sub = _max = _min = _joined

    def _concat(self, node: ir.Node) -> bool:
        values = [value for value in node.inputs if value is not None]
        rank = len(node.outputs[0].shape or ())
        along = _integer(node, "axis", 0) % rank if rank else 0
        if not values or not rank or any(value not in self._ids for value in values):
            return False
        axes = {self._ids[value][0] for value in values}
        if len(axes) != 1:
            return False
        (axis,) = axes
        if along == axis:
            return self._give(node.outputs[0], axis, [one for value in values for one in self._ids[value][1]])
        for value in values[1:]:
            self._join(self._ids[values[0]][1], self._ids[value][1])
        return self._give(node.outputs[0], axis, self._ids[values[0]][1])

    def _transpose(self, node: ir.Node) -> bool:
        value = node.inputs[0]
        perm = node.attributes.get("perm")
        if value not in self._ids or perm is None:
            return False
        axis, ids = self._ids[value]
        return self._give(node.outputs[0], list(perm.as_ints()).index(axis), ids)

    def _pad(self, node: ir.Node) -> bool:
        mode = node.attributes.get("mode")
        fill = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
        zero = (mode is not None and mode.as_string() != "constant") or (fill is not None and not fill.any())
        if not zero or node.inputs[0] is None or not self._untouched(node, constant(node.inputs[1])):
            return False
        return self._spatial(node) and self._same(node)

    def _untouched(self, node: ir.Node, pads: Array | None) -> bool:
        value = node.inputs[0]
        if pads is None or value not in self._ids or len(node.inputs) > 3:
            return False
        axis, rank = self._ids[value][0], len(value.shape or ())
        return pads.size == 2 * rank and not pads[axis] and not pads[axis + rank]

    def _slice(self, node: ir.Node) -> bool:
        axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
        value = node.inputs[0]
        if axes is None or value not in self._ids or value.shape is None:
            return False
        axis = self._ids[value][0]
        return axis not in {int(one) % len(value.shape) for one in axes.reshape(-1)} and self._same(node)

    def _reduced(self, node: ir.Node) -> bool:
        value = node.inputs[0]
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
        if axes is None or value not in self._ids or value.shape is None:
            return False
        axis, ids = self._ids[value]
        gone = sorted({int(one) % len(value.shape) for one in axes.reshape(-1)})
        if axis in gone:
            return False
        kept = bool(_integer(node, "keepdims", 1))
        return self._give(node.outputs[0], axis if kept else axis - sum(one < axis for one in gone), ids)

    _reducemax = _reducemean = _reducemin = _reducesum = _reduced

    def _reshape(self, node: ir.Node) -> bool:
        """[N, C, A, B] → [N, C·A·B]: each channel becomes A·B of them; and [N, C, 1, 1] ↔ [N, C], [N, C, 1]."""
        value, made = node.inputs[0], node.outputs[0]
        if value not in self._ids or value.shape is None or made.shape is None or len(made.shape) < 2:
            return False
        axis, ids = self._ids[value]
        sizes = list(value.shape)[1:]
        if axis != 1 or value.shape[0] != made.shape[0] or not all(isinstance(size, int) for size in sizes):
            return False
        rest = int(np.prod([int(size) for size in sizes[1:]], dtype=np.int64))  # type: ignore[arg-type]
        if made.shape[1] == len(ids):
            return self._give(made, 1, ids)
        if len(made.shape) == 2:
            return self._give(made, 1, [one for one in ids for _ in range(rest)])
        return False

    _flatten = _squeeze = _unsqueeze = _reshape


def _length(value: ir.Value, axis: int) -> int | None:
    if value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    length = value.shape[axis]
    return length if isinstance(length, int) else None


def _integer(node: ir.Node, name: str, default: int) -> int:
    found = node.attributes.get(name)
    return default if found is None else int(found.as_int())

"""Which operators run in int8, and what each demands of its scales.

The table is what TFLite has int8 kernels for, because the hub obeys the strictest target. An operator outside it
stays float32, between a DequantizeLinear and a QuantizeLinear. Integer and boolean tensors are never touched.

| kind     | demand on the scales                                             | operators               |
|----------|------------------------------------------------------------------|-------------------------|
| weighted | own output; constant weights symmetric; int32 bias               | `WEIGHTED`              |
| own      | every input and the output has its own                           | `OWN`                   |
| equal    | data inputs and outputs share one                                | `EQUAL`                 |
| fixed    | the output's is prescribed (TFLite 8-bit specification)          | `scale.FIXED`           |
| reader   | the input has one; the output is an integer                      | `READERS`               |
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.scale import FIXED
from haversack.runtimes.engines import Array

WEIGHTED: dict[str, int] = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": -1}
"""Operators with weights (input 1) and the weights' output-channel axis; Gemm in its canonical form, transB=1."""

OWN: dict[str, int] = {
    "Abs": 1, "Add": 2, "Clip": 1, "Elu": 1, "Exp": 1, "Gelu": 1, "GlobalAveragePool": 1, "HardSwish": 1,
    "LeakyRelu": 1, "Mul": 2, "PRelu": 2, "ReduceMean": 1, "ReduceSum": 1, "Relu": 1, "Sub": 2,
}  # fmt: skip
"""Operators whose tensors all have scales of their own, and how many of the inputs are data."""

EQUAL: dict[str, tuple[int, ...] | None] = {
    "AveragePool": (0,), "Concat": None, "DepthToSpace": (0,), "Expand": (0,), "Flatten": (0,), "Gather": (0,),
    "GlobalMaxPool": (0,), "Max": None, "MaxPool": (0,), "Min": None, "Pad": (0, 2), "ReduceMax": (0,),
    "ReduceMin": (0,), "Reshape": (0,), "Resize": (0,), "Slice": (0,), "SpaceToDepth": (0,), "Split": (0,),
    "Squeeze": (0,), "Tile": (0,), "Transpose": (0,), "Unsqueeze": (0,), "Where": (1, 2),
}  # fmt: skip
"""Operators that copy or compare integers, so that one scale must serve all; which inputs are data (None: all)."""

READERS = ("ArgMax", "ArgMin")

FUSED_INTO = ("Add", "Conv", "ConvTranspose", "Gemm", "Mul", "Sub")
"""Operators that take a ReLU or ReLU6 into themselves on every target: nothing is quantized in between."""


def constant(value: ir.Value | None) -> Array | None:
    """The array of an initializer, or None for an activation or an omitted input."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


SMALLEST = 128
"""Weights with fewer elements stay float32: the node and the scale beside them would eat what is saved."""

RECURRENT = ("GRU", "LSTM", "RNN")


def weight_axis(node: ir.Node, index: int) -> int | None:
    """The output-channel axis of the weights that `node` reads at `index`; None where that input is no weight."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in RECURRENT:
        return 1 if index in (1, 2) else None
    if node.op_type == "Gather":
        return 0 if index == 0 else None
    if index != 1 or node.op_type not in WEIGHTED:
        return None
    if node.op_type == "Gemm":
        trans = node.attributes.get("transB")
        return 0 if trans is not None and trans.as_int() else 1
    return WEIGHTED[node.op_type]


def weight_values(graph: ir.Graph) -> list[ir.Value]:
    """The float32 initializers that are big enough to be worth compressing, in graph order."""
    return [
        value
        for value in graph.initializers.values()
        if value.dtype == ir.DataType.FLOAT
        and value.const_value is not None
        and value.const_value.size >= SMALLEST
        and value.uses()
        and not value.is_graph_output()
        and not value.is_graph_input()
    ]


def kind(node: ir.Node) -> str | None:
    """`weighted`, `own`, `equal`, `fixed` or `reader`; None where the node has to stay float."""
    if node.domain not in ("", "ai.onnx") or any(a.type in _GRAPHS for a in node.attributes.values()):
        return None
    op = node.op_type
    if op in WEIGHTED and _weighted(node):
        found = "weighted"
    elif op == "MatMul" or op in OWN:
        found = "own"
    elif op in EQUAL and _movable(node):
        found = "equal"
    elif op in FIXED:
        found = "fixed"
    elif op in READERS:
        found = "reader"
    else:
        return None
    tensors = [node.inputs[i] for i in data_inputs(node)]
    if found != "reader":
        tensors += [value for value in node.outputs if value.name]
    return found if all(value is not None and value.dtype == ir.DataType.FLOAT for value in tensors) else None


_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def _weighted(node: ir.Node) -> bool:
    """Whether the weights and the bias are constants in the canonical form."""
    inputs = list(node.inputs)
    if len(inputs) < 2 or constant(inputs[0]) is not None or constant(inputs[1]) is None:
        return False
    if node.op_type == "MatMul":
        return inputs[1] is not None and inputs[1].shape is not None and len(inputs[1].shape) == 2
    if len(inputs) > 2 and inputs[2] is not None and constant(inputs[2]) is None:
        return False
    if node.op_type != "Gemm":
        return True
    wanted = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    found = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | {k: a.value for k, a in node.attributes.items()}
    bias = constant(inputs[2]) if len(inputs) > 2 else None
    weights = constant(inputs[1])
    assert weights is not None
    return found == wanted and (bias is None or bias.size == weights.shape[0])


def _movable(node: ir.Node) -> bool:
    """Whether the node's variant is one that integer kernels have."""
    if node.op_type == "Resize":
        mode = node.attributes.get("mode")
        return mode is None or mode.as_string() in ("nearest", "linear")
    if node.op_type == "Pad" and len(node.inputs) > 2 and node.inputs[2] is not None:
        fill = constant(node.inputs[2])
        return fill is not None and bool(np.isfinite(fill).all())
    dilations = node.attributes.get("dilations")
    if node.op_type in ("AveragePool", "MaxPool") and dilations is not None and set(dilations.as_ints()) != {1}:
        return False
    if node.op_type == "MaxPool":
        return len(node.outputs) == 1 or not node.outputs[1].uses()
    return True


def data_inputs(node: ir.Node) -> list[int]:
    """The indices of the inputs that are quantized as activations (a constant among them, as a constant)."""
    present = [i for i, value in enumerate(node.inputs) if value is not None]
    if node.op_type in WEIGHTED and _weighted(node):
        return [0]
    if node.op_type == "MatMul":
        return [0, 1]
    if node.op_type in OWN:
        return [i for i in present if i < OWN[node.op_type]]
    if node.op_type in EQUAL:
        allowed = EQUAL[node.op_type]
        chosen = [i for i in present if allowed is None or i in allowed]
        return [i for i in chosen if not (node.op_type == "Pad" and i == 2 and _is_zero(node.inputs[2]))]
    return [0]


def data_outputs(node: ir.Node) -> Iterator[ir.Value]:
    """The float outputs that are used."""
    for value in node.outputs:
        if value.dtype == ir.DataType.FLOAT and (value.uses() or value.is_graph_output()):
            yield value


def _is_zero(value: ir.Value | None) -> bool:
    array = constant(value)
    return array is not None and not array.any()


def fused_activation(node: ir.Node) -> ir.Node | None:
    """The ReLU or ReLU6 that `node` takes into itself: its only reader."""
    if node.op_type not in FUSED_INTO or len(node.outputs) != 1:
        return None
    value = node.outputs[0]
    readers = value.consumers()
    if len(readers) != 1 or len(value.uses()) != 1 or value.is_graph_output() or readers[0].graph is not node.graph:
        return None
    reader = readers[0]
    if reader.op_type == "Relu":
        return reader
    if reader.op_type == "Clip" and len(reader.inputs) == 3:
        bounds = [constant(bound) for bound in reader.inputs[1:]]
        if all(bound is not None for bound in bounds) and [float(bound) for bound in bounds] == [0.0, 6.0]:  # type: ignore[arg-type]
            return reader
    return None

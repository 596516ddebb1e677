"""The hub's int8-dynamic pattern as one node with int8 weights, for TFLite's hybrid kernels.

    Given    xq, xs, xz = DynamicQuantizeLinear(x)
             y = Add(Mul(Cast(MatMulInteger(xq, w, xz)), Mul(xs, w_scale)), bias)     or ConvInteger; Add may be absent
    Result   y = MatMul(x, w of int8 with w_scale) + bias, whose kernel quantizes x itself

The kernel rounds its input in its own way (int8, one scale a batch row), so the two agree to the noise of int8
activations, not bit by bit; the recipe is judged against the source.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.targets.tflite.graph import Quantization, Tensor
from haversack.convert.targets.tflite.quantize import constant

FLOAT_OP = {"MatMulInteger": "Gemm", "ConvInteger": "Conv"}


@dataclass(frozen=True)
class Hybrid:
    """One matched pattern.

    Attributes:
        op: `Gemm`, `MatMul` or `Conv`.
        node: The MatMulInteger or ConvInteger, whose name and attributes it takes.
        source: The float activation.
        permutation: Of a Transpose that layout put on the integers, to be done on the floats; None without one.
        weights: int8, as the node has them.
        bias: One number a channel, or None.
        result: What the last node of the pattern computes.
    """

    op: str
    node: ir.Node
    source: ir.Value
    permutation: tuple[int, ...] | None
    weights: Tensor
    bias: Tensor | None
    result: ir.Value


def find(graph: ir.Graph) -> tuple[dict[ir.Node, Hybrid], set[ir.Node]]:
    """Every pattern, by its last node, and the nodes that the patterns replace."""
    found: dict[ir.Node, Hybrid] = {}
    replaced: set[ir.Node] = set()
    for node in graph:
        if node.op_type in FLOAT_OP:
            match = _match(node)
            if match is not None:
                hybrid, nodes = match
                last = hybrid.result.producer()
                assert last is not None
                found[last] = hybrid
                replaced.update(nodes)
    return found, replaced


def _only_reader(value: ir.Value) -> ir.Node | None:
    users = [usage.node for usage in value.uses()]
    return users[0] if len(users) == 1 and not value.is_graph_output() else None


def _match(node: ir.Node) -> tuple[Hybrid, list[ir.Node]] | None:
    integers, array = node.inputs[0], constant(node.inputs[1])
    if integers is None or array is None or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return None
    quantize, moves = integers.producer(), []
    permutation = None
    if quantize is not None and quantize.op_type == "Transpose" and quantize.inputs[0] is not None:
        permutation = tuple(quantize.attributes["perm"].as_ints())
        moves, quantize = [quantize], quantize.inputs[0].producer()
    if quantize is None or quantize.op_type != "DynamicQuantizeLinear" or quantize.inputs[0] is None:
        return None
    cast = _only_reader(node.outputs[0])
    multiply = None if cast is None or cast.op_type != "Cast" else _only_reader(cast.outputs[0])
    if cast is None or multiply is None or multiply.op_type != "Mul":
        return None
    other = next((v for v in multiply.inputs if v is not cast.outputs[0]), None)
    combine = None if other is None else other.producer()
    if combine is None or combine.op_type != "Mul":
        return None
    scales = [constant(v) for v in combine.inputs if v is not quantize.outputs[1]]
    if len(scales) != 1 or scales[0] is None:
        return None
    result, bias = multiply.outputs[0], None
    nodes = [quantize, *moves, node, cast, combine, multiply]
    add = _only_reader(result)
    channels = array.shape[0] if node.op_type == "ConvInteger" else array.shape[-1]
    if add is not None and add.op_type == "Add":
        addend = next((a for v in add.inputs if v is not result and (a := constant(v)) is not None), None)
        if addend is not None and addend.size == channels:
            flat = np.ascontiguousarray(addend.reshape(-1), np.float32)
            bias, result = Tensor((channels,), "float32", flat), add.outputs[0]
            nodes.append(add)
    weights = Tensor(tuple(array.shape), "int8", array, _scales(scales[0], node.op_type, array.ndim))
    rank = len(integers.shape or ())
    op = "Conv" if node.op_type == "ConvInteger" else "Gemm" if rank == 2 and array.ndim == 2 else "MatMul"
    return Hybrid(op, node, quantize.inputs[0], permutation, weights, bias, result), nodes


def _scales(scale: np.ndarray[tuple[int, ...], np.dtype[np.float32]], op: str, rank: int) -> Quantization:
    flat = scale.astype(np.float32).reshape(-1)
    return Quantization(flat, np.zeros(flat.size, np.int64), 0 if op == "ConvInteger" else rank - 1)

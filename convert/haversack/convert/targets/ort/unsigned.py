"""Re-encode int8 activations as uint8, losslessly: onnxruntime fuses only those into its integer kernels on x86.

Given

    x → QuantizeLinear(scale, zero point -20 int8) → DequantizeLinear(scale, -20) → …

the result is the same with zero point 108 uint8. Every integer is 128 larger and stands for the same real number:
`scale * ((q + 128) - (z + 128))`. Weights stay int8, which is what QLinearConv takes beside uint8 activations.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.editing import Editor
from haversack.convert.compress.operators import constant

OFFSET = 128

WEIGHTS_INPUT = 1
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def to_unsigned(editor: Editor) -> set[str]:
    """Re-encode the activations of a graph, and the constant operands that meet them, in place.

    A tensor is left alone where anything but a DequantizeLinear reads its integers, and where it is a graph output.

    Returns:
        The names of the re-encoded integer tensors: each holds the hub's integer plus `OFFSET`.
    """
    changed: set[str] = set()
    for node in list(editor.graph):
        if node.op_type == "QuantizeLinear":
            integers, users = node.outputs[0], node.outputs[0].consumers()
            if _plain(node) and users and all(user.op_type == "DequantizeLinear" and _plain(user) for user in users):
                if integers.is_graph_output():
                    continue
                for each in {node: None, **dict.fromkeys(users)}:
                    _shift_zero_point(editor, each)
                integers.type = ir.TensorType(ir.DataType.UINT8)
                changed.add(str(integers.name))
        elif node.op_type == "DequantizeLinear" and _operand(node):
            array = constant(node.inputs[0])
            assert array is not None
            assert node.inputs[0] is not None
            shifted = (array.astype(np.int16) + OFFSET).astype(np.uint8)
            node.replace_input_with(0, editor.initializer(str(node.inputs[0].name), shifted))
            _shift_zero_point(editor, node)
    return changed


def _plain(node: ir.Node) -> bool:
    """Whether the node has a constant scalar int8 zero point."""
    zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return zero_point is not None and zero_point.dtype == np.int8 and zero_point.ndim == 0


def _operand(node: ir.Node) -> bool:
    """Whether this DequantizeLinear feeds a constant to nodes that do not take it as their weights."""
    array = constant(node.inputs[0])
    uses = node.outputs[0].uses()
    if array is None or array.dtype != np.int8 or not _plain(node) or not uses:
        return False
    return not any(use.node.op_type in WEIGHTED and use.idx == WEIGHTS_INPUT for use in uses)


def _shift_zero_point(editor: Editor, node: ir.Node) -> None:
    value = node.inputs[2]
    zero_point = constant(value)
    assert value is not None
    assert zero_point is not None
    shifted = np.asarray(int(zero_point) + OFFSET, np.uint8)
    node.replace_input_with(2, editor.initializer(str(value.name), shifted))

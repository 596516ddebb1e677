"""Factors of both operands of a matrix product."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant, initializer, nodes, scalar, sole_reader


def merge_scales(model: ir.Model) -> bool:
    """Scale one operand of a matrix product instead of both.

    Given:
        a = Mul(q, 0.5)
        b = Mul(k, 0.5)
        y = MatMul(a, b)

    Result:
        a = Mul(q, 0.25)
        y = MatMul(a, k)

    PyTorch's attention multiplies queries and keys by the fourth root of their length each, against overflow in
    float16. Only for float32, and where the product of the factors is a normal number.
    """
    changed = False
    for node in nodes(model, "MatMul"):
        found = [_factor(value, node) for value in node.inputs]
        if None in found or node.outputs[0].dtype is not ir.DataType.FLOAT:
            continue
        (first, one), (second, two) = (each for each in found if each is not None)
        product = np.float32(np.float64(one) * two)
        held = constant(first.inputs[_place(first)])
        if held is None or node.graph is None or not np.finfo(np.float32).tiny <= abs(product) < np.inf:
            continue
        name = f"{first.name}/factor"
        first.replace_input_with(_place(first), initializer(node.graph, name, np.full(held.shape, product, held.dtype)))
        node.replace_input_with(1, second.inputs[1 - _place(second)])
        changed = True
    return changed


def _factor(value: ir.Value | None, reader: ir.Node) -> tuple[ir.Node, float] | None:
    """The Mul by one number that computes `value` for `reader` alone, and the number; not one that adds axes."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Mul" or node.domain != "" or node.graph is not reader.graph:
        return None
    place = _place(node)
    number, other = scalar(node.inputs[place]), node.inputs[1 - place]
    if value is None or number is None or other is None or sole_reader(value) is not reader:
        return None
    same = other.shape is not None and value.shape is not None and list(other.shape) == list(value.shape)
    return (node, number) if same else None


def _place(node: ir.Node) -> int:
    return 0 if scalar(node.inputs[0]) is not None else 1

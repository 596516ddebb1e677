"""Einsums that are stacks of matrix products."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import insert, nodes
from haversack.convert.hub.shapes import static_shape

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})
"""MatMul has fewer integer types than Einsum."""


def einsum_to_product(model: ir.Model) -> bool:
    """Write an Einsum of two operands that is a stack of matrix products as a MatMul.

    Given:
        y = Einsum<"bhid,bhjd->bhij">(q, k)

    Result:
        a = Transpose<perm=[0, 1, 3, 2]>(k)
        y = MatMul(q, a)

    Each operand must have, in any order, the labels of the stack, one of its own that the result has, and one that is
    summed. As a MatMul the product is what every target and every other pass knows, and its Transposes merge with
    those around it. Other Einsums stay, and those of integers.
    """
    changed = False
    for node in nodes(model, "Einsum"):
        found = _matrices(node) if node.outputs[0].dtype in _FLOATS else None
        if found is None:
            continue
        stack, row, column, inner, terms, result = found
        operands = []
        for value, term, order in zip(node.inputs, terms, (stack + row + inner, stack + inner + column), strict=True):
            assert value is not None
            operands.append(_ordered(node, value, term, order))
        output, graph = node.outputs[0], node.graph
        assert graph is not None
        product = insert(node, "MatMul", operands, f"{node.name}/product", output)
        product.shape = ir.Shape([_size(node, terms, label) for label in stack + row + column])
        last = _ordered(node, product, stack + row + column, result)
        name = output.name
        output.replace_all_uses_with(last, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        last.name = name
        changed = True
    return changed


def _matrices(node: ir.Node) -> tuple[str, str, str, str, tuple[str, str], str] | None:
    """The labels of the stack, the rows, the columns, the sum; those of both operands, and of the result."""
    equation = node.attributes["equation"].as_string().replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != 2 or "." in equation or any(len(set(t)) < len(t) for t in (*terms, result)):
        return None
    one, two = terms
    stack = "".join(label for label in result if label in one and label in two)
    row = "".join(label for label in one if label not in two)
    column = "".join(label for label in two if label not in one)
    inner = "".join(label for label in one if label in two and label not in result)
    if not len(row) == len(column) == len(inner) == 1 or set(result) != set(stack + row + column):
        return None
    shapes = [static_shape(value) for value in node.inputs]
    for label in stack + inner:  # a size of 1 may stand for the other operand's, which MatMul's sum does not allow
        sizes = {shape[term.index(label)] for shape, term in zip(shapes, terms, strict=True) if shape is not None}
        if None in shapes or len(sizes) > 1:
            return None
    return stack, row, column, inner, (one, two), result


def _size(node: ir.Node, terms: tuple[str, str], label: str) -> int:
    value, term = next((v, term) for v, term in zip(node.inputs, terms, strict=True) if label in term)
    shape = static_shape(value)
    assert shape is not None
    return shape[term.index(label)]


def _ordered(node: ir.Node, value: ir.Value, labels: str, order: str) -> ir.Value:
    """`value`, whose axes are `labels`, with its axes in `order`."""
    if labels == order:
        return value
    permutation = [labels.index(label) for label in order]
    turned = insert(node, "Transpose", [value], f"{node.name}/{order}", value, perm=permutation)
    if value.shape is not None:
        turned.shape = ir.Shape([value.shape[axis] for axis in permutation])
    return turned

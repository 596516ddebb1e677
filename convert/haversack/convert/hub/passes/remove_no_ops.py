"""Operators that give back what they are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import bypass, constant, nodes


def remove_no_ops(model: ir.Model) -> bool:
    """Remove nodes that compute nothing.

    Given:
        a = Dropout(x)                   at inference
        b = Cast<to=FLOAT>(a)            a is float already
        c = Reshape(b, [1, 8])           b has that shape already; so for Expand
        d = Pad(c, [0, 0, 0, 0])
        e = Slice(d, ...)                all of every axis; so for Split and Concat of one part
        f = Transpose<perm=[0, 1]>(e)
        g = Add(f, 0)                    so for Sub; and for Mul and Div by 1
        y = Sum(g)                       of one term; so for Mean, Max, Min

    Result:
        y = Identity(x), which `remove_identities` takes away where it can
    """
    changed = False
    for node in nodes(model, *_CHECKS):
        if node.inputs and node.inputs[0] is not None and _unread(node.outputs[1:]) and _CHECKS[node.op_type](node):
            changed |= bypass(node)
    return changed


def _unread(values: Sequence[ir.Value]) -> bool:
    return not any(value.uses() or value.is_graph_output() for value in values)


def _dropout(node: ir.Node) -> bool:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    held = constant(training)
    return training is None or (held is not None and not held.any())


def _cast(node: ir.Node) -> bool:
    source = node.inputs[0]
    return source is not None and source.dtype is not None and source.dtype == node.attributes["to"].as_int()


def _same_shape(node: ir.Node) -> bool:
    before = node.inputs[0].shape if node.inputs[0] is not None else None
    after = node.outputs[0].shape
    if before is None or after is None or any(isinstance(d, ir.SymbolicDim) and d.value is None for d in before):
        return False
    return list(before) == list(after)


def _pad(node: ir.Node) -> bool:
    pads = constant(node.inputs[1])
    return pads is not None and not pads.any()


def _slice(node: ir.Node) -> bool:
    steps = constant(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else np.ones(1)
    return steps is not None and bool((steps == 1).all()) and _same_shape(node)


def _transpose(node: ir.Node) -> bool:
    if "perm" not in node.attributes:
        return False
    permutation = list(node.attributes["perm"].as_ints())
    return permutation == sorted(permutation)


def _neutral(element: int) -> Callable[[ir.Node], bool]:
    """Whether the second operand is all `element` and does not broadcast the first; -0 + 0 may lose its sign."""

    def check(node: ir.Node) -> bool:
        held = constant(node.inputs[1])
        return held is not None and bool((held == element).all()) and _same_shape(node)

    return check


def _one_input(node: ir.Node) -> bool:
    return len(node.inputs) == 1


def _one_part(node: ir.Node) -> bool:
    return len(node.outputs) == 1


_CHECKS: dict[str, Callable[[ir.Node], bool]] = {
    "Dropout": _dropout,
    "Cast": _cast,
    "Reshape": _same_shape,
    "Expand": _same_shape,
    "Flatten": _same_shape,
    "Tile": _same_shape,
    "Pad": _pad,
    "Slice": _slice,
    "Transpose": _transpose,
    "Add": _neutral(0),
    "Sub": _neutral(0),
    "Mul": _neutral(1),
    "Div": _neutral(1),
    "Concat": _one_input,
    "Split": _one_part,
    "Sum": _one_input,
    "Mean": _one_input,
    "Max": _one_input,
    "Min": _one_input,
}

"""Operators that are newer than the pinned opset and have no function body, said by older ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.around import Around
from haversack.convert.hub.passes.rewriting import constant


def restate(node: ir.Node) -> bool:
    """Say `node` by operators of the pinned opset, in place; whether it could be."""
    rule = _RULES.get(node.op_type)
    if rule is None or node.graph is None or node.outputs[0].dtype is None:
        return False
    make = Around(node)
    result = rule(node, make)
    if result is None:
        return False
    make.become(result)
    return True


_UNSIGNED = {
    ir.DataType.INT8: ir.DataType.UINT8,
    ir.DataType.INT16: ir.DataType.UINT16,
    ir.DataType.INT32: ir.DataType.UINT32,
    ir.DataType.INT64: ir.DataType.UINT64,
}


def _bit_shift(node: ir.Node, make: Around) -> ir.Value | None:
    """Of signed integers (opset 28): as unsigned ones; negative and long shifts leave the sign, or nothing."""
    x, y = node.inputs
    dtype = node.outputs[0].dtype
    if x is None or y is None or dtype not in _UNSIGNED:
        return None
    assert dtype is not None
    unsigned, word = _UNSIGNED[dtype], dtype.numpy()
    zero, width = make.const(np.zeros((), word)), make.const(np.array(word.itemsize * 8, word))
    inside = make("And", make("GreaterOrEqual", y, zero), make("Less", y, width))
    amount = make("Cast", make("Where", inside, y, zero), to=unsigned)
    direction = node.attributes.get_string("direction", "")

    def shifted(value: ir.Value) -> ir.Value:
        moved = make("BitShift", make("Cast", value, to=unsigned), amount, direction=direction)
        moved.type = ir.TensorType(unsigned)
        return make("Where", inside, make("Cast", moved, to=dtype), zero)

    if direction == "LEFT":
        return shifted(x)
    negative = make("Less", x, zero)
    kept = shifted(make("Where", negative, make("BitwiseNot", x), x))
    return make("Where", negative, make("BitwiseNot", kept), kept)


def _mod(node: ir.Node, make: Around) -> ir.Value | None:
    """With the divisor's sign (fmod 0) of floats (opset 28): C's fmod, moved by one divisor where the signs differ."""
    x, y = node.inputs
    dtype = node.outputs[0].dtype
    if x is None or y is None or dtype is None or not dtype.is_floating_point():
        return None
    zero = make.const(np.zeros((), dtype.numpy()))
    rest = make("Mod", x, y, fmod=1)
    differs = make("Xor", make("Less", rest, zero), make("Less", y, zero))
    moves = make("And", make("Not", make("Equal", rest, zero)), differs)
    return make("Where", moves, make("Add", rest, y), rest)


def _cumulative_product(node: ir.Node, make: Around) -> ir.Value | None:
    """CumProd (opset 26): for each place the product of those that a triangle of true keeps."""
    x, axis = node.inputs
    place = constant(axis)
    if x is None or x.shape is None or not x.shape.is_static():
        return None
    rank = len(x.shape)
    if place is None and rank > 1:
        return None
    where = 0 if place is None else int(place.reshape(())) % rank
    size = int(x.shape[where])  # type: ignore[arg-type]
    ones = np.ones((size, size), np.bool_)
    exclusive, reverse = node.attributes.get_int("exclusive", 0), node.attributes.get_int("reverse", 0)
    mask = np.triu(ones, exclusive) if reverse else np.tril(ones, -exclusive)
    assert x.dtype is not None
    lifted = make("Unsqueeze", x, make.const(np.array([where], np.int64)))
    neutral = make.const(np.ones((), x.dtype.numpy()))
    kept = make("Where", make.const(mask.reshape(size, size, *([1] * (rank - 1 - where)))), lifted, neutral)
    return make("ReduceProd", kept, make.const(np.array([where + 1], np.int64)), keepdims=0)


def _bit_cast(node: ir.Node, make: Around) -> ir.Value | None:
    """BitCast (opset 26) between integers of one width, which is what Cast does to them."""
    x, to = node.inputs[0], node.outputs[0].dtype
    if x is None or x.dtype is None or to is None:
        return None
    given, made = x.dtype.numpy(), to.numpy()
    if given.itemsize != made.itemsize or given.kind not in "iub" or made.kind not in "iu":
        return None
    return make("Cast", x, to=to)


_RULES: dict[str, Callable[[ir.Node, Around], ir.Value | None]] = {
    "BitCast": _bit_cast,
    "BitShift": _bit_shift,
    "CumProd": _cumulative_product,
    "Mod": _mod,
}

"""What tf2onnx does not read by itself: calls that TensorFlow keeps whole, and operators that it has no handler for."""

from __future__ import annotations

from typing import Any

NOT_INLINED = ("_noinline", "_XlaMustCompile")
"""Attributes that keep TensorFlow from putting a function's body in the place of its call.

Keras compiles a grouped convolution by XLA, whole, since TensorFlow has no CPU kernel for it. To a reader the call is
its body.
"""


def inlinable(graph_def: Any) -> Any:
    """Let every call of `graph_def` be inlined, in place, by the function optimizer that tf2onnx runs; returns it."""
    for function in graph_def.library.function:
        _forget(function.attr)
        for node in function.node_def:
            _forget(node.attr)
    for node in graph_def.node:
        _forget(node.attr)
    return graph_def


def _forget(attributes: Any) -> None:
    for name in NOT_INLINED:
        if name in attributes:
            del attributes[name]


def _erfc(ctx: Any, node: Any, name: str, _args: object) -> None:
    """`1 - erf(x)`, which ONNX can say. In the far tail it is off by 1's rounding, 6e-8, not by its own."""
    import numpy as np
    from tf2onnx import utils

    dtype = ctx.get_dtype(node.input[0])
    shapes, dtypes = node.output_shapes, node.output_dtypes
    erf = ctx.make_node("Erf", [node.input[0]], name=utils.make_name(name), shapes=shapes, dtypes=dtypes)
    one = ctx.make_const(utils.make_name(name), np.array(1, utils.map_onnx_to_numpy_type(dtype)))
    outputs = node.output
    ctx.remove_node(name)
    ctx.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=outputs, shapes=shapes, dtypes=dtypes)


HANDLERS: dict[str, tuple[Any, list[object]]] = {"Erfc": (_erfc, [])}
"""TensorFlow operators to functions that rewrite them, in the form of tf2onnx's `custom_op_handlers`."""

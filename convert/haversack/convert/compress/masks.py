"""Attention masks: numbers that mean minus infinity, which no scale can hold beside real ones.

A mask is added to the scores before a softmax: 0 where a token may be seen, the most negative float (or -1e9, or -1e4)
where it may not. Quantized, its range is the tensor's range, every real score becomes the same integer, and the softmax
is uniform: not an error that shows, but a model that is gone. So what a mask enters stays float, up to and including
the softmax that makes probabilities of it.

    Given    scores → Add(mask) → Reshape → Softmax → probabilities
    Result   these three operators in float32; scores and probabilities are quantized as ever
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

LARGE = 1e4
"""A constant with such a number in it is a mask: the smallest in use, chosen to be safe in float16."""

ENTERED = ("Add", "Sub", "Mul", "Where", "Max", "Min")
"""Operators that a mask enters as a constant."""

ENDS = ("Softmax", "LogSoftmax", "Sigmoid", "Tanh")
"""Operators behind which nothing is left of it."""

LAYERS = ("Conv", "ConvTranspose", "Gemm")
"""Operators that a mask does not pass: what they read is data."""


def masked(graph: ir.Graph) -> set[ir.Node]:
    """The nodes of a float graph that compute with a mask's numbers, in topological order of the graph.

    Args:
        graph: A float hub graph; not changed.
    """
    found: set[ir.Node] = set()
    open_: set[ir.Value] = set()  # values that hold a mask's numbers
    for node in graph:
        if node.op_type in LAYERS or not node.outputs or node.outputs[0].dtype != ir.DataType.FLOAT:
            continue
        read = [value for value in node.inputs if value is not None]
        if any(value in open_ for value in read) or (node.op_type in ENTERED and any(map(_is_mask, read))):
            found.add(node)
            if node.op_type not in ENDS:
                open_.update(node.outputs)
    return found if any(node.op_type in ENDS for node in found) else set()


def _is_mask(value: ir.Value) -> bool:
    if value.const_value is None or value.is_graph_input() or value.dtype != ir.DataType.FLOAT:
        return False
    array = value.const_value.numpy()
    return bool(array.size) and bool(np.abs(array).max() >= LARGE)

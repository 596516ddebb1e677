"""What a layer's weights take: estimates that the planner chooses by; every artifact is measured when it is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.qdq import Rounded
from haversack.runtimes.engines import Array

SCALE_BYTES = 4
"""Of one scale of weights; a TFLite file repeats each in its bias."""


@dataclass(frozen=True)
class Room:
    """What the weights of one layer take.

    Attributes:
        disk: Bytes as they lie in an artifact, in the containers that the plan names.
        wire: Bytes once they are compressed: the entropy of integers and indices, and what is left of floats.
        parameters: How many weights there are.
    """

    disk: float
    wire: float
    parameters: int


def entropy(symbols: Array) -> float:
    """Bits a symbol that no coder of single symbols can do without (Shannon, 1948).

    Args:
        symbols: Integers, any shape.
    """
    _, counts = np.unique(symbols, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def of_integers(made: Rounded) -> Room:
    """What a layer's integers take, with their scales and their bias's."""
    size = made.weights.quantized.size
    scales = 2 * SCALE_BYTES * made.weights.scale.size
    bits = entropy(made.weights.quantized)
    return Room(size * (0.5 if made.four else 1.0) + scales, size * bits / 8 + FLOAT_WIRE * scales, size)


FLOAT_WIRE = 0.93
"""What general compressors leave of float weights: exponents repeat themselves, significands do not."""


def of_constants(model: ir.Model, layer: str) -> Room:
    """What the constants that one layer reads take, through the nodes that compute its weights from them.

    Args:
        model: A hub graph, compressed or not.
        layer: Name of a node.
    """
    node = next(node for node in model.graph if node.name == layer)
    pending = [value for value in node.inputs if value is not None]
    seen: set[ir.Value] = set()
    disk = wire = 0.0
    while pending:
        value = pending.pop()
        if value in seen or value.is_graph_input():
            continue
        seen.add(value)
        if value.const_value is None:
            maker = value.producer()
            if maker is not None and maker.op_type in ("DequantizeLinear", "Cast", "Gather", "Add", "Mul"):
                read = [each for each in maker.inputs if each is not None]
                if all(_constant(each) for each in read):
                    pending += read
            continue
        array = value.const_value.numpy()
        bytes_ = value.const_value.nbytes
        disk += bytes_
        wire += entropy(array.astype(np.int64)) * array.size / 8 if array.dtype.kind in "iuV" else FLOAT_WIRE * bytes_
    weights = node.inputs[1] if len(node.inputs) > 1 else None
    shape = None if weights is None or weights.shape is None else weights.shape.numpy()
    return Room(disk, wire, int(np.prod(shape)) if shape else 0)


def _constant(value: ir.Value) -> bool:
    """Whether a value is computed from constants alone."""
    if value.const_value is not None:
        return True
    maker = value.producer()
    return maker is not None and all(_constant(each) for each in maker.inputs if each is not None)

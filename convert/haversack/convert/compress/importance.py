"""How much an error in a weight matters: the mean square of the input that meets it, on calibration data.

A layer's output is a sum of weight·input. Where inputs are not correlated, an error d in one weight adds d²·E[input²]
to the output's mean squared error: the diagonal of the layer's Hessian (LeCun, Denker, Solla: "Optimal Brain Damage",
NeurIPS 1989, section 2, for a squared loss at the layer's own output).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.activations import activations
from haversack.convert.compress.calibrate import Progress
from haversack.runtimes.engines import Array

BATCHES = 64
"""So many calibration batches are run: a mean over all positions of all of them settles far sooner."""


def importance(
    model: ir.Model,
    values: Sequence[ir.Value],
    data: Iterable[Mapping[str, Array]],
    progress: Progress | None = None,
) -> dict[str, Array]:
    """The mean square of the inputs that meet each weight.

    Args:
        model: The float hub graph; not changed.
        values: Initializers of it.
        data: Batches: one array a graph input.
        progress: Told after each batch.

    Returns:
        By initializer, float64, broadcastable to it; those that no layer reads as its weights are left out.

    Raises:
        DataError: There is not one batch.
    """
    readers = [(value, use.node) for value in values for use in value.uses() if _axis(use.node, use.idx) is not None]
    axes = {str(node.inputs[0].name): _axis(node, 1) for _, node in readers if node.inputs[0] is not None}
    sums: dict[str, Array] = {}
    count = 0
    for found in activations(model, axes, data, BATCHES, progress):
        for name, axis in axes.items():
            array = np.moveaxis(np.asarray(found[name], np.float64), axis or 0, -1)
            powers = np.nan_to_num(np.square(array), nan=0.0, posinf=0.0)
            sums[name] = sums.get(name, 0.0) + powers.mean(axis=tuple(range(array.ndim - 1)))
        count += 1
    result: dict[str, Array] = {}
    for value, node in readers:
        assert node.inputs[0] is not None
        squares = spread(node, value, sums[str(node.inputs[0].name)] / count)
        result[str(value.name)] = result.get(str(value.name), 0.0) + squares
    return result


def _axis(node: ir.Node, index: int) -> int | None:
    """The axis of input 0 over whose elements the weights at `index` sum; None where that is no such input."""
    if index != 1 or node.domain not in ("", "ai.onnx") or node.inputs[0] is None:
        return None
    if node.op_type in ("Conv", "ConvTranspose"):
        return 1
    if node.op_type == "Gemm":
        return 0 if _attribute(node, "transA", 0) else 1
    weights = node.inputs[1]
    plain = weights is not None and weights.shape is not None and len(weights.shape) == 2
    return -1 if node.op_type == "MatMul" and plain else None


def spread(node: ir.Node, value: ir.Value, squares: Array) -> Array:
    """A number an input channel, laid out to broadcast to the weights."""
    assert value.shape is not None
    shape = [int(size) for size in value.shape.numpy()]
    ones = [1] * (len(shape) - 2)
    if node.op_type == "Conv":  # [out, in / group, ...]: each group of outputs has its own inputs
        groups = _attribute(node, "group", 1)
        return np.repeat(squares.reshape(groups, shape[1]), shape[0] // groups, axis=0).reshape(*shape[:2], *ones)
    if node.op_type == "Gemm" and _attribute(node, "transB", 0):
        return squares.reshape(1, -1)
    return squares.reshape(-1, 1, *ones)


def _attribute(node: ir.Node, name: str, default: int) -> int:
    found = node.attributes.get(name)
    return default if found is None else int(found.as_int())

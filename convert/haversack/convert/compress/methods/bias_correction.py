"""Biases that undo what quantization does to the means.

Nagel et al.: "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2. Rounding
weights W to W + D shifts the mean of a layer's outputs by D·E[x]; the error of a whole channel has one sign, and
the next layers add it up instead of averaging it out. Taking the shift out of the bias costs nothing at run time.

`empirical` measures the shift on calibration data, layer by layer, each with the earlier corrections in place: it makes
up for errors of activations, for clipping, and for all that came before too (the paper's appendix D). `analytic` needs
the means of the layers' inputs only, and corrects for the weights alone; `clipped_normal` is the paper's way to those
means without data, from a normalisation's shift and scale.

Both take weights that are quantized alone and the QDQ form of int8. There a bias is int32 at a scale that is given, and
the correction is rounded to that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.calibrate import Progress
from haversack.convert.compress.editing import Editor
from haversack.convert.compress.importance import spread
from haversack.convert.compress.methods.reconstruct import add_to_bias
from haversack.convert.compress.methods.stepwise import Stepwise
from haversack.convert.compress.operators import constant
from haversack.convert.compress.unpacking import unpacked_value
from haversack.convert.compress.weights import BIAS_LIMIT
from haversack.runtimes.engines import Array

OPERATORS = ("Conv", "ConvTranspose", "Gemm")
"""What has a bias; a MatMul with one is a Gemm in the hub, or has an Add behind it."""


@dataclass(frozen=True)
class Corrected:
    """What was done.

    Attributes:
        model: A copy with other biases.
        shifts: By node name, what was added to each output channel, float64.
    """

    model: ir.Model
    shifts: dict[str, Array]


def empirical(
    model: ir.Model,
    quantized: ir.Model,
    batches: Sequence[Mapping[str, Array]],
    progress: Progress | None = None,
) -> Corrected:
    """Make the mean of each layer's outputs what it is in the float graph.

    Args:
        model: The float hub graph.
        quantized: What was made of it, its nodes under their names; weights alone or the QDQ form.
        batches: Of calibration data, as `stepwise.sample` takes them.
        progress: Told after each layer.

    Raises:
        DataError: There is not one batch.
    """
    copy = quantized.clone()
    before = {str(node.name): node for node in model.graph}
    layers = [node for node in copy.graph if str(node.name) in before and _correctable(node)]
    first, second = Stepwise(model, batches), Stepwise(copy, batches)
    editor = Editor(copy.graph)
    shifts: dict[str, Array] = {}
    for count, node in enumerate(layers):
        wanted, made = before[str(node.name)].outputs[0], node.outputs[0]
        first.until(before[str(node.name)], [wanted])
        second.until(node, [made])
        off = _mean(first.values(wanted)) - _mean(second.values(made))
        off = np.where(np.isfinite(off), off, 0.0)
        shifts[str(node.name)] = added = shift(editor, node, off)
        second.replace(made, lambda array, added=added: _shifted(array, added))  # type: ignore[misc]
        if progress is not None:
            progress((count + 1) / len(layers), f"correcting {node.name}")
    return Corrected(copy, shifts)


def analytic(model: ir.Model, quantized: ir.Model, means: Mapping[str, Array]) -> Corrected:
    """Take the shift D·E[x] of each layer's outputs out of its bias.

    Args:
        model: The float hub graph.
        quantized: What was made of it, its nodes under their names; weights alone or the QDQ form.
        means: By name in the float graph, E[x] of each channel of the tensors that layers read; layers whose input is
            not there keep their bias.
    """
    copy = quantized.clone()
    before = {str(node.name): node for node in model.graph}
    editor = Editor(copy.graph)
    shifts: dict[str, Array] = {}
    for node in list(copy.graph):
        source = before.get(str(node.name))
        if source is None or not _correctable(node) or node.op_type == "ConvTranspose" or source.inputs[0] is None:
            continue
        mean, weights, now = (
            means.get(str(source.inputs[0].name)),
            constant(source.inputs[1]),
            unpacked_value(node.inputs[1]),
        )
        if mean is None or weights is None or now is None:
            continue
        # A border that is padded sees zeros instead of the mean: that is not counted, as in the paper.
        value = source.inputs[1]
        assert value is not None
        change = (now.astype(np.float64) - weights) * spread(source, value, mean)
        transposed = node.op_type == "Conv" or bool(node.attributes.get_int("transB", 0))
        axes = tuple(range(1, weights.ndim)) if transposed else (0,)
        shifts[str(node.name)] = shift(editor, node, -change.sum(axis=axes))
    return Corrected(copy, shifts)


def clipped_normal(mean: Array, deviation: Array, low: float = 0.0, high: float = np.inf) -> Array:
    """The mean of clip(x, low, high) for normally distributed x (the paper's equation 19, for any two bounds).

    Args:
        mean: Of x, any shape: a batch normalisation's shift.
        deviation: Of x, above 0: its scale.
        low: 0 for a ReLU.
        high: 6 for a ReLU6.
    """
    below, above = (low - mean) / deviation, (high - mean) / deviation
    density = [np.exp(-np.square(np.clip(edge, -1e6, 1e6)) / 2) / np.sqrt(2 * np.pi) for edge in (below, above)]
    share = [_normal(edge) for edge in (below, above)]
    inside: Array = mean * (share[1] - share[0]) + deviation * (density[0] - density[1])
    at_low = low * share[0] if np.isfinite(low) else 0.0
    at_high = high * (1 - share[1]) if np.isfinite(high) else 0.0
    return inside + at_low + at_high


def input_means(model: ir.Model, batches: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """What `analytic` needs, where normalisations were folded into weights: measured in one run of the float graph.

    The mean and deviation of what a ReLU or Clip reads give its output's mean by `clipped_normal`, as the shift and
    scale of the normalisation would; other inputs' means are taken as they are.

    Raises:
        DataError: There is not one batch.
    """
    from haversack.convert.compress.activations import activations

    layers = [node for node in model.graph if _correctable(node)]
    sources = {str(node.inputs[0].name): node.inputs[0] for node in layers if node.inputs[0] is not None}
    rules = {name: _bounds(value) for name, value in sources.items()}
    names = [rule[0] if rule else name for name, rule in rules.items()]
    sums: dict[str, Array] = {}
    count = 0
    for found in activations(model, names, batches, len(batches)):
        for name in dict.fromkeys(names):
            array = np.asarray(found[name], np.float64)
            axes = tuple(i for i in range(array.ndim) if i != 1)
            moments = np.stack([array.mean(axis=axes), np.square(array).mean(axis=axes)])
            sums[name] = sums.get(name, 0.0) + moments
        count += 1
    result = {}
    for name, rule in rules.items():
        mean, square = sums[rule[0] if rule else name] / count
        deviation = np.sqrt(np.maximum(square - mean * mean, 1e-30))
        result[name] = clipped_normal(mean, deviation, rule[1], rule[2]) if rule else mean
    return result


def shift(editor: Editor, node: ir.Node, change: Array) -> Array:
    """Add to the bias of a layer, float or int32 behind a DequantizeLinear.

    Returns:
        What was really added, float64 [output channels]: int32 is rounded.
    """
    value = node.inputs[2] if len(node.inputs) > 2 else None
    maker = None if value is None else value.producer()
    if maker is not None:
        held, scale = maker.inputs[0], constant(maker.inputs[1])
        integers = constant(held)
        assert held is not None
        assert integers is not None
        assert scale is not None
        made = _integers(integers, change, scale)
        if len(held.uses()) == 1:
            held.const_value = ir.Tensor(made, name=held.name)
        else:
            maker.replace_input_with(0, editor.initializer(f"{held.name}_corrected", made))
    elif (scale := _accumulator_scale(node)) is not None:
        weights = node.inputs[1]
        assert weights is not None
        name = str(weights.name).removesuffix("_dequantized") + "_bias"
        integers, made = np.zeros(change.shape, np.int32), _integers(np.zeros(change.shape, np.int32), change, scale)
        inputs = [editor.initializer(f"{name}_quantized", made), editor.initializer(f"{name}_scale", scale)]
        axes = {"axis": 0} if scale.ndim else {}
        shape = ir.Shape(change.shape)
        new = editor.node("DequantizeLinear", inputs, f"{name}_dequantized", ir.DataType.FLOAT, shape, axes)
        editor.before(node, [new])
        node.resize_inputs(3)
        node.replace_input_with(2, new.outputs[0])
    else:
        add_to_bias(editor, node, change)
        return change
    result: Array = (made.astype(np.int64) - integers.astype(np.int64)) * scale.astype(np.float64)
    return result


def _integers(held: Array, change: Array, scale: Array) -> Array:
    moved = held.astype(np.int64) + np.rint(change / scale.astype(np.float64)).astype(np.int64)
    made: Array = np.clip(moved, -BIAS_LIMIT, BIAS_LIMIT).astype(np.int32)
    return made


def _accumulator_scale(node: ir.Node) -> Array | None:
    """Input scale · weight scale, where both are quantized; None where the layer computes in float."""
    scales = []
    for value in node.inputs[:2]:
        maker = None if value is None else value.producer()
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        scales.append(constant(maker.inputs[1]))
    if scales[0] is None or scales[1] is None:
        return None
    product: Array = (scales[0] * scales[1]).astype(np.float32)
    return product


def _correctable(node: ir.Node) -> bool:
    """Whether the node has weights that are known, and a bias that is, or none."""
    if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx") or unpacked_value(node.inputs[1]) is None:
        return False
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    held = None if bias is None else unpacked_value(bias)
    channels = node.outputs[0].shape
    if bias is None:
        return True
    return held is not None and channels is not None and len(channels) > 1 and held.size == channels[1]


def _mean(arrays: Sequence[Array]) -> Array:
    """The mean of each channel, axis 1, over all batches; float64."""
    axes = tuple(i for i in range(arrays[0].ndim) if i != 1)
    total = sum(array.sum(axis=axes, dtype=np.float64) for array in arrays)
    mean: Array = total / sum(array.size // array.shape[1] for array in arrays)
    return mean


def _shifted(array: Array, by: Array) -> Array:
    made: Array = (array + by.reshape([-1 if i == 1 else 1 for i in range(array.ndim)])).astype(array.dtype)
    return made


def _bounds(value: ir.Value) -> tuple[str, float, float] | None:
    """What a ReLU or Clip that computes `value` reads, and its bounds."""
    node = value.producer()
    if node is None or node.inputs[0] is None:
        return None
    if node.op_type == "Relu":
        return str(node.inputs[0].name), 0.0, np.inf
    if node.op_type != "Clip":
        return None
    bounds = [constant(bound) if bound is not None else None for bound in (*node.inputs, None, None)[1:3]]
    if any(bound is None and place < len(node.inputs) - 1 for place, bound in enumerate(bounds)):
        return None
    low, high = bounds
    return (
        str(node.inputs[0].name),
        -np.inf if low is None else float(low),
        np.inf if high is None else float(high),
    )


def _normal(x: Array) -> Array:
    """The standard normal distribution function."""
    made: Array = np.vectorize(lambda each: 0.5 * math.erfc(-each / math.sqrt(2)), otypes=[np.float64])(x)
    return made

"""Cross-layer equalisation: channels are scaled so that neighbouring layers share the burden of their ranges.

Nagel et al.: "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.1. A weight
tensor with one scale spends its steps on its largest channel; the others get few. Dividing an output channel of one
layer by s and multiplying the input channel of the next by s changes nothing that the model computes as long as what is
in between is positively homogeneous, and s = √(r₁ / r₂), with r₁ and r₂ the largest weights of the channel in the first
and in the second layer, makes both ranges √(r₁·r₂) (equation 11). `channels.py` says which channels share a factor;
where several layers write or read them, their largest range counts.

Factors are iterated to rest, half of the way each time (in logarithms), because a depthwise layer is the second of one
pair and the first of the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.editing import Editor, drop_unused_initializers, set_constant
from haversack.convert.compress.methods.channels import Channels, Layer, channels
from haversack.convert.compress.operators import constant
from haversack.runtimes.engines import Array

ITERATIONS = 100
REST = 1e-3
"""Iterations end where no factor moves by more than this, in logarithms."""

LARGEST = 2.0**16
"""No factor is larger, none smaller than its inverse: float32 keeps far more than that."""


@dataclass(frozen=True)
class Equalized:
    """What was done.

    Attributes:
        model: A copy that computes the same.
        changed: How many classes of channels have a factor other than 1.
        held: How many channels of layers are held at 1 by what reads or writes them.
        largest: The largest factor, or the inverse of the smallest.
    """

    model: ir.Model
    changed: int
    held: int
    largest: float

    @property
    def notes(self) -> list[str]:
        """One sentence for a report."""
        return [
            f"equalisation: {self.changed} channels scaled, by up to {self.largest:.1f}; {self.held} held by what is "
            "not homogeneous (ReLU6, sigmoid, …) or is an output"
        ]


def equalize(model: ir.Model, *, powers_of_two: bool = False) -> Equalized:
    """Equalise the weights' ranges of a copy of `model`.

    Args:
        model: A float hub graph with shapes.
        powers_of_two: Round factors to powers of two: every product is then exact, and outputs are the same bit by bit
            (as long as nothing under- or overflows).
    """
    copy = model.clone()
    found = channels(copy.graph)
    factors = _factors(found)
    if powers_of_two:
        factors = np.exp2(np.rint(np.log2(factors)))
    held = sum(int((layer.out == 0).sum()) for layer in found.layers)
    changed = factors != 1
    if changed.any():
        apply(Editor(copy.graph), found, factors)
    largest = float(np.exp(np.abs(np.log(factors)).max(initial=0.0)))
    return Equalized(copy, int(changed.sum()), held, largest)


def apply(editor: Editor, found: Channels, factors: Array) -> None:
    """Divide what enters each class of channels by its factor, and multiply what leaves it."""
    for layer in found.layers:
        weights, bias = layer.node.inputs[1], layer.node.inputs[2] if len(layer.node.inputs) > 2 else None
        array, held = constant(weights), constant(bias)
        assert weights is not None
        assert array is not None
        out, into = factors[layer.out], factors[layer.into]
        spread = (_matrix(layer, into) / out[:, None]).reshape(-1, _matrix(layer, into).shape[1])
        scaled = array.astype(np.float64) * _unmatrix(layer, spread, array.ndim)
        set_constant(editor, layer.node, 1, scaled.astype(array.dtype), str(weights.name))
        if held is not None and bias is not None:
            divided = held.reshape(-1).astype(np.float64) / out
            made = divided.astype(held.dtype).reshape(held.shape)
            set_constant(editor, layer.node, 2, made, f"{bias.name}_equalized")
    for node, index, axis, classes in found.addends:
        by = factors[classes]
        value, other = node.inputs[index], node.inputs[1 - index]
        held = constant(value)
        if (by == 1).all() or held is None or value is None or other is None:
            continue
        rank = len(other.shape or ())
        along = by.reshape([-1 if i == axis else 1 for i in range(rank)])
        set_constant(editor, node, index, (held / along).astype(held.dtype), f"{value.name}_equalized")
    drop_unused_initializers(editor.graph)


def _factors(found: Channels) -> Array:
    """One factor a class."""
    sizes = [(layer, _sizes(layer)) for layer in found.layers]
    logs = np.zeros(found.count)
    for _ in range(ITERATIONS):
        wrote, read = np.zeros(found.count), np.zeros(found.count)
        factors = np.exp(logs)
        for layer, size in sizes:
            scaled = size * _matrix(layer, factors[layer.into]) / factors[layer.out][:, None]
            np.maximum.at(wrote, layer.out, scaled.max(axis=1))
            np.maximum.at(read, _matrix(layer, layer.into), scaled)
        both = (wrote > 0) & (read > 0)
        both[0] = False
        step = np.where(both, np.log(np.where(both, wrote, 1) / np.where(both, read, 1)) / 4, 0.0)
        logs = np.clip(logs + step, -np.log(LARGEST), np.log(LARGEST))
        if np.abs(step).max() < REST:
            break
    result: Array = np.exp(logs)
    return result


def _matrix(layer: Layer, each: Array) -> Array:
    """One number an input channel as [outputs, inputs of an output]: a group of outputs has its own inputs."""
    outputs = len(layer.out)
    grouped = each.reshape(layer.groups, -1)
    result: Array = np.repeat(grouped, outputs // layer.groups, axis=0)
    return result


def _sizes(layer: Layer) -> Array:
    """The largest weight between an input and an output channel, [outputs, inputs of an output]."""
    array = constant(layer.node.inputs[1])
    assert array is not None
    size: Array = np.abs(array.astype(np.float64)).max(axis=tuple(range(2, array.ndim)))
    return size if _rows_are_outputs(layer) else size.T


def _unmatrix(layer: Layer, matrix: Array, rank: int) -> Array:
    laid = matrix if _rows_are_outputs(layer) else matrix.T
    made: Array = laid.reshape(laid.shape + (1,) * (rank - 2))
    return made


def _rows_are_outputs(layer: Layer) -> bool:
    op = layer.node.op_type
    trans = layer.node.attributes.get("transB")
    return op == "Conv" or (op == "Gemm" and trans is not None and bool(trans.as_int()))

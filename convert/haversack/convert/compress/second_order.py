"""Rounding that makes up for itself: the error of each weight is taken over by those that are not rounded yet.

A layer's outputs are W·x. With H = E[x·xᵀ] over calibration data, changing W by D adds trace(D·H·Dᵀ) to their mean
squared error. Rounding (or pruning) the weights of one input after the other, the least such increase is reached when
the rest moves by -error/[H⁻¹]ⱼⱼ·[H⁻¹]ⱼ (Hassibi, Stork: "Second order derivatives for network pruning: Optimal Brain
Surgeon", NeurIPS 1992). All rows share one order of inputs, so that one Cholesky factor of H⁻¹ serves every step
(Frantar et al.: "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023, for
rounding; Frantar, Alistarh: "SparseGPT", ICML 2023, for pruning).

What was rounded early could not know what came later, so sweeps of coordinate descent follow: each weight moves to the
stored number that is best given all others, which lowers trace(D·H·Dᵀ) or leaves it (Behdin et al.: "QuantEase:
Optimization-based Quantization for Language Models", 2023, algorithm 1).

A bias is never rounded, so it takes over what is left in the mean (the bias correction of Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", ICCV 2019, measured), and H is the covariance of x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.activations import activations
from haversack.convert.compress.calibrate import Progress
from haversack.convert.compress.editing import Editor
from haversack.convert.compress.operators import constant
from haversack.runtimes.engines import Array

BATCHES = 128
"""So many calibration batches are run."""

POSITIONS = 64
"""So many positions of a convolution's output are looked at in each, evenly spread: neighbours say nearly the same."""

LARGEST = 1600
"""Layers that sum over more inputs are left out: H grows with the square, its inverse with the cube."""

DAMPING = 0.03
"""Share of H's mean diagonal that is added to it: inputs that never vary must not blow up. From 0.001 to 0.1 the
KL divergence on other calibration data changes by less than it does between subsets of that data."""

SILENT = 1e-30
"""A mean diagonal below this is of inputs that do not vary at all."""

SWEEPS = 4
"""Sweeps of coordinate descent at most; they end where nothing moves."""


@dataclass(frozen=True)
class Layer:
    """One layer whose weights are constant and nobody else's.

    Attributes:
        node: Conv, Gemm or MatMul.
        weights: Its weights.
        groups: Of a convolution, each with its own inputs; else 1.
    """

    node: ir.Node
    weights: ir.Value
    groups: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weights."""
        assert self.weights.shape is not None
        return tuple(int(size) for size in self.weights.shape.numpy())

    def matrix(self, array: Array) -> Array:
        """An array of the weights' shape as [groups, outputs of a group, inputs of an output]."""
        rows = array if self.node.op_type == "Conv" or _integer(self.node, "transB", 0) else array.T
        return rows.reshape(self.groups, rows.shape[0] // self.groups, -1)

    def unmatrix(self, matrix: Array) -> Array:
        """Undo `matrix`."""
        if self.node.op_type == "Conv" or _integer(self.node, "transB", 0):
            return matrix.reshape(self.shape)
        return np.ascontiguousarray(matrix.reshape(self.shape[::-1]).T)


def layer_of(value: ir.Value) -> Layer | None:
    """The layer whose weights `value` is; None where it is read otherwise, or the layer sums over too many inputs."""
    uses = list(value.uses())
    shape = value.shape
    if len(uses) != 1 or uses[0].idx != 1 or shape is None or value.is_graph_output():
        return None
    node = uses[0].node
    rank = len(shape)
    if node.domain not in ("", "ai.onnx") or node.graph is not value.graph or constant(node.inputs[0]) is not None:
        return None
    if node.op_type == "Conv":
        if "auto_pad" in node.attributes and node.attributes["auto_pad"].as_string() not in ("NOTSET", ""):
            return None
        groups = _integer(node, "group", 1)
    elif (node.op_type == "MatMul" and rank == 2) or (
        node.op_type == "Gemm"
        and not _integer(node, "transA", 0)
        and all(key not in node.attributes or node.attributes[key].as_float() == 1.0 for key in ("alpha", "beta"))
    ):
        groups = 1
    else:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and constant(node.inputs[2]) is None:
        return None
    made = Layer(node, value, groups)
    return made if made.matrix(np.empty(made.shape, np.bool_)).shape[2] <= LARGEST else None


def moments(
    model: ir.Model, layers: Iterable[Layer], data: Iterable[Mapping[str, Array]], progress: Progress | None = None
) -> dict[str, Array]:
    """E[x·xᵀ] of each layer's inputs, with a last element of x that is 1.

    Args:
        model: The float hub graph; not changed.
        layers: Of it.
        data: Batches: one array a graph input.
        progress: Told after each batch.

    Returns:
        By name of the weights, float64 [groups, inputs of an output + 1, the same].

    Raises:
        DataError: There is not one batch.
    """
    layers = list(layers)
    names = [str(layer.node.inputs[0].name) for layer in layers if layer.node.inputs[0] is not None]
    sums: dict[str, Array] = {}
    count = 0
    for found in activations(model, names, data, BATCHES, progress):
        for layer in layers:
            assert layer.node.inputs[0] is not None
            x = summed(layer, found[str(layer.node.inputs[0].name)], POSITIONS)
            name = str(layer.weights.name)
            sums[name] = sums.get(name, 0.0) + x.swapaxes(1, 2) @ x / x.shape[1]
        count += 1
    return {name: total / count for name, total in sums.items()}


def summed(layer: Layer, array: Array, positions: int) -> Array:
    """What a layer sums over, with a 1 for the bias behind it.

    Args:
        layer: The layer.
        array: Its input; what is not finite counts as zero.
        positions: So many positions of a convolution's output are taken at most, evenly spread.

    Returns:
        float64 [groups, positions, inputs of an output + 1].
    """
    x = np.nan_to_num(_inputs(layer, array, positions), posinf=0.0, neginf=0.0)
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)


def _inputs(layer: Layer, array: Array, positions: int) -> Array:
    node = layer.node
    if node.op_type != "Conv":
        return array.reshape(1, -1, array.shape[-1]).astype(np.float64)
    kernel = layer.shape[2:]
    spatial = len(kernel)
    pads = _integers(node, "pads", [0] * 2 * spatial)
    strides, dilations = _integers(node, "strides", [1] * spatial), _integers(node, "dilations", [1] * spatial)
    padded = np.pad(array, [(0, 0), (0, 0), *zip(pads[:spatial], pads[spatial:], strict=True)])
    extent = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    axes = tuple(range(2, 2 + spatial))
    windows = np.lib.stride_tricks.sliding_window_view(padded, extent, axes)
    every: list[Any] = [slice(None), slice(None)]
    windows = windows[(*every, *(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))]
    places = windows.shape[2 : 2 + spatial]
    total = int(np.prod(places))
    chosen = np.unravel_index(np.linspace(0, total - 1, min(positions, total)).astype(int), places)
    picked = windows[(*every, *chosen)]  # [batch, channels, positions, *kernel]
    batch, channels, count = picked.shape[:3]
    grouped = picked.reshape(batch, layer.groups, channels // layer.groups, count, -1)
    result: Array = grouped.transpose(1, 0, 3, 2, 4).reshape(layer.groups, batch * count, -1).astype(np.float64)
    return result


class Solver:
    """Rounds the weights of one layer, and keeps the bias that goes with them.

    Args:
        layer: The layer.
        moment: Of its inputs, as `moments` gives it.
    """

    def __init__(self, layer: Layer, moment: Array):
        self.layer = layer
        held = layer.node.inputs[2] if len(layer.node.inputs) > 2 else None
        self._has_bias = layer.node.op_type != "MatMul"
        self._mean = moment[:, :-1, -1]
        inner = moment[:, :-1, :-1]
        centred = inner - self._mean[:, :, None] * self._mean[:, None] if self._has_bias else inner
        self._moment = np.stack([damped(each) for each in centred])
        groups, outputs, _ = layer.matrix(np.empty(layer.shape, np.bool_)).shape
        bias = constant(held)
        self.bias = np.broadcast_to(0.0 if bias is None else bias.reshape(-1), groups * outputs).reshape(
            groups, outputs
        )

    def salience(self, array: Array) -> Array:
        """What zeroing each weight costs once all others have made up for it: w² / [H⁻¹]ⱼⱼ (Optimal Brain Surgeon).

        Args:
            array: The weights.
        """
        matrices = self.layer.matrix(array.astype(np.float64))
        lost = np.stack([np.diag(np.linalg.inv(each)) for each in self._moment])
        return self.layer.unmatrix(matrices**2 / lost[:, None])

    def round(self, array: Array, stored: Callable[..., Array], *parameters: Array) -> Array:
        """Round weights input by input.

        Args:
            array: The weights, or what an earlier call made of them.
            stored: Given some weights, and each parameter for just these weights, what they are stored as.
            parameters: Of the weights' shape.

        Returns:
            The stored weights, float32.
        """
        matrices = self.layer.matrix(array)
        given = [self.layer.matrix(each) for each in parameters]
        made = np.empty(matrices.shape, np.float32)
        for group, matrix in enumerate(matrices):

            def rounded(index: int, column: Array, group: int = group) -> Array:
                return stored(column, *(each[group][:, index] for each in given))

            made[group] = compensated(matrix, self._moment[group], rounded)
        if self._has_bias:
            self.bias = self.bias + np.einsum("goi,gi->go", matrices.astype(np.float64) - made, self._mean)
        return self.layer.unmatrix(made)

    def apply(self, editor: Editor) -> None:
        """Give the layer its new bias."""
        if not self._has_bias:
            return
        node = self.layer.node
        old = node.inputs[2] if len(node.inputs) > 2 else None
        name = f"{self.layer.weights.name}_bias" if old is None else f"{old.name}_corrected"
        new = editor.initializer(name, self.bias.reshape(-1).astype(np.float32))
        node.resize_inputs(3)
        node.replace_input_with(2, new)
        if old is not None and not old.uses() and not old.is_graph_output():
            del editor.graph.initializers[str(old.name)]


def compensated(matrix: Array, moment: Array, rounded: Callable[[int, Array], Array], sweeps: int = SWEEPS) -> Array:
    """Round weights input by input, those with the largest inputs first, then anew until nothing gets better.

    Args:
        matrix: The weights, [outputs, inputs].
        moment: H of the inputs, damped, so that it has an inverse.
        rounded: Given the place of an input and numbers for its weights, what these are stored as.
        sweeps: Of coordinate descent, at most.

    Returns:
        The stored weights, float64.
    """
    work = matrix.astype(np.float64)
    order = np.argsort(-np.diag(moment), kind="stable")
    factor = np.linalg.cholesky(np.linalg.inv(moment[np.ix_(order, order)])).T
    work = work[:, order]
    for step, place in enumerate(order):
        held = rounded(int(place), work[:, step])
        error = (work[:, step] - held) / factor[step, step]
        work[:, step:] -= error[:, None] * factor[step, step:]
        work[:, step] = held
    result = np.empty_like(work)
    result[:, order] = work
    return descend(result, matrix, moment, rounded, sweeps)


def descend(
    start: Array, matrix: Array, moment: Array, rounded: Callable[[int, Array], Array], sweeps: int = SWEEPS
) -> Array:
    """Coordinate descent on trace((made - matrix)·H·(made - matrix)ᵀ).

    Args:
        start: Stored weights, [outputs, inputs].
        matrix: The weights that they stand for.
        moment: H of the inputs, damped.
        rounded: As `compensated` takes it.
        sweeps: At most; they end where nothing moves.

    Returns:
        Stored weights, float64, whose error is not larger.
    """
    made = start.astype(np.float64)
    slope = (made - matrix) @ moment
    order = np.argsort(-np.diag(moment), kind="stable")
    for _ in range(sweeps):
        moved = False
        for place in order:
            change = rounded(int(place), made[:, place] - slope[:, place] / moment[place, place]) - made[:, place]
            if change.any():
                slope += change[:, None] * moment[place]
                made[:, place] += change
                moved = True
        if not moved:
            break
    return made


def damped(moment: Array) -> Array:
    """A copy of H [inputs, inputs] with more on its diagonal; the identity where no input ever varies."""
    made: Array = np.nan_to_num(moment, posinf=0.0, neginf=0.0)
    each = np.arange(len(made))
    mean = made[each, each].mean()
    made[each, each] += DAMPING * mean if mean > SILENT else 1.0
    return made


def _integer(node: ir.Node, name: str, default: int) -> int:
    found = node.attributes.get(name)
    return default if found is None else int(found.as_int())


def _integers(node: ir.Node, name: str, default: list[int]) -> list[int]:
    found = node.attributes.get(name)
    return default if found is None else [int(number) for number in found.as_ints()]

"""The recipes of `recipes.STORAGES`: weights in int4, in palettes, pruned; arithmetic in float32.

Only weights of layers are touched, and only where the form is smaller by what it takes to say it; biases and other
small constants weigh little and cost accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from haversack.convert.compress import cluster, forms, int4, prune, weights
from haversack.convert.compress.calibrate import Progress
from haversack.convert.compress.editing import Editor
from haversack.convert.compress.importance import importance
from haversack.convert.compress.operators import weight_axis, weight_values
from haversack.convert.compress.recipes import HALF, STORAGES, Recipe, Storage
from haversack.convert.errors import UsageError
from haversack.runtimes.engines import Array

WORTH = 512
"""Bytes that a form must save: the nodes and names that say it are about as large in an artifact."""


@dataclass(frozen=True)
class Axes:
    """How a layer's weights lie.

    Attributes:
        out: The axis of the output channels.
        into: The axis of the input channels, over which the layer sums.
    """

    out: int
    into: int


def store_weights(
    model: ir.Model, recipe: Recipe, mattering: Mapping[str, Array], progress: Progress | None = None
) -> tuple[ir.Model, list[str]]:
    """Store the weights of a copy of `model` as the recipe says.

    Args:
        model: The float hub graph.
        recipe: Its name is one of `STORAGES`, or that with `-fp16`.
        mattering: Of the weights, by name, where it is known: what `matters` gives, at whatever sizes.
        progress: Told how far it is.

    Returns:
        The compressed hub graph, and notes.

    Raises:
        UsageError: There are NaN or infinite weights.
    """
    storage = STORAGES[recipe.name.removesuffix(HALF)]
    copy = model.clone()
    chosen = [(value, axes) for value in weight_values(copy.graph) if (axes := layout(value)) is not None]
    editor = Editor(copy.graph)
    kept, coarse = 0, 0
    for count, (value, axes) in enumerate(chosen):
        if progress is not None:
            progress(count / len(chosen), f"storing {value.name}")
        outcome = store(editor, value, axes, storage, mattering.get(str(value.name)))
        kept += outcome == "kept"
        coarse += outcome == "coarse"
    notes = []
    if kept:
        notes.append(f"{kept} small layers keep float32 weights: {recipe.name} would save nothing there")
    if coarse:
        blocks = "scale an output channel" if storage.block else "palette"
        notes.append(f"{coarse} layers have one {blocks}: their channels do not divide into blocks of that size")
    return copy, notes


def matters(
    model: ir.Model, calibration: Iterable[Mapping[str, Array]] | None, progress: Progress | None = None
) -> dict[str, Array]:
    """How much an error in each weight matters (`importance`), by initializer; empty without calibration data."""
    if calibration is None:
        return {}
    values = [value for value in weight_values(model.graph) if layout(value) is not None]
    return importance(model, values, calibration, progress)


def layout(value: ir.Value) -> Axes | None:
    """How the layers that read `value` lay out their weights; None where it is no layer's weights, or they differ."""
    tensor = value.const_value
    assert tensor is not None
    rank = len(tensor.shape)
    found = {_axes(use.node, use.idx, rank) for use in value.uses()}
    return found.pop() if rank >= 2 and len(found) == 1 else None


def _axes(node: ir.Node, index: int, rank: int) -> Axes | None:
    out = weight_axis(node, index)
    if out is None or rank < 2:
        return None
    into = {"Conv": 1, "ConvTranspose": 0, "Gather": 1, "Gemm": 1 - out, "MatMul": rank - 2}.get(node.op_type, 2)
    return Axes(out % rank, into)


def store(editor: Editor, value: ir.Value, axes: Axes, storage: Storage, mattering: Array | None = None) -> str:
    """Store one layer's weights.

    Args:
        editor: Of the graph.
        value: A float32 initializer.
        axes: How it lies.
        storage: How to store it.
        mattering: `importance` of its elements, broadcastable to it.

    Returns:
        `stored`; `coarse` where channels could not be divided into groups or blocks as asked; `kept` where nothing
        would be saved.

    Raises:
        UsageError: There are NaN or infinite weights.
    """
    tensor = value.const_value
    assert tensor is not None
    array = tensor.numpy().astype(np.float32)
    if not np.isfinite(array).all():
        raise UsageError(f"{value.name}: NaN or infinite weights cannot be compressed; repair the model's training")
    channels = array.shape[axes.out]
    groups = channels // storage.group if storage.group and channels % storage.group == 0 else 1
    blocks = (
        array.shape[axes.into] // storage.block if storage.block and not array.shape[axes.into] % storage.block else 0
    )
    if 4 * array.size - _bytes(array, channels, groups, blocks, storage) < WORTH:
        return "kept"
    if storage.sparsity is not None:
        array = prune.unstructured(array, storage.sparsity, mattering)
    elif storage.pattern is not None:
        array = prune.pattern(array, *storage.pattern, axes.into, mattering)
    if storage.palette and storage.bits is not None:
        _palette(editor, value, array, axes.out, 1 << storage.bits, groups, mattering)
    elif storage.bits == 4:
        _int4(editor, value, array, axes, storage.block if blocks else None, mattering)
    elif storage.bits == 8:
        made = weights.quantize(str(value.name), array, axes.out)
        forms.integer(editor, value, made.quantized, made.scale, made.axis)
    else:
        value.const_value = ir.Tensor(array, name=value.name)
    divided = groups > 1 or not storage.group or channels <= storage.group
    return "stored" if divided and (blocks or not storage.block) else "coarse"


def _bytes(array: Array, channels: int, groups: int, blocks: int, storage: Storage) -> int:
    """What the form takes: indices or integers, scales or palettes; float32 zeros count as a bit."""
    if storage.bits is None:
        return array.size // 2 * 4
    parameters = groups << storage.bits if storage.palette else channels * max(blocks, 1)
    return array.size * storage.bits // 8 + 4 * parameters


def _palette(
    editor: Editor, value: ir.Value, array: Array, axis: int, entries: int, groups: int, mattering: Array | None
) -> None:
    sparse = bool(2 * np.count_nonzero(array) <= array.size)  # pruned: zero must stay zero
    spread = None if mattering is None else np.broadcast_to(mattering, array.shape)
    tables, indices = [], []
    for part, weight in zip(
        np.split(array, groups, axis),
        [None] * groups if spread is None else np.split(spread, groups, axis),
        strict=True,
    ):
        table = cluster.cluster(part, entries, weight, fixed_zero=sparse)
        tables.append(table)
        indices.append(cluster.nearest(part, table))
    forms.palette(editor, value, np.concatenate(indices, axis), np.stack(tables), axis)


def _int4(
    editor: Editor, value: ir.Value, array: Array, axes: Axes, block: int | None, mattering: Array | None
) -> None:
    """One scale an output channel, or one a block of its input channels (all kernel taps of them together)."""
    into = array.shape[axes.into]
    size = block or into
    others = [i for i in range(array.ndim) if i not in (axes.out, axes.into)]
    order = (axes.out, axes.into, *others)
    taps = math.prod(array.shape[i] for i in others)
    channels, blocks = array.shape[axes.out], into // size

    def rows(whole: Array) -> Array:
        return whole.transpose(order).reshape(channels * blocks, size * taps)

    weight = None if mattering is None else rows(np.broadcast_to(mattering, array.shape))
    integers, scale = int4.quantize(str(value.name), rows(array), weight)
    moved = integers.reshape([array.shape[i] for i in order]).transpose(np.argsort(order))
    stored = np.ascontiguousarray(moved).astype(ml_dtypes.int4)
    if block is None:
        forms.integer(editor, value, stored, scale, axes.out)
        return
    shape = [blocks if i == axes.into else size for i, size in enumerate(array.shape)]
    ones = [size if i in (axes.out, axes.into) else 1 for i, size in enumerate(shape)]
    matrix = scale.reshape(channels, blocks)
    matrix = (matrix if axes.out < axes.into else matrix.T).reshape(ones)
    forms.integer(editor, value, stored, np.ascontiguousarray(np.broadcast_to(matrix, shape)), axes.into, block)

"""The recipes of `recipes.STORAGES`: weights in int4, in palettes, pruned; arithmetic in float32.

Only weights of layers are touched, and only where the form is smaller by what it takes to say it; biases and other
small constants weigh little and cost accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx_ir as ir

from haversack.convert.compress import cluster, forms, int4, prune, weights
from haversack.convert.compress.calibrate import Progress
from haversack.convert.compress.editing import Editor
from haversack.convert.compress.importance import importance
from haversack.convert.compress.methods.stepwise import sample
from haversack.convert.compress.operators import weight_axis, weight_values
from haversack.convert.compress.recipes import HALF, STORAGES, Recipe, Storage
from haversack.convert.compress.second_order import Solver, layer_of, moments
from haversack.convert.errors import UsageError
from haversack.runtimes.engines import Array

WORTH = 512
"""Bytes that a form must save: the nodes and names that say it are about as large in an artifact."""

FEWEST = 16
"""An output that sums over fewer weights (a depthwise convolution's) keeps them all: each counts, they are few."""


@dataclass(frozen=True)
class Axes:
    """How a layer's weights lie.

    Attributes:
        out: The axis of the output channels.
        into: The axis of the input channels, over which the layer sums.
    """

    out: int
    into: int


@dataclass(frozen=True)
class Seen:
    """What calibration data says of a model's weights, by initializer; nothing without such data.

    Attributes:
        importance: How much an error in each weight matters, broadcastable to them.
        moments: Of what their layer sums over, where the layer is one that `second_order` rounds.
    """

    importance: Mapping[str, Array] = field(default_factory=dict)
    moments: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """The part of `Seen` that belongs to one initializer."""

    importance: Array | None = None
    solver: Solver | None = None


NOTHING = Known()


def store_weights(
    model: ir.Model, recipe: Recipe, seen: Seen, progress: Progress | None = None
) -> tuple[ir.Model, list[str]]:
    """Store the weights of a copy of `model` as the recipe says.

    Args:
        model: The float hub graph.
        recipe: Its name is one of `STORAGES`, or that with `-fp16`.
        seen: What `observe` found, at whatever sizes of the model.
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
        name, layer = str(value.name), layer_of(value)
        solver = Solver(layer, seen.moments[name]) if layer is not None and name in seen.moments else None
        outcome = store(editor, value, axes, storage, Known(seen.importance.get(name), solver))
        kept += outcome == "kept"
        coarse += outcome == "coarse"
    notes = []
    if kept:
        notes.append(f"{kept} small layers keep float32 weights: {recipe.name} would save nothing there")
    if coarse:
        blocks = "scale an output channel" if storage.block else "palette"
        notes.append(f"{coarse} layers have one {blocks}: their channels do not divide into blocks of that size")
    return copy, notes


def observe(
    model: ir.Model, calibration: Iterable[Mapping[str, Array]] | None, progress: Progress | None = None
) -> Seen:
    """Run the float hub graph on calibration data, of which a sample is taken."""
    if calibration is None:
        return Seen()
    values = [value for value in weight_values(model.graph) if layout(value) is not None]
    batches = sample(calibration, model)
    layers = [layer for value in values if (layer := layer_of(value)) is not None]
    return Seen(importance(model, values, batches), moments(model, layers, batches, progress))


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


def store(editor: Editor, value: ir.Value, axes: Axes, storage: Storage, known: Known = NOTHING) -> str:
    """Store one layer's weights.

    Args:
        editor: Of the graph.
        value: A float32 initializer.
        axes: How it lies.
        storage: How to store it.
        known: What is known of it.

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
    kept = None
    if (storage.sparsity or storage.pattern) and array.size // channels >= FEWEST:
        solver = known.solver
        salience = prune.magnitude(array, known.importance) if solver is None else solver.salience(array)
        if storage.pattern is not None:
            kept = prune.pattern(salience, *storage.pattern, axes.into)
        else:
            kept = prune.unstructured(salience, storage.sparsity or 0.0)
    if kept is not None:
        array = _rounded(known.solver, array, np.multiply, kept)
    if storage.palette and storage.bits is not None:
        _palette(editor, value, array, axes.out, 1 << storage.bits, groups, kept, known)
    elif storage.bits == 4:
        _int4(editor, value, array, axes, storage.block if blocks else None, known)
    elif storage.bits == 8:
        made = weights.quantize(str(value.name), array, axes.out)
        forms.integer(editor, value, made.quantized, made.scale, made.axis)
    else:
        value.const_value = ir.Tensor(array, name=value.name)
    if known.solver is not None:
        known.solver.apply(editor)
    divided = groups > 1 or not storage.group or channels <= storage.group
    return "stored" if divided and (blocks or not storage.block) else "coarse"


def _rounded(solver: Solver | None, array: Array, stored: Callable[..., Array], *parameters: Array) -> Array:
    """What weights are stored as, each with its own parameters: one by one, or making up for each other's errors."""
    return stored(array, *parameters) if solver is None else solver.round(array, stored, *parameters)


def _bytes(array: Array, channels: int, groups: int, blocks: int, storage: Storage) -> int:
    """What the form takes: indices or integers, scales or palettes; float32 zeros count as a bit."""
    if storage.bits is None:
        return array.size // 2 * 4
    parameters = groups << storage.bits if storage.palette else channels * max(blocks, 1)
    return array.size * storage.bits // 8 + 4 * parameters


def _palette(
    editor: Editor,
    value: ir.Value,
    array: Array,
    axis: int,
    entries: int,
    groups: int,
    kept: Array | None,
    known: Known,
) -> None:
    parts = np.split(array, groups, axis)
    spread = (
        None if known.importance is None else np.split(np.broadcast_to(known.importance, array.shape), groups, axis)
    )
    tables = np.stack(
        [
            cluster.cluster(part, entries, None if spread is None else spread[index], fixed_zero=kept is not None)
            for index, part in enumerate(parts)
        ]
    )
    own = np.concatenate([np.full(part.shape, index) for index, part in enumerate(parts)], axis)
    pruned = np.ones(array.shape, np.bool_) if kept is None else kept

    def stored(some: Array, group: Array, stays: Array) -> Array:
        return np.where(stays, tables[group, cluster.nearest(some, tables, group)], np.float32(0))

    final = _rounded(known.solver, array, stored, own, pruned)
    forms.palette(editor, value, cluster.nearest(final, tables, own), tables, axis)


def _int4(
    editor: Editor,
    value: ir.Value,
    array: Array,
    axes: Axes,
    block: int | None,
    known: Known,
) -> None:
    """One scale an output channel, or one a block of its input channels (all kernel taps of them together)."""
    size = block or array.shape[axes.into]
    others = [i for i in range(array.ndim) if i not in (axes.out, axes.into)]
    order = (axes.out, axes.into, *others)
    channels, blocks = array.shape[axes.out], array.shape[axes.into] // size

    def rows(whole: Array) -> Array:
        return whole.transpose(order).reshape(channels * blocks, -1)

    weight = None if known.importance is None else rows(np.broadcast_to(known.importance, array.shape))
    scale = int4.scales(str(value.name), rows(array), weight).reshape(channels, blocks)
    shape = [
        scale.shape[(axes.out, axes.into).index(i)] if i in (axes.out, axes.into) else 1 for i in range(array.ndim)
    ]
    laid = (scale if axes.out < axes.into else scale.T).reshape(shape)
    step = np.broadcast_to(np.repeat(laid, size, axes.into), array.shape)
    final = _rounded(known.solver, array, lambda some, of: int4.integers(some, of) * of, step)
    stored = int4.integers(final, step).astype(ml_dtypes.int4)
    if block is None:
        forms.integer(editor, value, stored, scale[:, 0], axes.out)
        return
    repeated = [blocks if i == axes.into else length for i, length in enumerate(array.shape)]
    forms.integer(editor, value, stored, np.ascontiguousarray(np.broadcast_to(laid, repeated)), axes.into, block)

"""Weights rounded layer by layer so that each layer computes, from what it now gets, what it computed before.

With x the inputs of a layer in the float graph and z those in the graph whose earlier layers are rounded already, the
rounded weights Q are sought that bring Q·z close to W·x: the asymmetric reconstruction of Nagel et al. ("Up or Down?
Adaptive Rounding for Post-Training Quantization", ICML 2020, section 3.4). Its mean squared error is

    trace((Q - T)·H·(Q - T)ᵀ) + what Q cannot change,    H = E[z·zᵀ],    T = W·E[x·zᵀ]·H⁻¹,

so that a rounding needs H and the target T only, which is the best that unrounded weights could do about the errors of
the layers before. Where the bias may change, expectations are covariances, and the bias then makes the means equal.
H's diagonal is damped, and T is computed as W + W·(E[x·zᵀ] - H)·H⁻¹: inputs that hardly vary keep their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.calibrate import Progress
from haversack.convert.compress.editing import Editor, set_constant
from haversack.convert.compress.methods import weight_scales
from haversack.convert.compress.methods.grid import Grid
from haversack.convert.compress.methods.stepwise import Stepwise
from haversack.convert.compress.operators import constant, weight_axis
from haversack.convert.compress.second_order import Layer, damped, layer_of, summed
from haversack.runtimes.engines import Array

POSITIONS, FEWEST = 1 << 14, 64
"""So many positions of a convolution's output are looked at in all batches together, and at least so many in each."""

STACKED = 16
"""So many batches are looked at in one go, where they are of one size."""

Rounder = Callable[[Array, Array, Array, int], Array]
"""(target [outputs, inputs], damped H [inputs, inputs], step of each weight, limit) → whole numbers as float64."""


@dataclass(frozen=True)
class Wanted:
    """How a layer's weights are to be rounded.

    Attributes:
        limit: The largest whole number: 7 for four bits, 127 for eight.
        per_channel: One scale an output channel, or one for all.
        step: The scale to take, float32, a scalar or [channels]; None: one is chosen.
    """

    limit: int = 127
    per_channel: bool = True
    step: Array | None = None


@dataclass(frozen=True)
class Rounded:
    """A float graph whose weights lie on grids.

    Attributes:
        model: The graph; quantizing its weights on their grids changes nothing.
        grids: By node name.
        notes: What the user should know.
    """

    model: ir.Model
    grids: dict[str, Grid]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """How to round.

    Attributes:
        rounder: Chooses the whole numbers; None: the nearest.
        fitted: Scales of least error; otherwise those that just hold the largest weight.
        bias: Whether biases make the means equal.
    """

    rounder: Rounder | None = None
    fitted: bool = True
    bias: bool = True


def reconstruct(
    model: ir.Model,
    wanted: Mapping[str, Wanted],
    choice: Choice,
    batches: Sequence[Mapping[str, Array]] = (),
    progress: Progress | None = None,
) -> Rounded:
    """Round the weights of a copy of `model`.

    Args:
        model: The float hub graph.
        wanted: By node name, for each Conv, ConvTranspose, Gemm and MatMul with constant weights that is to be rounded.
        choice: How; without batches, the nearest numbers, and biases as they are.
        batches: Of calibration data, as `stepwise.sample` takes them.
        progress: Told after each layer.

    Raises:
        UsageError: There are NaN or infinite weights.
    """
    made = model.clone()
    before = {str(node.name): node for node in model.graph}
    nodes = [node for node in made.graph if str(node.name) in wanted]
    runs = (Stepwise(model, batches), Stepwise(made, batches)) if batches else None
    grids: dict[str, Grid] = {}
    editor = Editor(made.graph)
    nearest, left = 0, 0
    for count, node in enumerate(nodes):
        value = node.inputs[1]
        array = constant(value)
        if value is None or array is None or len(value.uses()) != 1 or weight_axis(node, 1) is None:
            left += 1
            continue
        want = wanted[str(node.name)]
        axis = channel_axis(node) if want.per_channel else None
        layer = layer_of(value) if runs is not None else None
        if layer is None:
            nearest += runs is not None and choice.rounder is not None
            fit = weight_scales.least_error if choice.fitted else weight_scales.widest
            given = want.step
            grid = fit(str(value.name), array, axis, want.limit) if given is None else Grid(given, axis, want.limit)
            set_constant(editor, node, 1, grid.round(array), str(value.name))
        else:
            assert runs is not None
            seen = _observe(layer, before[str(node.name)], *runs, bias=choice.bias)
            grid = _round(editor, layer, seen, axis, want, choice)
        grids[str(node.name)] = grid
        if progress is not None:
            progress((count + 1) / len(nodes), f"rounding {node.name}")
    notes = [f"{left} layers share their weights and are rounded to the nearest as they are"] if left else []
    if nearest:
        notes.append(f"{nearest} layers are too wide or of a kind that is rounded to the nearest only")
    return Rounded(made, grids, notes)


def channel_axis(node: ir.Node) -> int | None:
    """The output-channel axis of a node's weights, never negative; None where one scale has to serve all.

    The weights of a grouped ConvTranspose, [in, out / group, ...], repeat an output channel in every group.
    """
    axis, weights = weight_axis(node, 1), node.inputs[1]
    group = node.attributes.get("group")
    if axis is None or weights is None or weights.shape is None:
        return None
    if node.op_type == "ConvTranspose" and group is not None and group.as_int() != 1:
        return None
    return axis % len(weights.shape)


@dataclass(frozen=True)
class _Seen:
    """What calibration data says of one layer's inputs x, once float, and z, now; a leading axis of groups.

    Attributes:
        moment: E[z·zᵀ], or covariances.
        cross: E[x·zᵀ], or covariances.
        means: Of x and of z, where the bias is to make up for their difference.
    """

    moment: Array
    cross: Array
    means: tuple[Array, Array] | None


def _observe(layer: Layer, before: ir.Node, first: Stepwise, second: Stepwise, *, bias: bool) -> _Seen:
    source, now = before.inputs[0], layer.node.inputs[0]
    assert source is not None
    assert now is not None
    for run, value in ((first, source), (second, now)):
        producer = value.producer()
        if producer is not None:
            run.until(producer, [value])
    found = list(zip(first.values(source), second.values(now), strict=True))
    positions = max(FEWEST, POSITIONS // len(found))
    moment = cross = np.zeros(())
    for start in range(0, len(found), STACKED):
        part = found[start : start + STACKED]
        alike = len({array.shape for pair in part for array in pair}) == 1
        pairs = [tuple(np.concatenate(arrays) for arrays in zip(*part, strict=True))] if alike else part
        for a, b in pairs:
            x, z = summed(layer, a, positions), summed(layer, b, positions)
            share = len(part) / len(pairs) / len(found) / z.shape[1]
            moment = moment + share * (z.swapaxes(1, 2) @ z)
            cross = cross + share * (x.swapaxes(1, 2) @ z)
    if not bias or layer.node.op_type == "MatMul":
        return _Seen(moment[:, :-1, :-1], cross[:, :-1, :-1], None)
    of_x, of_z = cross[:, :-1, -1], moment[:, :-1, -1]
    return _Seen(
        moment[:, :-1, :-1] - of_z[:, :, None] * of_z[:, None],
        cross[:, :-1, :-1] - of_x[:, :, None] * of_z[:, None],
        (of_x, of_z),
    )


def _round(editor: Editor, layer: Layer, seen: _Seen, axis: int | None, want: Wanted, choice: Choice) -> Grid:
    """Round one layer; its weights and its bias are replaced."""
    array = constant(layer.weights)
    assert array is not None
    weights = layer.matrix(array.astype(np.float64))
    moments = np.stack([damped(each) for each in seen.moment])
    target = weights
    if choice.rounder is not None:
        off = np.linalg.solve(moments, (seen.cross - seen.moment).swapaxes(1, 2)).swapaxes(1, 2)
        target = weights + weights @ off
    fit_to = layer.unmatrix(target)
    name, limit = str(layer.weights.name), want.limit
    if want.step is not None:
        grid = Grid(want.step, axis, limit)
    elif choice.fitted:
        spread = np.broadcast_to(np.diagonal(moments, axis1=1, axis2=2)[:, None], weights.shape)
        grid = weight_scales.least_error(name, fit_to, axis, limit, layer.unmatrix(spread))
    else:
        grid = weight_scales.widest(name, array, axis, limit)
    steps = layer.matrix(grid.steps(array.shape)).astype(np.float64)
    if choice.rounder is None:
        made = grid.round(array)
    else:
        parts = [choice.rounder(*each, limit) for each in zip(target, moments, steps, strict=True)]
        made = grid.round(layer.unmatrix(np.stack(parts) * steps))
    set_constant(editor, layer.node, 1, made, name)
    if seen.means is not None:
        of_x, of_z = seen.means
        change = np.einsum("goi,gi->go", weights, of_x) - np.einsum(
            "goi,gi->go", layer.matrix(made.astype(np.float64)), of_z
        )
        add_to_bias(editor, layer.node, change.reshape(-1))
    return grid


def add_to_bias(editor: Editor, node: ir.Node, change: Array) -> None:
    """Give a Conv, ConvTranspose or Gemm of a float graph a bias that is larger by `change` [output channels]."""
    old = node.inputs[2] if len(node.inputs) > 2 else None
    held = constant(old)
    made = (change + (0.0 if held is None else held.reshape(-1).astype(np.float64))).astype(np.float32)
    weights = node.inputs[1]
    assert weights is not None
    set_constant(editor, node, 2, made, f"{weights.name}_bias" if old is None else f"{old.name}_corrected")

"""The recipe `int8`: calibrate, choose ranges and weights' granularity, round, insert, correct biases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from haversack.convert.compress import qdq, weights
from haversack.convert.compress.calibrate import Calibration, Progress, calibrate
from haversack.convert.compress.groups import Group, quantization
from haversack.convert.compress.methods import Methods, apply, checked, portability
from haversack.convert.compress.methods.reconstruct import Wanted
from haversack.convert.compress.methods.stepwise import sample
from haversack.convert.compress.range_of import scale_of_group
from haversack.convert.compress.recipes import Recipe
from haversack.convert.compress.scale import Scale
from haversack.convert.compress.squashing import before_squashing
from haversack.convert.compress.unpacking import unpack_weights
from haversack.convert.errors import DataError, UsageError
from haversack.runtimes.engines import Array

WORTH = 0.5
"""Decibels that per-channel weights must gain over per-tensor ones: below that the smaller file wins."""

CALIBRATION_SHARE = 0.5
"""The part of the work, for the progress display, that calibration is."""


def quantize(
    model: ir.Model, recipe: Recipe, data: Iterable[Mapping[str, Array]] | None, progress: Progress | None = None
) -> tuple[ir.Model, list[str], Callable[[ir.Model], ir.Model]]:
    """Quantize a copy of `model` to int8.

    Returns:
        The int8 hub graph, notes for the report, and what quantizes the same model at other sizes alike.

    Raises:
        DataError: No calibration data, or data that does not fit.
        UsageError: Nothing in the model can be quantized.
    """
    if data is None:
        raise DataError("int8 needs calibration data (--calibration DATA): ranges of activations come from real inputs")
    methods = checked(recipe.methods, calibrated=True)
    model, notes = apply.before(model, methods)
    plan = quantization(model.graph)
    if not plan.nodes:
        raise UsageError("int8: no operator of this model has an int8 kernel; use fp16 or int8-weights")
    wanted = [
        str(member.name)
        for group in plan.groups
        if group.fixed is None
        for member in group.members
        if isinstance(member, ir.Value)
    ]
    watch: Progress | None = None
    if progress is not None:
        watch = partial(_first_part, progress)
    seen = calibrate(model, wanted, data, watch)
    notes += _warnings(seen)
    maker = _Maker(model, seen, recipe, methods, sample(seen.kept, model))
    weighted = any(kind == "weighted" for kind in plan.nodes.values())
    if recipe.weights != "auto" or not weighted:
        made = maker.make(per_channel=recipe.weights != "per-tensor")
    else:
        made, note = _better(maker, progress)
        notes.append(note)
    notes += made.prepared.notes
    floats = [node for node in model.graph if node not in plan.nodes and _is_float(node)]
    notes += [f"{node.name} ({node.op_type}) stays float32: no int8 kernel for it" for node in floats]
    return made.model, notes, partial(_repeat, Calibration(seen.histograms), recipe, methods, made.kept())


@dataclass(frozen=True)
class _Made:
    """An int8 hub graph, and what makes the same of the model at other sizes."""

    model: ir.Model
    per_channel: bool
    prepared: apply.Prepared
    shifts: dict[str, Array]

    def kept(self) -> _Made:
        """Without the graph."""
        return dataclasses.replace(self, model=self.prepared.model)


@dataclass(frozen=True)
class _Maker:
    model: ir.Model
    seen: Calibration
    recipe: Recipe
    methods: Methods
    batches: apply.Batches

    def make(self, *, per_channel: bool, progress: Progress | None = None) -> _Made:
        """Round weights, insert, correct biases."""
        limit = portability.LIMIT if "reduced-range" in self.methods else weights.LIMIT
        nodes = [str(node.name) for node, kind in quantization(self.model.graph).nodes.items() if kind == "weighted"]
        wanted = {name: Wanted(limit, per_channel) for name in nodes}
        prepared = apply.round_weights(self.model, wanted, self.methods, self.batches, progress)
        quantized = _insert(prepared.model, self.seen, self.recipe, per_channel, prepared.integers)
        made, shifts = apply.after(self.model, quantized, self.methods, self.batches)
        return _Made(made, per_channel, prepared, shifts)


def _repeat(seen: Calibration, recipe: Recipe, methods: Methods, made: _Made, model: ir.Model) -> ir.Model:
    """Quantize the same model at other sizes with the ranges that were seen and the numbers that were chosen.

    Raises:
        ValueError: At these sizes the model has values that calibration did not see.
    """
    same = apply.again(apply.before(unpack_weights(model), methods)[0], made.prepared)
    try:
        quantized = _insert(same, seen, recipe, made.per_channel, made.prepared.integers)
    except KeyError as error:
        raise ValueError(f"calibration saw no {error} at the default size") from None
    return apply.shift_again(quantized, made.shifts)


def _first_part(progress: Progress, fraction: float, phrase: str) -> None:
    progress(CALIBRATION_SHARE * fraction, phrase)


def _later_part(progress: Progress, step: int, fraction: float, phrase: str) -> None:
    progress(CALIBRATION_SHARE + (1 - CALIBRATION_SHARE) * (step + fraction) / 2, phrase)


def _warnings(seen: Calibration) -> list[str]:
    return [
        f"{name}: {histogram.not_finite} NaN or infinite values in calibration were left out of its range"
        for name, histogram in seen.histograms.items()
        if histogram.not_finite
    ]


def _is_float(node: ir.Node) -> bool:
    return any(value.dtype == ir.DataType.FLOAT for value in (*node.inputs, *node.outputs) if value is not None)


def _insert(
    model: ir.Model, seen: Calibration, recipe: Recipe, per_channel: bool, integers: Mapping[str, qdq.Rounded]
) -> ir.Model:
    copy = model.clone()
    plan = quantization(copy.graph)
    scales: dict[int, Scale] = {}

    def scale_of(group: Group) -> Scale:
        if id(group) not in scales:
            scales[id(group)] = scale_of_group(group, seen, recipe.ranges)
        return scales[id(group)]

    for group in plan.groups:  # before the graph changes under the constants
        scale_of(group)
    weighted = [str(node.name) for node, kind in plan.nodes.items() if kind == "weighted"]
    qdq.insert(copy.graph, plan, scale_of, dict.fromkeys(weighted, per_channel), integers)
    return copy


def _better(maker: _Maker, progress: Progress | None) -> tuple[_Made, str]:
    """Build both weight granularities, run both on the kept calibration batches, and keep the better one."""
    judged = [before_squashing(value) for value in maker.model.graph.outputs]
    noise: dict[bool, float] = {}
    made: dict[bool, _Made] = {}
    reference = _outputs(maker.model, judged, maker.batches)
    for step, per_channel in enumerate((False, True)):
        watch: Progress | None = None
        if progress is not None:
            watch = partial(_later_part, progress, step)
        made[per_channel] = maker.make(per_channel=per_channel, progress=watch)
        noise[per_channel] = signal_to_noise(reference, _outputs(made[per_channel].model, judged, maker.batches))
    best = noise[True] > noise[False] + WORTH
    kind = "per-channel" if best else "per-tensor"
    note = (
        f"weights: {kind} (signal-to-noise on calibration data: per-channel {noise[True]:.1f} dB, "
        f"per-tensor {noise[False]:.1f} dB)"
    )
    return made[best], note


def _outputs(model: ir.Model, names: list[str], batches: apply.Batches) -> list[list[Array]]:
    from haversack.convert.hub.evaluate import Evaluator

    present = {value.name for node in model.graph for value in node.outputs}
    actual = [f"{name}_dequantized" if f"{name}_dequantized" in present else name for name in names]
    evaluator = Evaluator(model, actual)
    return [[results[name] for name in actual] for results in (evaluator.run(dict(feeds)) for feeds in batches)]


def signal_to_noise(reference: list[list[Array]], found: list[list[Array]]) -> float:
    """Signal power over noise power, in dB, of several batches of several outputs; the worst output counts.

    Args:
        reference: Batches of outputs in float.
        found: The same, quantized.
    """
    worst = np.inf
    for index in range(len(reference[0])):
        signal = sum(float(np.square(batch[index].astype(np.float64)).sum()) for batch in reference)
        noise = sum(
            float(np.square(a[index].astype(np.float64) - b[index]).sum())
            for a, b in zip(reference, found, strict=True)
        )
        worst = min(worst, 10 * np.log10(signal / noise) if noise and signal else np.inf)
    return float(worst)

"""The recipe `int8`: calibrate, choose ranges, choose weight granularity, insert."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
import onnx_ir as ir

from haversack.convert.compress import qdq
from haversack.convert.compress.calibrate import Calibration, Progress, calibrate
from haversack.convert.compress.groups import Group, quantization
from haversack.convert.compress.range_of import scale_of_group
from haversack.convert.compress.recipes import Recipe
from haversack.convert.compress.scale import FIXED, Scale
from haversack.convert.compress.unpacking import unpack_weights
from haversack.convert.errors import DataError, UsageError
from haversack.runtimes.engines import Array

WORTH = 0.1
"""Decibels that per-channel weights must gain over per-tensor ones: below that the smaller file wins."""

CALIBRATION_SHARE = 0.8
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
    notes = _warnings(seen)
    weighted = [str(node.name) for node, kind in plan.nodes.items() if kind == "weighted"]
    if recipe.weights != "auto" or not weighted:
        chosen = recipe.weights if recipe.weights != "auto" else "per-channel"
        best = chosen == "per-channel"
        made = _insert(model, seen, recipe, dict.fromkeys(weighted, best))
    else:
        made, note, best = _better(model, seen, recipe, weighted, progress)
        notes.append(note)
    floats = [node for node in model.graph if node not in plan.nodes and _is_float(node)]
    notes += [f"{node.name} ({node.op_type}) stays float32: no int8 kernel for it" for node in floats]
    return made, notes, partial(_repeat, Calibration(seen.histograms), recipe, best)


def _repeat(seen: Calibration, recipe: Recipe, per_channel: bool, model: ir.Model) -> ir.Model:
    """Quantize the same model at other sizes with the ranges that were seen.

    Raises:
        ValueError: At these sizes the model has values that calibration did not see.
    """
    model = unpack_weights(model)
    nodes = [str(node.name) for node, kind in quantization(model.graph).nodes.items() if kind == "weighted"]
    try:
        return _insert(model, seen, recipe, dict.fromkeys(nodes, per_channel))
    except KeyError as error:
        raise ValueError(f"calibration saw no {error} at the default size") from None


def _first_part(progress: Progress, fraction: float, phrase: str) -> None:
    progress(CALIBRATION_SHARE * fraction, phrase)


def _warnings(seen: Calibration) -> list[str]:
    return [
        f"{name}: {histogram.not_finite} NaN or infinite values in calibration were left out of its range"
        for name, histogram in seen.histograms.items()
        if histogram.not_finite
    ]


def _is_float(node: ir.Node) -> bool:
    return any(value.dtype == ir.DataType.FLOAT for value in (*node.inputs, *node.outputs) if value is not None)


def _insert(model: ir.Model, seen: Calibration, recipe: Recipe, per_channel: Mapping[str, bool]) -> ir.Model:
    copy = model.clone()
    plan = quantization(copy.graph)
    scales: dict[int, Scale] = {}

    def scale_of(group: Group) -> Scale:
        if id(group) not in scales:
            scales[id(group)] = scale_of_group(group, seen, recipe.ranges)
        return scales[id(group)]

    for group in plan.groups:  # before the graph changes under the constants
        scale_of(group)
    qdq.insert(copy.graph, plan, scale_of, per_channel)
    return copy


def _better(
    model: ir.Model, seen: Calibration, recipe: Recipe, weighted: list[str], progress: Progress | None
) -> tuple[ir.Model, str, bool]:
    """Build both weight granularities, run both on the kept calibration batches, and keep the better one."""
    judged = [_before_softmax(value) for value in model.graph.outputs]
    noise: dict[bool, float] = {}
    made: dict[bool, ir.Model] = {}
    reference = _outputs(model, judged, seen)
    for step, per_channel in enumerate((False, True)):
        if progress is not None:
            progress(CALIBRATION_SHARE + (1 - CALIBRATION_SHARE) * step / 2, "choosing weight granularity")
        made[per_channel] = _insert(model, seen, recipe, dict.fromkeys(weighted, per_channel))
        noise[per_channel] = signal_to_noise(reference, _outputs(made[per_channel], judged, seen))
    best = noise[True] > noise[False] + WORTH
    kind = "per-channel" if best else "per-tensor"
    note = (
        f"weights: {kind} (signal-to-noise on calibration data: per-channel {noise[True]:.1f} dB, "
        f"per-tensor {noise[False]:.1f} dB)"
    )
    return made[best], note, best


def _before_softmax(value: ir.Value) -> str:
    """The name of a value to judge an output by: a saturated softmax or sigmoid hides errors."""
    producer = value.producer()
    while producer is not None and producer.op_type in (*FIXED, "Reshape", "Identity") and producer.inputs[0]:
        value = producer.inputs[0]
        producer = value.producer()
    return str(value.name)


def _outputs(model: ir.Model, names: list[str], seen: Calibration) -> list[list[Array]]:
    from haversack.convert.hub.evaluate import Evaluator

    present = {value.name for node in model.graph for value in node.outputs}
    actual = [f"{name}_dequantized" if f"{name}_dequantized" in present else name for name in names]
    evaluator = Evaluator(model, actual)
    return [[results[name] for name in actual] for results in (evaluator.run(dict(feeds)) for feeds in seen.kept)]


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

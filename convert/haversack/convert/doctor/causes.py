"""Why an integer model loses accuracy: one function a cause, each with its evidence in numbers.

A sign alone is no cause: what it concerns must also cost something when it is compressed alone (`Chart.matters`). So a
healthy model with a wide channel is told nothing but its largest loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import onnx_ir as ir

from haversack.convert.compress import operators
from haversack.convert.diagnosis import Cause, Harm
from haversack.convert.doctor import told
from haversack.convert.doctor.chart import Chart
from haversack.convert.doctor.examine import GroupLook
from haversack.convert.doctor.harm import UNLIKE
from haversack.runtimes.engines import Array

MARGIN = 0.25
"""An int8 step of the logits over the median gap between the two best from which on a head is called too coarse."""


def activation_causes(chart: Chart) -> list[Cause]:
    """Of every group of tensors that matters: the first cause that fits, the others as further signs."""
    looks = [look for look in chart.exam.groups if chart.matters(look.harm)]
    return [cause for look in looks if (cause := first_of(rule(chart, look) for rule in ACTIVATION_RULES)) is not None]


def first_of(found: Iterable[Cause | None]) -> Cause | None:
    """The first cause that fits, with the others as further signs."""
    signs = [cause for cause in found if cause is not None]
    if not signs:
        return None
    return dataclasses.replace(signs[0], also=tuple(f"{each.kind}: {each.evidence}" for each in signs[1:]))


def wide_head(chart: Chart, look: GroupLook) -> Cause | None:
    """An output whose parts are of unlike ranges: boxes in pixels and scores from 0 to 1 in one tensor.

    One scale has as many steps for all parts together; a part that is 255 times smaller than the largest gets one.
    Krishnamoorthi: "Quantizing deep convolutional networks for efficient inference: A whitepaper" (2018), section
    3.1.4, has one scale a tensor for activations, as every integer kernel here does.
    """
    if not chart.reaches_output(look) or look.group.fixed is not None:
        return None
    name, widest = _widest(chart, look)
    if widest is None:
        return None
    axis, reach, ratio = widest
    if ratio >= UNLIKE or _parts(reach) >= UNLIKE:
        small, large = _small_and_large(reach)
        steps = small / look.scale.scale
        return Cause(
            "wide-range head",
            name,
            f"index {int(reach.argmax())} of axis {axis} reaches {large:.4g}, half of the others at most {small:.3g}: "
            f"at one step of {look.scale.scale:.3g} for all that is {steps_of(steps)}",
            look.harm.loss,
            {"largest": large, "small": small, "step": look.scale.scale, "steps": steps},
            _nodes(chart, look),
        )
    return None


def coarse_logits(chart: Chart, look: GroupLook) -> Cause | None:
    """A last layer whose class scores lie closer together than the steps that its range leaves.

    A prediction changes where rounding, half a step on each of two scores, can close the gap between the two best.
    """
    judged = next(
        (each for each in chart.exam.bench.outputs if each.name in look.names and each.kind == "scores"), None
    )
    if judged is None or look.group.fixed is not None:
        return None
    best = np.sort(judged.own, axis=1)[:, -2:]
    gap = float(np.median(best[:, 1] - best[:, 0]))
    step = look.scale.scale
    if gap <= 0 or step < MARGIN * gap:
        return None
    close = float(np.mean(best[:, 1] - best[:, 0] < step))
    return Cause(
        "wide-range head",
        judged.name,
        f"its scores span {look.scale.lowest:.3g} to {look.scale.highest:.3g} in steps of {step:.3g}; of the median "
        f"sample the two best are {gap:.3g} apart, of {close:.0%} of samples less than a step",
        look.harm.loss,
        {"step": step, "gap": gap, "close": close},
        _nodes(chart, look),
    )


def shared_scale(chart: Chart, look: GroupLook) -> Cause | None:
    """A concat (or max, min, select) whose inputs are of unlike ranges: integer kernels copy, so all have one scale.

    TFLite's 8-bit quantization specification: CONCATENATION's, MAXIMUM's and MINIMUM's inputs and output share scale
    and zero point.
    """
    joins, sources = chart.joins(look), chart.sources(look)
    if not joins or len(sources) < 2:
        return None
    largest, smallest = max(sources, key=sources.__getitem__), min(sources, key=sources.__getitem__)
    ratio = sources[largest] / sources[smallest]
    if ratio < UNLIKE:
        return None
    steps = sources[smallest] / look.scale.scale
    return Cause(
        "shared scale",
        f"{joins[0].name} ({joins[0].op_type})",
        f"{largest} reaches {sources[largest]:.4g}, {smallest} {sources[smallest]:.4g} ({ratio:.0f} times less), and "
        f"both have one step of {look.scale.scale:.3g}: {smallest} is left {steps_of(steps)}",
        look.harm.loss,
        {"ratio": ratio, "step": look.scale.scale, "steps": steps},
        _nodes(chart, look),
    )


def outlier_channel(chart: Chart, look: GroupLook) -> Cause | None:
    """An activation of which one channel reaches much further than the others, and stretches the scale of all.

    Nagel et al.: "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 3.1;
    for transformers Dettmers et al.: "LLM.int8()" (NeurIPS 2022), section 4.
    """
    if look.group.fixed is not None:
        return None
    name, widest = _widest(chart, look, positions=False)
    if widest is None or widest[2] < UNLIKE:
        return None
    axis, reach, ratio = widest
    alive = reach[reach > 0]
    median = float(np.median(alive))
    large = reach >= UNLIKE * median
    steps = median / look.scale.scale
    others = f" (and {int(large.sum()) - 1} more)" if large.sum() > 1 else ""
    return Cause(
        "outlier channel",
        name,
        f"channel {int(reach.argmax())}{others} reaches {float(reach.max()):.4g}, the median channel {median:.3g} "
        f"({ratio:.0f} times less): at one step of {look.scale.scale:.3g} it is left {steps_of(steps)}",
        look.harm.loss,
        {
            "channel": float(reach.argmax()),
            "axis": float(axis),
            "ratio": ratio,
            "step": look.scale.scale,
            "steps": steps,
        },
        _nodes(chart, look),
    )


def saturated(chart: Chart, look: GroupLook) -> Cause | None:
    """An activation whose range cuts off values that matter: clipping alone costs at least half of what its range does.

    A range chosen for the least squared error, or to keep a share of the values, gives up the largest for finer steps
    (Banner, Nahshan, Soudry, NeurIPS 2019, section 2); where the largest carry the result that is the wrong trade.
    """
    if look.clipping is None or look.clipping.loss < 0.5 * look.harm.loss:
        return None
    reach = chart.reach(look.clipped_at)
    return Cause(
        "saturated activation",
        look.clipped_at,
        f"{look.clipped:.2%} of its values lie outside {look.scale.lowest:.3g} to {look.scale.highest:.3g} (the "
        f"furthest at {reach:.4g}); clipping alone costs {told.loss(look.clipping)}",
        look.harm.loss,
        {"clipped": look.clipped, "reach": reach, "lowest": look.scale.lowest, "highest": look.scale.highest},
        _nodes(chart, look),
    )


def small_probabilities(chart: Chart, look: GroupLook) -> Cause | None:
    """A softmax or sigmoid inside the model whose prescribed steps of 1/256 are coarser than what it gives.

    TFLite's 8-bit quantization specification prescribes scale 1/256 for both. Of n equal probabilities each is 1/n.
    """
    if look.group.fixed is None:
        return None
    histogram = None if chart.seen is None else chart.seen.histograms.get(look.names[0])
    if histogram is None or not histogram.seen:
        return None
    centres = histogram.centres()
    lost = float(histogram.counts[(centres > 0) & (centres < look.scale.scale / 2)].sum() / histogram.seen)
    if lost < 0.5:
        return None
    return Cause(
        "small probabilities",
        look.names[0],
        f"{lost:.0%} of what it gives is below half of the step of {look.scale.scale:.3g} that its kernel prescribes, "
        "and becomes zero",
        look.harm.loss,
        {"lost": lost, "step": look.scale.scale},
        _nodes(chart, look),
    )


Rule = Callable[[Chart, GroupLook], Cause | None]

ACTIVATION_RULES: tuple[Rule, ...] = (
    wide_head, shared_scale, outlier_channel, coarse_logits, small_probabilities, saturated,
)  # fmt: skip


def _widest(chart: Chart, look: GroupLook, *, positions: bool = True) -> tuple[str, tuple[int, Array, float] | None]:
    """The tensor of a group whose channels are of the most unlike reach.

    Args:
        chart: Of the model.
        look: The group.
        positions: Whether any axis counts, or of images only the second and the last, where channels lie.
    """
    best: tuple[str, tuple[int, Array, float] | None] = (look.names[0], None)
    for name in look.names:
        spread = chart.calibration.get(name)
        image = not positions and spread is not None and max(spread.axes, default=0) > 2
        found = None if spread is None else spread.widest((1, max(spread.axes)) if image else None)
        if found is not None and (best[1] is None or found[2] > best[1][2]):
            best = name, (found[0], found[1].reach, found[2])
    return best


def _parts(reach: Array) -> float:
    """The largest reach over the lower quartile's: a head of few boxes and few scores has no telling median."""
    alive = reach[reach > 0]
    return float(alive.max() / np.percentile(alive, 25)) if len(alive) > 1 else 1.0


def _small_and_large(reach: Array) -> tuple[float, float]:
    alive = reach[reach > 0]
    median = float(np.median(alive))
    small = median if alive.max() / median >= UNLIKE else float(np.percentile(alive, 25))
    return small, float(alive.max())


def reach_of(array: Array, axis: int) -> Array:
    """The largest magnitude in each place along an axis, float [places]."""
    moved = np.moveaxis(np.abs(array), axis, 0)
    reach: Array = moved.reshape(len(moved), -1).max(axis=1)
    return reach


def steps_of(count: float) -> str:
    """A number of steps in words."""
    return f"{count:.1f} steps" if count >= 1 else "less than one step"


def _nodes(chart: Chart, look: GroupLook) -> tuple[str, ...]:
    return tuple(str(node.name) for node in chart.touching(look))


def adding_up(chart: Chart) -> Cause | None:
    """No part stands out: what many cost together."""
    parts: list[tuple[str, Harm]] = [(f"the weights of {each.node.name}", each.weights) for each in chart.exam.layers]
    parts += [(f"the range of {each.names[0]}", each.harm) for each in chart.exam.groups]
    if not parts:
        return None
    parts.sort(key=lambda part: -part[1].loss)
    whole = sum(harm.loss for _, harm in parts)
    (first, harm), *_ = parts
    return Cause(
        "many small losses",
        first,
        f"it costs most, {harm.loss / max(whole, 1e-300):.0%} of what {len(parts)} parts cost one by one; none of them "
        "has a sign that explains it",
        harm.loss,
        {"share": harm.loss / max(whole, 1e-300)},
    )


def broken(model: ir.Model) -> list[Cause]:
    """Weights that are NaN or infinite: the float model itself is broken, and nothing can be compressed."""
    found = []
    for value in model.graph.initializers.values():
        array = operators.constant(value)
        if array is None or array.dtype.kind != "f" or np.isfinite(array).all():
            continue
        readers = [str(use.node.name) for use in value.uses()]
        if array.size == 1 or not readers:  # a bound of a Clip may be infinite
            continue
        count = int(array.size - np.isfinite(array).sum())
        found.append(
            Cause(
                "broken weights",
                readers[0],
                f"{count} of {array.size:,} weights of {value.name} are NaN or infinite",
                numbers={"count": float(count)},
                nodes=tuple(readers),
            )
        )
    return found

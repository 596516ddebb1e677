"""Why the weights of a layer lose accuracy: one function a cause, each with its evidence in numbers.

As in `causes.py`, a sign alone is no cause: the weights must also cost something when they are compressed alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from haversack.convert.compress import operators
from haversack.convert.diagnosis import Cause
from haversack.convert.doctor.causes import first_of, reach_of, steps_of
from haversack.convert.doctor.chart import Chart
from haversack.convert.doctor.examine import LayerLook
from haversack.convert.doctor.harm import UNLIKE, spread_of

WEIGHT_OUTLIER = 30.0
"""A channel's largest weight over its root mean square from which on one weight is said to stretch it. Of a million
normally distributed weights the largest is at 5."""

FEW = 64
"""So many different numbers are few for a layer's weights."""

INPUT = "outlier channel of the input"


def weight_causes(chart: Chart) -> list[Cause]:
    """Likewise of every layer's weights."""
    looks = [look for look in chart.exam.layers if chart.matters(look.weights)]
    return [cause for look in looks if (cause := first_of(rule(chart, look) for rule in WEIGHT_RULES)) is not None]


def outlier_row(chart: Chart, look: LayerLook) -> Cause | None:
    """Weights with one scale for the tensor, of which one output channel reaches much further than the others.

    Krishnamoorthi (2018), section 3.1.3 and table 2: one scale a channel repairs what one scale a tensor ruins.
    """
    del chart
    axis = operators.weight_axis(look.node, look.held.index)
    if look.held.channels != 1 or axis is None:
        return None
    reach = reach_of(look.held.float_, axis)
    ratio = spread_of(reach)
    if ratio < UNLIKE:
        return None
    step = float(np.abs(look.held.float_).max()) / 127
    median = float(np.median(reach[reach > 0]))
    return Cause(
        "outlier channel of the weights",
        str(look.node.name),
        f"output channel {int(reach.argmax())} reaches {float(reach.max()):.3g}, the median channel {median:.3g} "
        f"({ratio:.0f} times less), at one scale for all: it is left {steps_of(median / step)} a side",
        look.weights.loss,
        {"channel": float(reach.argmax()), "ratio": ratio, "steps": median / step},
        (str(look.node.name),),
    )


def outlier_input(chart: Chart, look: LayerLook) -> Cause | None:
    """Weights whose rounding errors are multiplied by one input channel that is much larger than the others.

    The error of an output is the sum over input channels of the weights' errors times the input; its power by channel,
    E[x²]·Σ(W' - W)², says whose weights would have to be finer (the diagonal of the layer's Hessian: Frantar et
    al., GPTQ, ICLR 2023).
    """
    source = look.node.inputs[0]
    spread = None if source is None else chart.calibration.get(str(source.name))
    axis = operators.weight_axis(look.node, look.held.index)
    if spread is None or axis is None or look.held.float_.ndim < 2 or look.held.index != 1:
        return None
    along = 1 if look.held.float_.ndim > 2 or axis % 2 == 0 else 0
    errors = np.square(look.held.made.astype(np.float64) - look.held.float_)
    power = errors.sum(axis=tuple(i for i in range(errors.ndim) if i != along))
    channels = next(
        (
            each
            for at, each in spread.axes.items()
            if len(each.square) == len(power) and (at == 1 or look.node.op_type != "Conv")
        ),
        None,
    )
    if channels is None or len(power) < 4 or not power.any():
        return None
    shares = power * channels.square / max(float((power * channels.square).sum()), 1e-300)
    alive = channels.reach[channels.reach > 0]
    small = float(np.percentile(alive, 25)) if len(alive) else 0.0
    large = channels.reach >= UNLIKE * small
    share = float(shares[large].sum())
    if not small or share < 0.5:
        return None
    index = int(np.where(large, shares, -1.0).argmax())
    weights = reach_of(look.held.float_, along)
    who = f"input channel {index}" + (f" and {int(large.sum()) - 1} like it" if large.sum() > 1 else "")
    return Cause(
        INPUT,
        str(look.node.name),
        f"{share:.0%} of the rounding error at its output comes from {who}, which reaches "
        f"{channels.reach[index]:.4g} (a small one {small:.3g}) and has weights of at most {float(weights[index]):.2g} "
        f"(the largest: {weights.max():.2g})",
        look.weights.loss,
        {"channel": float(index), "share": share},
        (str(look.node.name),),
    )


def outlier_weight(chart: Chart, look: LayerLook) -> Cause | None:
    """One weight that stretches the scale of its channel, so that the others have few steps.

    Zhao et al.: "Improving Neural Network Quantization without Retraining using Outlier Channel Splitting" (ICML 2019),
    section 3.
    """
    del chart
    axis = operators.weight_axis(look.node, look.held.index)
    if axis is None:
        return None
    rows = look.held.float_[None] if look.held.channels == 1 else np.moveaxis(look.held.float_, axis, 0)
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    rms = np.sqrt(np.square(rows).mean(axis=1))
    ratio = np.abs(rows).max(axis=1) / np.where(rms > 0, rms, np.inf)
    row = int(ratio.argmax())
    if ratio[row] < min(WEIGHT_OUTLIER, 0.9 * np.sqrt(rows.shape[1])):
        return None
    return Cause(
        "outlier weight",
        str(look.node.name),
        f"one weight of channel {row} is {ratio[row]:.0f} times the root mean square of its {rows.shape[1]}",
        look.weights.loss,
        {"ratio": float(ratio[row])},
        (str(look.node.name),),
    )


def low_bits(chart: Chart, look: LayerLook) -> Cause | None:
    """Weights of so few bits that rounding to the nearest costs what it must."""
    del chart
    held = look.held
    error = np.square(held.made.astype(np.float64) - held.float_).mean()
    signal = np.square(held.float_.astype(np.float64)).mean()
    ratio = 10 * np.log10(signal / error) if error > 0 and signal > 0 else 99.0
    if ratio > 25 or len(np.unique(held.made)) > FEW:  # finer ones differ because they make up for earlier layers
        return None
    return Cause(
        "coarse weights",
        str(look.node.name),
        f"{len(np.unique(held.made))} different numbers stand for {held.float_.size:,} weights: {ratio:.0f} dB",
        look.weights.loss,
        {"snr_db": float(ratio)},
        (str(look.node.name),),
    )


WEIGHT_RULES: tuple[Callable[[Chart, LayerLook], Cause | None], ...] = (
    outlier_row, outlier_input, outlier_weight, low_bits,
)  # fmt: skip


def with_readers(chart: Chart, causes: list[Cause]) -> list[Cause]:
    """The same with what an unlike input does to a layer's weights told beside the input, where that is named too."""
    readers = {str(node.name): str(node.inputs[0].name) for node in chart.exam.plan.nodes if node.inputs[0] is not None}
    tensors = {name: look.names for look in chart.exam.groups for name in look.names}
    joins = {f"{node.name} ({node.op_type})": str(node.outputs[0].name) for node in chart.exam.plan.nodes}
    kept = list(causes)
    for cause in causes:
        if cause.kind != INPUT:
            continue
        group = tensors.get(readers.get(cause.where, ""), ())
        for index, other in enumerate(kept):
            if other.kind != INPUT and joins.get(other.where, other.where) in group:
                said = f"the weights of {cause.where}: {cause.evidence}"
                kept[index] = dataclasses.replace(other, also=(*other.also, said))
                kept.remove(cause)
                break
    return kept

"""How much a changed model's outputs differ from the model's own, in one number that sees every part of an output.

As in `planning/change.py`, outputs are compared before a last softmax or sigmoid: class scores by the divergence of
their probabilities, others by noise over signal. What is added here is the output whose channels are of unlike ranges,
as a detection head that holds boxes in pixels beside scores from 0 to 1: all its power lies in the boxes, and noise
over signal of the whole tensor does not see the scores at all. Such an output is judged channel by channel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.diagnosis import LARGEST, NATS, SHARE, Harm
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.planning.change import divergence, is_scores, judged_values
from haversack.convert.verify.execute import joined
from haversack.runtimes.engines import Array

UNLIKE = 8.0
"""Channels are of unlike ranges from this ratio of the largest to the median on: three bits of eight are then lost to
the median one."""

MOST_CHANNELS = 1024

Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Judged:
    """One output and how it is compared.

    Attributes:
        name: The value in the graph.
        own: What the model itself computes, samples along axis 0.
        kind: `scores`, `channels` or `whole`.
        axis: Of the channels.
    """

    name: str
    own: Array
    kind: str
    axis: int = 1


class Bench:
    """The float model with samples, against which changed models are held.

    Args:
        model: The float hub graph, with static shapes.
        samples: Inputs, one mapping a sample.
    """

    def __init__(self, model: ir.Model, samples: Sequence[Feeds]):
        self.model = model
        self.samples = list(samples)
        names = judged_values(model)
        evaluator = Evaluator(model, list(dict.fromkeys(names)))
        held = [evaluator.run(dict(feeds)) for feeds in self.samples]
        squashed = {
            str(value.name): (maker := value.producer()) is not None and maker.op_type in ("Softmax", "LogSoftmax")
            for value in model.graph.outputs
        }
        self.outputs = tuple(
            _judged(name, joined([found[name] for found in held]), classes=squashed[str(value.name)])
            for name, value in zip(names, model.graph.outputs, strict=True)
        )

    def harm(self, changed: ir.Model) -> Harm:
        """What a changed model does to the outputs.

        Args:
            changed: Has the float model's inputs, and its values under their names: an output that is quantized is
                looked at behind its DequantizeLinear.
        """
        present = {value.name for node in changed.graph for value in node.outputs}
        present |= {value.name for value in changed.graph.outputs}
        names = [
            f"{each.name}_dequantized" if f"{each.name}_dequantized" in present else each.name for each in self.outputs
        ]
        evaluator = Evaluator(changed, list(dict.fromkeys(names)))
        given = set(evaluator.inputs)
        held = [
            evaluator.run({name: array for name, array in feeds.items() if name in given}) for feeds in self.samples
        ]
        return combined(
            [
                _harm(each, joined([found[name] for found in held]))
                for each, name in zip(self.outputs, names, strict=True)
            ]
        )


def compared(reference: Mapping[str, Array], changed: Mapping[str, Array]) -> Harm:
    """What differs between outputs as they are, squashed or not."""
    return combined([_harm(_judged(name, own, classes=False), changed[name]) for name, own in reference.items()])


def combined(harms: Sequence[Harm]) -> Harm:
    """Of several outputs: losses add up, the worst is told."""
    worst = min(harms, key=lambda each: each.snr_db)
    agreements = [each.agreement for each in harms if each.agreement is not None]
    return Harm(
        loss=min(sum(each.loss for each in harms), LARGEST),
        unit=harms[0].unit if all(each.unit == harms[0].unit for each in harms) else SHARE,
        snr_db=worst.snr_db,
        agreement=min(agreements) if agreements else None,
        worst=worst.worst or next((each.worst for each in harms if each.worst), ""),
    )


def channel_axis(array: Array) -> tuple[int, float]:
    """The axis whose indices are of the most unlike ranges, and the ratio of their largest to their median.

    Args:
        array: Samples along axis 0.
    """
    best, ratio = 1, 1.0
    for axis in range(1, array.ndim):
        if not 2 <= array.shape[axis] <= MOST_CHANNELS:
            continue
        others = tuple(i for i in range(array.ndim) if i != axis)
        power = np.sqrt(np.square(array.astype(np.float64)).mean(axis=others))
        found = spread_of(power)
        if found > ratio:
            best, ratio = axis, found
    return best, ratio


def spread_of(ranges: Array) -> float:
    """The largest of some ranges over the median of those that are not zero; at least 1."""
    alive = ranges[np.isfinite(ranges) & (ranges > 0)]
    return float(alive.max() / np.median(alive)) if len(alive) > 1 else 1.0


def _judged(name: str, own: Array, *, classes: bool) -> Judged:
    if classes and own.ndim == 2:
        return Judged(name, own, "scores")
    axis, ratio = channel_axis(own) if own.dtype.kind == "f" else (1, 1.0)
    if ratio >= UNLIKE:
        return Judged(name, own, "channels", axis)
    return Judged(name, own, "scores" if is_scores(own) else "whole")


def _harm(judged: Judged, other: Array) -> Harm:
    own = judged.own.astype(np.float64)
    noise = np.square(np.nan_to_num(own - other.reshape(own.shape), nan=LARGEST, posinf=LARGEST, neginf=LARGEST))
    signal = float(np.var(own))
    ratio = float(noise.mean()) / signal if signal else (0.0 if not noise.any() else LARGEST)
    if judged.kind == "scores":
        finite = np.nan_to_num(other.astype(np.float64), nan=0.0, posinf=1e30, neginf=-1e30)
        agreement = float(np.mean(own.argmax(axis=1) == finite.argmax(axis=1)))
        return Harm(min(divergence(judged.own, finite), LARGEST), NATS, decibels(ratio), agreement)
    if judged.kind == "whole":
        return Harm(min(ratio, LARGEST), SHARE, decibels(ratio))
    others = tuple(i for i in range(own.ndim) if i != judged.axis)
    power, lost = np.var(own, axis=others), noise.mean(axis=others)
    alive = power > 0
    shares = np.minimum(lost[alive] / power[alive], 1.0)
    if not len(shares):
        return Harm(0.0, SHARE, decibels(ratio))
    index = int(np.flatnonzero(alive)[shares.argmax()])
    worst = f"index {index} of axis {judged.axis} of {judged.name}: noise is {shares.max():.0%} of its signal"
    return Harm(float(shares.mean()), SHARE, decibels(float(shares.max())), worst=worst)


def decibels(ratio: float) -> float:
    """Noise over signal as signal over noise in dB, within what can be told."""
    if ratio <= 0:
        return 99.0
    return max(-99.0, min(99.0, -10 * math.log10(ratio)))

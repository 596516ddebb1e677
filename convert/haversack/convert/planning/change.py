"""How much a changed model's outputs differ from the model's own: what sensitivity is measured in.

Outputs are compared before a last softmax or sigmoid, which hide errors where they saturate. For class scores the
measure is the Kullback-Leibler divergence of the probabilities, in nats; for other outputs the power of the difference
as a share of the output's. Both are, to second order, quadratic forms of the error, so that what independent errors
cost adds up, and both grow with the square of a quantization step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.squashing import before_squashing
from haversack.runtimes.engines import Array


@dataclass(frozen=True)
class Change:
    """What a change of the model does to its outputs.

    Attributes:
        cost: What the planner adds up: the divergence of class scores, else noise over signal; of several outputs
            the sum.
        divergence: Mean Kullback-Leibler divergence of the class probabilities in nats; None without class scores.
        snr_db: Signal over noise, of the worst output; infinite where nothing differs.
        agreement: Share of samples whose best class is the same; None without class scores.
    """

    cost: float
    divergence: float | None
    snr_db: float
    agreement: float | None


def judged_values(model: ir.Model) -> tuple[str, ...]:
    """The values of a graph that its outputs are compared at, one an output, in order."""
    return tuple(before_squashing(value) for value in model.graph.outputs)


def compare(reference: Sequence[Array], changed: Sequence[Array]) -> Change:
    """Compare outputs.

    Args:
        reference: The model's own, one array an output, samples along axis 0.
        changed: The changed model's.
    """
    cost, worst = 0.0, math.inf
    divergences: list[float] = []
    agreements: list[float] = []
    for own, other in zip(reference, changed, strict=True):
        signal, noise = _powers(own, other)
        ratio = noise / signal if signal else (0.0 if noise == 0 else math.inf)
        worst = min(worst, -10 * math.log10(ratio) if ratio > 0 else math.inf)
        if is_scores(own):
            divergences.append(divergence(own, other))
            agreements.append(float(np.mean(own.argmax(axis=1) == other.argmax(axis=1))))
            cost += divergences[-1]
        else:
            cost += ratio
    return Change(
        cost=cost if math.isfinite(cost) else math.inf,
        divergence=max(divergences) if divergences else None,
        snr_db=worst,
        agreement=min(agreements) if agreements else None,
    )


def is_scores(array: Array) -> bool:
    """Whether an output is one row of class scores a sample."""
    return array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind == "f"


def divergence(reference: Array, changed: Array) -> float:
    """Mean Kullback-Leibler divergence of softmax(changed) from softmax(reference), in nats.

    Args:
        reference: Logits [samples, classes].
        changed: Likewise.
    """
    own, other = _log_softmax(reference), _log_softmax(changed)
    return max(0.0, float((np.exp(own) * (own - other)).sum(axis=1).mean()))


def _log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _powers(own: Array, other: Array) -> tuple[float, float]:
    """The variance of the reference, and the mean square of the difference."""
    if own.dtype.kind not in "fiu":
        return 1.0, float(np.mean(own != other))
    exact = own.astype(np.float64)
    return float(np.var(exact)), float(np.square(exact - other).mean())

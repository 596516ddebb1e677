"""Learned rounding: each weight goes up or down, whichever serves its layer's output (AdaRound).

Nagel et al.: "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020. A weight between two steps
becomes floor + h(V), with the rectified sigmoid h(V) = clip(1.2·sigmoid(V) - 0.1, 0, 1) (equation 23), and V is learned
by Adam under the layer's reconstruction error plus λ·Σ(1 - |2h(V) - 1|^β), whose β falls from 20 to 2, so that h ends
at 0 or 1 (equation 24).

The paper draws minibatches through the layer and differentiates them automatically. Here the error is the quadratic
form of `reconstruct`, whose exact gradient over all of the data is one product with H, and both terms' derivatives are
written out. (The form has no activation function in it, which the paper's equation 25 includes.) The form is divided by
what nearest rounding leaves in it, an output at a time, so that λ means the same in every layer.

Up or down is not all: sweeps of coordinate descent over all whole numbers follow (`second_order.descend`), which can
only lower the error.
"""

from __future__ import annotations

import numpy as np

from haversack.convert.compress.second_order import descend
from haversack.runtimes.engines import Array

ITERATIONS = 600
RATE = 0.1
WARM = 0.2
"""The share of the iterations before the regularisation begins."""

STRENGTH = 4.0
"""λ: against a form in which the average weight's nearest rounding costs 1. Below 1 many h are still undecided at the
end, and are then rounded to the nearest."""

BETA = (20.0, 2.0)
SMALLEST = 1e-60
"""An error of nearest rounding below this is none: the weights lie on the grid."""

STRETCH, LOWEST = 1.2, -0.1
MOMENTUM, SQUARES, TINY = 0.9, 0.999, 1e-8
"""Adam's constants (Kingma, Ba: "Adam: A Method for Stochastic Optimization", ICLR 2015)."""


def adaround(target: Array, moment: Array, step: Array, limit: int, iterations: int = ITERATIONS) -> Array:
    """Choose whole numbers for weights: the next below or the next above.

    Args:
        target: The weights, [outputs, inputs].
        moment: H of the inputs, damped.
        step: The scale of each weight.
        limit: The largest whole number.
        iterations: Of Adam.

    Returns:
        float64 [outputs, inputs], in [-limit, limit].
    """
    scaled = np.clip(target / step, -limit, limit)
    below = np.clip(np.floor(scaled), -limit, limit - 1)
    part = np.clip(scaled - below, 0.01, 0.99)
    v = -np.log(STRETCH / (part - LOWEST) - 1)  # where h(V) is the weight itself
    nearest = (np.clip(np.rint(scaled), -limit, limit) * step) - target
    weight = nearest.shape[1] / np.maximum(((nearest @ moment) * nearest).sum(axis=1, keepdims=True), SMALLEST)
    first, second = np.zeros_like(v), np.zeros_like(v)
    warm = int(WARM * iterations)
    for count in range(iterations):
        sigmoid = 1 / (1 + np.exp(-v))
        soft = STRETCH * sigmoid + LOWEST
        h = np.clip(soft, 0, 1)
        slope = 2 * (((below + h) * step - target) @ moment) * step * weight
        if count >= warm:
            beta = BETA[1] + (BETA[0] - BETA[1]) * (1 + np.cos(np.pi * (count - warm) / (iterations - warm))) / 2
            middle = 2 * h - 1
            slope -= STRENGTH * 2 * beta * np.sign(middle) * np.abs(middle) ** (beta - 1)
        slope *= np.where((soft > 0) & (soft < 1), STRETCH * sigmoid * (1 - sigmoid), 0)
        first = MOMENTUM * first + (1 - MOMENTUM) * slope
        second = SQUARES * second + (1 - SQUARES) * slope * slope
        rate = RATE * np.sqrt(1 - SQUARES ** (count + 1)) / (1 - MOMENTUM ** (count + 1))
        v -= rate * first / (np.sqrt(second) + TINY)
    learned = below + (STRETCH / (1 + np.exp(-v)) + LOWEST >= 0.5)

    def rounded(place: int, column: Array) -> Array:
        size = step[:, place]
        stored: Array = np.clip(np.rint(column / size), -limit, limit) * size
        return stored

    made: Array = np.rint(descend(learned * step, target, moment, rounded) / step)
    return made
